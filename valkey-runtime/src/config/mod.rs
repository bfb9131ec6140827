//! Opening a store: by a builder, a URL or the environment. All three end in one [`Builder`].
//!
//! Long because the builder has one method for each setting, with its documentation.

use crate::base::variables::Variables;
pub(crate) mod env;
#[cfg(feature = "encrypt")]
pub(crate) mod secrets;
pub(crate) mod store;
pub(crate) mod url;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

pub(crate) use crate::base::secret::Secret;
use tokio::runtime::Handle;

use crate::backend::Backend;
use crate::backend::gateway::Gateway;
use crate::backend::hub::Hub;
use crate::backend::memory::Memory;
use crate::backend::seams::Seams;
use crate::backend::server::Server;
use crate::backend::target::{Host, ServerConfig, Target};
use crate::backend::time::ServerTime;
use crate::backend::tls::TlsConfig;
use crate::base::clock::{Clock, Random};
use crate::base::clock::{SystemClock, ThreadRandom};
use crate::base::counters::Counters;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::peer::Peer;
use crate::base::shown_keys::KeyTracing;
use crate::base::tasks::Background;
use crate::base::warnings::Warnings;
use crate::core::inner::Settings;
use crate::core::store::Store;
use crate::core::ttl_env;
use crate::schema::prefix;
use crate::schema::registry;
use crate::value::codec::{EXPANSION, Limits};
use crate::value::keys::EncryptionKeys;
use crate::value::read_back::EVERY;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// The default deadline of an operation, as a multiple of a command's deadline.
const COMMANDS_PER_OPERATION: u32 = 2;
/// The default of [`Builder::newer_wins_for`].
const NEWER_WINS: Duration = Duration::from_secs(600);
const MAX_SIZE: usize = 64 << 20;
const MEMORY_CAPACITY: usize = 256 << 20;

/// Opens a store, with the address of the server, the user, and the limits.
///
/// A wrong setting is an error of kind [`Config`](crate::base::error::ErrorKind::Config) when the
/// store is opened.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::Store;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::builder()
///     .host("127.0.0.1", 6379)
///     .namespace("staging")
///     .command_timeout(Duration::from_millis(200))
///     .connect_lazy()?;
/// # let _ = store;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder opens nothing until `connect` or `connect_lazy`"]
pub struct Builder {
    endpoint: Option<Endpoint>,
    cluster: bool,
    namespace: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    database: Option<i64>,
    tls: Option<bool>,
    tls_by_url: Option<bool>,
    authorities: Option<Pem>,
    client_certificate: Option<(Pem, Pem)>,
    connect_timeout: Duration,
    command_timeout: Option<Duration>,
    operation_timeout: Option<Duration>,
    max_size: usize,
    max_expansion: usize,
    read_back_every: u32,
    newer_wins: Duration,
    encryption: Option<EncryptionKeys>,
    accepts_plaintext: bool,
    check_types: bool,
    memory_capacity: usize,
    clock: Option<Arc<dyn Clock>>,
    random: Option<Arc<dyn Random>>,
    runtime: Option<Handle>,
    variables: Variables,
    lazy: bool,
    required: bool,
    enabled: bool,
    trace_keys: KeyTracing,
    /// The first mistake, returned when the store is opened: so the methods can be chained.
    mistake: Option<Error>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Memory,
    Hosts(Vec<Host>),
    Unix(PathBuf),
}

/// Certificates or a key, or the file that contains them.
#[derive(Clone)]
enum Pem {
    Text(Vec<u8>),
    File(PathBuf),
}

/// Whether this is a build for production, as far as the profile shows.
const RELEASE: bool = cfg!(not(debug_assertions));

/// Warns once a process of a release build that a store keeps its entries in this process.
fn warn_of_memory(release: bool) {
    static WARNED: Once = Once::new();
    if release {
        WARNED.call_once(|| {
            tracing::warn!(
                "a store keeps its entries in this process only: other processes neither see nor \
                 invalidate them. Set VALKEY_URL, or build the store with `url`"
            );
        });
    }
}

/// Refuses the mistakes between the registered types, and in the variables of their TTLs: all at
/// once.
fn checked_types(variables: &Variables) -> Result<()> {
    let mut mistakes = registry::conflicts().to_vec();
    for of in registry::types() {
        let variable = of.ttl_env().map(|name| ttl_env::read(variables, name));
        if let Some(Err(why)) = variable {
            mistakes.push(format!("{why}: the `ttl_env` of {of}"));
        }
    }
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(Error::config(mistakes.join("; "))),
    }
}

/// Whole milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            endpoint: None,
            cluster: false,
            namespace: None,
            username: None,
            password: None,
            database: None,
            tls: None,
            tls_by_url: None,
            authorities: None,
            client_certificate: None,
            connect_timeout: CONNECT_TIMEOUT,
            command_timeout: None,
            operation_timeout: None,
            max_size: MAX_SIZE,
            max_expansion: EXPANSION,
            read_back_every: EVERY,
            newer_wins: NEWER_WINS,
            encryption: None,
            accepts_plaintext: false,
            check_types: cfg!(not(feature = "testing")),
            memory_capacity: MEMORY_CAPACITY,
            clock: None,
            random: None,
            runtime: None,
            variables: Arc::new(env::of_process),
            lazy: false,
            required: false,
            enabled: true,
            trace_keys: KeyTracing::default(),
            mistake: None,
        }
    }

    /// Reads the settings from the environment; see [`Store::from_env`] for the variables. Later
    /// methods override them.
    ///
    /// # Errors
    /// An error of kind [`Config`](crate::base::error::ErrorKind::Config) that names the variable.
    pub fn from_env() -> Result<Self> {
        Self::from_env_if_set()?.ok_or_else(env::unset)
    }

    /// The same as [`from_env`](Self::from_env), but `None` if the environment names no server. The
    /// application then decides:
    ///
    /// ```
    /// use valkey_runtime::{Builder, Store};
    ///
    /// # fn main() -> valkey_runtime::Result<()> {
    /// let builder = Builder::from_env_if_set()?.unwrap_or_else(|| Store::builder().memory());
    /// # let _ = builder;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An error of kind [`Config`](crate::base::error::ErrorKind::Config) that names the variable.
    pub fn from_env_if_set() -> Result<Option<Self>> {
        env::read(Arc::new(env::of_process))
    }

    /// The same as [`from_env`](Self::from_env), with a function in place of the environment.
    ///
    /// ```
    /// use valkey_runtime::Builder;
    ///
    /// let error = Builder::from_variables(|_| None).unwrap_err();
    /// assert!(error.to_string().contains("VALKEY_URL") && error.to_string().contains("VALKEY_HOST"));
    /// ```
    ///
    /// # Errors
    /// An error of kind [`Config`](crate::base::error::ErrorKind::Config) that names the variable.
    pub fn from_variables(
        variables: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self> {
        env::read(Arc::new(variables))?.ok_or_else(env::unset)
    }

    /// Reads the settings from a URL; see [`Store::connect`] for its forms.
    pub fn url(mut self, url: &str) -> Self {
        match url::parse(url) {
            Ok(said) => self.said_by_url(said),
            Err(error) => self.note(error),
        }
        self
    }

    fn said_by_url(&mut self, said: url::Said) {
        self.tls_by_url = said.tls;
        self.cluster |= said.cluster;
        self.endpoint = Some(said.endpoint);
        // Settings that the URL leaves open stay as they were.
        self.username = said.username.or(self.username.take());
        self.password = said.password.or(self.password.take());
        self.database = said.database.or(self.database);
        self.namespace = said.namespace.or(self.namespace.take());
    }

    /// Names a server by its host name or address, and its port.
    pub fn host(mut self, name: impl Into<String>, port: u16) -> Self {
        self.endpoint = Some(Endpoint::Hosts(vec![Host {
            name: name.into(),
            port,
        }]));
        self
    }

    /// Names a server by the path of its Unix socket.
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.endpoint = Some(Endpoint::Unix(path.into()));
        self
    }

    /// Names a cluster by some of its nodes. The store learns the others from them.
    pub fn cluster<H: Into<String>>(mut self, nodes: impl IntoIterator<Item = (H, u16)>) -> Self {
        let hosts = nodes
            .into_iter()
            .map(|(name, port)| Host {
                name: name.into(),
                port,
            })
            .collect();
        self.endpoint = Some(Endpoint::Hosts(hosts));
        self.cluster = true;
        self
    }

    /// Uses no server: entries are stored in this process.
    pub fn memory(mut self) -> Self {
        self.endpoint = Some(Endpoint::Memory);
        self
    }

    /// Sets the most bytes that the in-process store holds, including keys and overhead; default
    /// 256 MiB. Beyond that, entries are evicted.
    pub fn memory_capacity(mut self, bytes: usize) -> Self {
        self.memory_capacity = bytes;
        self
    }

    /// Sets the text with which all keys of this store begin, so that several deployments can share
    /// a server.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets the ACL user.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Sets the password. It appears in no log, error or `Debug`.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Secret::new(password.into()));
        self
    }

    /// Sets the number of the database; default 0.
    pub fn database(mut self, database: u32) -> Self {
        self.database = Some(database.into());
        self
    }

    /// Sets whether the connection is encrypted. A URL says so by its scheme, which this must not
    /// contradict.
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = Some(on);
        self
    }

    /// Sets the file of the certificate authorities to trust, as PEM, in place of the system's.
    pub fn tls_ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.authorities = Some(Pem::File(path.as_ref().to_owned()));
        self
    }

    /// Sets the certificate authorities to trust, as PEM, in place of the system's.
    pub fn tls_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(Pem::Text(pem.into()));
        self
    }

    /// Sets the files of the client's certificate and key, as PEM.
    pub fn tls_client_files(
        mut self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Self {
        self.client_certificate = Some((
            Pem::File(certificate.as_ref().to_owned()),
            Pem::File(key.as_ref().to_owned()),
        ));
        self
    }

    /// Sets the client's certificate and key, as PEM.
    pub fn tls_client_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.client_certificate = Some((Pem::Text(certificate.into()), Pem::Text(key.into())));
        self
    }

    /// Sets the deadline for connecting, including the handshake; default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the deadline for each command, including the wait for a connection. The default is 500
    /// ms, or half of the [operation's](Self::operation_timeout) if that is less. If a server is
    /// silent for longer than this, over several commands, nothing is sent to it until a new
    /// connection succeeds: see [`Store::breaker`].
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = Some(timeout);
        self
    }

    /// Sets the deadline for an operation with all its commands: a script may have to be sent
    /// twice, or a corrupt entry removed. The default is twice that of a
    /// [command](Self::command_timeout). It must not be less than that of a command; if it is
    /// equal, corrupt entries are not removed.
    ///
    /// An operation is a verb on one key. In a bulk verb, it is each chunk of up to 1000 keys or 1
    /// MiB; on a cluster, each key that is written. In a verb that loads or guards, it is each step
    /// with the server: a look, placing a lease or guard, storing, or giving back. The loader and
    /// the write have their own time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use valkey_runtime::Store;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::builder()
    ///     .url("valkey://127.0.0.1:6379")
    ///     .command_timeout(Duration::from_millis(50))
    ///     .operation_timeout(Duration::from_millis(80))
    ///     .connect_lazy()?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = Some(timeout);
        self
    }

    /// Sets the size in bytes above which an entry is neither written nor decoded; default 64 MiB.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets the memory that an entry may take when it is decoded, as a multiple of its size;
    /// default 32. A byte of an entry can stand for much: for an `Option` that is `None`, or a
    /// struct whose fields all have defaults. The memory of collections is counted before they
    /// allocate it. An entry that would take more is corrupt. Such a value is not stored: an error
    /// of kind [`Encode`](crate::base::error::ErrorKind::Encode). Every entry may take 4 MiB.
    /// Ordered maps and sets of very few elements take up to three times the counted memory.
    ///
    /// ```
    /// # use valkey_runtime::Store;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::builder().memory().max_expansion(100).connect().await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_expansion(mut self, times: usize) -> Self {
        self.max_expansion = times;
        self
    }

    /// Sets how often a value is read back before it is stored: one in `values` of each type, after
    /// the first one; default 256. With 0 it is the first one alone, and with 1 every value.
    ///
    /// Some types write values that they do not read, or read as another value. Such a value is not
    /// stored: an error of kind [`Encode`](crate::base::error::ErrorKind::Encode) names the type,
    /// the reason and, if it is known, the field. It is also logged, at most once a minute. The
    /// next hundred values of the type are then read back too, as after a corrupt entry.
    ///
    /// A value that is read back is decoded, and serialized twice more to compare the two. That
    /// costs about as much as to encode it again, so the default adds less than 1 % to the
    /// encoding.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, ErrorKind, Store};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// struct Reading {
    ///     #[cached(key)]
    ///     sensor: u64,
    ///     value: Number,
    /// }
    ///
    /// /// A `Whole` is read as a `Real`, which comes first.
    /// #[derive(Serialize, Deserialize)]
    /// #[serde(untagged)]
    /// enum Number {
    ///     Real(f64),
    ///     Whole(i64),
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::builder().memory().read_back_every(1).connect().await?;
    /// Reading { sensor: 1, value: Number::Real(0.5) }.set(&store).await?;
    /// let whole = Reading { sensor: 1, value: Number::Whole(5) };
    /// let error = whole.set(&store).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Encode);
    /// assert!(error.to_string().ends_with("wrote in `value`"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_back_every(mut self, values: u32) -> Self {
        self.read_back_every = values;
        self
    }

    /// Sets how long a newer entry wins over this release; default 10 minutes. A newer entry was
    /// written by a later `version` of its type, or by a later release of this library. Until its
    /// stamp is that old, by the server's time, no load and no `set` with `if_absent` replaces it:
    /// new and old instances of a deployment then do not rewrite each other's entries. After that
    /// they may. So a release that was taken back leaves no entry that keeps the old release from
    /// caching until its TTL. [`Handle::purge_newer`](crate::Handle::purge_newer) removes such
    /// entries at once.
    ///
    /// With `Duration::ZERO` a newer entry never wins, and with `Duration::MAX` it always does. An
    /// entry in a later format of the envelope has no stamp that this release can read, and always
    /// wins. A read never removes a newer entry, and never returns it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use valkey_runtime::Store;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let hour = Duration::from_secs(3600);
    /// let store = Store::builder().memory().newer_wins_for(hour).connect().await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    pub fn newer_wins_for(mut self, time: Duration) -> Self {
        self.newer_wins = time;
        self
    }

    /// Sets whether the cached types of the program are checked when the store is opened. Two types
    /// with one prefix are a mistake, unless one migrates from the other: they would read and
    /// overwrite each other's entries. So is a malformed variable of `ttl_env`. The error names
    /// both types, and their places in the source.
    ///
    /// A generic type and a type implemented by hand are not known before they are used. They are
    /// compared with the other types of the store at their first use; a mistake is then logged.
    ///
    /// By default types are checked, unless the feature `testing` is on: a program of tests, or of
    /// examples in documentation, may have many types with one prefix. [`Store::memory`] never
    /// checks.
    ///
    /// ```
    /// # use valkey_runtime::Store;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::builder().memory().check_types(false).connect().await?;
    /// # let _ = store;
    /// # Ok(())
    /// # }
    /// ```
    pub fn check_types(mut self, check: bool) -> Self {
        self.check_types = check;
        self
    }

    /// Sets whether the store is on when it is opened; see [`Store::set_enabled`].
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Sets where the keys of entries are shown: in spans, log lines and the text of errors. By
    /// default they are shown nowhere, because keys may be secrets: logs and errors have their type
    /// and a hash instead.
    pub fn trace_keys(mut self, keys: KeyTracing) -> Self {
        self.trace_keys = keys;
        self
    }

    /// Sets the tokio runtime for the store's background work. The store connects there, and its
    /// connection belongs to that runtime. The runtime also delivers the outbox, renews guards, and
    /// runs refreshes beside their callers.
    ///
    /// Without it, each of these runs in the runtime of the call that began it. That is right for a
    /// program with one runtime that runs all the time. It is wrong if runtimes come and go, as
    /// with one for each `#[tokio::test]`, or stand still between calls of `block_on`. Then a later
    /// call does the work that such a runtime does not get to, and waits for it. Pass a
    /// multi-threaded runtime that lasts, with I/O and timers (`enable_all`). After the end of that
    /// runtime, the store goes on without it.
    ///
    /// Calls must still be made from within a tokio runtime, this one or another.
    ///
    /// ```
    /// # use valkey_runtime::Store;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let background = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    /// let store = Store::builder()
    ///     .url("valkey://127.0.0.1:6379")
    ///     .runtime(background.handle().clone())
    ///     .connect_lazy()?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets the source of the store's time, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets the source of the store's random bits, for tests.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = Some(random);
        self
    }

    /// Makes [`connect`](Self::connect) fail if the server can't be reached. By default the store
    /// opens anyway, so that an outage of the cache does not keep a service from starting.
    pub fn require_server(mut self) -> Self {
        self.required = true;
        self
    }

    /// Opens the store and connects.
    ///
    /// If the server can't be reached within the [deadline](Self::connect_timeout), the store opens
    /// anyway, logs a warning, and connects in the background. Until then every read is a miss, and
    /// loaders run. [`require_server`](Self::require_server) makes it an error.
    ///
    /// # Errors
    /// If the configuration is wrong: an option or a variable, the user or password, or TLS.
    pub async fn connect(self) -> Result<Store> {
        let required = self.required;
        let store = self.build()?;
        if let Backend::Server(server) = store.inner().gateway.backend() {
            has_time()?;
            match server.connect().await {
                Ok(()) => {}
                Err(error) if required || !error.may_pass() => return Err(error),
                Err(error) => {
                    let (warnings, what) = (
                        &store.inner().warnings,
                        "the store opens without a connection, and connects in the background",
                    );
                    error.warn(warnings, None, what);
                    server.connect_in_background();
                }
            }
        }
        Ok(store)
    }

    /// Opens the store at once and connects in the background. So an outage of the cache does not
    /// keep the application from starting.
    ///
    /// # Errors
    /// If the configuration is wrong.
    pub fn connect_lazy(self) -> Result<Store> {
        let store = self.build()?;
        if let Backend::Server(server) = store.inner().gateway.backend() {
            has_time()?;
            server.connect_in_background();
        }
        Ok(store)
    }

    /// The store that [`Store::memory`] returns.
    pub(crate) fn memory_store() -> Store {
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(ThreadRandom));
        let warnings = Warnings::new(clock.clone());
        warn_of_memory(RELEASE);
        let memory = Backend::Memory(Memory::new(MEMORY_CAPACITY, clock, Hub::new("")));
        let counters = Arc::new(Counters::default());
        let background = Background::within(None, counters.clone());
        Store::new(
            Gateway::new(memory, "", random.clone(), counters.clone(), background),
            random,
            counters,
            Settings {
                namespace: String::new(),
                limits: Limits {
                    size: MAX_SIZE,
                    expansion: EXPANSION,
                },
                read_back_every: EVERY,
                newer_wins: millis(NEWER_WINS),
                encryption: None,
                accepts_plaintext: false,
                check_types: false,
                enabled: true,
                variables: Builder::new().variables,
                keys: KeyTracing::default(),
                peer: Peer::default(),
                warnings,
            },
        )
    }

    /// Opens the store as the environment asks: with [`connect_lazy`](Self::connect_lazy) if
    /// `VALKEY_LAZY=true`, otherwise with [`connect`](Self::connect).
    ///
    /// # Errors
    /// The same as theirs.
    pub async fn open(self) -> Result<Store> {
        if self.lazy {
            self.connect_lazy()
        } else {
            self.connect().await
        }
    }

    fn note(&mut self, mistake: Error) {
        self.mistake.get_or_insert(mistake);
    }

    fn build(mut self) -> Result<Store> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake);
        }
        let namespace = match self.namespace.take() {
            None => String::new(),
            Some(namespace) => match prefix::wrong(&namespace) {
                None => namespace + ":",
                Some(why) => {
                    return Err(Error::config(format!("the namespace {namespace:?} {why}")));
                }
            },
        };
        if self.check_types {
            checked_types(&self.variables)?;
        }
        let clock = self
            .clock
            .clone()
            .unwrap_or_else(|| Arc::new(SystemClock::new()));
        let random = self
            .random
            .clone()
            .unwrap_or_else(|| Arc::new(ThreadRandom));
        let counters = Arc::new(Counters::default());
        let warnings = Warnings::new(clock.clone());
        let background = Background::within(self.runtime.take(), counters.clone());
        let hub = Hub::new(&namespace);
        let target = self.target()?;
        let database = self.database.unwrap_or(0);
        let peer = target.as_ref().map(|target| target.peer(database));
        let backend = match target {
            None => {
                warn_of_memory(RELEASE);
                Backend::Memory(Memory::new(self.memory_capacity, clock, hub))
            }
            Some(target) => {
                let config = self.server(target)?;
                let seams = Seams {
                    time: Arc::new(ServerTime::new(clock)),
                    random: random.clone(),
                    counters: counters.clone(),
                    background: background.clone(),
                    warnings: warnings.clone(),
                };
                Backend::Server(Server::new(&config, seams, hub)?)
            }
        };
        let (seed, counts) = (random.clone(), counters.clone());
        Ok(Store::new(
            Gateway::new(backend, &namespace, seed, counts, background),
            random,
            counters,
            Settings {
                namespace,
                limits: Limits {
                    size: self.max_size,
                    expansion: self.max_expansion,
                },
                read_back_every: self.read_back_every,
                newer_wins: millis(self.newer_wins),
                encryption: self.encryption,
                accepts_plaintext: self.accepts_plaintext,
                check_types: self.check_types,
                enabled: self.enabled,
                variables: self.variables,
                keys: self.trace_keys,
                peer: peer.unwrap_or_default(),
                warnings,
            },
        ))
    }

    /// `None` for the in-process store.
    fn target(&self) -> Result<Option<Target>> {
        let Some(endpoint) = self.endpoint.clone() else {
            return Err(Error::config(
                "no server is named: use `url`, `host`, `unix`, `cluster` or `memory`",
            ));
        };
        match endpoint {
            Endpoint::Memory => Ok(None),
            Endpoint::Unix(_) if self.cluster => Err(Error::config(
                "a cluster can't be reached over a Unix socket",
            )),
            Endpoint::Unix(path) if path_is_url(&path) => Err(Error::config(
                "the path of a Unix socket is a URL: pass it to `url`, or set VALKEY_URL",
            )),
            Endpoint::Unix(path) => Ok(Some(Target::Unix(path))),
            Endpoint::Hosts(mut hosts) => {
                if let Some(mistake) = hosts.iter().find_map(|host| host_mistake(&host.name)) {
                    return Err(Error::config(format!("the name of a host {mistake}")));
                }
                if let Some(host) = hosts.iter().find(|host| host.port == 0) {
                    return Err(Error::config(format!(
                        "the port of the host {:?} is 0: write the port of the server, usually 6379",
                        host.name
                    )));
                }
                match (self.cluster, hosts.pop()) {
                    (_, None) => Err(Error::config(
                        "the cluster has no node to start from: name at least one",
                    )),
                    (true, Some(last)) => {
                        hosts.push(last);
                        Ok(Some(Target::Cluster(hosts)))
                    }
                    (false, Some(host)) if hosts.is_empty() => Ok(Some(Target::Tcp(host))),
                    (false, Some(_)) => Err(Error::config(
                        "several servers are configured, but no cluster: use `cluster`, or set VALKEY_CLUSTER=true",
                    )),
                }
            }
        }
    }

    fn server(&self, target: Target) -> Result<ServerConfig> {
        let (command_timeout, operation_timeout) = self.timeouts();
        for (what, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("command_timeout", command_timeout),
            ("operation_timeout", operation_timeout),
        ] {
            if timeout.is_zero() {
                return Err(Error::config(format!(
                    "{what} is zero: every attempt would time out"
                )));
            }
        }
        if operation_timeout < command_timeout {
            return Err(Error::config(
                "operation_timeout is less than command_timeout, and an operation is at least one command",
            ));
        }
        if self.username.is_some() && self.password.is_none() {
            return Err(Error::config(
                "the user name has no password: set VALKEY_PASSWORD, or `password` of the builder, or write \
                 `user:password@host` in the URL; for a password without a user name, write `:password@host`",
            ));
        }
        let database = self.database.unwrap_or(0);
        if database != 0 && matches!(target, Target::Cluster(_)) {
            return Err(Error::config(
                "a cluster has only database 0: use a namespace",
            ));
        }
        if let (Some(url), Some(on)) = (self.tls_by_url, self.tls)
            && url != on
        {
            return Err(Error::config(format!(
                "TLS (VALKEY_TLS, or `tls` of the builder) is {on}, which contradicts the URL: its scheme is `valkeys` \
                 with TLS and `valkey` without"
            )));
        }
        let tls = match (self.tls.or(self.tls_by_url).unwrap_or(false), &target) {
            (true, Target::Unix(_)) => {
                return Err(Error::config("TLS can't be used over a Unix socket"));
            }
            (true, _) => Some(TlsConfig {
                authorities: self.authorities.as_ref().map(Pem::read).transpose()?,
                client: match &self.client_certificate {
                    Some((certificate, key)) => Some((certificate.read()?, key.read()?)),
                    None => None,
                },
            }),
            (false, _) if self.authorities.is_some() || self.client_certificate.is_some() => {
                return Err(Error::config(
                    "certificates are set for a connection without TLS: write `valkeys://`, or turn TLS on",
                ));
            }
            (false, _) => None,
        };
        Ok(ServerConfig {
            target,
            username: self.username.clone(),
            password: self.password.clone(),
            database,
            tls,
            connect_timeout: self.connect_timeout,
            command_timeout,
            operation_timeout,
        })
    }

    /// The deadlines of a command and of an operation.
    fn timeouts(&self) -> (Duration, Duration) {
        let command = self.command_timeout.unwrap_or_else(|| {
            let half = self.operation_timeout.map(|operation| operation / 2);
            half.map_or(COMMAND_TIMEOUT, |half| half.min(COMMAND_TIMEOUT))
        });
        let operation = self.operation_timeout;
        (
            command,
            operation.unwrap_or(command.saturating_mul(COMMANDS_PER_OPERATION)),
        )
    }
}

/// Fails if a test has paused the time, because then no server answers within its deadline.
fn has_time() -> Result<()> {
    #[cfg(any(test, feature = "testing"))]
    if crate::base::paused::is_time_paused() {
        return Err(Error::config(crate::base::paused::PAUSED));
    }
    Ok(())
}

/// The mistake in the name of a host, and the way to correct it. The name is not quoted: a URL may
/// contain a password.
fn host_mistake(name: &str) -> Option<&'static str> {
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let has_port = name.matches(':').count() == 1 || name.contains("]:");
    let mistake = if name.is_empty() {
        "is empty"
    } else if name.contains("://") {
        "is a URL: set VALKEY_URL, or pass it to `url` of the builder"
    } else if name.contains('@') {
        "contains an `@`: set user and password with VALKEY_USERNAME and VALKEY_PASSWORD, with the builder, or in a URL"
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "contains white space or a control character: remove it"
    } else if has_port {
        "contains a port: set it separately, as in VALKEY_HOST=host and VALKEY_PORT=6379, or `host(\"host\", 6379)`"
    } else if name.starts_with('[') {
        "is in brackets: write an IPv6 address without them, as in `::1`"
    } else if name.contains(['/', '?', '#', '"', '\'']) {
        "contains a character that a host name can't have: write only the name or the address of the host"
    } else {
        return None;
    };
    Some(mistake)
}

fn path_is_url(path: &Path) -> bool {
    path.to_string_lossy().contains("://")
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Pem::Text(text) => Ok(text.clone()),
            Pem::File(path) => std::fs::read(path)
                .map_err(|error| Error::config(format!("{}: {error}", path.display()))),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command_timeout, operation_timeout) = self.timeouts();
        // An invalid address, and a user without a password, may be a misplaced password.
        let endpoint = self.endpoint.as_ref().filter(|_| self.target().is_ok());
        let username = self.username.as_ref().map(|name| match self.password {
            Some(_) => name.as_str(),
            None => "***",
        });
        f.debug_struct("Builder")
            .field("endpoint", &endpoint)
            .field("cluster", &self.cluster)
            .field("namespace", &self.namespace)
            .field("username", &username)
            .field("password", &self.password)
            .field("database", &self.database)
            .field("tls", &self.tls.or(self.tls_by_url))
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &command_timeout)
            .field("operation_timeout", &operation_timeout)
            .field("max_size", &self.max_size)
            .field("max_expansion", &self.max_expansion)
            .field("read_back_every", &self.read_back_every)
            .field("newer_wins", &self.newer_wins)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(builder: Builder) -> String {
        match builder.connect_lazy() {
            Ok(store) => panic!("{} is opened", store.location()),
            Err(error) => {
                assert_eq!(error.kind(), crate::base::error::ErrorKind::Config);
                error.to_string()
            }
        }
    }

    fn at_h() -> Builder {
        Builder::new().host("h", 6379)
    }

    #[test]
    fn settings_that_contradict_are_refused() {
        let millis = Duration::from_millis;
        let without_tls =
            "certificates are set for a connection without TLS: write `valkeys://`, or turn TLS on";
        for (builder, says) in [
            (
                Builder::new(),
                "no server is named: use `url`, `host`, `unix`, `cluster` or `memory`",
            ),
            (
                Builder::new().cluster([("h", 1)]).unix("/v.sock"),
                "a cluster can't be reached over a Unix socket",
            ),
            (
                Builder::new().cluster(<[(&str, u16); 0]>::default()),
                "the cluster has no node to start from: name at least one",
            ),
            (
                Builder {
                    cluster: false,
                    ..Builder::new().cluster([("a", 1), ("b", 2)])
                },
                "several servers are configured, but no cluster: use `cluster`, or set VALKEY_CLUSTER=true",
            ),
            (
                at_h().connect_timeout(Duration::ZERO),
                "connect_timeout is zero: every attempt would time out",
            ),
            (
                at_h().command_timeout(Duration::ZERO),
                "command_timeout is zero: every attempt would time out",
            ),
            (
                at_h()
                    .command_timeout(millis(1))
                    .operation_timeout(Duration::ZERO),
                "operation_timeout is zero: every attempt would time out",
            ),
            (
                at_h()
                    .command_timeout(millis(50))
                    .operation_timeout(millis(49)),
                "operation_timeout is less than command_timeout, and an operation is at least one command",
            ),
            (
                at_h().username("ada"),
                "the user name has no password: set VALKEY_PASSWORD, or `password` of the builder, or write \
                 `user:password@host` in the URL; for a password without a user name, write `:password@host`",
            ),
            (
                Builder::new().url("valkey://hunter2@h"),
                "the user name has no password: set VALKEY_PASSWORD, or `password` of the builder, or write \
                 `user:password@host` in the URL; for a password without a user name, write `:password@host`",
            ),
            (
                Builder::new().cluster([("h", 1)]).database(1),
                "a cluster has only database 0: use a namespace",
            ),
            (
                Builder::new().url("valkeys://h").tls(false),
                "TLS (VALKEY_TLS, or `tls` of the builder) is false, which contradicts the URL: its scheme is `valkeys` \
                 with TLS and `valkey` without",
            ),
            (
                Builder::new().unix("/v.sock").tls(true),
                "TLS can't be used over a Unix socket",
            ),
            (at_h().tls_ca_pem("x"), without_tls),
            (at_h().tls_client_pem("x", "y"), without_tls),
            (at_h().tls(false).tls_ca_pem("x"), without_tls),
            (at_h().namespace(""), "the namespace \"\" is empty"),
            (
                Builder::new().unix("valkey://:hunter2@h"),
                "the path of a Unix socket is a URL: pass it to `url`, or set VALKEY_URL",
            ),
            (
                Builder::new().host("h", 0),
                "the port of the host \"h\" is 0: write the port of the server, usually 6379",
            ),
            (
                Builder::new().cluster([("a", 1), ("b", 0)]),
                "the port of the host \"b\" is 0: write the port of the server, usually 6379",
            ),
        ] {
            assert_eq!(refused(builder), format!("config: {says}"));
        }
    }

    #[test]
    fn settings_that_only_seem_to_contradict_are_accepted() {
        let millis = Duration::from_millis;
        for builder in [
            at_h()
                .command_timeout(millis(50))
                .operation_timeout(millis(50)),
            at_h().password("x"),
            at_h().username("ada").password("x"),
            Builder::new().cluster([("h", 1)]).database(0),
            Builder::new().cluster([("a", 1), ("b", 2)]),
            Builder::new().url("valkeys://h").tls(true),
            Builder::new().url("valkey://h").tls(false),
            at_h().tls(true),
            Builder::new().unix("/v.sock").tls(false),
        ] {
            let target = builder.target().unwrap().unwrap();
            assert!(builder.server(target).is_ok(), "{builder:?}");
        }
        // An earlier mistake is returned, and not overwritten by a later one.
        assert!(refused(Builder::new().url("x").url("valkey:y")).starts_with("config: not a URL"));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_alone() {
        let url = "is a URL: set VALKEY_URL, or pass it to `url` of the builder";
        let at = "contains an `@`: set user and password with VALKEY_USERNAME and VALKEY_PASSWORD, with the builder, or in \
                  a URL";
        let port = "contains a port: set it separately, as in VALKEY_HOST=host and VALKEY_PORT=6379, or `host(\"host\", \
                    6379)`";
        let space = "contains white space or a control character: remove it";
        let brackets = "is in brackets: write an IPv6 address without them, as in `::1`";
        let other = "contains a character that a host name can't have: write only the name or the address of the host";
        for (name, mistake) in [
            ("", "is empty"),
            ("valkey://ada:hunter2@h", url),
            ("tcp://10.0.0.7:6379", url),
            ("ada:hunter2@h", at),
            ("127.0.0.1:6379", port),
            ("h:6379", port),
            ("h:", port),
            ("[::1]:6379", port),
            ("h\n", space),
            ("two words", space),
            ("[::1]", brackets),
            ("h/0", other),
            ("h?x", other),
            ("h#x", other),
            ("\"h\"", other),
            ("'h'", other),
        ] {
            assert_eq!(host_mistake(name), Some(mistake), "{name:?}");
            let says = format!("config: the name of a host {mistake}");
            assert_eq!(refused(Builder::new().host(name, 6379)), says);
            assert_eq!(refused(Builder::new().cluster([("h", 1), (name, 2)])), says);
            let shown = format!("{:?}", Builder::new().host(name, 6379));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for name in [
            "h",
            "cache.example",
            "my_host",
            "über.example",
            "127.0.0.1",
            "::1",
            "fe80::1%eth0",
        ] {
            assert_eq!(host_mistake(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_deadline_follows_from_the_other_one() {
        let millis = Duration::from_millis;
        for (command, operation, both) in [
            (None, None, (500, 1000)),
            (Some(50), None, (50, 100)),
            (None, Some(80), (40, 80)),
            (None, Some(1000), (500, 1000)),
            (None, Some(1002), (500, 1002)),
            (None, Some(998), (499, 998)),
            (Some(50), Some(60), (50, 60)),
        ] {
            let mut builder = at_h();
            (builder.command_timeout, builder.operation_timeout) =
                (command.map(millis), operation.map(millis));
            let expected = (millis(both.0), millis(both.1));
            assert_eq!(builder.timeouts(), expected, "{command:?} {operation:?}");
        }
        let longest = at_h().command_timeout(Duration::MAX);
        assert_eq!(longest.timeouts().1, Duration::MAX);
    }

    #[test]
    fn debug_shows_a_user_only_beside_a_password() {
        let shown = format!("{:?}", Builder::new().url("valkey://hunter2@h"));
        assert!(
            shown.contains("\"h\"") && !shown.contains("hunter2"),
            "{shown}"
        );
        let shown = format!("{:?}", Builder::new().url("valkey://ada:hunter2@h"));
        assert!(
            shown.contains("ada") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    /// Passwords of pieces that occur in no text of ours, with everything that can separate a URL
    /// between them.
    fn password() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            3 => "zq[0-9a-z]{2,6}",
            1 => "[0-9]{1,5}",
        ];
        let between = prop_oneof![
            5 => proptest::sample::select(vec![
                "/", "?", "#", "@", ":", "%", "&", "=", "+", ",", "\\", "[", "]", "\"", "'", " ", "\t", "\n", "\r\n",
                "?namespace=", "?db=", "&pass=", "/0?", "%zz", "%00", "%ff", "ä", "://", "",
            ])
            .prop_map(str::to_owned),
            1 => "\\PC",
        ];
        proptest::collection::vec((between, piece), 1..5)
            .prop_map(|parts| parts.into_iter().map(|(one, two)| one + &two).collect())
    }

    fn texts(error: &Error) -> String {
        let mut texts = format!("{error} {error:?}");
        let mut source = std::error::Error::source(error);
        while let Some(one) = source {
            texts += &format!(" {one} {one:?}");
            source = one.source();
        }
        texts.to_lowercase()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_part_of_a_password_is_in_any_text(password in password()) {
            let urls = [
                format!("valkey://ada:{password}@h"),
                format!("valkey://:{password}@h:6379/0"),
                format!("valkeys://ada:{password}@h/0?namespace=n"),
                format!("valkey+cluster://ada:{password}@h1:7000,h2:7001/"),
                format!("valkey://{}@h", password.replace(':', ";")),
                format!("unix:/v.sock?user=ada&pass={password}"),
                format!("valkey://h:6379/0?password={password}&x"),
                format!("\"valkey://ada:{password}@h\""),
            ];
            let by_url = urls.iter().map(|url| Builder::new().url(url));
            let by_variables = urls.iter().cloned().flat_map(|url| {
                ["VALKEY_URL", "VALKEY_HOST", "VALKEY_PORT"].map(|name| (name, url.clone()))
            });
            let by_variables = by_variables
                .chain(["VALKEY_PASSWORD", "VALKEY_DB", "VALKEY_TLS", "VALKEY_CACHE"].map(|name| (name, password.clone())))
                .map(|(variable, value)| {
                    Builder::from_variables(move |name| match name {
                        name if name == variable => Some(value.clone()),
                        "VALKEY_HOST" => Some("h".to_owned()),
                        _ => None,
                    })
                });
            let by_builder = [
                Builder::new().host("h", 6379).password(&password),
                Builder::new().host(format!("ada:{password}@h"), 6379),
                Builder::new().host(format!("valkey://:{password}@h"), 6379),
                Builder::new().unix(format!("valkey://:{password}@h")),
            ];
            let builders = by_url.map(Ok).chain(by_variables).chain(by_builder.map(Ok));
            for builder in builders {
                let shown = match builder {
                    Err(error) => texts(&error),
                    Ok(builder) => {
                        let shown = format!("{builder:?}").to_lowercase();
                        let target = builder.clone().mistake.map_or_else(|| builder.target(), Err);
                        shown + &target.and_then(|target| {
                            target.map(|target| builder.server(target)).transpose()
                        }).map_or_else(|error| texts(&error), |config| format!("{config:?}").to_lowercase())
                    }
                };
                prop_assert!(!shown.contains("zq"), "{password:?}: {shown}");
            }
        }
    }
}
