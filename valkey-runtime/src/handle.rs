//! The verbs of a type on a store: the typed shell over [`crate::verbs`].
//!
//! Keys and values become bytes when a method is called, so that its future borrows nothing but the store.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::loading::Limits;
use crate::options::Unwritten;
use crate::tags::Place;
use crate::trace::{About, Ending, about, row, rows, traced};
use crate::types::Type;
use crate::verbs::{Raw, Sealed};
use crate::{
    Cached, Clearable, Entry, Error, Guard, Guarding, IntoLoaded, KeyFrom, KeyOf, KeyPart,
    KeyWriter, Keyed, LoadError, LoadLimits, LoadOptions, OwnKey, Purged, ReadKey, Result, Scan,
    ScanOptions, SetOptions, Source, Stale, Store, Strict, Ttl, UpdateError, UpdateOptions, codec,
    guard, loading, scan,
};

/// The verbs of a type on a store, from [`Store::of`]: the core form, in which generic code is written, and which no
/// method of the application's own can hide. The methods are those of [`Cached`] and documented there.
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
    store: &'s Store,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Handle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<'_, T> {}

impl<'s, T: Cached> Handle<'s, T> {
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
    fn of(self) -> &'s Arc<Type> {
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

    fn bytes_of_all<I>(&self, keys: I) -> Vec<Vec<u8>>
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

    /// See [`Cached::clear`].
    ///
    /// # Errors
    /// As there.
    pub fn clear(self) -> impl Future<Output = Result<()>> + Send + use<'s, T>
    where
        T: Clearable,
    {
        self.store.clear(T::PREFIX, T::POLICY.hold_millis)
    }

    /// See [`Cached::get`].
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

    /// See [`Cached::get_many`].
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

    /// See [`Cached::exists`].
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

    /// See [`Cached::del`].
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

    /// See [`Cached::del_many`].
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

    /// See [`Cached::expire`].
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

    /// See [`Cached::ttl`].
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

    /// See [`Cached::touch`].
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

    /// See [`Cached::scan`].
    pub fn scan(self) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        self.scan_with(ScanOptions::new())
    }

    /// See [`Cached::scan_with`].
    pub fn scan_with(self, options: ScanOptions) -> Scan<'s, T>
    where
        T::OwnedKey: ReadKey,
    {
        Scan::new(self.store.inner(), options)
    }

    /// See [`Cached::count`].
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

    /// See [`Cached::purge`].
    ///
    /// # Errors
    /// As there.
    pub fn purge(self) -> impl Future<Output = Result<u64>> + Send + use<'s, T> {
        self.purge_with(|_| {})
    }

    /// See [`Cached::purge_with`].
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

    /// See [`Cached::get_or_load`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load<L, E, F, Fut>(
        self,
        key: T::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<T>, E>> + Send + use<'s, T, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        self.get_or_load_with(key, LoadOptions::new(), load)
    }

    /// See [`Cached::get_or_load_with`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load_with<L, E, F, Fut>(
        self,
        key: T::Key<'_>,
        options: LoadOptions,
        load: F,
    ) -> impl Future<Output = Result<Option<T>, E>> + Send + use<'s, T, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let place = self.place(key);
        async move {
            let load = |_| load();
            let limits = Limits::NONE;
            let loading = loading::get_or_load(self.store, place, options, limits, false, load);
            Ok(loading.await?.map(|(value, _)| value))
        }
    }

    /// See [`Cached::get_or_revalidate`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_revalidate<L, E, F, Fut>(
        self,
        key: T::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<T>, E>> + Send + use<'s, T, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        F: FnOnce(Option<Stale<T>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let (place, options) = (self.place(key), LoadOptions::new());
        async move {
            let load = |raw| load(stale(raw));
            let limits = Limits::NONE;
            let loading = loading::get_or_load(self.store, place, options, limits, false, load);
            Ok(loading.await?.map(|(value, _)| value))
        }
    }

    /// See [`Cached::get_or_refresh`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_refresh<L, E, F, Fut>(
        self,
        key: T::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<T>, E>> + Send + use<'s, T, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Option<Stale<T>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let place = self.place(key);
        async move {
            let load = |raw| load(stale(raw));
            let loading = loading::get_or_refresh(self.store, place, load);
            Ok(loading.await?.map(|(value, _)| value))
        }
    }

    /// See [`Cached::get_or_refresh_entry`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_refresh_entry<L, E, F, Fut>(
        self,
        key: T::Key<'_>,
        load: F,
    ) -> impl Future<Output = Result<Option<Entry<T>>, E>> + Send + use<'s, T, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Option<Stale<T>>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let (inner, place) = (self.store.inner(), self.place(key));
        async move {
            let load = |raw| load(stale(raw));
            let found = loading::get_or_refresh(self.store, place, load).await?;
            let now = || inner.backend.now_micros();
            Ok(found.map(|(value, origin)| origin.entry(value, T::VERSION, now())))
        }
    }

    /// See [`Cached::get_or_load_limited`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load_limited<L, E, F, Fut>(
        self,
        key: T::Key<'_>,
        limits: LoadLimits,
        load: F,
    ) -> impl Future<Output = Result<Option<T>, LoadError<E>>> + Send + use<'s, T, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let (place, options) = (self.place(key), LoadOptions::new());
        async move {
            let load = move |_| limited(limits.deadline, load());
            let limits = limits_of(limits);
            let loading = loading::get_or_load(self.store, place, options, limits, false, load);
            Ok(loading.await?.map(|(value, _)| value))
        }
    }

    /// See [`Cached::get_entry`].
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
        Ok(value.map(|value| origin.entry(value, T::VERSION, inner.backend.now_micros())))
    }

    /// See [`Cached::get_or_load_entry`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load_entry<L, E, F, Fut>(
        self,
        key: T::Key<'_>,
        options: LoadOptions,
        load: F,
    ) -> impl Future<Output = Result<Option<Entry<T>>, E>> + Send + use<'s, T, L, E, F, Fut>
    where
        L: IntoLoaded<T> + Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let inner = self.store.inner();
        let place = self.place(key);
        let loading =
            loading::get_or_load(self.store, place, options, Limits::NONE, true, |_| load());
        async move {
            let found = loading.await?;
            Ok(found
                .map(|(value, origin)| origin.entry(value, T::VERSION, inner.backend.now_micros())))
        }
    }

    /// See [`Cached::get_or_load_many`].
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load_many<I, L, E, F, Fut>(
        self,
        keys: I,
        load_missing: F,
    ) -> impl Future<Output = Result<Vec<Option<T>>, E>> + Send + use<'s, T, I, L, E, F, Fut>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item> + OwnKey,
        L: IntoIterator<Item = (KeyOf<T>, T)>,
        E: Send,
        F: FnMut(Vec<KeyOf<T>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        self.get_or_load_many_with(keys, LoadOptions::new(), load_missing)
    }

    /// As [`get_or_load_many`](Self::get_or_load_many), with options for this call.
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load_many_with<I, L, E, F, Fut>(
        self,
        keys: I,
        options: LoadOptions,
        load_missing: F,
    ) -> impl Future<Output = Result<Vec<Option<T>>, E>> + Send + use<'s, T, I, L, E, F, Fut>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item> + OwnKey,
        L: IntoIterator<Item = (KeyOf<T>, T)>,
        E: Send,
        F: FnMut(Vec<KeyOf<T>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let asked = Asked::new(self, keys);
        self.loaded_many(asked, options, Limits::NONE, load_missing)
    }

    /// As [`get_or_load_many`](Self::get_or_load_many), with limits of time: on each run of the loader, and on the wait for a
    /// turn. See [`Cached::get_or_load_limited`].
    ///
    /// # Errors
    /// [`LoadError`]: the loader's, or which limit was passed.
    pub fn get_or_load_many_limited<I, L, E, F, Fut>(
        self,
        keys: I,
        limits: LoadLimits,
        mut load_missing: F,
    ) -> impl Future<Output = Result<Vec<Option<T>>, LoadError<E>>> + Send + use<'s, T, I, L, E, F, Fut>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item> + OwnKey,
        L: IntoIterator<Item = (KeyOf<T>, T)>,
        E: Send,
        F: FnMut(Vec<KeyOf<T>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let asked = Asked::new(self, keys);
        let load = move |keys| limited(limits.deadline, load_missing(keys));
        self.loaded_many(asked, LoadOptions::new(), limits_of(limits), load)
    }

    async fn loaded_many<L, E, F, Fut>(
        self,
        asked: Asked<T>,
        options: LoadOptions,
        limits: Limits<E>,
        mut load_missing: F,
    ) -> Result<Vec<Option<T>>, E>
    where
        T::OwnedKey: OwnKey,
        L: IntoIterator<Item = (KeyOf<T>, T)>,
        E: Send,
        F: FnMut(Vec<KeyOf<T>>) -> Fut + Send,
        Fut: Future<Output = Result<L, E>> + Send,
    {
        let Asked {
            once,
            owned,
            known,
            order,
        } = asked;
        let (owned, known) = (&owned, &known);
        let mut load = |ats: Vec<usize>| {
            let keys = ats.iter().map(|at| own_again::<T>(&owned[*at])).collect();
            let loading = load_missing(keys);
            async move {
                let given = loading.await?;
                // A key that was not asked for is nobody's.
                let at =
                    |key: &KeyOf<T>| known.get(&self.bytes(T::OwnedKey::of_owned(key))).copied();
                let given = given
                    .into_iter()
                    .filter_map(|(key, value)| Some((at(&key)?, value)));
                Ok(given.collect::<Vec<_>>())
            }
        };
        let loader = loading::many(&mut load);
        let loading = loading::get_or_load_many(self.store, once, options, limits, loader);
        let mut answers = loading.await?;
        let mut last = vec![0; answers.len()];
        order
            .iter()
            .enumerate()
            .for_each(|(place, at)| last[*at] = place);
        let mut values = Vec::with_capacity(order.len());
        for (place, at) in order.into_iter().enumerate() {
            values.push(match &answers[at] {
                _ if last[at] == place => answers[at].take().map(|given| given.value),
                None => None,
                Some(given) => match given.again() {
                    Some(value) => Some(value),
                    // Neither cloned nor encoded can it be in two places.
                    None => load(vec![at]).await?.pop().map(|(_, value)| value),
                },
            });
        }
        Ok(values)
    }

    /// See [`Cached::update`].
    ///
    /// # Errors
    /// As there.
    pub fn update<R, E, F, Fut>(
        self,
        key: T::Key<'_>,
        write: F,
    ) -> impl Future<Output = Result<R, <T::Guarding as Guarding>::Error<E>>>
    + Send
    + use<'s, T, R, E, F, Fut>
    where
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        self.guarded::<T::Guarding, _, _, _, _, _>(
            vec![self.bytes(key)],
            UpdateOptions::new(),
            None,
            write,
        )
    }

    /// See [`Cached::update_with`].
    ///
    /// # Errors
    /// As there.
    pub fn update_with<R, E, P, F, Fut>(
        self,
        key: T::Key<'_>,
        options: UpdateOptions<P>,
        write: F,
    ) -> impl Future<Output = Result<R, UpdateError<E>>> + Send + use<'s, T, R, E, P, F, Fut>
    where
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        self.guarded::<Strict, _, _, _, _, _>(vec![self.bytes(key)], options, None, write)
    }

    /// See [`Cached::update_many`].
    ///
    /// # Errors
    /// As there.
    pub fn update_many<I, R, E, F, Fut>(
        self,
        keys: I,
        write: F,
    ) -> impl Future<Output = Result<R, <T::Guarding as Guarding>::Error<E>>>
    + Send
    + use<'s, T, I, R, E, F, Fut>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        self.guarded::<T::Guarding, _, _, _, _, _>(
            self.bytes_of_all(keys),
            UpdateOptions::new(),
            None,
            write,
        )
    }

    /// See [`Cached::write_through`].
    ///
    /// # Errors
    /// As there.
    pub fn write_through<R, E, F, Fut>(
        self,
        value: &T,
        write: F,
    ) -> impl Future<Output = Result<R, <T::Guarding as Guarding>::Error<E>>>
    + Send
    + use<'s, T, R, E, F, Fut>
    where
        T: Keyed,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        self.write_through_at(value.cache_key(), value, write)
    }

    /// See [`Cached::write_through_with`].
    ///
    /// # Errors
    /// As there.
    pub fn write_through_with<R, E, P, F, Fut>(
        self,
        value: &T,
        options: UpdateOptions<P>,
        write: F,
    ) -> impl Future<Output = Result<R, UpdateError<E>>> + Send + use<'s, T, R, E, P, F, Fut>
    where
        T: Keyed,
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        let keys = vec![self.bytes(value.cache_key())];
        let sealed = Some(self.sealed(&keys[0], value, options.ttl));
        self.guarded::<Strict, _, _, _, _, _>(keys, options, sealed, write)
    }

    /// See [`Cached::update_many_with`].
    ///
    /// # Errors
    /// As there.
    pub fn update_many_with<I, R, E, P, F, Fut>(
        self,
        keys: I,
        options: UpdateOptions<P>,
        write: F,
    ) -> impl Future<Output = Result<R, UpdateError<E>>> + Send + use<'s, T, I, R, E, P, F, Fut>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        self.guarded::<Strict, _, _, _, _, _>(self.bytes_of_all(keys), options, None, write)
    }

    /// As [`write_through`](Self::write_through), for types whose key is not part of the value.
    ///
    /// # Errors
    /// As there.
    pub fn write_through_at<R, E, F, Fut>(
        self,
        key: T::Key<'_>,
        value: &T,
        write: F,
    ) -> impl Future<Output = Result<R, <T::Guarding as Guarding>::Error<E>>>
    + Send
    + use<'s, T, R, E, F, Fut>
    where
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        let keys = vec![self.bytes(key)];
        let sealed = Some(self.sealed(&keys[0], value, None));
        self.guarded::<T::Guarding, _, _, _, _, _>(keys, UpdateOptions::new(), sealed, write)
    }

    fn guarded<G, R, E, P, F, Fut>(
        self,
        keys: Vec<Vec<u8>>,
        options: UpdateOptions<P>,
        through: Option<Result<Sealed>>,
        write: F,
    ) -> impl Future<Output = Result<R, G::Error<E>>> + Send + use<'s, T, G, R, E, P, F, Fut>
    where
        G: Guarding,
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        let strict = options.strict.unwrap_or(T::Guarding::STRICT);
        async move {
            // Boxed, so that what is around an update does not grow with it: it is several round trips.
            let write = || Box::pin(write());
            let (store, of) = (self.store, self.of());
            let updating =
                guard::update::<R, E, G, P, _, _>(store, keys, strict, options, of, through, write);
            Box::pin(updating).await
        }
    }

    /// See [`Cached::guard`].
    ///
    /// # Errors
    /// As there.
    pub fn guard(self, key: T::Key<'_>) -> impl Future<Output = Result<Guard>> + Send + use<'s, T> {
        self.guard_with(key, UpdateOptions::new())
    }

    /// See [`Cached::guard_with`].
    ///
    /// # Errors
    /// As there.
    pub fn guard_with(
        self,
        key: T::Key<'_>,
        options: UpdateOptions,
    ) -> impl Future<Output = Result<Guard>> + Send + use<'s, T> {
        let (store, keys) = (self.store, vec![self.bytes(key)]);
        let strict = options.strict.unwrap_or(T::Guarding::STRICT);
        async move {
            let of = self.of();
            let span = store.inner().span("guard", Some(of), about(&keys));
            traced!(
                span,
                Guard::place(store, keys, strict, options, false, of),
                Ending::of
            )
        }
    }

    /// See [`Cached::set_at`].
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

    /// See [`Cached::set_at_with`].
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

    /// See [`Cached::set`].
    ///
    /// # Errors
    /// As there.
    pub fn set(self, value: &T) -> impl Future<Output = Result<()>> + Send + use<'s, T>
    where
        T: Keyed,
    {
        self.set_at(value.cache_key(), value)
    }

    /// See [`Cached::set_with`].
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

    /// See [`Cached::set_many`].
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

fn own_again<T: Cached>(key: &KeyOf<T>) -> KeyOf<T>
where
    T::OwnedKey: OwnKey,
{
    T::OwnedKey::own(T::OwnedKey::of_owned(key))
}

impl<T: Cached> fmt::Debug for Handle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("prefix", &T::PREFIX)
            .field("store", &self.store)
            .finish()
    }
}

/// What a loader is shown of the entry that it is to refresh.
fn stale<T: Cached>(raw: Option<Raw>) -> Option<Stale<T>> {
    Some(Stale::new(codec::read(raw?.payload()).ok()?))
}

/// The keys of a bulk load.
struct Asked<T: Cached>
where
    T::OwnedKey: OwnKey,
{
    /// Each key once.
    once: Vec<Place>,
    owned: Vec<KeyOf<T>>,
    known: HashMap<Vec<u8>, usize>,
    /// Which of them each place of the answer is.
    order: Vec<usize>,
}

impl<T: Cached> Asked<T>
where
    T::OwnedKey: OwnKey,
{
    fn new<I>(handle: Handle<'_, T>, keys: I) -> Self
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

fn limits_of<E>(limits: LoadLimits) -> Limits<LoadError<E>> {
    Limits {
        queue: limits
            .queue
            .map(|longest| (longest, (|| LoadError::Queue) as fn() -> LoadError<E>)),
        late: Some(|| LoadError::Deadline),
    }
}

async fn limited<R, E>(
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
