//! How a store is opened.

use crate::base::error::Result;
use crate::config::Builder;
use crate::core::store::Store;

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
    /// Of kind [`Config`](crate::base::error::ErrorKind::Config) when neither `VALKEY_URL` nor `VALKEY_HOST` is set or a variable is
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
}
