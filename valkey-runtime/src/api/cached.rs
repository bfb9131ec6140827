//! The trait of a cached type, with a method for each common verb.
//!
//! Each verb is one line over [`Handle`](crate::api::handle::Handle), which is the core form.

use std::future::Future;
use std::sync::Arc;

use crate::base::error::Result;
use crate::core::options::SetOptions;
use crate::core::store::Store;
use crate::key::part::{KeyFrom, OwnKey};
use crate::schema::cached_type::{CachedType, Keyed};
use crate::schema::change::{IntoChange, ModifyError};
use crate::schema::guarding::Guarding;
use crate::schema::keys::KeyOf;
use crate::schema::loaded::{IntoLoaded, IntoRow};

/// A type whose values are cached. Implement it with `#[derive(Cached)]`.
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
/// A verb encodes its key and value when it is called, not when its future is first polled. So the
/// future borrows nothing but the store. All futures are [`Send`]. To spawn one, move a clone of
/// the store into the task:
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
    /// Returns the type's tags: a function for each template, named after the template's texts.
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
    /// assert_eq!(User::cache_tags().org(42).as_str(), "org:42");
    /// assert_eq!(User::cache_tags().org_team(42, "a:b").as_str(), "org:42:team:a%3Ab");
    /// assert_eq!(User::cache_tags().users().as_str(), "users");
    /// ```
    fn cache_tags() -> Self::Tags {
        Self::Tags::default()
    }

    /// Reads the value under `key`. `None` is a miss.
    ///
    /// # Errors
    /// If the server can't be queried. With `on_corrupt = "error"` also if the entry is corrupt or
    /// its value invalid.
    fn get<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Option<Self>>> + Send + use<'s, Self> {
        store.of::<Self>().get(key)
    }

    /// Reads the value under `key` and shares it. `None` is a miss.
    ///
    /// For a type with `near`, the value of a valid near copy is shared without decoding it, in
    /// about a tenth of a microsecond. For any other type this is [`get`](Self::get) and an `Arc`.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(near = "5s")]
    /// struct Settings {
    ///     #[cached(key)]
    ///     tenant: u64,
    ///     theme: String,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// Settings { tenant: 7, theme: "dark".into() }.set(&store).await?;
    /// let first = Settings::get_shared(&store, 7).await?.unwrap();
    /// let again = Settings::get_shared(&store, 7).await?.unwrap();
    /// assert!(Arc::ptr_eq(&first, &again));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The same as [`get`](Self::get).
    fn get_shared<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Option<Arc<Self>>>> + Send + use<'s, Self> {
        store.of::<Self>().get_shared(key)
    }

    /// Reads many values in one round trip, in the order of the keys.
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
    /// The same as [`get`](Self::get). A key that holds another type of the server, such as a list,
    /// is a miss: the server's bulk read does not report it.
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

    /// Returns whether [`get`](Self::get) would return a value, according to the entry's header.
    ///
    /// # Errors
    /// If the server can't be queried.
    fn exists<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().exists(key)
    }

    /// Deletes the entry, whatever its version. True if it held a value.
    ///
    /// # Errors
    /// If the server did not confirm it. The deletion is then kept, and delivered when the server
    /// is back. Until then this store does not read the key: see [`Store::undelivered`].
    /// (Not for a type with `only_copy`: repeat the call.)
    fn del<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().del(key)
    }

    /// Deletes many entries, and returns how many values were removed.
    ///
    /// # Errors
    /// The same as [`del`](Self::del). The message gives the number of entries that are in doubt.
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

    /// Restarts the TTL of the value under `key`, with the type's TTL. True if there is a value.
    ///
    /// # Errors
    /// If the server can't be queried.
    fn touch<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().touch(key)
    }

    /// Reads the value under `key`; on a miss, loads it and stores the result.
    ///
    /// The only error is the loader's own. If the cache is down, slow, full or corrupt, the
    /// loader's value is returned, and the failure is logged and counted. Callers of one key share
    /// a load, in this process and across processes (single-flight). A loaded value is stored only
    /// if its key was neither deleted nor written meanwhile, so an old value never returns after an
    /// invalidation.
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
    /// The loader returns an `Option`, a value, or a [`Loaded`](crate::schema::loaded::Loaded),
    /// which sets how long the value is kept, or that it is not stored.
    ///
    /// # Errors
    /// The loader's.
    fn get_or_load<'s, L, E, F, Fut>(
        store: &'s Store,
        key: Self::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<L::Given<Self>, E>> + Send + use<'s, Self, L, E, F, Fut>
    where
        L: IntoLoaded<Self> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        store.of::<Self>().load(key).run(load)
    }

    /// Reads many values in one round trip, and loads the missing ones with one call of the loader.
    /// The answer is in the order of the keys.
    ///
    /// The loader takes the missing keys, at most 1,000 at a time, and returns rows: values whose
    /// key is one of their fields, or pairs of key and value. A key without a row has no value. If
    /// another call of this process is loading a key, this call waits for it. If another process is
    /// loading a key, this call loads it too and does not store it.
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
    fn get_or_load_many<'s, I, R, E, F, Fut>(
        store: &'s Store,
        keys: I,
        load_missing: F,
    ) -> impl Future<Output = Result<Vec<Option<Self>>, E>> + Send + use<'s, Self, I, R, E, F, Fut>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item> + OwnKey,
        R: IntoIterator<Item: IntoRow<Self>>,
        E: Send,
        F: FnMut(Vec<KeyOf<Self>>) -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        store.of::<Self>().load_many(keys).run(load_missing)
    }

    /// Writes a row under a guard. Once it is committed, no reader in any process gets the old row,
    /// even if this process dies half-way.
    ///
    /// The guard is placed at the key before `write` begins, and stays while it runs. Values loaded
    /// meanwhile are returned to their callers and not stored. After `Ok` the guard ends, and the
    /// entry is gone. After an error, or if the call is dropped, the write may still be committed:
    /// the guard then stays until it expires, within 10 s.
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
    /// The write's own. For a type with `#[cached(strict)]` it is an
    /// [`UpdateError`](crate::UpdateError): the write is refused if its guard can't be placed.
    /// Without `strict`, the row is written anyway. Others may then read the old row until the
    /// deletion of its entry, which is kept, is delivered.
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
        store.of::<Self>().update(key).run(write)
    }

    /// Writes the rows of several keys under guards, as [`update`](Self::update) does for one.
    ///
    /// # Errors
    /// The same as [`update`](Self::update).
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
        store.of::<Self>().update_many(keys).run(write)
    }

    /// Writes a row as [`update`](Self::update) does, and stores the new value, unless another
    /// caller wrote or deleted it meanwhile.
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
    /// The same as [`update`](Self::update). If the value can't be stored, this is logged and
    /// counted, and its entry is deleted.
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
        store.of::<Self>().write_through(value).run(write)
    }

    /// Reads the value under `key`, changes it by a closure, and stores what that returns, unless
    /// another caller has changed the value in between. Then it begins again. See
    /// [`Handle::modify`](crate::Handle::modify).
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// struct Cart {
    ///     #[cached(key)]
    ///     id: u64,
    ///     articles: Vec<u32>,
    /// }
    ///
    /// async fn add(store: &Store, id: u64, article: u32) -> valkey_runtime::Result<Cart> {
    ///     let changed = Cart::modify(store, id, |cart: Option<Cart>| {
    ///         let mut cart = cart.unwrap_or_else(|| Cart { id, articles: vec![] });
    ///         cart.articles.push(article);
    ///         cart
    ///     });
    ///     Ok(changed.await?)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// tokio::try_join!(add(&store, 1, 7), add(&store, 1, 8), add(&store, 1, 9))?;
    /// assert_eq!(Cart::get(&store, 1).await?.unwrap().articles.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A [`ModifyError`](crate::ModifyError). For a closure that does not fail, `?` turns it into
    /// an [`Error`](crate::Error).
    fn modify<'s, C, F>(
        store: &'s Store,
        key: Self::Key<'_>,
        change: F,
    ) -> impl Future<Output = Result<C::Given<Self>, ModifyError<C::Error>>> + Send + use<'s, Self, C, F>
    where
        C: IntoChange<Self>,
        F: FnMut(Option<Self>) -> C + Send,
    {
        store.of::<Self>().modify(key, change)
    }

    /// Stores the value under its own key. The last writer wins.
    ///
    /// # Errors
    /// The same as [`set_at`](Cached::set_at).
    fn set<'s>(&self, store: &'s Store) -> impl Future<Output = Result<()>> + Send + use<'s, Self>
    where
        Self: Keyed,
    {
        store.of::<Self>().set(self)
    }

    /// Stores the value under its own key, with a TTL or a condition for this call. True if it was
    /// stored.
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
    /// The same as [`set`](Self::set).
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

    /// Stores the value under `key`: for types whose key is not part of the value.
    ///
    /// # Errors
    /// If the value is invalid, can't be encoded or is too large, or if the server refused it or
    /// did not confirm it. In the latter case the key's content is unknown, so a deletion of it is
    /// [kept](Store::undelivered). For a type with `only_copy` nothing is kept; a newer entry is an
    /// error, and stays.
    fn set_at<'s>(
        &self,
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, Self> {
        store.of::<Self>().set_at(key, self)
    }

    /// Stores many values, each under its own key.
    ///
    /// # Errors
    /// The same as [`set`](Self::set). If one value is invalid or can't be encoded, nothing is
    /// sent. If the server refused some values, the message gives their number, and the others are
    /// stored.
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
