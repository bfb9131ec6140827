//! The verbs of a type on a store: the typed shell over [`crate::verbs`].
//!
//! A method encodes key and value when it is called, so its future borrows nothing but the store.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::entry::{Entry, Source};
use crate::core::near::NearCopy;
use crate::core::options::SetOptions;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::part::{KeyFrom, KeyPart};
use crate::key::read::ReadKey;
use crate::key::tag::Place;
use crate::key::writer::KeyWriter;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::Tracer;
use crate::observe::trace::{row, rows, traced};
use crate::schema::cached_type::CachedType;
use crate::schema::cached_type::Clearable;
use crate::schema::cached_type::Keyed;
use crate::value::codec;
use crate::verbs::Sealed;
use crate::verbs::delete::Remover;
use crate::verbs::encode::Sealer;
use crate::verbs::near::NearReader;
use crate::verbs::newer::NewerPurger;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::read::Reader;
use crate::verbs::scan;
use crate::verbs::scan::Scanner;
use crate::verbs::scan::{Purged, Scan, ScanOptions};
use crate::verbs::tags::Epochs;
use crate::verbs::touch::Toucher;
use crate::verbs::write::Writer;
use futures_util::FutureExt;

/// All verbs of one type on one store, from [`Store::of`].
///
/// [`Cached`](crate::Cached) has most of these methods too, and documents them in detail. Use a
/// handle in generic code, and where the type has a method of its own with the name of a verb:
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
    /// Whether no near copy may answer.
    asks_store: bool,
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
            asks_store: false,
            of: PhantomData,
        }
    }

    /// A handle whose reads and loads ask the store, and are answered by no near copy. For a type
    /// without `near` it is the same.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(near = "5s")]
    /// struct Account {
    ///     #[cached(key)]
    ///     id: u64,
    ///     cents: i64,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// Account { id: 1, cents: 500 }.set(&store).await?;
    /// let shown = Account::get(&store, 1).await?;
    /// let to_decide_by = store.of::<Account>().skip_near().get(1).await?;
    /// # assert_eq!((shown.unwrap().cents, to_decide_by.unwrap().cents), (500, 500));
    /// # Ok(())
    /// # }
    /// ```
    pub fn skip_near(self) -> Self {
        Self {
            asks_store: true,
            ..self
        }
    }

    pub(crate) fn bytes(&self, key: T::Key<'_>) -> Vec<u8> {
        key_bytes::<T>(&self.store.inner().namespace, key)
    }

    /// The encoded key, with the tags that follow from the key alone.
    pub(crate) fn place(&self, key: T::Key<'_>) -> Place {
        let mut tags = Epochs(self.store.inner()).tag_writer();
        if T::TAGGED {
            T::write_key_tags(key, &mut tags);
        }
        Place {
            key: self.bytes(key),
            epochs: tags.into_epochs(),
            asks_store: self.asks_store,
        }
    }

    /// The store's state of the type: its counters, loads and warnings.
    pub(crate) fn of(self) -> &'s Arc<Type> {
        let inner = self.store.inner();
        let of = inner.types.of::<T>();
        if const { T::POLICY.only_copy } {
            OnlyCopies(inner).is_used(of);
        }
        of
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

    /// Validates the value and encodes it as an entry under this key.
    pub(crate) fn sealed(&self, place: &Place, value: &T, ttl: Option<Ttl>) -> Result<Sealed> {
        self.sealed_with(place, value, ttl, self.store.inner().stamp())
    }

    /// The same, with a stamp for the entry.
    pub(crate) fn sealed_with(
        &self,
        place: &Place,
        value: &T,
        ttl: Option<Ttl>,
        stamp: u64,
    ) -> Result<Sealed> {
        value.cache_validate().map_err(Error::breaking)?;
        let inner = self.store.inner();
        let tags = T::TAGGED.then(|| {
            let mut tags = Epochs(inner).tag_writer();
            if T::KEY_TAGS {
                tags.epochs.extend_from_slice(&place.epochs);
            }
            value.write_tags(&mut tags);
            tags
        });
        Sealer(inner).seal(&place.key, value, stamp, ttl, tags, self.of())
    }

    /// Invalidates all entries of the type, in any number, in two round trips.
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
    /// The same as [`Store::invalidate_tag`].
    pub fn clear(self) -> impl Future<Output = Result<()>> + Send + use<'s, T>
    where
        T: Clearable,
    {
        self.store.clear(T::PREFIX, T::POLICY.hold_millis)
    }

    /// Reads the value under `key`; `None` is a miss. See [`Cached::get`](crate::Cached::get).
    ///
    /// # Errors
    /// If the server can't be queried. With `on_corrupt = "error"` also if the entry is corrupt or
    /// its value invalid.
    pub fn get(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<Option<T>>> + Send + use<'s, T> {
        let place = self.place(key);
        async move { self.get_place(&place).await }
    }

    pub(crate) async fn get_place(self, place: &Place) -> Result<Option<T>> {
        let (inner, of) = (self.store.inner(), self.of());
        let span = Tracer(inner).span("get", Some(of), About::Key(&place.key));
        traced!(span, self.found(place, of), |found| {
            Ending::of(found).with_rows(row(found))
        })
    }

    /// Reads the value under `key` and shares it. See
    /// [`Cached::get_shared`](crate::Cached::get_shared).
    ///
    /// # Errors
    /// The same as [`get`](Self::get).
    pub fn get_shared(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<Option<Arc<T>>>> + Send + use<'s, T> {
        // The copy is looked for at the call, and judged when the read begins.
        let copy = self.near_copy(key).ok_or_else(|| self.place(key));
        async move {
            let place = match copy {
                Ok(copy) => match self.near_value(&copy) {
                    Some(value) => return Ok(Some(value)),
                    None => copy.place().clone(),
                },
                Err(place) => place,
            };
            // Boxed, so that the future of a near hit is small.
            Box::pin(self.read_shared(place)).await
        }
    }

    /// The near copy under a key, valid or not. The key is written into a buffer of the thread:
    /// most near hits need it only to find the copy.
    #[inline]
    fn near_copy(self, key: T::Key<'_>) -> Option<Arc<NearCopy>> {
        thread_local! {
            static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        if self.asks_store {
            return None;
        }
        let near = self.of().near.as_ref()?;
        let buffer = BUFFER.take();
        let out = KeyWriter::within(buffer, &self.store.inner().namespace, T::PREFIX);
        let key = written::<T>(out, key);
        let copy = near.find(&key);
        BUFFER.set(key);
        copy
    }

    /// The value of a copy that is valid now, if it was decoded before.
    #[inline]
    fn near_value(self, copy: &NearCopy) -> Option<Arc<T>> {
        let inner = self.store.inner();
        // A call that is observed takes the longer way, and so does one that finds the cache off.
        if Tracer(inner).is_recording() || !inner.is_enabled() {
            return None;
        }
        let value = copy.value()?;
        NearReader(inner).is_valid(copy).then(|| {
            self.of().counters().shared_hit();
            value
        })
    }

    async fn read_shared(self, place: Place) -> Result<Option<Arc<T>>> {
        let (inner, of) = (self.store.inner(), self.of());
        let span = Tracer(inner).span("get_shared", Some(of), About::Key(&place.key));
        let found = async {
            let Some(entry) = Reader(inner).get(&place, of).await? else {
                return Ok(None);
            };
            if let Some(value) = NearReader(inner).value_of(&entry, &place, of) {
                of.counters().hit(entry.bytes().len());
                return Ok(Some(value));
            }
            let value = codec::read(entry.payload());
            let decoded = Reader(inner).decoded("get_shared", &place.key, &entry, value, of);
            let value = decoded.await?.map(Arc::new);
            if let Some(value) = &value {
                NearReader(inner).decoded(&entry, &place, value, of);
            }
            Ok(value)
        };
        traced!(span, found, |found| {
            Ending::of(found).with_rows(row(found))
        })
    }

    async fn found(self, place: &Place, of: &Arc<Type>) -> Result<Option<T>> {
        let inner = self.store.inner();
        let Some(entry) = Reader(inner).get(place, of).await? else {
            return Ok(None);
        };
        let value = codec::read(entry.payload());
        let decoded = Reader(inner).decoded("get", &place.key, &entry, value, of);
        decoded.await
    }

    /// Reads many values in one round trip, in the order of the keys. See
    /// [`Cached::get_many`](crate::Cached::get_many).
    ///
    /// # Errors
    /// The same as [`get`](Self::get). A key that holds another type of the server, such as a list,
    /// is a miss: the server's bulk read does not report it.
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
            let span = Tracer(inner).span("get_many", Some(of), About::Places(&places));
            traced!(span, self.found_of_all(&places, of), |found| {
                Ending::of(found).with_rows(rows(found))
            })
        }
    }

    async fn found_of_all(self, places: &[Place], of: &Arc<Type>) -> Result<Vec<Option<T>>> {
        let inner = self.store.inner();
        let entries = Reader(inner).get_many(places, of).await?;
        let mut values = Vec::with_capacity(entries.len());
        for (place, entry) in places.iter().zip(entries) {
            values.push(match entry {
                Some(entry) => {
                    let (key, value) = (&*place.key, codec::read(entry.payload()));
                    let decoded = Reader(inner).decoded("get_many", key, &entry, value, of);
                    decoded.await?
                }
                None => None,
            });
        }
        Ok(values)
    }

    /// Returns whether [`get`](Self::get) would return a value, according to the entry's header.
    /// See [`Cached::exists`](crate::Cached::exists).
    ///
    /// # Errors
    /// If the server can't be queried.
    pub fn exists(self, key: T::Key<'_>) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("exists", Some(of), About::Key(&place.key));
            traced!(span, Reader(inner).exists(&place, of), Ending::of)
        }
    }

    /// Deletes the entry under `key`; true if it held a value. See
    /// [`Cached::del`](crate::Cached::del).
    ///
    /// # Errors
    /// If the server did not confirm the deletion. It is then kept and delivered later: see
    /// [`Store::undelivered`]. (Not for a type with `only_copy`: repeat the call.)
    pub fn del(self, key: T::Key<'_>) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, key) = (self.store.inner(), self.bytes(key));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("del", Some(of), About::Key(&key));
            traced!(span, Remover(inner).del(&key, of), Ending::of)
        }
    }

    /// Deletes many entries, and returns how many values were removed. See
    /// [`Cached::del_many`](crate::Cached::del_many).
    ///
    /// # Errors
    /// The same as [`del`](Self::del). The message gives the number of entries that are in doubt.
    pub fn del_many<I>(self, keys: I) -> impl Future<Output = Result<u64>> + Send + use<'s, T, I>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        let (inner, keys) = (self.store.inner(), self.bytes_of_all(keys));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("del_many", Some(of), About::Keys(&keys));
            traced!(span, Remover(inner).del_many(&keys, of), Ending::of)
        }
    }

    /// Makes the value under `key` stale; true if there was one.
    ///
    /// No read returns the value any more, and no load that has begun is stored, as after
    /// [`del`](Self::del). For a type with `stale_if_error`, the value is kept as a fallback for
    /// failed loads. For a type with a `hold`, this is the same as [`del`](Self::del).
    ///
    /// # Errors
    /// If the server can't be queried.
    pub fn mark_stale(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        const { T::POLICY.can_be_stale() };
        let (inner, key) = (self.store.inner(), self.bytes(key));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("mark_stale", Some(of), About::Key(&key));
            traced!(span, Remover(inner).mark_stale(&key, of), Ending::of)
        }
    }

    /// Returns the remaining TTL of the value under `key`; `None` if [`get`](Self::get) would
    /// return no value.
    ///
    /// # Errors
    /// If the server can't be queried.
    pub fn ttl(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<Option<Ttl>>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("ttl", Some(of), About::Key(&place.key));
            traced!(span, Reader(inner).ttl(&place, of), Ending::of)
        }
    }

    /// Restarts the TTL of the value under `key`; true if there is one. See
    /// [`Cached::touch`](crate::Cached::touch).
    ///
    /// # Errors
    /// If the server can't be queried.
    pub fn touch(self, key: T::Key<'_>) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("touch", Some(of), About::Key(&place.key));
            traced!(span, Toucher(inner).touch(&place, of), Ending::of)
        }
    }

    /// Streams all keys and values of this type, in no order: those that [`get`](Self::get) would
    /// return.
    ///
    /// The scan visits the keys of the server, or of all primaries of a cluster, page by page. So
    /// it never blocks the server for long, and it sends nothing after it is dropped. It costs time
    /// for every key of the database, of any type and namespace.
    ///
    /// - An entry that exists during the whole scan is returned at least once. An entry that is
    ///   added or removed meanwhile may be missing.
    /// - An entry may be returned twice if the server's table shrinks during the scan, or if a
    ///   cluster changes. A node that received slots, by resharding or a failover, or was restarted
    ///   is scanned again. (A restart is detected by `INFO server`, if the user may run it.)
    /// - Keys are returned as they were written: `u64`, `String`, or a tuple. A part written by a
    ///   function (`#[cached(key(with = "…"))]`) is returned as its text.
    /// - A scan counts no hits and extends no life.
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
    /// Errors are items of the scan. If a server can't be queried, or the connection is lost
    /// between two pages, the error is the last item; start a new scan then. With `on_corrupt =
    /// "error"`, each corrupt entry is an error too, and the scan continues.
    pub fn scan(self) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        self.scan_with(ScanOptions::new())
    }

    /// The same as [`scan`](Self::scan), with a page size and a limit.
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
    /// The same as [`scan`](Self::scan).
    pub fn scan_with(self, options: ScanOptions) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        self.of();
        Scan::new(self.store.inner(), options)
    }

    /// Counts the values that [`get`](Self::get) would return, according to their headers. No value
    /// is transferred, except entries with tags.
    ///
    /// It visits keys as a [`scan`](Self::scan) does. So an entry may count twice if the server's
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
    /// If a server can't be queried, or the connection is lost between two pages.
    pub fn count(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        let inner = self.store.inner();
        async move {
            let (of, scope) = (self.of(), scan::keys_of::<T>(inner));
            let span = Tracer(inner).span("count", Some(of), About::All);
            traced!(span, Scanner(inner).count(scope, of), Ending::of)
        }
    }

    /// Deletes all entries of this type, each as [`del`](Self::del) does, and returns how many
    /// values were removed.
    ///
    /// It visits keys as a [`scan`](Self::scan) does, and deletes all keys with the type's prefix,
    /// of any version, and the type's aliases. It leaves guards, keys of other types of the server,
    /// such as lists, keys of other cached types, and other namespaces. (A store without a
    /// namespace must not share its database with a namespace that is named like a prefix of its
    /// types: their keys are the same.)
    ///
    /// After `Ok`, all entries that existed when the purge began are gone, and no load that began
    /// before is stored. Entries that are added meanwhile may remain.
    ///
    /// If invalidations of the type were [lost](crate::observe::stats::Stats::lost_deletions), this
    /// store does not read the type's older entries until a later purge returns `Ok`.
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
    /// If a server did not confirm a deletion or can't be queried for keys, or if the connection is
    /// lost between two pages. Earlier pages stay deleted; the deletions of the failed page are
    /// [kept](Store::undelivered). Call it again to purge the rest.
    pub fn purge(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        self.purge_with(|_| {})
    }

    /// The same as [`purge`](Self::purge), and reports the progress after each page of at most
    /// about 1,000 keys. The remaining work is unknown: no server reports it.
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
    /// The same as [`purge`](Self::purge).
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
            let span = Tracer(inner).span("purge", Some(of), About::All);
            traced!(
                span,
                Scanner(inner).purge(scope, hold, Some(of), &mut progress),
                Ending::of
            )
        }
    }

    /// Removes the type's newer entries, and returns how many values were removed. Newer entries
    /// are those of a later `version`, or of a later release of this library. Call it from the old
    /// release after a release was taken back: until then its loads can't replace newer entries
    /// before [`Builder::newer_wins_for`](crate::Builder::newer_wins_for).
    ///
    /// It visits keys as a [`scan`](Self::scan) does, aliases too. Each newer entry is removed only
    /// if it still has the bytes that were read. Leases and guards stay. While instances of the new
    /// release run, they write newer entries again.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached, Debug)]
    /// #[cached(prefix = "user", version = 2)]
    /// struct NewUser { #[cached(key)] id: u64, name: String }
    ///
    /// #[derive(Serialize, Deserialize, Cached, Debug)]
    /// #[cached(prefix = "user")]
    /// struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    ///
    /// NewUser { id: 1, name: "Ada".into() }.set(&store).await?;
    /// assert_eq!(store.of::<User>().purge_newer().await?, 1);
    /// assert!(!NewUser::exists(&store, 1).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a server can't be queried or did not confirm a removal, or if the connection is lost
    /// between two pages. Call it again to remove the rest.
    pub fn purge_newer(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        let inner = self.store.inner();
        async move {
            let (of, scope) = (self.of(), scan::keys_and_aliases_of::<T>(inner));
            let span = Tracer(inner).span("purge_newer", Some(of), About::All);
            traced!(span, NewerPurger(inner).purge(scope, of), Ending::of)
        }
    }

    /// Reads the value under `key` with its source, age and remaining TTL: see [`Entry`].
    ///
    /// # Errors
    /// The same as [`get`](Self::get).
    pub fn get_entry(
        self,
        key: T::Key<'_>,
    ) -> impl Future<Output = Result<Option<Entry<T>>>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("get_entry", Some(of), About::Key(&place.key));
            traced!(span, self.found_entry(&place, of), |found| {
                Ending::of(found).with_rows(row(found))
            })
        }
    }

    async fn found_entry(self, place: &Place, of: &Arc<Type>) -> Result<Option<Entry<T>>> {
        let inner = self.store.inner();
        let Some((raw, left)) = Reader(inner).get_with_ttl(place, of).await? else {
            return Ok(None);
        };
        let value = codec::read(raw.payload());
        let decoded = Reader(inner).decoded("get_entry", &place.key, &raw, value, of);
        let value = decoded.await?;
        let origin = raw.origin(Source::Cached, Some(left), inner);
        Ok(value.map(|value| origin.entry(value, T::VERSION, inner.gateway.now_micros())))
    }

    /// Stores the value under `key`. See [`Cached::set_at`](crate::Cached::set_at).
    ///
    /// # Errors
    /// If the value is invalid, can't be encoded or is too large, or if the server refused it or
    /// did not confirm it. In the latter case a deletion of the key is [kept](Store::undelivered).
    /// For a type with `only_copy` nothing is kept; a newer entry is an error, and stays.
    pub fn set_at(
        self,
        key: T::Key<'_>,
        value: &T,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, T> {
        // A block that awaits it would hold it twice.
        let storing = self.set_at_with(key, value, SetOptions::new());
        storing.map(|stored| stored.map(drop))
    }

    /// Stores the value under `key`, with a TTL or a condition for this call; true if it was
    /// stored.
    ///
    /// # Errors
    /// The same as [`set_at`](Self::set_at).
    pub fn set_at_with(
        self,
        key: T::Key<'_>,
        value: &T,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, place) = (self.store.inner(), self.place(key));
        let sealed = self.sealed(&place, value, options.ttl);
        let aliases = T::ALIAS_ABSENCES.then(|| Box::new(self.alias_keys(value)));
        async move {
            let of = self.of();
            let span = Tracer(inner).span("set", Some(of), About::Key(&place.key));
            let stored = traced!(
                span,
                Writer(inner).set(&place, sealed, options.condition, of),
                Ending::of
            );
            match aliases {
                Some(aliases) if !matches!(stored, Ok(false)) => {
                    let ended = Box::pin(Remover(inner).end_absences(&aliases, of)).await;
                    stored.and_then(|stored| ended.map(|()| stored))
                }
                _ => stored,
            }
        }
    }

    /// Stores the value under its own key. See [`Cached::set`](crate::Cached::set).
    ///
    /// # Errors
    /// The same as [`set_at`](Self::set_at).
    pub fn set(self, value: &T) -> impl Future<Output = Result<()>> + Send + use<'s, T>
    where
        T: Keyed,
    {
        self.set_at(value.cache_key(), value)
    }

    /// Stores the value under its own key, with a TTL or a condition for this call; true if it was
    /// stored. See [`Cached::set_with`](crate::Cached::set_with).
    ///
    /// # Errors
    /// The same as [`set_at`](Self::set_at).
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

    /// Stores many values, each under its own key. See
    /// [`Cached::set_many`](crate::Cached::set_many).
    ///
    /// # Errors
    /// The same as [`set_at`](Self::set_at). If one value is invalid or can't be encoded, nothing
    /// is sent. If the server refused some values, the message gives their number, and the others
    /// are stored.
    pub fn set_many<'v, I>(
        self,
        values: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, 'v, T, I>
    where
        T: Keyed,
        I: IntoIterator<Item = &'v T>,
    {
        let inner = self.store.inner();
        let mut aliases = Vec::new();
        let (places, sealed): (Vec<_>, _) = values
            .into_iter()
            .map(|value| {
                aliases.extend(self.alias_keys(value));
                let place = self.place(value.cache_key());
                let sealed = self.sealed(&place, value, None);
                (place, sealed)
            })
            .unzip();
        async move {
            let of = self.of();
            let span = Tracer(inner).span("set_many", Some(of), About::Places(&places));
            let stored = traced!(
                span,
                Writer(inner).set_many(&places, sealed, of),
                Ending::of
            );
            if aliases.is_empty() {
                return stored;
            }
            stored.and(Box::pin(Remover(inner).end_absences(&aliases, of)).await)
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

/// The encoded key.
pub(crate) fn key_bytes<T: CachedType>(namespace: &str, key: T::Key<'_>) -> Vec<u8> {
    written::<T>(KeyWriter::new(namespace, T::PREFIX), key)
}

fn written<T: CachedType>(mut out: KeyWriter, key: T::Key<'_>) -> Vec<u8> {
    <T::OwnedKey as KeyPart>::write(key, &mut out);
    out.into_bytes()
}
