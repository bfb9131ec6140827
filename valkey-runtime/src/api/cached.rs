//! The trait an annotated struct gets: a few constants, its key, and the verbs.
//!
//! The verbs are one line each over [`Handle`](crate::api::handle::Handle), which is the core form; the trait's methods are for
//! reading well.

use std::future::Future;

use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::entry::Entry;
use crate::core::options::Unwritten;
use crate::core::options::{LoadError, LoadLimits, LoadOptions, SetOptions, UpdateOptions};
use crate::core::store::Store;
use crate::key::part::{KeyFrom, OwnKey};
use crate::key::read::ReadKey;
use crate::schema::cached_type::Clearable;
use crate::schema::cached_type::{CachedType, Keyed};
use crate::schema::guarding::{Guarding, UpdateError};
use crate::schema::keys::KeyOf;
use crate::schema::loaded::IntoLoaded;
use crate::schema::loaded::Stale;
use crate::verbs::scan::{Purged, Scan, ScanOptions};
use crate::verbs::update::Guard;

/// A type whose values are cached. Get it with `#[derive(Cached)]`.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, Store};
///
/// #[derive(Serialize, Deserialize, Cached, Debug, PartialEq)]
/// #[cached(prefix = "user", ttl = "5m", version = 2)]
/// struct User {
///     #[cached(key)]
///     id: u64,
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::memory();
/// let ada = User { id: 42, name: "Ada".into() };
/// ada.set(&store).await?;
/// assert_eq!(User::get(&store, 42).await?, Some(ada));
/// assert!(User::del(&store, 42).await?);
/// assert!(!User::exists(&store, 42).await?);
/// # Ok(())
/// # }
/// ```
///
/// A verb's key and value are turned into bytes when the verb is called, not when its future is first polled: the future
/// borrows nothing but the store. All futures are [`Send`]. To spawn one, move a clone of the store into the task:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct User { #[cached(key)] id: u64 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// let task = tokio::spawn({
///     let store = store.clone();
///     async move { User::get(&store, 42).await }
/// });
/// assert!(task.await.unwrap()?.is_none());
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cached type",
    label = "`Cached` is not implemented for it",
    note = "add `#[derive(Cached)]` to `{Self}`, beside serde's `Serialize` and `Deserialize`"
)]
pub trait Cached: CachedType {
    /// The type's tags: a function for each template, named after its texts. (Where an application's own `tags` hides this:
    /// `<User as Cached>::tags()`.)
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::Cached;
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(tag = "org:{org_id}", tag = "org:{org_id}:team:{team}", tag = "users")]
    /// struct User {
    ///     #[cached(key)]
    ///     id: u64,
    ///     org_id: u64,
    ///     team: String,
    /// }
    ///
    /// assert_eq!(User::tags().org(42).as_str(), "org:42");
    /// assert_eq!(User::tags().org_team(42, "a:b").as_str(), "org:42:team:a%3Ab");
    /// assert_eq!(User::tags().users().as_str(), "users");
    /// ```
    fn tags() -> Self::Tags {
        Self::Tags::default()
    }

    /// Invalidates all entries of the type, however many, in two round trips.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(clear)]
    /// struct Rate {
    ///     #[cached(key)]
    ///     currency: String,
    ///     rate: u64,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// Rate { currency: "CHF".into(), rate: 94 }.set(&store).await?;
    /// Rate::clear(&store).await?;
    /// assert!(Rate::get(&store, "CHF").await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Store::invalidate_tag`].
    fn clear<'s>(store: &'s Store) -> impl Future<Output = Result<()>> + Send + use<'s, Self>
    where
        Self: Clearable,
    {
        store.of::<Self>().clear()
    }

    /// Reads the value under `key`. `None` is a miss.
    ///
    /// # Errors
    /// When the server could not be asked, or, with `on_corrupt = "error"`, when the entry is corrupt or its value invalid.
    fn get<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Option<Self>>> + Send + use<'s, Self> {
        store.of::<Self>().get(key)
    }

    /// Reads many values in one go; the answer is in the order of the keys.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// User::set_many(&store, [&User { id: 1 }, &User { id: 3 }]).await?;
    /// let ids: Vec<u64> = vec![1, 2, 3];
    /// let found: Vec<Option<User>> = User::get_many(&store, &ids).await?;
    /// assert!(found[0].is_some() && found[1].is_none() && found[2].is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get). A key that holds another type of the server's (a list, say) is a miss here, since the
    /// server's bulk read does not tell.
    fn get_many<'s, I>(
        store: &'s Store,
        keys: I,
    ) -> impl Future<Output = Result<Vec<Option<Self>>>> + Send + use<'s, Self, I>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item>,
    {
        store.of::<Self>().get_many(keys)
    }

    /// Whether [`get`](Self::get) would give a value, as far as the entry's header tells.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn exists<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().exists(key)
    }

    /// Deletes the entry, whatever its version. True if a value was there.
    ///
    /// # Errors
    /// When the server did not confirm it. The deletion is then kept, and delivered when the server is back; until then this
    /// store does not read the key: see [`Store::undelivered`].
    fn del<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().del(key)
    }

    /// Deletes many entries; the answer is how many values were there.
    ///
    /// # Errors
    /// As [`del`](Self::del); the message says how many of the entries are in doubt.
    fn del_many<'s, I>(
        store: &'s Store,
        keys: I,
    ) -> impl Future<Output = Result<u64>> + Send + use<'s, Self, I>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item>,
    {
        store.of::<Self>().del_many(keys)
    }

    /// Invalidates the value under `key` softly: no read gives it any more, and no load that has begun is stored, as after
    /// [`del`](Self::del); but where a type keeps expired values to fall back on (`stale_if_error`), this one is kept for
    /// that. Where the type has a `hold` it is a [`del`](Self::del). True if a value was there.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn expire<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().expire(key)
    }

    /// How long the value under `key` will still live; `None` where [`get`](Self::get) would give none.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn ttl<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Option<Ttl>>> + Send + use<'s, Self> {
        store.of::<Self>().ttl(key)
    }

    /// Starts the life of the value under `key` anew, with the type's TTL. True if there was one.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn touch<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().touch(key)
    }

    /// All keys and values of this type, in no order: those that [`get`](Self::get) would give.
    ///
    /// Goes through the keys of the server, of all primaries of a cluster, page by page, so the server is never held up for long
    /// and nothing is asked after the scan is dropped. The cost is that of all keys of the database, whosever they are.
    ///
    /// An entry that is there all the while is given at least once; one that comes or goes meanwhile, perhaps. Once, that is,
    /// but where the server's table shrinks meanwhile, or a cluster changes: a node that was given slots by resharding or a
    /// failover, or was started anew, is asked once more. (Whether one was is asked by `INFO server`, of those whose user may.)
    ///
    /// A key is given as it was written, `u64`, `String`, or a tuple; a part that a function writes
    /// (`#[cached(key(with = "…"))]`) as its text. What is given is counted as no hit, and its life not extended.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64, name: String }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// # User { id: 1, name: "Ada".into() }.set(&store).await?;
    /// # User { id: 2, name: "Alan".into() }.set(&store).await?;
    /// let mut users = User::scan(&store);
    /// while let Some(found) = users.next().await {
    ///     let (id, user): (u64, User) = found?;
    ///     println!("{id}: {}", user.name);
    /// }
    ///
    /// let by_id: std::collections::HashMap<u64, User> = User::scan(&store).try_collect().await?;
    /// assert_eq!(by_id[&2].name, "Alan");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The scan gives them as items. When a server could not be asked, or the connection was lost between two pages, that is
    /// the last one; a scan is not taken up again but begun anew. With `on_corrupt = "error"` each corrupt entry is one, and the
    /// scan goes on.
    fn scan(store: &Store) -> Scan<'_, Self>
    where
        Self::OwnedKey: ReadKey,
    {
        store.of::<Self>().scan()
    }

    /// As [`scan`](Self::scan), with bounds.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, ScanOptions, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// # User::set_many(&store, &[User { id: 1 }, User { id: 2 }, User { id: 3 }]).await?;
    /// let some = User::scan_with(&store, ScanOptions::new().page(50).limit(2));
    /// let some: Vec<(u64, User)> = some.try_collect().await?;
    /// assert_eq!(some.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    fn scan_with(store: &Store, options: ScanOptions) -> Scan<'_, Self>
    where
        Self::OwnedKey: ReadKey,
    {
        store.of::<Self>().scan_with(options)
    }

    /// How many values [`get`](Self::get) would give, as far as the entries' headers tell. No value is transferred.
    ///
    /// Finds entries as a [`scan`](Self::scan) does, so one may count twice where the server's table shrinks or a cluster's
    /// slots move meanwhile.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// User { id: 1 }.set(&store).await?;
    /// assert_eq!(User::count(&store).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a server could not be asked, or the connection was lost between two pages.
    fn count<'s>(store: &'s Store) -> impl Future<Output = Result<u64>> + Send + use<'s, Self> {
        store.of::<Self>().count()
    }

    /// Deletes all entries of this type, each as [`del`](Self::del) does; the answer is how many values there were.
    ///
    /// All that lies under keys with the type's prefix goes, of whatever version, and the type's aliases, but for guards, and
    /// other types of the server's, such as lists. Other types' keys stay, and those of other namespaces. (A store without a
    /// namespace must share its database with no namespace that is named like a prefix of its types: their keys are the same.)
    /// What is there when the purge begins is gone when it returns `Ok`, and no load that began before is stored; what comes
    /// meanwhile may stay. It asks as a [`scan`](Self::scan) does.
    ///
    /// Where deletions of the type were [lost](crate::observe::stats::Stats::lost_deletions), its older entries are not read by this store
    /// until a purge that began after that has returned `Ok`.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// User::set_many(&store, &[User { id: 1 }, User { id: 2 }]).await?;
    /// assert_eq!(User::purge(&store).await?, 2);
    /// assert_eq!(User::count(&store).await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a server did not confirm a deletion, or could not be asked for keys, or the connection was lost between two pages.
    /// What was deleted before is; the deletions of that page are [kept](Store::undelivered). To be done whole it is called again.
    fn purge<'s>(store: &'s Store) -> impl Future<Output = Result<u64>> + Send + use<'s, Self> {
        store.of::<Self>().purge()
    }

    /// As [`purge`](Self::purge), and says after each page of at most about 1,000 keys how far it has come. How far it still has
    /// to go no server tells.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// # User { id: 1 }.set(&store).await?;
    /// let progress = |purged: valkey_runtime::Purged| println!("{} users are gone", purged.values());
    /// assert_eq!(User::purge_with(&store, progress).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    fn purge_with<'s, F>(
        store: &'s Store,
        progress: F,
    ) -> impl Future<Output = Result<u64>> + Send + use<'s, Self, F>
    where
        F: FnMut(Purged) + Send,
    {
        store.of::<Self>().purge_with(progress)
    }

    /// Reads the value under `key`; where there is none, loads it and stores what was loaded.
    ///
    /// The only error is the loader's own: when the cache is down, slow, full or holds rubbish, the loader's value is
    /// returned, and the failure is logged and counted. Callers of one key share a load, in this process and across
    /// processes. What was loaded is stored only if the key was neither deleted nor written meanwhile, so an old value never
    /// comes back after an invalidation.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64, name: String }
    /// # #[derive(Debug)]
    /// # struct DbError;
    /// # struct Db;
    /// # impl Db {
    /// #     async fn find_user(&self, id: u64) -> Result<Option<User>, DbError> {
    /// #         Ok(Some(User { id, name: "Ada".into() }))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), DbError> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let user: Option<User> = User::get_or_load(&store, 42, || db.find_user(42)).await?;
    /// assert_eq!(user.unwrap().name, "Ada");
    ///
    /// // A loader of several steps. After a `?` in it, its last line names the error.
    /// let again = User::get_or_load(&store, 42, async || {
    ///     let user = db.find_user(42).await?;
    ///     Ok::<_, DbError>(user)
    /// });
    /// assert_eq!(again.await?.unwrap().name, "Ada");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The loader gives an `Option`, a value, or a [`Loaded`](crate::schema::loaded::Loaded), which says how long the value is to be kept, or
    /// that it is not.
    ///
    /// # Errors
    /// The loader's.
    fn get_or_load<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<Self>, E>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        store.of::<Self>().get_or_load(key, load)
    }

    /// As [`get_or_load`](Self::get_or_load), with options of this call.
    ///
    /// # Errors
    /// The loader's.
    fn get_or_load_with<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        options: LoadOptions,
        load: F,
    ) -> impl Future<Output = Result<Option<Self>, E>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        store.of::<Self>().get_or_load_with(key, options, load)
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that sees the value which it is to take the place of, where there
    /// is one whose time is over: see [`Stale`], which it may answer with.
    ///
    /// # Errors
    /// The loader's.
    fn get_or_revalidate<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<Self>, E>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send,
        E: Send,
        F: FnOnce(Option<Stale<Self>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        store.of::<Self>().get_or_revalidate(key, load)
    }

    /// As [`get_or_revalidate`](Self::get_or_revalidate), for types with `refresh_ahead` or `load_timeout`: the load may go on
    /// beside its caller, which has its answer, and so the loader borrows nothing.
    ///
    /// With `refresh_ahead = "80%"` the first hit after four fifths of a value's life has it loaded anew in the background,
    /// once, whatever the number of callers and processes. With `load_timeout = "200ms"` a caller waits so long for a load and is
    /// then given the value whose time is over, where there is one (`stale_if_error`); the load goes on, for at most 10 s.
    /// What goes on ends with [`Store::close`].
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(ttl = "1m", refresh_ahead = "80%", stale_if_error = "1h", load_timeout = "200ms")]
    /// struct Price {
    ///     #[cached(key)]
    ///     article: u32,
    ///     cents: u64,
    /// }
    ///
    /// # #[derive(Debug)]
    /// # struct DbError;
    /// # #[derive(Clone)]
    /// # struct Db;
    /// # impl Db {
    /// #     async fn find_price(&self, article: u32) -> Result<Option<Price>, DbError> {
    /// #         Ok(Some(Price { article, cents: 990 }))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), DbError> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let db = db.clone();
    /// let price = Price::get_or_refresh(&store, 7, |_| async move { db.find_price(7).await }).await?;
    /// assert_eq!(price.unwrap().cents, 990);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The loader's.
    fn get_or_refresh<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<Self>, E>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Option<Stale<Self>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        store.of::<Self>().get_or_refresh(key, load)
    }

    /// As [`get_or_refresh`](Self::get_or_refresh), with what is known of the entry: see [`Entry`].
    ///
    /// # Errors
    /// The loader's.
    fn get_or_refresh_entry<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<Entry<Self>>, E>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Option<Stale<Self>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        store.of::<Self>().get_or_refresh_entry(key, load)
    }

    /// As [`get_or_load`](Self::get_or_load), with limits of time: on the load, and on the wait for a turn to load where more
    /// than the type's `max_loads` run. A load that passes its deadline is ended, and what it held is free at once: the next
    /// caller loads.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// use std::time::Duration;
    /// use valkey_runtime::{LoadError, LoadLimits};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let store = Store::memory();
    /// let limits = LoadLimits::new().deadline(Duration::from_millis(20));
    /// let hung = User::get_or_load_limited(&store, 42, limits, std::future::pending::<Result<User, ()>>).await;
    /// assert!(matches!(hung, Err(LoadError::Deadline)));
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LoadError`]: the loader's, or which limit was passed.
    fn get_or_load_limited<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        limits: LoadLimits,
        load: F,
    ) -> impl Future<Output = Result<Option<Self>, LoadError<E>>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        store.of::<Self>().get_or_load_limited(key, limits, load)
    }

    /// As [`get`](Self::get), with what is known of the entry: see [`Entry`].
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn get_entry<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Option<Entry<Self>>>> + Send + use<'s, Self> {
        store.of::<Self>().get_entry(key)
    }

    /// As [`get_or_load_with`](Self::get_or_load_with), with what is known of the entry: see [`Entry`].
    ///
    /// # Errors
    /// The loader's.
    fn get_or_load_entry<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        options: LoadOptions,
        load: F,
    ) -> impl Future<Output = Result<Option<Entry<Self>>, E>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        store.of::<Self>().get_or_load_entry(key, options, load)
    }

    /// Reads many values in one go, and loads those that are missing by one call of the loader; the answer is in the order of
    /// the keys.
    ///
    /// The loader is given the missing keys, at most 1,000 at a time, and gives pairs of key and value: a `Vec` or a `HashMap`.
    /// A key that it does not give has no value. Keys that another call of this process loads at the moment are waited for;
    /// those that another process loads are loaded here too, and not stored.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug, PartialEq)]
    /// # struct User { #[cached(key)] id: u64, name: String }
    /// # #[derive(Debug)]
    /// # struct DbError;
    /// # struct Db;
    /// # impl Db {
    /// #     async fn find_users(&self, ids: Vec<u64>) -> Result<Vec<(u64, User)>, DbError> {
    /// #         Ok(ids.into_iter().filter(|id| id % 2 == 1).map(|id| (id, User { id, name: "Ada".into() })).collect())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), DbError> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let ids: Vec<u64> = vec![1, 2, 3];
    /// let users = User::get_or_load_many(&store, &ids, |missing| db.find_users(missing)).await?;
    /// assert!(users[0].is_some() && users[1].is_none() && users[2].is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The loader's.
    fn get_or_load_many<'s, I, L, E, F, Fut>(
        store: &'s Store,
        keys: I,
        load_missing: F,
    ) -> impl Future<Output = Result<Vec<Option<Self>>, E>> + Send + use<'s, Self, I, L, E, F, Fut>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item> + OwnKey,
        L: IntoIterator<Item = (KeyOf<Self>, Self)>,
        E: Send,
        F: FnMut(Vec<KeyOf<Self>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        store.of::<Self>().get_or_load_many(keys, load_missing)
    }

    /// Writes a row under a guard: once it is committed no reader is given the old one, in whatever process, even if this one
    /// dies half-way.
    ///
    /// The guard is at the key before `write` begins, and stays while it runs: what others load meanwhile is given to them
    /// and not stored. After `Ok` the guard ends and the entry is gone. After an error, or if the call is dropped, the write
    /// may still be committed: then the guard is left to run out, within 10 s.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[derive(Debug)]
    /// # struct DbError;
    /// # struct Db;
    /// # impl Db { async fn rename_user(&self, _: u64, _: &str) -> Result<u64, DbError> { Ok(1) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), DbError> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let rows = User::update(&store, 42, || db.rename_user(42, "Ada")).await?;
    /// assert_eq!(rows, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The write's own. Of a type with `#[cached(strict)]` it is an [`UpdateError`]: the write is refused when its guard can't
    /// be placed. Without, the write goes on; others may then be given the old row until the deletion of its entry, which
    /// is kept, is delivered.
    fn update<'s, R, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        write: F,
    ) -> impl Future<Output = Result<R, <Self::Guarding as Guarding>::Error<E>>>
    + Send
    + use<'s, Self, R, E, F, Fut>
    where
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        store.of::<Self>().update(key, write)
    }

    /// As [`update`](Self::update), with options of this call.
    ///
    /// # Errors
    /// [`UpdateError`]: the write's own, or, if strict, that it was refused.
    fn update_with<'s, R, E, P, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        options: UpdateOptions<P>,
        write: F,
    ) -> impl Future<Output = Result<R, UpdateError<E>>> + Send + use<'s, Self, R, E, P, F, Fut>
    where
        R: Send,
        E: Send,
        P: Unwritten<E>,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        store.of::<Self>().update_with(key, options, write)
    }

    /// As [`update`](Self::update), for a write that concerns several keys.
    ///
    /// # Errors
    /// As there.
    fn update_many<'s, I, R, E, F, Fut>(
        store: &'s Store,
        keys: I,
        write: F,
    ) -> impl Future<Output = Result<R, <Self::Guarding as Guarding>::Error<E>>>
    + Send
    + use<'s, Self, I, R, E, F, Fut>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        store.of::<Self>().update_many(keys, write)
    }

    /// As [`update_many`](Self::update_many), with options of this call.
    ///
    /// # Errors
    /// As [`update_with`](Self::update_with).
    fn update_many_with<'s, I, R, E, P, F, Fut>(
        store: &'s Store,
        keys: I,
        options: UpdateOptions<P>,
        write: F,
    ) -> impl Future<Output = Result<R, UpdateError<E>>> + Send + use<'s, Self, I, R, E, P, F, Fut>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item>,
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        store.of::<Self>().update_many_with(keys, options, write)
    }

    /// As [`update`](Self::update), and stores the new value, if nobody else wrote or deleted it meanwhile.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug, PartialEq)]
    /// # struct User { #[cached(key)] id: u64, name: String }
    /// # struct Db;
    /// # impl Db { async fn save(&self, _: &User) -> Result<(), ()> { Ok(()) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let ada = User { id: 42, name: "Ada".into() };
    /// User::write_through(&store, &ada, || db.save(&ada)).await.unwrap();
    /// assert_eq!(User::get(&store, 42).await?, Some(ada));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`update`](Self::update). A value that can't be stored is logged and counted, and its entry deleted.
    fn write_through<'s, R, E, F, Fut>(
        store: &'s Store,
        value: &Self,
        write: F,
    ) -> impl Future<Output = Result<R, <Self::Guarding as Guarding>::Error<E>>>
    + Send
    + use<'s, Self, R, E, F, Fut>
    where
        Self: Keyed,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        store.of::<Self>().write_through(value, write)
    }

    /// As [`write_through`](Self::write_through), with options of this call.
    ///
    /// # Errors
    /// As [`update_with`](Self::update_with).
    fn write_through_with<'s, R, E, P, F, Fut>(
        store: &'s Store,
        value: &Self,
        options: UpdateOptions<P>,
        write: F,
    ) -> impl Future<Output = Result<R, UpdateError<E>>> + Send + use<'s, Self, R, E, P, F, Fut>
    where
        Self: Keyed,
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        store.of::<Self>().write_through_with(value, options, write)
    }

    /// Places a guard, for a write that is committed elsewhere; see [`Guard`].
    ///
    /// # Errors
    /// For a type with `#[cached(strict)]`, when the guard can't be placed. Without, the guard tells by
    /// [`is_placed`](Guard::is_placed).
    fn guard<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Guard>> + Send + use<'s, Self> {
        store.of::<Self>().guard(key)
    }

    /// As [`guard`](Self::guard), with options of this call.
    ///
    /// # Errors
    /// As there.
    fn guard_with<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
        options: UpdateOptions,
    ) -> impl Future<Output = Result<Guard>> + Send + use<'s, Self> {
        store.of::<Self>().guard_with(key, options)
    }

    /// Stores the value under `key`: for types whose key is not part of the value.
    ///
    /// # Errors
    /// When the value breaks rules of its type, can't be encoded or is too large, and when the server refused it or did not
    /// confirm it. In the latter case a deletion of the key is [kept](Store::undelivered), since nobody knows what is there.
    fn set_at<'s>(
        &self,
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, Self> {
        store.of::<Self>().set_at(key, self)
    }

    /// As [`set_at`](Self::set_at), with a TTL or a condition of this call. True if the value was stored.
    ///
    /// # Errors
    /// As [`set_at`](Self::set_at).
    fn set_at_with<'s>(
        &self,
        store: &'s Store,
        key: Self::Key<'_>,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().set_at_with(key, self, options)
    }

    /// The key of this value.
    fn key(&self) -> Self::Key<'_>
    where
        Self: Keyed,
    {
        self.cache_key()
    }

    /// Stores the value under its own key. The last writer wins.
    ///
    /// # Errors
    /// As [`set_at`](Cached::set_at).
    fn set<'s>(&self, store: &'s Store) -> impl Future<Output = Result<()>> + Send + use<'s, Self>
    where
        Self: Keyed,
    {
        store.of::<Self>().set(self)
    }

    /// As [`set`](Self::set), with a TTL or a condition of this call. True if the value was stored.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// use std::time::Duration;
    /// use valkey_runtime::SetOptions;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let options = SetOptions::new().ttl(Duration::from_secs(10)).if_absent();
    /// assert!(User { id: 1 }.set_with(&store, options).await?);
    /// assert!(!User { id: 1 }.set_with(&store, options).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`set`](Self::set).
    fn set_with<'s>(
        &self,
        store: &'s Store,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self>
    where
        Self: Keyed,
    {
        store.of::<Self>().set_with(self, options)
    }

    /// Stores many values, each under its own key.
    ///
    /// # Errors
    /// As [`set`](Self::set). Nothing is sent if one of the values is invalid or can't be encoded; where the server refused some, the
    /// message says how many, and the others are stored.
    fn set_many<'s, 'v, I>(
        store: &'s Store,
        values: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, 'v, Self, I>
    where
        Self: Keyed,
        I: IntoIterator<Item = &'v Self>,
    {
        store.of::<Self>().set_many(values)
    }
}

impl<T: CachedType> Cached for T {}
