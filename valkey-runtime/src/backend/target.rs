//! The address of a server, and the settings of its connections.

use crate::backend::tls::TlsConfig;
#[cfg(feature = "tls")]
use crate::backend::trust;
use crate::backend::wire::dial::Dialer;
use crate::base::peer::Peer;
use crate::base::secret::Secret;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo,
};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The address of a server or a cluster.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(Host),
    Unix(PathBuf),
    Cluster(Vec<Host>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) target: Target,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: i64,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) operation_timeout: Duration,
}

impl Target {
    /// The address as spans show it. A cluster may have several seeds, and the node that gets a
    /// command is not known.
    pub(crate) fn peer(&self, database: i64) -> Peer {
        let (address, port) = match self {
            Target::Tcp(host) => (host.name.clone(), Some(host.port)),
            Target::Unix(_) => (self.address(), None),
            Target::Cluster(seeds) => match &seeds[..] {
                [seed] => (seed.name.clone(), Some(seed.port)),
                _ => (self.address(), None),
            },
        };
        Peer {
            address: Some(address),
            port,
            database: Some(database.to_string()),
        }
    }

    pub(crate) fn address(&self) -> String {
        match self {
            Target::Tcp(host) => host.to_string(),
            Target::Unix(path) => path.display().to_string(),
            Target::Cluster(seeds) => {
                let seeds: Vec<_> = seeds.iter().map(Host::to_string).collect();
                seeds.join(",")
            }
        }
    }
}

impl ServerConfig {
    pub(crate) fn socket(&self, path: &Path) -> redis::RedisResult<Client> {
        Client::open(self.info(ConnectionAddr::Unix(path.to_owned()))?)
    }

    pub(crate) fn node(&self, Host { name, port }: &Host) -> redis::RedisResult<Client> {
        match &self.tls {
            None => Client::open(self.info(ConnectionAddr::Tcp(name.clone(), *port))?),
            #[cfg(feature = "tls")]
            Some(tls) => {
                let address = ConnectionAddr::TcpTls {
                    host: name.clone(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                };
                Client::build_with_tls(self.info(address)?, trust::certificates(tls))
            }
            #[cfg(not(feature = "tls"))]
            Some(_) => Err((
                redis::ErrorKind::InvalidClientConfig,
                "TLS is configured, but valkey-runtime is built without its feature `tls`",
            )
                .into()),
        }
    }

    /// The way to a node, or to the only server.
    pub(crate) fn dialer(&self, host: &Host) -> redis::RedisResult<Dialer> {
        Dialer::new(self.node(host)?, self.tls.as_ref())
    }

    /// The way to the server of a Unix socket.
    pub(crate) fn dialer_of_socket(&self, path: &Path) -> redis::RedisResult<Dialer> {
        Dialer::new(self.socket(path)?, None)
    }

    fn info(&self, address: ConnectionAddr) -> redis::RedisResult<ConnectionInfo> {
        let mut handshake = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.database)
            .set_lib_name("valkey-runtime", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &self.username {
            handshake = handshake.set_username(username);
        }
        if let Some(password) = &self.password {
            handshake = handshake.set_password(password.reveal());
        }
        Ok(address
            .into_connection_info()?
            .set_redis_settings(handshake)
            .set_tcp_settings(self.tcp_settings()))
    }

    /// A peer that vanishes silently (a power cut, a firewall) is noticed within the deadline for
    /// connecting, on an idle connection by probes. Without these settings, the kernel tries for a
    /// quarter of an hour.
    fn tcp_settings(&self) -> TcpSettings {
        let time = self.connect_timeout.max(Duration::from_secs(1));
        let settings = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(time).with_interval(time));
        #[cfg(target_os = "linux")]
        let settings = settings.set_user_timeout(time);
        settings
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Host { name, port } = self;
        if name.contains(':') {
            write!(f, "[{name}]:{port}")
        } else {
            write!(f, "{name}:{port}")
        }
    }
}
