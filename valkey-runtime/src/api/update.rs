//! Guarded writes of a type.

use crate::api::handle::Handle;
use crate::base::error::Result;
use crate::core::options::Unwritten;
use crate::core::options::UpdateOptions;
use crate::key::part::KeyFrom;
use crate::observe::answer::Ending;
use crate::observe::trace::{about, traced};
use crate::schema::cached_type::CachedType;
use crate::schema::cached_type::Keyed;
use crate::schema::guarding::Strict;
use crate::schema::guarding::{Guarding, UpdateError};
use crate::verbs::Sealed;
use crate::verbs::update as guard;
use crate::verbs::update::Guard;
use std::future::Future;

impl<'s, T: CachedType> Handle<'s, T> {
    /// See [`Cached::update`](crate::Cached::update).
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

    /// See [`Cached::update_with`](crate::Cached::update_with).
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

    /// See [`Cached::update_many`](crate::Cached::update_many).
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

    /// See [`Cached::write_through`](crate::Cached::write_through).
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

    /// See [`Cached::write_through_with`](crate::Cached::write_through_with).
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

    /// See [`Cached::update_many_with`](crate::Cached::update_many_with).
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

    pub(crate) fn guarded<G, R, E, P, F, Fut>(
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

    /// See [`Cached::guard`](crate::Cached::guard).
    ///
    /// # Errors
    /// As there.
    pub fn guard(self, key: T::Key<'_>) -> impl Future<Output = Result<Guard>> + Send + use<'s, T> {
        self.guard_with(key, UpdateOptions::new())
    }

    /// See [`Cached::guard_with`](crate::Cached::guard_with).
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
}
