//! Opening a store, from the environment or by a URL.

use crate::base::error::Result;
use crate::config::Builder;
use crate::core::store::Store;

impl Store {
    /// Opens the store that the environment names.
    ///
    /// | variable | |
    /// |---|---|
    /// | `VALKEY_URL` | a URL as in [`connect`](Self::connect) |
    /// | `VALKEY_HOST`, `VALKEY_PORT` | used if there is no URL; the port defaults to 6379 |
    /// | `VALKEY_TLS` | `true` or `false`; must not contradict the URL |
    /// | `VALKEY_TLS_CA` | a file of authorities as PEM, in place of the system's |
    /// | `VALKEY_TLS_CERT`, `VALKEY_TLS_KEY` | files of the client's certificate and key as PEM |
    /// | `VALKEY_USERNAME`, `VALKEY_PASSWORD` | an ACL user; the URL takes precedence |
    /// | `VALKEY_DB` | the number of the database; the URL takes precedence |
    /// | `VALKEY_NAMESPACE` | the text with which all keys begin; the URL takes precedence |
    /// | `VALKEY_CLUSTER` | `true`: the server is a node of a cluster |
    /// | `VALKEY_CACHE` | `off`: nothing is cached until [`set_enabled`](Self::set_enabled); or `on` |
    /// | `VALKEY_ENCRYPTION_KEYS` | the keys of types with `#[cached(encrypt)]`: `1:` and 64 hexadecimal digits, more keys after commas; the first one encrypts |
    /// | `VALKEY_LAZY` | `true`: open at once and connect in the background |
    ///
    /// An empty variable counts as unset. A variable that begins or ends with white space, such as
    /// the line break of a file, is an error.
    ///
    /// In Kubernetes, a service named `valkey` sets `VALKEY_PORT=tcp://…` in each pod of its
    /// namespace. If `VALKEY_HOST` names the host, set the port as well, or `enableServiceLinks:
    /// false`.
    ///
    /// # Errors
    /// An error of kind [`Config`](crate::base::error::ErrorKind::Config) if neither `VALKEY_URL`
    /// nor `VALKEY_HOST` is set, or if a variable is malformed. Otherwise the errors of
    /// [`connect`](Self::connect).
    pub async fn from_env() -> Result<Self> {
        Builder::from_env()?.open().await
    }

    /// Opens a store and connects to its server.
    ///
    /// | URL | |
    /// |---|---|
    /// | `valkey://[user:password@]host[:port][/database]` | a server; also `redis://` |
    /// | `valkeys://…` | the same with TLS; also `rediss://` |
    /// | `valkey+cluster://host:port,host:port/` | a cluster by some of its nodes; `valkeys+cluster://` with TLS |
    /// | `unix:/path[?db=0&user=…&pass=…]` | a server by its Unix socket |
    /// | `memory:` | the in-process store |
    ///
    /// All forms accept `?namespace=…`. User, password and path are percent-encoded if necessary:
    /// in a password, `/` as `%2F`, `?` as `%3F`, `#` as `%23`. A password outside of the URL, in
    /// `VALKEY_PASSWORD` or by [`Builder::password`], is used as it is.
    ///
    /// # Errors
    /// If the URL is wrong, or if the server rejects the user, the password or TLS. A server that
    /// can't be reached is no error: see [`Builder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().url(url).connect().await
    }

    /// The same as [`connect`](Self::connect), but opens the store at once and connects in the
    /// background. So an outage of the cache does not keep the application from starting.
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
    /// If the URL is wrong.
    pub fn connect_lazy(url: &str) -> Result<Self> {
        Self::builder().url(url).connect_lazy()
    }

    /// A store in this process with the semantics of a server, for tests and first runs. It holds
    /// at most 256 MiB; the [`builder`](Self::builder) accepts another limit.
    pub fn memory() -> Self {
        Builder::memory_store()
    }

    /// A builder, for all settings that are not in a URL.
    pub fn builder() -> Builder {
        Builder::new()
    }
}
