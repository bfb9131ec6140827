//! The verbs of a type on a store: the typed shell over [`crate::verbs`].
//!
//! Keys and values become bytes when a method is called, so that its future borrows nothing but the
//! store.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::entry::{Entry, Source};
use crate::core::options::SetOptions;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::part::{KeyFrom, KeyPart};
use crate::key::read::ReadKey;
use crate::key::tag::Place;
use crate::key::writer::KeyWriter;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::{row, rows, traced};
use crate::schema::cached_type::CachedType;
use crate::schema::cached_type::Clearable;
use crate::schema::cached_type::Keyed;
use crate::value::codec;
use crate::verbs::Sealed;
use crate::verbs::scan;
use crate::verbs::scan::{Purged, Scan, ScanOptions};

/// The verbs of a type on a store, from [`Store::of`]: the core form, in which generic code is
/// written, and which no method of the application's own can hide. The methods are those of
/// [`Cached`](crate::Cached) and documented there.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, Store};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct Counter {
///     #[cached(key)]
///     name: String,
///     count: u64,
/// }
///
/// impl Counter {
///     /// Hides `Cached::get`.
///     fn get(&self) -> u64 {
///         self.count
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::memory();
/// let counters = store.of::<Counter>();
/// counters.set(&Counter { name: "visits".into(), count: 7 }).await?;
/// assert_eq!(counters.get("visits").await?.unwrap().get(), 7);
/// # Ok(())
/// # }
/// ```
pub struct Handle<'s, T> {
    pub(crate) store: &'s Store,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Handle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<'_, T> {}

impl<'s, T: CachedType> Handle<'s, T> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self {
            store,
            of: PhantomData,
        }
    }

    pub(crate) fn bytes(&self, key: T::Key<'_>) -> Vec<u8> {
        key_bytes::<T>(&self.store.inner().namespace, key)
    }

    /// The same, with the tags that follow from the key alone.
    pub(crate) fn place(&self, key: T::Key<'_>) -> Place {
        let mut tags = self.store.inner().tag_writer();
        if T::TAGGED {
            T::write_key_tags(key, &mut tags);
        }
        Place {
            key: self.bytes(key),
            epochs: tags.into_epochs(),
        }
    }

    /// What the store has of the type.
    pub(crate) fn of(self) -> &'s Arc<Type> {
        self.store.inner().types.of::<T>()
    }

    fn places_of_all<I>(&self, keys: I) -> Vec<Place>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        keys.into_iter()
            .map(|item| self.place(T::OwnedKey::key_from(&item)))
            .collect()
    }

    pub(crate) fn bytes_of_all<I>(&self, keys: I) -> Vec<Vec<u8>>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        keys.into_iter()
            .map(|item| self.bytes(T::OwnedKey::key_from(&item)))
            .collect()
    }

    /// The entry of a value that keeps the rules of its type, under this key.
    pub(crate) fn sealed(&self, key: &[u8], value: &T, ttl: Option<Ttl>) -> Result<Sealed> {
        value.cache_validate().map_err(Error::breaking)?;
        let inner = self.store.inner();
        let tags = T::TAGGED.then(|| {
            let mut tags = inner.tag_writer();
            value.write_tags(&mut tags);
            tags
        });
        inner.seal(key, value, inner.stamp(), ttl, tags, self.of())
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
    /// store.of::<Rate>().clear().await?;
    /// assert!(Rate::get(&store, "CHF").await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Store::invalidate_tag`].
    pub fn clear(self) -> impl Future<Output = Result<()>> + Send + use<'s, T>
    where
        T: Clearable,
    {
        self.store.clear(T::PREFIX, T::POLICY.hold_millis)
    }

    /// See [`Cached::get`](crate::Cached::get).
    ///
    /// # Errors
    /// As there.
    pub fn get(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<Option<T>>> + Send + use<'s, T> {
        let place = self.place(key);
        async move { self.get_place(&place).await }
    }

    pub(crate) async fn get_place(self, place: &Place) -> Result<Option<T>> {
        let (inner, of) = (self.store.inner(), self.of());
        let span = inner.span("get", Some(of), About::Key(&place.key));
        traced!(span, self.found(place, of), |found| {
            Ending::of(found).with_rows(row(found))
        })
    }

    async fn found(self, place: &Place, of: &Arc<Type>) -> Result<Option<T>> {
        let inner = self.store.inner();
        let Some(entry) = inner.get(place, of).await? else {
            return Ok(None);
        };
        let value = codec::read(entry.payload());
        let decoded = inner.decoded("get", &place.key, &entry, value, of);
        decoded.await
    }

    /// See [`Cached::get_many`](crate::Cached::get_many).
    ///
    /// # Errors
    /// As there.
    pub fn get_many<I>(
        self,
        keys: I,
    ) -> impl Future<Output = Result<Vec<Option<T>>>> + Send + use<'s, T, I>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        let (inner, places) = (self.store.inner(), self.places_of_all(keys));
        async move {
            let of = self.of();
            let span = inner.span("get_many", Some(of), About::Places(&places));
            traced!(span, self.found_of_all(&places, of), |found| {
                Ending::of(found).with_rows(rows(found))
            })
        }
    }

    async fn found_of_all(self, places: &[Place], of: &Arc<Type>) -> Result<Vec<Option<T>>> {
        let inner = self.store.inner();
        let entries = inner.get_many(places, of).await?;
        let mut values = Vec::with_capacity(entries.len());
        for (place, entry) in places.iter().zip(entries) {
            values.push(match entry {
                Some(entry) => {
                    let (key, value) = (&*place.key, codec::read(entry.payload()));
                    let decoded = inner.decoded("get_many", key, &entry, value, of);
                    decoded.await?
                }
                None => None,
            });
        }
        Ok(values)
    }

    /// See [`Cached::exists`](crate::Cached::exists).
    ///
    /// # Errors
    /// As there.
    pub fn exists(self, key: T::Key<'_>) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = inner.span("exists", Some(of), About::Key(&place.key));
            traced!(span, inner.exists(&place, of), Ending::of)
        }
    }

    /// See [`Cached::del`](crate::Cached::del).
    ///
    /// # Errors
    /// As there.
    pub fn del(self, key: T::Key<'_>) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, key) = (self.store.inner(), self.bytes(key));
        async move {
            let of = self.of();
            let span = inner.span("del", Some(of), About::Key(&key));
            traced!(span, inner.del(&key, of), Ending::of)
        }
    }

    /// See [`Cached::del_many`](crate::Cached::del_many).
    ///
    /// # Errors
    /// As there.
    pub fn del_many<I>(self, keys: I) -> impl Future<Output = Result<u64>> + Send + use<'s, T, I>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        let (inner, keys) = (self.store.inner(), self.bytes_of_all(keys));
        async move {
            let of = self.of();
            let span = inner.span("del_many", Some(of), About::Keys(&keys));
            traced!(span, inner.del_many(&keys, of), Ending::of)
        }
    }

    /// Invalidates the value under `key` softly: no read gives it any more, and no load that has
    /// begun is stored, as after [`del`](Self::del); but where a type keeps expired values to fall
    /// back on (`stale_if_error`), this one is kept for that. Where the type has a `hold` it is a
    /// [`del`](Self::del). True if a value was there.
    ///
    /// # Errors
    /// When the server could not be asked.
    pub fn mark_stale(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, key) = (self.store.inner(), self.bytes(key));
        async move {
            let of = self.of();
            let span = inner.span("mark_stale", Some(of), About::Key(&key));
            traced!(span, inner.mark_stale(&key, of), Ending::of)
        }
    }

    /// How long the value under `key` will still live; `None` where [`get`](Self::get) would give
    /// none.
    ///
    /// # Errors
    /// When the server could not be asked.
    pub fn ttl(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<Option<Ttl>>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = inner.span("ttl", Some(of), About::Key(&place.key));
            traced!(span, inner.ttl(&place, of), Ending::of)
        }
    }

    /// See [`Cached::touch`](crate::Cached::touch).
    ///
    /// # Errors
    /// As there.
    pub fn touch(self, key: T::Key<'_>) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = inner.span("touch", Some(of), About::Key(&place.key));
            traced!(span, inner.touch(&place, of), Ending::of)
        }
    }

    /// All keys and values of this type, in no order: those that [`get`](Self::get) would give.
    ///
    /// Goes through the keys of the server, of all primaries of a cluster, page by page, so the
    /// server is never held up for long and nothing is asked after the scan is dropped. The cost is
    /// that of all keys of the database, whosever they are.
    ///
    /// An entry that is there all the while is given at least once; one that comes or goes
    /// meanwhile, perhaps. Once, that is, but where the server's table shrinks meanwhile, or a
    /// cluster changes: a node that was given slots by resharding or a failover, or was started
    /// anew, is asked once more. (Whether one was is asked by `INFO server`, of those whose user
    /// may.)
    ///
    /// A key is given as it was written, `u64`, `String`, or a tuple; a part that a function writes
    /// (`#[cached(key(with = "…"))]`) as its text. What is given is counted as no hit, and its life
    /// not extended.
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
    /// let mut users = store.of::<User>().scan();
    /// while let Some(found) = users.next().await {
    ///     let (id, user): (u64, User) = found?;
    ///     println!("{id}: {}", user.name);
    /// }
    ///
    /// let by_id: std::collections::HashMap<u64, User> = store.of::<User>().scan().try_collect().await?;
    /// assert_eq!(by_id[&2].name, "Alan");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The scan gives them as items. When a server could not be asked, or the connection was lost
    /// between two pages, that is the last one; a scan is not taken up again but begun anew. With
    /// `on_corrupt = "error"` each corrupt entry is one, and the scan goes on.
    pub fn scan(self) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        self.scan_with(ScanOptions::new())
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
    /// let some = store.of::<User>().scan_with(ScanOptions::new().page(50).limit(2));
    /// let some: Vec<(u64, User)> = some.try_collect().await?;
    /// assert_eq!(some.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn scan_with(self, options: ScanOptions) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        Scan::new(self.store.inner(), options)
    }

    /// How many values [`get`](Self::get) would give, as far as the entries' headers tell. No value
    /// is transferred.
    ///
    /// Finds entries as a [`scan`](Self::scan) does, so one may count twice where the server's
    /// table shrinks or a cluster's slots move meanwhile.
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
    /// assert_eq!(store.of::<User>().count().await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a server could not be asked, or the connection was lost between two pages.
    pub fn count(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        let inner = self.store.inner();
        async move {
            let (of, scope) = (self.of(), scan::keys_of::<T>(inner));
            let span = inner.span("count", Some(of), About::All);
            traced!(span, inner.count(scope, of), Ending::of)
        }
    }

    /// Deletes all entries of this type, each as [`del`](Self::del) does; the answer is how many
    /// values there were.
    ///
    /// All that lies under keys with the type's prefix goes, of whatever version, and the type's
    /// aliases, but for guards, and other types of the server's, such as lists. Other types' keys
    /// stay, and those of other namespaces. (A store without a namespace must share its database
    /// with no namespace that is named like a prefix of its types: their keys are the same.) What
    /// is there when the purge begins is gone when it returns `Ok`, and no load that began before
    /// is stored; what comes meanwhile may stay. It asks as a [`scan`](Self::scan) does.
    ///
    /// Where deletions of the type were [lost](crate::observe::stats::Stats::lost_deletions), its
    /// older entries are not read by this store until a purge that began after that has returned
    /// `Ok`.
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
    /// assert_eq!(store.of::<User>().purge().await?, 2);
    /// assert_eq!(store.of::<User>().count().await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When a server did not confirm a deletion, or could not be asked for keys, or the connection
    /// was lost between two pages. What was deleted before is; the deletions of that page are
    /// [kept](Store::undelivered). To be done whole it is called again.
    pub fn purge(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        self.purge_with(|_| {})
    }

    /// As [`purge`](Self::purge), and says after each page of at most about 1,000 keys how far it
    /// has come. How far it still has to go no server tells.
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
    /// assert_eq!(store.of::<User>().purge_with(progress).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    pub fn purge_with<F>(
        self,
        mut progress: F,
    ) -> impl Future<Output = Result<u64>> + Send + use<'s, T, F>
    where
        F: FnMut(Purged) + Send,
    {
        let inner = self.store.inner();
        async move {
            let scope = scan::keys_and_aliases_of::<T>(inner);
            let hold = u64::from(T::POLICY.hold_millis);
            let of = self.of();
            let span = inner.span("purge", Some(of), About::All);
            traced!(
                span,
                inner.purge(scope, hold, Some(of), &mut progress),
                Ending::of
            )
        }
    }

    /// As [`get`](Self::get), with what is known of the entry: see [`Entry`].
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_entry(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<Option<Entry<T>>>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = inner.span("get_entry", Some(of), About::Key(&place.key));
            traced!(span, self.found_entry(&place, of), |found| {
                Ending::of(found).with_rows(row(found))
            })
        }
    }

    async fn found_entry(self, place: &Place, of: &Arc<Type>) -> Result<Option<Entry<T>>> {
        let inner = self.store.inner();
        let Some((raw, left)) = inner.get_with_ttl(place, of).await? else {
            return Ok(None);
        };
        let value = codec::read(raw.payload());
        let decoded = inner.decoded("get_entry", &place.key, &raw, value, of);
        let value = decoded.await?;
        let origin = raw.origin(Source::Cached, Some(left), inner);
        Ok(value.map(|value| origin.entry(value, T::VERSION, inner.gateway.now_micros())))
    }

    /// See [`Cached::set_at`](crate::Cached::set_at).
    ///
    /// # Errors
    /// As there.
    pub fn set_at(
        self,
        key: T::Key<'_>,
        value: &T,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, T> {
        let storing = self.set_at_with(key, value, SetOptions::new());
        async move { storing.await.map(drop) }
    }

    /// As [`set_at`](Self::set_at), with a TTL or a condition of this call. True if the value was
    /// stored.
    ///
    /// # Errors
    /// As [`set_at`](Self::set_at).
    pub fn set_at_with(
        self,
        key: T::Key<'_>,
        value: &T,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        let sealed = self.sealed(&place.key, value, options.ttl);
        async move {
            let of = self.of();
            let span = inner.span("set", Some(of), About::Key(&place.key));
            traced!(
                span,
                inner.set(&place, sealed, options.condition, of),
                Ending::of
            )
        }
    }

    /// See [`Cached::set`](crate::Cached::set).
    ///
    /// # Errors
    /// As there.
    pub fn set(self, value: &T) -> impl Future<Output = Result<()>> + Send + use<'s, T>
    where
        T: Keyed,
    {
        self.set_at(value.cache_key(), value)
    }

    /// See [`Cached::set_with`](crate::Cached::set_with).
    ///
    /// # Errors
    /// As there.
    pub fn set_with(
        self,
        value: &T,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, T>
    where
        T: Keyed,
    {
        self.set_at_with(value.cache_key(), value, options)
    }

    /// See [`Cached::set_many`](crate::Cached::set_many).
    ///
    /// # Errors
    /// As there.
    pub fn set_many<'v, I>(
        self,
        values: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, 'v, T, I>
    where
        T: Keyed,
        I: IntoIterator<Item = &'v T>,
    {
        let inner = self.store.inner();
        let (places, sealed): (Vec<_>, _) = values
            .into_iter()
            .map(|value| {
                let place = self.place(value.cache_key());
                let sealed = self.sealed(&place.key, value, None);
                (place, sealed)
            })
            .unzip();
        async move {
            let of = self.of();
            let span = inner.span("set_many", Some(of), About::Places(&places));
            traced!(span, inner.set_many(&places, sealed, of), Ending::of)
        }
    }
}

impl<T: CachedType> fmt::Debug for Handle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("prefix", &T::PREFIX)
            .field("store", &self.store)
            .finish()
    }
}

/// The bytes of a key.
pub(crate) fn key_bytes<T: CachedType>(namespace: &str, key: T::Key<'_>) -> Vec<u8> {
    let mut out = KeyWriter::new(namespace, T::PREFIX);
    <T::OwnedKey as KeyPart>::write(key, &mut out);
    out.into_bytes()
}
