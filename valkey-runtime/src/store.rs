//! The store: where entries lie, and what all types that use it share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::BreakerState;
use crate::background::Background;
use crate::codec::Limits;
use crate::config::{Builder, Variables};
use crate::front::Front;
use crate::limiter::Refusals;
use crate::loading::Moments;
use crate::stats::Counters;
#[cfg(any(test, feature = "testing"))]
use crate::testing::Records;
use crate::trace::{About, Ending, KeyTracing, Peer, ShownKeys, traced};
use crate::ttl_env::Overrides;
use crate::types::Types;
use crate::warnings::Warnings;
use crate::{Batch, Cached, Handle, Invalidations, Purged, Random, Result, Stats};

/// Where entries lie: a Valkey server, a cluster, or this process. Cheap to clone; clones share everything.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, Store};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct User {
///     #[cached(key)]
///     id: u64,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::memory();
/// User { id: 42 }.set(&store).await?;
/// assert!(store.of::<User>().exists(42).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) backend: Arc<Front>,
    /// Empty, or ending in `:`.
    pub(crate) namespace: String,
    pub(crate) limits: Limits,
    pub(crate) enabled: AtomicBool,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) overrides: Overrides,
    pub(crate) moments: Moments,
    pub(crate) types: Types,
    pub(crate) warnings: Arc<Warnings>,
    /// Where commands go, as spans say it.
    pub(crate) peer: Peer,
    /// What limits have refused just now.
    pub(crate) refusals: Refusals,
    #[cfg(feature = "metrics")]
    pub(crate) published: crate::metrics::Published,
    pub(crate) background: Background,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) records: Arc<Records>,
}

/// What a store is told when it is opened, besides where it is.
pub(crate) struct Settings {
    /// Empty, or ending in `:`.
    pub(crate) namespace: String,
    pub(crate) limits: Limits,
    pub(crate) enabled: bool,
    pub(crate) variables: Variables,
    pub(crate) keys: KeyTracing,
    pub(crate) peer: Peer,
    pub(crate) warnings: Arc<Warnings>,
}

impl Store {
    /// Opens the store that the environment names.
    ///
    /// | variable | |
    /// |---|---|
    /// | `VALKEY_URL` | a URL as in [`connect`](Self::connect) |
    /// | `VALKEY_HOST`, `VALKEY_PORT` | where there is no URL; the port defaults to 6379 |
    /// | `VALKEY_TLS` | `true` or `false`; not against the URL |
    /// | `VALKEY_TLS_CA` | a file of authorities in PEM, in place of the system's |
    /// | `VALKEY_TLS_CERT`, `VALKEY_TLS_KEY` | files of the client's certificate and key in PEM |
    /// | `VALKEY_USERNAME`, `VALKEY_PASSWORD` | an ACL user; what the URL says goes first |
    /// | `VALKEY_DB` | the number of the database; what the URL says goes first |
    /// | `VALKEY_NAMESPACE` | what all keys begin with; what the URL says goes first |
    /// | `VALKEY_CLUSTER` | `true`: the server is a node of a cluster |
    /// | `VALKEY_CACHE` | `off`: nothing is cached until [`set_enabled`](Self::set_enabled); or `on` |
    /// | `VALKEY_LAZY` | `true`: open at once and connect in the background |
    ///
    /// An empty variable counts as unset. One that begins or ends with white space, such as the line break of a file, is refused.
    ///
    /// In Kubernetes a service named `valkey` has `VALKEY_PORT=tcp://…` set in each pod of its namespace. Where the host is named
    /// by `VALKEY_HOST` set the port as well, or `enableServiceLinks: false`.
    ///
    /// # Errors
    /// Of kind [`Config`](crate::ErrorKind::Config) when neither `VALKEY_URL` nor `VALKEY_HOST` is set or a variable is
    /// malformed; else as [`connect`](Self::connect).
    pub async fn from_env() -> Result<Self> {
        Builder::from_env()?.open().await
    }

    /// Opens a store and connects to its server.
    ///
    /// | URL | |
    /// |---|---|
    /// | `valkey://[user:password@]host[:port][/database]` | a server; `redis://` too |
    /// | `valkeys://…` | the same by TLS; `rediss://` too |
    /// | `valkey+cluster://host:port,host:port/` | a cluster by some of its nodes; `valkeys+cluster://` by TLS |
    /// | `unix:/path[?db=0&user=…&pass=…]` | a server by its Unix socket |
    /// | `memory:` | the in-process store |
    ///
    /// All take `?namespace=…`. User, password and path are percent-encoded where need be: of a password `/` as `%2F`, `?` as `%3F`, `#`
    /// as `%23`. A password that is given beside the URL, in `VALKEY_PASSWORD` or by [`Builder::password`], is taken as it is.
    ///
    /// # Errors
    /// When the URL is wrong, or the server can't be reached within 5 s or does not let us in.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().url(url).connect().await
    }

    /// As [`connect`](Self::connect), but opens the store at once and connects in the background, so that an outage of
    /// the cache does not keep the application from starting.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = valkey_runtime::Store::connect_lazy("valkey://127.0.0.1:1")?;
    /// assert!(store.ping().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the URL is wrong.
    pub fn connect_lazy(url: &str) -> Result<Self> {
        Self::builder().url(url).connect_lazy()
    }

    /// A store in this process, with the semantics of a server: for tests, and for a first run. It holds at most
    /// 256 MiB; [`builder`](Self::builder) takes another bound.
    pub fn memory() -> Self {
        Builder::memory_store()
    }

    /// A builder, for everything that a URL does not say.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The verbs of a type on this store.
    pub fn of<T: Cached>(&self) -> Handle<'_, T> {
        Handle::new(self)
    }

    /// Several verbs, of whatever types, to be sent in one round trip. Nothing is done before [`Batch::send`].
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
        self.inner.backend.backend().location()
    }

    /// Asks the server whether it is there.
    ///
    /// # Errors
    /// When it did not answer.
    pub async fn ping(&self) -> Result<()> {
        let span = self.inner.span("ping", None, About::All);
        let answer = traced!(span, self.inner.backend.ping(), Ending::of);
        answer.map_err(|error| self.inner.failed(error.during("ping")))
    }

    /// What this store did since it was opened, type by type and in all: a snapshot, to be looked at or logged.
    pub fn stats(&self) -> Stats {
        self.inner.warnings.flush();
        self.inner.stats()
    }

    /// Switches caching on or off at run time. While it is off every read is a miss that asks nothing of the server, loaders
    /// are run by every caller or shared with callers that wait, and nothing is stored. Invalidations still go out, and what
    /// would have been stored is deleted instead: so switching on again shows nothing old.
    ///
    /// [Rate limiters](crate::RateLimiter) count on: they are no cache.
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
        self.inner.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Whether caching is on.
    pub fn is_enabled(&self) -> bool {
        self.inner.is_enabled()
    }

    /// Whether the server is asked: it is not while it is known not to answer.
    ///
    /// A server is taken to be down when a new connection to it fails, or when several commands in a row were not answered
    /// over more than the [deadline](Builder::command_timeout) of one. Then every command fails at once, in microseconds, with
    /// an error that [says so](crate::Error::is_refused), until a new connection succeeds. That is tried in the background, after
    /// pauses of at most a second. In the process itself there is nothing to open.
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
        self.inner.backend.breaker()
    }

    /// How many deletions wait for the server. Until they are delivered this store does not read their keys: each is a miss,
    /// and what is loaded for it is not stored.
    pub fn undelivered(&self) -> usize {
        self.inner.backend.undelivered()
    }

    /// Deletes all keys of the store's namespace, whatever their type and version; the answer is how many values there were.
    ///
    /// As [`Cached::purge`] of each type, with one difference: the guards that types with a `hold` leave after a deletion are
    /// not left, since the types are not known.
    ///
    /// A namespace holds no colon, so no other's keys begin like its own. Only a store without a namespace can have keys there:
    /// those of a type whose prefix is this namespace's name. They go as well.
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
    /// Of kind [`Config`](crate::ErrorKind::Config) on a store without a namespace: it would take everybody's keys. Else as
    /// [`Cached::purge`].
    pub async fn purge(&self) -> Result<u64> {
        self.purge_with(|_| {}).await
    }

    /// As [`purge`](Self::purge), and says after each page how far it has come, as [`Cached::purge_with`] does.
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    pub async fn purge_with(&self, mut progress: impl FnMut(Purged) + Send) -> Result<u64> {
        self.inner.purge_namespace(&mut progress).await
    }

    /// What changes in the store from now on, by whatever process: for caches that an application keeps itself.
    ///
    /// | item | told | whoever keeps copies drops |
    /// |---|---|---|
    /// | [`Key`](crate::Invalidation::Key) | what lies under a key was changed | those of that key |
    /// | [`Tag`](crate::Invalidation::Tag) | a tag was invalidated | those with that tag |
    /// | [`Type`](crate::Invalidation::Type) | a type was cleared | those of that type |
    /// | [`Gap`](crate::Invalidation::Gap) | anything may have been changed | all |
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
    /// A copy whose reading began before an item was read, and ended after it, may be old and is not to be kept: the page
    /// `docs/invalidations.md` has a map that sees to it.
    ///
    /// All that is changed after this has returned is told, by this process as well, or there is a gap. More is told than that
    /// a value is another: also that a lease was put there by somebody who loads the value, that it was loaded, that its life
    /// was extended. The server does not tell one from the other. So a copy may be dropped for nothing, and is never kept for it.
    /// That a key expired or was evicted is told when it is removed, which may be long after its time. What a loader gave and was
    /// not stored is not in the store, and nothing is told of it.
    ///
    /// Keys of other namespaces are not told. A store without a namespace is told all keys of its server. Databases of a server
    /// are not told apart: where another has keys of the same name, their changes are told too.
    ///
    /// A [`Gap`](crate::Invalidation::Gap) comes when a connection is lost, since nothing is told from then on; when there is one
    /// again, since what was copied between the two may be old ([`is_live`](Invalidations::is_live) tells beforehand); when a
    /// cluster has moved keys to another primary, which is known within a second; when a server was emptied at once; and when
    /// more was told than is kept for a reader who does not read. A connection that was lost without a word is known to be after
    /// a second and the [deadline for connecting](Builder::connect_timeout). There is a new one as soon as the server lets us in.
    ///
    /// What a process does not read lies in the server. So it is read by a thread of the store's own, also while the runtime stands
    /// still; but a process that is stopped fills the server's memory, where that has `maxmemory` and no `maxmemory-clients`. Of
    /// such a server this logs a warning, once, if it lets us ask (`CONFIG GET`).
    ///
    /// # Errors
    /// When the server can't be reached, or does not let us track its keys (the user of an ACL needs `client|tracking`, and
    /// `cluster|slots` on a cluster).
    pub async fn invalidations(&self) -> Result<Invalidations> {
        let subscribed = self.inner.backend.subscribe().await;
        subscribed.map_err(|error| self.inner.failed(error.during("invalidations")))
    }

    /// Ends the store, for this clone and all others: what runs in the background, and the connection. To be called when
    /// nothing is read and written any more, before the process or the runtime ends.
    ///
    /// What can still be told to the server is, within the deadline of an [operation](Builder::operation_timeout): deletions
    /// that [wait](Self::undelivered) are tried once more, and leases of loads that were dropped are given back. How many
    /// deletions were in vain is logged, and told by [`undelivered`](Self::undelivered). Then all tasks of the store are
    /// ended, the renewals of guards included: a [`Guard`](crate::Guard) that is still held runs out by itself. Verbs that
    /// wait for an answer still get it, and the connection is closed with the last of them.
    ///
    /// After that every verb fails with [`Closed`](crate::ErrorKind::Closed), on a store in the process too. Those that
    /// load still run their loader, and those that write without `strict` still write: but what they invalidate nobody is
    /// told. To close again does nothing. If the future is dropped half-way the store may or may not be closed; it can be
    /// closed again.
    ///
    /// Tasks of a runtime that stands still are waited for no longer than such a deadline. They end as soon as it goes on.
    ///
    /// A store that is dropped without being closed ends its tasks too, within some seconds, and tries nothing once more.
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
        self.inner.backend.close().await;
        self.inner.warnings.end();
    }

    pub(crate) fn new(
        backend: Arc<Front>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
        settings: Settings,
    ) -> Self {
        let Settings {
            namespace,
            limits,
            enabled,
            variables,
            keys,
            peer,
            warnings,
        } = settings;
        let name = match namespace.strip_suffix(':') {
            None => backend.backend().location().to_owned(),
            Some(namespace) => format!("{}/{namespace}", backend.backend().location()),
        };
        Self {
            inner: Arc::new(Inner {
                background: backend.background().clone(),
                backend,
                namespace,
                limits,
                enabled: AtomicBool::new(enabled),
                random,
                counters,
                overrides: Overrides::new(variables),
                moments: Moments::default(),
                types: Types::new(ShownKeys::new(keys), warnings.clone(), &name),
                warnings,
                peer,
                refusals: Refusals::default(),
                #[cfg(feature = "metrics")]
                published: Default::default(),
                #[cfg(any(test, feature = "testing"))]
                records: Arc::default(),
            }),
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl Inner {
    /// The limits of what is stored: the store's own, or the server's where that is less and known.
    pub(crate) fn limits_to_store(&self) -> Limits {
        let largest = self.backend.backend().largest();
        let largest = largest.and_then(|largest| usize::try_from(largest).ok());
        let size = largest.map_or(self.limits.size, |largest| largest.min(self.limits.size));
        Limits {
            size,
            ..self.limits
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("backend", self.inner.backend.backend())
            .field("namespace", &self.inner.namespace)
            .field("max_size", &self.inner.limits.size)
            .finish_non_exhaustive()
    }
}
