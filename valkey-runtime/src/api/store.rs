//! The public methods of a store, for all types that use it.

use crate::api::batch::Batch;
use crate::api::handle::Handle;
use crate::backend::invalidations::Invalidations;
use crate::base::error::Result;
use crate::core::failures::Failures;
use crate::core::store::Store;
use crate::observe::answer::{About, Ending};
use crate::observe::stats::{Stats, snapshot};
use crate::observe::trace::Tracer;
use crate::observe::trace::traced;
use crate::protocol::breaker::BreakerState;
use crate::schema::cached_type::CachedType;
use crate::verbs::scan::Purged;
use crate::verbs::scan::Scanner;
use std::fmt;
use std::sync::atomic::Ordering;

impl Store {
    /// Returns the verbs of a type on this store.
    pub fn of<T: CachedType>(&self) -> Handle<'_, T> {
        Handle::new(self)
    }

    /// Begins a batch: several verbs, of any types, sent in one round trip. Nothing is sent before
    /// [`Batch::send`].
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct Team { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let results = store.batch().set(&User { id: 42 }).del::<Team>(7).send().await;
    /// assert_eq!(results.all()?, [true, false]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Returns the place of the entries, for a log line: host and port, or a path, without user and
    /// password.
    ///
    /// ```
    /// assert_eq!(valkey_runtime::Store::memory().location(), "this process");
    /// ```
    pub fn location(&self) -> &str {
        self.inner().gateway.backend().location()
    }

    /// Checks that the server answers.
    ///
    /// # Errors
    /// If it did not answer.
    pub async fn ping(&self) -> Result<()> {
        let span = Tracer(self.inner()).span("ping", None, About::All);
        let answer = traced!(span, self.inner().gateway.ping(), Ending::of);
        answer.map_err(|error| Failures(self.inner()).failed(error.during("ping")))
    }

    /// Returns a snapshot of the store's statistics since it was opened, in total and per type.
    pub fn stats(&self) -> Stats {
        self.inner().warnings.flush();
        snapshot(self.inner())
    }

    /// Switches caching on or off at run time (kill switch).
    ///
    /// While it is off, every read is a miss without a command, and nothing is stored. Callers run
    /// their loaders, or share the load of another caller. Invalidations are still sent, and a
    /// value that would be stored is deleted instead. So nothing old is read after caching is
    /// switched on again.
    ///
    /// [Rate limiters](crate::limit::RateLimiter) keep counting: they are no cache. Verbs of a type
    /// with `only_copy` fail with [`Disabled`](crate::ErrorKind::Disabled): nothing is deleted.
    ///
    /// A store is on when it is opened, unless the environment has `VALKEY_CACHE=off`.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// User { id: 1 }.set(&store).await?;
    /// store.set_enabled(false);
    /// assert!(!User::exists(&store, 1).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_enabled(&self, enabled: bool) {
        self.inner().enabled.store(enabled, Ordering::Relaxed);
    }

    /// Returns whether caching is on.
    pub fn is_enabled(&self) -> bool {
        self.inner().is_enabled()
    }

    /// Returns the state of the circuit breaker, which stops requests to a server that does not
    /// answer.
    ///
    /// The breaker opens if a new connection fails, or if several commands in a row get no answer
    /// for longer than the [timeout of a command](crate::Builder::command_timeout). Then every
    /// command fails at once, in microseconds, with an error for which
    /// [`is_refused`](crate::base::error::Error::is_refused) is true. A background task tries new
    /// connections, with pauses of at most a second, and closes the breaker when one succeeds. A
    /// store in memory has no breaker to open.
    ///
    /// ```
    /// use valkey_runtime::{BreakerState, Store};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// assert_eq!(Store::memory().breaker(), BreakerState::Closed);
    ///
    /// let store = Store::connect_lazy("valkey://127.0.0.1:1")?;
    /// assert!(store.ping().await.is_err());
    /// assert_ne!(store.breaker(), BreakerState::Closed);
    /// assert!(store.ping().await.unwrap_err().is_refused());
    /// assert_eq!(store.stats().breaker_openings(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn breaker(&self) -> BreakerState {
        self.inner().gateway.breaker()
    }

    /// Returns the number of deletions that wait for the server. Until they are delivered, this
    /// store does not read their keys: each is a miss, and values loaded for it are not stored.
    pub fn undelivered(&self) -> usize {
        self.inner().gateway.undelivered()
    }

    /// Deletes all keys of the store's namespace, of any type and version, and returns how many
    /// values were removed.
    ///
    /// It works as [`Handle::purge`](crate::Handle::purge) of each type, with one difference: it
    /// leaves no guards for types with a `hold`, since it does not know the types.
    ///
    /// A namespace contains no colon, so keys of other namespaces never begin like its own. There
    /// is one exception: a store without a namespace, with a type whose prefix is this namespace's
    /// name. Its keys are deleted too.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, ErrorKind, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::builder().memory().namespace("staging").connect().await?;
    /// User { id: 1 }.set(&store).await?;
    /// assert_eq!(store.purge().await?, 1);
    ///
    /// let error = Store::memory().purge().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of kind [`Config`](crate::base::error::ErrorKind::Config) on a store without a namespace:
    /// the purge would delete keys of all others. Otherwise the same as
    /// [`Handle::purge`](crate::Handle::purge).
    pub async fn purge(&self) -> Result<u64> {
        self.purge_with(|_| {}).await
    }

    /// The same as [`purge`](Self::purge), and reports the progress after each page, as
    /// [`Handle::purge_with`](crate::Handle::purge_with) does.
    ///
    /// # Errors
    /// The same as [`purge`](Self::purge).
    pub async fn purge_with(&self, mut progress: impl FnMut(Purged) + Send) -> Result<u64> {
        Scanner(self.inner()).purge_namespace(&mut progress).await
    }

    /// Returns a stream of all changes in the store from now on, by any process: for caches that an
    /// application keeps itself.
    ///
    /// | item | meaning | drop the copies |
    /// |---|---|---|
    /// | [`Key`](crate::schema::invalidation::Invalidation::Key) | the entry of a key was changed | of that key |
    /// | [`Tag`](crate::schema::invalidation::Invalidation::Tag) | a tag was invalidated | with that tag |
    /// | [`Type`](crate::schema::invalidation::Invalidation::Type) | a type was cleared | of that type |
    /// | [`Gap`](crate::schema::invalidation::Invalidation::Gap) | anything may have been changed | all |
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// use valkey_runtime::{Cached, Invalidation, Store};
    ///
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # #[cached(prefix = "user")]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let mut invalidations = store.invalidations().await?;
    /// let mut copies = std::collections::HashMap::from([(42, "Ada"), (7, "Alan")]);
    /// # User { id: 42 }.set(&store).await?;
    /// # let keeper = async { store.close().await };
    /// # keeper.await;
    /// while let Some(item) = invalidations.next().await {
    ///     match item {
    ///         Invalidation::Key(key) => {
    ///             if let Some(id) = key.key::<User>() {
    ///                 copies.remove(&id);
    ///             }
    ///         }
    ///         // A gap, and items of a later release.
    ///         _ => copies.clear(),
    ///     }
    /// }
    /// # assert_eq!(copies.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A copy may be old if its read began before an item arrived and ended after it. Do not keep
    /// such a copy: the page `docs/guides/invalidations.md` has a map that ensures it.
    ///
    /// Every change after this call has returned is in the stream, changes by this process too, or
    /// there is a gap. The stream has more items than values have changed. There is also an item
    /// when a process places a lease, when it stores a loaded value, and when a life is extended:
    /// the server does not distinguish them. So a copy may be dropped needlessly, but is never kept
    /// wrongly. A key that expired or was evicted has an item when the server removes it, which may
    /// be long after its time. A loaded value that was not stored has no item.
    ///
    /// Keys of other namespaces have no items. A store without a namespace gets items for all keys
    /// of its server. The databases of a server are not distinguished: changes of keys with the
    /// same name in another database are in the stream too.
    ///
    /// A [`Gap`](crate::schema::invalidation::Invalidation::Gap) comes:
    ///
    /// - when a connection is lost, since no changes arrive from then on;
    /// - when there is a connection again, since copies made between the two may be old
    ///   ([`is_live`](Invalidations::is_live) is false until then);
    /// - when a cluster has moved keys to another primary, which is known within a second;
    /// - when a server was emptied at once;
    /// - when a reader is too slow, and more items wait than are kept for it.
    ///
    /// A connection that was lost silently is detected after a second and the [timeout for
    /// connecting](crate::Builder::connect_timeout). A new one is opened as soon as the server
    /// accepts it.
    ///
    /// Items that a process does not read occupy memory of the server. So a thread of the store
    /// reads them, even while the runtime is blocked. But a stopped process fills the server's
    /// memory, if the server has `maxmemory` and no `maxmemory-clients`. The store logs a warning
    /// about such a server, once, if it may run `CONFIG GET`.
    ///
    /// # Errors
    /// If the server can't be reached, or does not let the store track its keys. An ACL user needs
    /// `client|tracking`, and `cluster|slots` on a cluster.
    pub async fn invalidations(&self) -> Result<Invalidations> {
        let subscribed = self.inner().gateway.subscribe().await;
        subscribed.map_err(|error| Failures(self.inner()).failed(error.during("invalidations")))
    }

    /// Closes the store, for this clone and all others: ends its background tasks and the
    /// connection. Call it after the last read and write, before the process or the runtime ends.
    ///
    /// Within the [timeout of an operation](crate::Builder::operation_timeout), it tries
    /// [undelivered](Self::undelivered) deletions once more, and releases the leases of dropped
    /// loads. The number of deletions that still failed is logged, and returned by
    /// [`undelivered`](Self::undelivered). Then all tasks of the store end, also the renewals of
    /// guards: a [`Guard`](crate::verbs::update::Guard) that is still held expires by itself. Verbs
    /// that wait for an answer still get it, and the connection is closed with the last of them.
    ///
    /// After that every verb fails with [`Closed`](crate::base::error::ErrorKind::Closed), also on
    /// a store in memory. Loading verbs still run their loader, and writes without `strict` still
    /// write, but their invalidations are not sent. A second `close` does nothing. If the future is
    /// dropped before its end, the store may or may not be closed; it can be closed again.
    ///
    /// Tasks on a runtime that is blocked are awaited for no longer than that timeout. They end as
    /// soon as the runtime continues.
    ///
    /// A store that is dropped without `close` ends its tasks too, within some seconds, and retries
    /// nothing.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, ErrorKind, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// User { id: 1 }.set(&store).await?;
    /// store.close().await;
    /// assert_eq!(store.stats().background_running(), 0);
    /// assert_eq!(store.undelivered(), 0);
    /// let error = User::get(&store, 1).await.err().unwrap();
    /// assert_eq!(error.kind(), ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) {
        self.inner().gateway.close().await;
        self.inner().warnings.end();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("backend", self.inner().gateway.backend())
            .field("namespace", &self.inner().namespace)
            .field("max_size", &self.inner().limits.size)
            .finish_non_exhaustive()
    }
}
