//! Guarded writes of a type: one builder for updates, write-through and guards.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use crate::api::choices::{Invalidate, NeverSure, SureIf, Through, Unwritten};
use crate::api::handle::Handle;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::options::{UpdateOptions, UpdateReport};
use crate::key::aliases::Alias;
use crate::key::part::KeyFrom;
use crate::key::tag::Tag;
use crate::observe::answer::Ending;
use crate::observe::trace::Tracer;
use crate::observe::trace::{about, traced};
use crate::schema::cached_type::{CachedType, Keyed};
use crate::schema::guarding::{BestEffort, Guarding, Strict};
use crate::verbs::Sealed;
use crate::verbs::update::{Guard, update};

/// A guarded write to the database that has not begun, and its choices. From [`Handle::update`],
/// [`Handle::update_many`] or [`Handle::write_through`].
///
/// Once the write is committed, no reader in any process gets the old row, even if this process
/// crashes half-way. A guard is placed at each key before the write begins, and stays while it
/// runs. Values loaded meanwhile are returned to their callers and not stored. After `Ok` the guard
/// ends, and the entry is gone, or holds the new value (write-through). After an error, or if the
/// call is dropped, the write may still be committed: the guard then stays until it expires, within
/// 10 s.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
/// # #[cached(tag = "org:{org_id}")]
/// # struct User { #[cached(key)] id: u64, org_id: u64 }
/// # #[derive(Debug)]
/// # enum DbError { UniqueViolation, Other }
/// # impl std::fmt::Display for DbError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") }
/// # }
/// # impl std::error::Error for DbError {}
/// # struct Db;
/// # impl Db { async fn move_user(&self, _: u64, _: u64) -> Result<(), DbError> { Ok(()) } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (store, db) = (Store::memory(), Db);
/// let update = store.of::<User>().update(1);
/// let update = update.strict().invalidating([User::cache_tags().org(7), User::cache_tags().org(42)]);
/// let update = update.unwritten_if(|error: &DbError| matches!(error, DbError::UniqueViolation));
/// update.run(|| db.move_user(1, 42)).await?;
/// # Ok(())
/// # }
/// ```
///
/// | choice | default | effect |
/// |---|---|---|
/// | [`strict`](Self::strict), [`best_effort`](Self::best_effort) | the type's | whether the write is refused if its guard can't be placed |
/// | [`invalidating`](Self::invalidating) | no tags | invalidates tags with the write |
/// | [`hold`](Self::hold) | the type's `hold` | the time for which the guard stays after the write |
/// | [`guard_life`](Self::guard_life) | 10 s | the time after which an unrenewed guard expires |
/// | [`unwritten_if`](Self::unwritten_if) | no error | the errors after which the guard ends at once |
/// | [`report`](Self::report) | none | reports whether the write was guarded, and its end confirmed |
/// | [`ttl`](Update::ttl) | the type's TTL | the TTL of the value that a write-through stores |
#[must_use = "nothing is written before `run`"]
pub struct Update<'s, T: CachedType, S = Invalidate, G = <T as CachedType>::Guarding, P = NeverSure>
{
    handle: Handle<'s, T>,
    keys: Vec<Vec<u8>>,
    stored: S,
    ttl: Option<Ttl>,
    options: UpdateOptions,
    unwritten: P,
    guarding: PhantomData<fn() -> G>,
}

impl<'s, T: CachedType> Handle<'s, T> {
    /// Begins a write that changes the value under a key: see [`Update`].
    pub fn update(self, key: T::Key<'_>) -> Update<'s, T> {
        Update::new(self, vec![self.bytes(key)], Invalidate)
    }

    /// Begins a write that changes the values under several keys: see [`Update`].
    pub fn update_many<I>(self, keys: I) -> Update<'s, T>
    where
        I: IntoIterator,
        T::OwnedKey: KeyFrom<I::Item>,
    {
        Update::new(self, self.bytes_of_all(keys), Invalidate)
    }

    /// Begins a write that creates a value with these aliases, whose key is not known before: see
    /// [`Update`]. During the write no absence of these aliases is stored or read.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(ttl_absent = "30s")]
    /// struct User {
    ///     #[cached(key)]
    ///     id: u64,
    ///     #[cached(alias(ttl_absent = "30s"))]
    ///     email: String,
    /// }
    ///
    /// # struct Db;
    /// # impl Db { async fn insert_user(&self, _: &str) -> Result<u64, std::io::Error> { Ok(42) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let email = "ada@example.org";
    /// let users = store.of::<User>();
    /// let create = users.create([User::email_alias(email)]);
    /// let id = create.run(|| db.insert_user(email)).await?;
    /// // In case a caller has guessed the key.
    /// users.del(id).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create(self, aliases: impl IntoIterator<Item = Alias<T>>) -> Update<'s, T> {
        Update::new(self, Vec::new(), Invalidate).with_aliases(aliases)
    }

    /// Begins a write of this value, which is cached after the write, unless another call wrote or
    /// deleted it meanwhile (write-through): see [`Update`]. If the value can't be stored, this is
    /// logged and counted, and its entry is deleted.
    pub fn write_through<'v>(self, value: &'v T) -> Update<'s, T, Through<'v, T>>
    where
        T: Keyed,
    {
        self.write_through_at(value.cache_key(), value)
    }

    /// The same as [`write_through`](Self::write_through), for types whose key is not part of the
    /// value.
    pub fn write_through_at<'v>(
        self,
        key: T::Key<'_>,
        value: &'v T,
    ) -> Update<'s, T, Through<'v, T>> {
        let place = self.place(key);
        let mut keys = vec![place.key.clone()];
        keys.extend(self.alias_keys(value));
        Update::new(self, keys, Through { value, place })
    }
}

impl<'s, T: CachedType, S> Update<'s, T, S> {
    fn new(handle: Handle<'s, T>, keys: Vec<Vec<u8>>, stored: S) -> Self {
        const { T::POLICY.can_update() };
        Self {
            handle,
            keys,
            stored,
            ttl: None,
            options: UpdateOptions::default(),
            unwritten: NeverSure,
            guarding: PhantomData,
        }
    }
}

impl<'s, T: CachedType, S, G, P> Update<'s, T, S, G, P> {
    fn with<H, Q>(self, unwritten: impl FnOnce(P) -> Q) -> Update<'s, T, S, H, Q> {
        Update {
            handle: self.handle,
            keys: self.keys,
            stored: self.stored,
            ttl: self.ttl,
            options: self.options,
            unwritten: unwritten(self.unwritten),
            guarding: PhantomData,
        }
    }

    /// Refuses the write if its guard can't be placed. The error is an
    /// [`UpdateError`](crate::UpdateError).
    pub fn strict(self) -> Update<'s, T, S, Strict, P> {
        self.with(|same| same)
    }

    /// Writes even if the guard can't be placed. The deletion of the entry is then queued and
    /// delivered later. The error is the write's own.
    pub fn best_effort(self) -> Update<'s, T, S, BestEffort, P> {
        self.with(|same| same)
    }

    /// Sets how long the guard stays after the write, at most a day: for loaders that read from a
    /// replica with a lag.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.options.hold = Some(hold);
        self
    }

    /// Sets how long the guard lasts after its last renewal, if its process dies or its call is
    /// dropped: 10 ms to a day, default 10 s. It is renewed every third of this time. Set it to at
    /// least one and a half times the database's own limit for a statement: then no write is
    /// committed after its guard has expired.
    pub fn guard_life(mut self, life: Duration) -> Self {
        self.options.guard_life = Some(life);
        self
    }

    /// Invalidates tags with the write. During the write, no entry with one of these tags is read
    /// or stored. After it, no entry stored or loaded before is read or stored. It costs two more
    /// round trips, and a guard at each tag. If the writer dies, these guards prevent the storing
    /// of entries with the tags for up to 18 s.
    ///
    /// A write-through that invalidates a tag of its own value stores nothing.
    pub fn invalidating<I>(mut self, tags: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        self.options.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Adds aliases that the written row has from now on: those of a row that is created, and a
    /// changed one. During the write no absence of these aliases is stored or read, and after it
    /// none from before is. A write-through knows the aliases of its value.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User {
    /// #     #[cached(key)]
    /// #     id: u64,
    /// #     #[cached(alias(ttl_absent = "30s"))]
    /// #     email: String,
    /// # }
    /// # struct Db;
    /// # impl Db { async fn set_email(&self, _: u64, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let email = "ada@example.org";
    /// let update = store.of::<User>().update(42).with_aliases([User::email_alias(email)]);
    /// update.run(|| db.set_email(42, email)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_aliases(mut self, aliases: impl IntoIterator<Item = Alias<T>>) -> Self {
        let namespace = &self.handle.store.inner().namespace;
        let keys = aliases.into_iter().map(|alias| alias.key_in(namespace));
        self.keys.extend(keys);
        self
    }

    /// Writes into this report whether the write was guarded, and its end confirmed. For a write
    /// that is not `strict`, only the report shows this.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store, UpdateReport};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # struct Db;
    /// # impl Db { async fn rename(&self, _: u64, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (store, db) = (Store::memory(), Db);
    /// let report = UpdateReport::new();
    /// let update = store.of::<User>().update(42).report(&report);
    /// update.run(|| db.rename(42, "Grace")).await?;
    /// assert!(report.was_guarded() && report.is_confirmed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn report(mut self, report: &UpdateReport) -> Self {
        self.options.report = Some(report.clone());
        self
    }

    /// Sets the errors that are certain to mean that nothing was written: after them the guard ends
    /// at once. After other errors it stays until it expires.
    pub fn unwritten_if<E, F: Fn(&E) -> bool + Send>(
        self,
        is_sure: F,
    ) -> Update<'s, T, S, G, SureIf<F>> {
        self.with(|_| SureIf(is_sure))
    }
}

impl<'s, T: CachedType, G: Guarding, P> Update<'s, T, Invalidate, G, P> {
    /// Writes the row.
    ///
    /// # Errors
    /// The write's own. If strict, an [`UpdateError`](crate::UpdateError): the write's error, or
    /// its refusal.
    pub fn run<R, E, F, Fut>(
        self,
        write: F,
    ) -> impl Future<Output = Result<R, G::Error<E>>> + Send + use<'s, T, G, P, R, E, F, Fut>
    where
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        self.handle.guarded::<G, _, _, _, _, _>(
            self.keys,
            self.options,
            None,
            self.unwritten,
            write,
        )
    }
}

impl<'s, T: CachedType, G: Guarding> Update<'s, T, Invalidate, G> {
    /// Places guards at the keys, for a write that is committed elsewhere: see [`Guard`].
    ///
    /// # Errors
    /// If strict, when a guard can't be placed. Otherwise [`Guard::is_placed`] reports whether all
    /// are.
    pub fn guard(self) -> impl Future<Output = Result<Guard>> + Send + use<'s, T, G> {
        let (handle, keys, options) = (self.handle, self.keys, self.options);
        async move {
            let (store, of) = (handle.store, handle.of());
            let span = Tracer(store.inner()).span("guard", Some(of), about(&keys));
            let placing = Guard::place(store, keys, G::STRICT, options, false, of);
            traced!(span, placing, Ending::of)
        }
    }
}

impl<'s, 'v, T: CachedType, G: Guarding, P> Update<'s, T, Through<'v, T>, G, P> {
    /// Sets the TTL of the stored value, in place of the type's.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Writes the row, and caches the value.
    ///
    /// # Errors
    /// The write's own. If strict, an [`UpdateError`](crate::UpdateError): the write's error, or
    /// its refusal.
    pub fn run<R, E, F, Fut>(
        self,
        write: F,
    ) -> impl Future<Output = Result<R, G::Error<E>>> + Send + use<'s, T, G, P, R, E, F, Fut>
    where
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        let Through { value, place } = self.stored;
        let sealed = self.handle.sealed(&place, value, self.ttl);
        let (handle, sealed) = (self.handle, Some(sealed));
        handle.guarded::<G, _, _, _, _, _>(self.keys, self.options, sealed, self.unwritten, write)
    }
}

impl<'s, T: CachedType> Handle<'s, T> {
    async fn guarded<G, R, E, P, F, Fut>(
        self,
        keys: Vec<Vec<u8>>,
        options: UpdateOptions,
        through: Option<Result<Sealed>>,
        unwritten: P,
        write: F,
    ) -> Result<R, G::Error<E>>
    where
        G: Guarding,
        P: Unwritten<E>,
        R: Send,
        E: Send,
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<R, E>> + Send,
    {
        // Boxed, so that the futures around an update do not grow with it: it is several round
        // trips.
        let write = || Box::pin(write());
        let is_sure = move |error: &E| unwritten.is_sure(error);
        let (store, of) = (self.store, self.of());
        let updating =
            update::<G, _, _, _, _, _>(store, keys, options, of, through, is_sure, write);
        Box::pin(updating).await
    }
}

impl<T: CachedType, S, G: Guarding, P> fmt::Debug for Update<'_, T, S, G, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("prefix", &T::PREFIX)
            .field("keys", &self.keys.len())
            .field("strict", &G::STRICT)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
