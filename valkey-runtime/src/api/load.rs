//! Loads of a type.

use crate::api::handle::{Asked, Handle, limited, limits_of, own_again, stale};
use crate::base::error::Result;
use crate::core::entry::Entry;
use crate::core::options::{LoadError, LoadLimits, LoadOptions};
use crate::key::part::{KeyFrom, OwnKey};
use crate::schema::cached_type::CachedType;
use crate::schema::keys::KeyOf;
use crate::schema::loaded::IntoLoaded;
use crate::schema::loaded::Stale;
use crate::verbs::loading;
use crate::verbs::loading::driver::Limits;
use std::future::Future;

impl<'s, T: CachedType> Handle<'s, T> {
    /// See [`Cached::get_or_load`](crate::Cached::get_or_load).
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

    /// See [`Cached::get_or_load_with`](crate::Cached::get_or_load_with).
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

    /// See [`Cached::get_or_revalidate`](crate::Cached::get_or_revalidate).
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

    /// See [`Cached::get_or_refresh`](crate::Cached::get_or_refresh).
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

    /// See [`Cached::get_or_refresh_entry`](crate::Cached::get_or_refresh_entry).
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
            let now = || inner.gateway.now_micros();
            Ok(found.map(|(value, origin)| origin.entry(value, T::VERSION, now())))
        }
    }

    /// See [`Cached::get_or_load_limited`](crate::Cached::get_or_load_limited).
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

    /// See [`Cached::get_or_load_entry`](crate::Cached::get_or_load_entry).
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
                .map(|(value, origin)| origin.entry(value, T::VERSION, inner.gateway.now_micros())))
        }
    }

    /// See [`Cached::get_or_load_many`](crate::Cached::get_or_load_many).
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
    /// turn. See [`Cached::get_or_load_limited`](crate::Cached::get_or_load_limited).
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

    pub(crate) async fn loaded_many<L, E, F, Fut>(
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
}
