//! The store: where entries lie, and what all types that use it share.

use crate::api::batch::Batch;
use crate::api::handle::Handle;
use crate::backend::invalidations::Invalidations;
use crate::base::error::Result;
use crate::core::store::Store;
use crate::observe::answer::{About, Ending};
use crate::observe::stats::Stats;
use crate::observe::trace::traced;
use crate::protocol::breaker::BreakerState;
use crate::schema::cached_type::CachedType;
use crate::verbs::scan::Purged;
use std::fmt;
use std::sync::atomic::Ordering;

impl Store {
    /// The verbs of a type on this store.
    pub fn of<T: CachedType>(&self) -> Handle<'_, T> {
        Handle::new(self)
    }

    /// Several verbs, of whatever types, to be sent in one round trip. Nothing is done before
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

    /// Where the entries lie, for a log line: host and port, or a path. Without user and password.
    ///
    /// ```
    /// assert_eq!(valkey_runtime::Store::memory().location(), "this process");
    /// ```
    pub fn location(&self) -> &str {
        self.inner().gateway.backend().location()
    }

    /// Asks the server whether it is there.
    ///
    /// # Errors
    /// When it did not answer.
    pub async fn ping(&self) -> Result<()> {
        let span = self.inner().span("ping", None, About::All);
        let answer = traced!(span, self.inner().gateway.ping(), Ending::of);
        answer.map_err(|error| self.inner().failed(error.during("ping")))
    }

    /// What this store did since it was opened, type by type and in all: a snapshot, to be looked
    /// at or logged.
    pub fn stats(&self) -> Stats {
        self.inner().warnings.flush();
        self.inner().stats()
    }

    /// Switches caching on or off at run time. While it is off every read is a miss that asks
    /// nothing of the server, loaders are run by every caller or shared with callers that wait, and
    /// nothing is stored. Invalidations still go out, and what would have been stored is deleted
    /// instead: so switching on again shows nothing old.
    ///
    /// [Rate limiters](crate::limit::RateLimiter) count on: they are no cache.
    ///
    /// A store is on when it is opened, unless the environment says `VALKEY_CACHE=off`.
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

    /// Whether caching is on.
    pub fn is_enabled(&self) -> bool {
        self.inner().is_enabled()
    }

    /// Whether the server is asked: it is not while it is known not to answer.
    ///
    /// A server is taken to be down when a new connection to it fails, or when several commands in
    /// a row were not answered over more than the [deadline](crate::Builder::command_timeout) of
    /// one. Then every command fails at once, in microseconds, with an error that [says
    /// so](crate::base::error::Error::is_refused), until a new connection succeeds. That is tried
    /// in the background, after pauses of at most a second. In the process itself there is nothing
    /// to open.
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

    /// How many deletions wait for the server. Until they are delivered this store does not read
    /// their keys: each is a miss, and what is loaded for it is not stored.
    pub fn undelivered(&self) -> usize {
        self.inner().gateway.undelivered()
    }

    /// Deletes all keys of the store's namespace, whatever their type and version; the answer is
    /// how many values there were.
    ///
    /// As [`Handle::purge`](crate::Handle::purge) of each type, with one difference: the guards
    /// that types with a `hold` leave after a deletion are not left, since the types are not known.
    ///
    /// A namespace holds no colon, so no other's keys begin like its own. Only a store without a
    /// namespace can have keys there: those of a type whose prefix is this namespace's name. They
    /// go as well.
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
    /// Of kind [`Config`](crate::base::error::ErrorKind::Config) on a store without a namespace: it
    /// would take everybody's keys. Else as [`Handle::purge`](crate::Handle::purge).
    pub async fn purge(&self) -> Result<u64> {
        self.purge_with(|_| {}).await
    }

    /// As [`purge`](Self::purge), and says after each page how far it has come, as
    /// [`Handle::purge_with`](crate::Handle::purge_with) does.
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    pub async fn purge_with(&self, mut progress: impl FnMut(Purged) + Send) -> Result<u64> {
        self.inner().purge_namespace(&mut progress).await
    }

    /// What changes in the store from now on, by whatever process: for caches that an application
    /// keeps itself.
    ///
    /// | item | told | whoever keeps copies drops |
    /// |---|---|---|
    /// | [`Key`](crate::schema::invalidation::Invalidation::Key) | what lies under a key was changed | those of that key |
    /// | [`Tag`](crate::schema::invalidation::Invalidation::Tag) | a tag was invalidated | those with that tag |
    /// | [`Type`](crate::schema::invalidation::Invalidation::Type) | a type was cleared | those of that type |
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
    ///         // A gap, and what a later release may tell.
    ///         _ => copies.clear(),
    ///     }
    /// }
    /// # assert_eq!(copies.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A copy whose reading began before an item was read, and ended after it, may be old and is
    /// not to be kept: the page `docs/guides/invalidations.md` has a map that sees to it.
    ///
    /// All that is changed after this has returned is told, by this process as well, or there is a
    /// gap. More is told than that a value is another: also that a lease was put there by somebody
    /// who loads the value, that it was loaded, that its life was extended. The server does not
    /// tell one from the other. So a copy may be dropped for nothing, and is never kept for it.
    /// That a key expired or was evicted is told when it is removed, which may be long after its
    /// time. What a loader gave and was not stored is not in the store, and nothing is told of it.
    ///
    /// Keys of other namespaces are not told. A store without a namespace is told all keys of its
    /// server. Databases of a server are not told apart: where another has keys of the same name,
    /// their changes are told too.
    ///
    /// A [`Gap`](crate::schema::invalidation::Invalidation::Gap) comes when a connection is lost,
    /// since nothing is told from then on; when there is one again, since what was copied between
    /// the two may be old ([`is_live`](Invalidations::is_live) tells beforehand); when a cluster
    /// has moved keys to another primary, which is known within a second; when a server was emptied
    /// at once; and when more was told than is kept for a reader who does not read. A connection
    /// that was lost without a word is known to be after a second and the [deadline for
    /// connecting](crate::Builder::connect_timeout). There is a new one as soon as the server lets
    /// us in.
    ///
    /// What a process does not read lies in the server. So it is read by a thread of the store's
    /// own, also while the runtime stands still; but a process that is stopped fills the server's
    /// memory, where that has `maxmemory` and no `maxmemory-clients`. Of such a server this logs a
    /// warning, once, if it lets us ask (`CONFIG GET`).
    ///
    /// # Errors
    /// When the server can't be reached, or does not let us track its keys (the user of an ACL
    /// needs `client|tracking`, and `cluster|slots` on a cluster).
    pub async fn invalidations(&self) -> Result<Invalidations> {
        let subscribed = self.inner().gateway.subscribe().await;
        subscribed.map_err(|error| self.inner().failed(error.during("invalidations")))
    }

    /// Ends the store, for this clone and all others: what runs in the background, and the
    /// connection. To be called when nothing is read and written any more, before the process or
    /// the runtime ends.
    ///
    /// What can still be told to the server is, within the deadline of an
    /// [operation](crate::Builder::operation_timeout): deletions that [wait](Self::undelivered) are
    /// tried once more, and leases of loads that were dropped are given back. How many deletions
    /// were in vain is logged, and told by [`undelivered`](Self::undelivered). Then all tasks of
    /// the store are ended, the renewals of guards included: a
    /// [`Guard`](crate::verbs::update::Guard) that is still held runs out by itself. Verbs that
    /// wait for an answer still get it, and the connection is closed with the last of them.
    ///
    /// After that every verb fails with [`Closed`](crate::base::error::ErrorKind::Closed), on a
    /// store in the process too. Those that load still run their loader, and those that write
    /// without `strict` still write: but what they invalidate nobody is told. To close again does
    /// nothing. If the future is dropped half-way the store may or may not be closed; it can be
    /// closed again.
    ///
    /// Tasks of a runtime that stands still are waited for no longer than such a deadline. They end
    /// as soon as it goes on.
    ///
    /// A store that is dropped without being closed ends its tasks too, within some seconds, and
    /// tries nothing once more.
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
