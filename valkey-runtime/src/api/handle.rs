//! The verbs of a type on a store: the typed shell over [`crate::verbs`].
//!
//! Keys and values become bytes when a method is called, so that its future borrows nothing but the store.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::entry::{Entry, Source};
use crate::core::options::{LoadError, LoadLimits, SetOptions};
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::part::{KeyFrom, KeyPart, OwnKey};
use crate::key::read::ReadKey;
use crate::key::tag::Place;
use crate::key::writer::KeyWriter;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::{row, rows, traced};
use crate::schema::cached_type::CachedType;
use crate::schema::cached_type::Clearable;
use crate::schema::cached_type::Keyed;
use crate::schema::keys::KeyOf;
use crate::schema::loaded::Stale;
use crate::value::codec;
use crate::verbs::Sealed;
use crate::verbs::loading::driver::Limits;
use crate::verbs::raw::Raw;
use crate::verbs::scan;
use crate::verbs::scan::{Purged, Scan, ScanOptions};

/// The verbs of a type on a store, from [`Store::of`]: the core form, in which generic code is written, and which no
/// method of the application's own can hide. The methods are those of [`Cached`](crate::Cached) and documented there.
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
        let mut out = KeyWriter::new(&self.store.inner().namespace, T::PREFIX);
        <T::OwnedKey as KeyPart>::write(key, &mut out);
        out.into_bytes()
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

    /// See [`Cached::clear`](crate::Cached::clear).
    ///
    /// # Errors
    /// As there.
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

    /// See [`Cached::expire`](crate::Cached::expire).
    ///
    /// # Errors
    /// As there.
    pub fn expire(self, key: T::Key<'_>) -> impl Future<Output = Result<bool>> + Send + use<'s, T> {
        let (inner, key) = (self.store.inner(), self.bytes(key));
        async move {
            let of = self.of();
            let span = inner.span("expire", Some(of), About::Key(&key));
            traced!(span, inner.expire(&key, of), Ending::of)
        }
    }

    /// See [`Cached::ttl`](crate::Cached::ttl).
    ///
    /// # Errors
    /// As there.
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

    /// See [`Cached::scan`](crate::Cached::scan).
    pub fn scan(self) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        self.scan_with(ScanOptions::new())
    }

    /// See [`Cached::scan_with`](crate::Cached::scan_with).
    pub fn scan_with(self, options: ScanOptions) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        Scan::new(self.store.inner(), options)
    }

    /// See [`Cached::count`](crate::Cached::count).
    ///
    /// # Errors
    /// As there.
    pub fn count(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        let inner = self.store.inner();
        async move {
            let (of, scope) = (self.of(), scan::keys_of::<T>(inner));
            let span = inner.span("count", Some(of), About::All);
            traced!(span, inner.count(scope, of), Ending::of)
        }
    }

    /// See [`Cached::purge`](crate::Cached::purge).
    ///
    /// # Errors
    /// As there.
    pub fn purge(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        self.purge_with(|_| {})
    }

    /// See [`Cached::purge_with`](crate::Cached::purge_with).
    ///
    /// # Errors
    /// As there.
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

    /// See [`Cached::get_entry`](crate::Cached::get_entry).
    ///
    /// # Errors
    /// As there.
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
        let origin = raw.origin(Source::Server, Some(left), inner);
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

    /// See [`Cached::set_at_with`](crate::Cached::set_at_with).
    ///
    /// # Errors
    /// As there.
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

pub(crate) fn own_again<T: CachedType>(key: &KeyOf<T>) -> KeyOf<T>
where
    T::OwnedKey: OwnKey,
{
    T::OwnedKey::own(T::OwnedKey::of_owned(key))
}

impl<T: CachedType> fmt::Debug for Handle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("prefix", &T::PREFIX)
            .field("store", &self.store)
            .finish()
    }
}

/// What a loader is shown of the entry that it is to refresh.
pub(crate) fn stale<T: CachedType>(raw: Option<Raw>) -> Option<Stale<T>> {
    Some(Stale::new(codec::read(raw?.payload()).ok()?))
}

/// The keys of a bulk load.
pub(crate) struct Asked<T: CachedType>
where
    T::OwnedKey: OwnKey,
{
    /// Each key once.
    pub(crate) once: Vec<Place>,
    pub(crate) owned: Vec<KeyOf<T>>,
    pub(crate) known: HashMap<Vec<u8>, usize>,
    /// Which of them each place of the answer is.
    pub(crate) order: Vec<usize>,
}

impl<T: CachedType> Asked<T>
where
    T::OwnedKey: OwnKey,
{
    pub(crate) fn new<I>(handle: Handle<'_, T>, keys: I) -> Self
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        let mut asked = Self {
            once: Vec::new(),
            owned: Vec::new(),
            known: HashMap::new(),
            order: Vec::new(),
        };
        for item in keys {
            let key = <T::OwnedKey as KeyFrom<I::Item>>::key_from(&item);
            let place = handle.place(key);
            let (once, owned) = (&mut asked.once, &mut asked.owned);
            let at = *asked.known.entry(place.key.clone()).or_insert_with(|| {
                once.push(place);
                owned.push(<T::OwnedKey as OwnKey>::own(key));
                owned.len() - 1
            });
            asked.order.push(at);
        }
        asked
    }
}

pub(crate) fn limits_of<E>(limits: LoadLimits) -> Limits<LoadError<E>> {
    Limits {
        queue: limits
            .queue
            .map(|longest| (longest, (|| LoadError::Queue) as fn() -> LoadError<E>)),
        late: Some(|| LoadError::Deadline),
    }
}

pub(crate) async fn limited<R, E>(
    deadline: Option<Duration>,
    loading: impl Future<Output = Result<R, E>>,
) -> Result<R, LoadError<E>> {
    match deadline {
        None => loading.await.map_err(LoadError::Load),
        Some(deadline) => match tokio::time::timeout(deadline, loading).await {
            Ok(loaded) => loaded.map_err(LoadError::Load),
            Err(_) => Err(LoadError::Deadline),
        },
    }
}
