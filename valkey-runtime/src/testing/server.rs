//! A private, real `valkey-server`.

use crate::base::lock::lock;
use crate::testing::connected::connected;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use crate::config::Builder;
use crate::core::store::Store;
use crate::testing::port::Port;
use crate::testing::process::{Folder, Process};
use crate::testing::resp::{Connection, Value};
use crate::testing::tls::Tls;
use crate::testing::wait::Backoff;

const MISSING: &str = "\
is not there: install Valkey (the packages `valkey-server` and `valkey-tools` of \
Debian and Ubuntu, `valkey` elsewhere), or let VALKEY_SERVER name the server's binary";

/// How often a start may lose the race for a free port.
const ATTEMPTS: u32 = 10;

/// A `valkey-server` of this test process: on 127.0.0.1 and a free port,
/// without persistence, its files in a temporary folder.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use valkey_runtime::Cached;
/// use valkey_runtime::testing::TestServer;
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct User {
///     #[cached(key)]
///     id: u64,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let server = TestServer::plain();
/// let store = server.store().await;
/// User { id: 42 }.set(&store).await?;
/// server.flush();
/// assert!(User::get(&store, 42).await?.is_none());
/// server.kill();
/// assert!(User::get(&store, 42).await.is_err());
/// # Ok(())
/// # }
/// ```
///
/// It has `maxmemory-clients 256mb`, as a server of one's own should: see `docs/guides/invalidations.md`.
///
/// The server is killed and its folder removed when this is dropped, and also
/// when the process ends in any other way, a `SIGKILL` included: a shell
/// watches over it. So a server may be shared by the tests of a binary:
///
/// ```no_run
/// use std::sync::LazyLock;
/// use valkey_runtime::testing::TestServer;
///
/// static SERVER: LazyLock<TestServer> = LazyLock::new(TestServer::plain);
/// ```
///
/// The binary is the one that the environment variable `VALKEY_SERVER` names,
/// or `valkey-server` on the path; `valkey-cli` is looked for beside the
/// former, then on the path.
///
/// Beside its port each server has a Unix socket, over which the harness
/// speaks to it; that way it knows that the server is its own.
#[derive(Debug)]
pub struct TestServer {
    // Declared before the folder: the process ends before its folder does.
    process: Mutex<Option<Process>>,
    transport: Transport,
    settings: Vec<(String, String)>,
    /// Whether it bounds what it keeps for clients that do not read: servers of before Redis 7 have no setting for that.
    bounds_clients: bool,
    port: Port,
    folder: Folder,
}

/// A server to be started, by [`TestServer::builder`].
#[derive(Debug, Clone, Default)]
pub struct TestServerBuilder {
    kind: Kind,
    settings: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Kind {
    #[default]
    Plain,
    Unix,
    Tls {
        names: &'static [&'static str],
    },
    ClusterNode,
}

#[derive(Debug)]
enum Transport {
    Tcp,
    Unix,
    Tls(Box<Tls>),
    ClusterNode { bus: Port },
}

impl TestServer {
    /// A server that speaks plain TCP.
    ///
    /// # Panics
    ///
    /// When it does not start, with its log or with what to install; so do all
    /// functions that start one.
    pub fn plain() -> Self {
        Self::builder().start()
    }

    /// A server that speaks TLS only, asks clients for a certificate, and has
    /// one ACL user with a password, the default user being off. Its own
    /// certificate is valid for `localhost` and 127.0.0.1. A
    /// [`store`](TestServer::store) knows all that; for other clients see
    /// [`TestServer::credentials`].
    pub fn tls() -> Self {
        Self::builder().tls().start()
    }

    /// Like [`TestServer::tls`], but its certificate is valid for another host.
    pub fn tls_of_another_host() -> Self {
        Self::builder().tls_of_another_host().start()
    }

    /// A server on a Unix socket, without a port.
    pub fn unix() -> Self {
        Self::builder().unix().start()
    }

    /// A server with settings of its own.
    pub fn builder() -> TestServerBuilder {
        TestServerBuilder::default()
    }

    /// The port of 127.0.0.1 on which it serves its clients.
    ///
    /// # Panics
    ///
    /// For a server on a Unix socket.
    pub fn port(&self) -> u16 {
        assert!(
            !matches!(self.transport, Transport::Unix),
            "a server on a Unix socket has no port"
        );
        self.port.number()
    }

    /// The address with [`TestServer::port`].
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// The Unix socket that every server has.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("valkey.sock")
    }

    /// Where a store finds the server, user and password included. The files
    /// of TLS are no part of it: see [`TestServer::credentials`].
    pub fn url(&self) -> String {
        match &self.transport {
            Transport::Unix => format!("unix:{}", self.socket().display()),
            _ => self.url_at(self.port.number()),
        }
    }

    /// [`TestServer::url`] with another port of 127.0.0.1: that of a proxy to
    /// this server.
    pub fn url_at(&self, port: u16) -> String {
        match &self.transport {
            Transport::Tls(tls) => {
                format!("valkeys://{}:{}@127.0.0.1:{port}/", tls.user, tls.password)
            }
            _ => format!("valkey://127.0.0.1:{port}/"),
        }
    }

    /// Certificates, user and password of a TLS server.
    ///
    /// # Panics
    ///
    /// For a server without TLS.
    pub fn credentials(&self) -> &Tls {
        match &self.transport {
            Transport::Tls(tls) => tls,
            _ => panic!("a server without TLS has no credentials"),
        }
    }

    /// A store on the server: as its ACL user and with its client's certificate,
    /// where it has these.
    ///
    /// # Panics
    ///
    /// When it does not let the store in.
    pub async fn store(&self) -> Store {
        connected(self.store_builder()).await
    }

    /// A store with a namespace, so that tests may share a server and no keys.
    ///
    /// # Panics
    ///
    /// When the server does not let the store in, or the namespace is none.
    pub async fn store_in(&self, namespace: &str) -> Store {
        connected(self.store_builder().namespace(namespace)).await
    }

    /// What [`TestServer::store`] is opened by, for other settings beside.
    pub fn store_builder(&self) -> Builder {
        let builder = Store::builder().url(&self.url());
        match &self.transport {
            Transport::Tls(tls) => builder
                .tls_ca_file(&tls.ca)
                .tls_client_files(&tls.cert, &tls.key),
            _ => builder,
        }
    }

    /// Deletes all keys, those of all databases.
    ///
    /// # Panics
    ///
    /// When the server can't be reached.
    pub fn flush(&self) {
        let reply = self.command(&["FLUSHALL", "SYNC"]);
        assert_eq!(reply, Value::Simple("OK".into()));
    }

    /// Kills the server (`SIGKILL`) and waits for its end. Its port then
    /// refuses connections, and is nobody else's, until [`TestServer::restart`].
    pub fn kill(&self) {
        *self.process() = None;
    }

    /// Stops the server (`SIGSTOP`): connections stay open, and even new ones
    /// succeed, but nothing is answered until [`TestServer::resume`].
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Starts the server again, on the same port and with the same settings,
    /// killing it before if it still runs. It comes back empty; a node of a
    /// cluster remembers the cluster.
    pub fn restart(&self) {
        let mut process = self.process();
        *process = None;
        let mut new = self.spawn();
        if let Err(log) = self.wait_until_ready(&mut new) {
            panic!("the server did not come back:\n{log}");
        }
        *process = Some(new);
    }

    /// Gives the server a command, which may hold any bytes, and returns the
    /// reply; an error is a value as any other.
    ///
    /// # Panics
    ///
    /// When the server can't be reached.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&self, command: &[A]) -> Value {
        self.try_command(command)
            .unwrap_or_else(|error| panic!("the server does not answer: {error}"))
    }

    /// Runs `valkey-cli`, connected as a client of this server would be, and
    /// returns what it prints, without the newline at the end.
    ///
    /// # Panics
    ///
    /// When the server answers with an error; [`TestServer::command`] is for tests
    /// that expect one.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let mut cli = valkey_cli();
        // `-e` makes its exit status tell of error replies.
        cli.arg("-e");
        match &self.transport {
            Transport::Unix => {
                cli.arg("-s").arg(self.socket());
            }
            Transport::Tcp => {
                cli.arg("-p").arg(self.port.number().to_string());
            }
            // `-c` follows a key to its node.
            Transport::ClusterNode { .. } => {
                cli.args(["-c", "-p"]).arg(self.port.number().to_string());
            }
            Transport::Tls(tls) => {
                cli.args(["--tls", "-p"])
                    .arg(self.port.number().to_string());
                cli.arg("--cacert").arg(&tls.ca);
                cli.arg("--cert").arg(&tls.cert);
                cli.arg("--key").arg(&tls.key);
                cli.arg("--user").arg(&tls.user);
                cli.env("REDISCLI_AUTH", &tls.password);
            }
        }
        let output = cli
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("`valkey-cli` {MISSING} ({error})"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "valkey-cli {arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.trim_end_matches('\n').to_owned()
    }

    /// How often each command was called since the start or the last
    /// [`TestServer::reset_command_counts`], by its lower-case name
    /// (`client|setinfo` for a subcommand). Commands that a script calls count
    /// too, and so do those of this harness: `info`, `config|resetstat`,
    /// `auth` and whatever [`TestServer::command`] and [`TestServer::cli`] were given.
    pub fn command_counts(&self) -> BTreeMap<String, u64> {
        let info = self
            .command(&["INFO", "commandstats"])
            .text()
            .unwrap_or_default();
        info.lines()
            .filter_map(|line| {
                let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(':')?;
                let calls = numbers.strip_prefix("calls=")?.split(',').next()?;
                Some((name.to_owned(), calls.parse().ok()?))
            })
            .collect()
    }

    /// How often the command of this lower-case name was called.
    pub fn command_count(&self, name: &str) -> u64 {
        self.command_counts().get(name).copied().unwrap_or(0)
    }

    /// Sets all counts to zero, and all other statistics of the server.
    pub fn reset_command_counts(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// The port of a cluster's node for the other nodes.
    pub(crate) fn bus_port(&self) -> u16 {
        match &self.transport {
            Transport::ClusterNode { bus } => bus.number(),
            _ => panic!("a server outside of a cluster has no bus"),
        }
    }

    fn signal(&self, name: &str) {
        let sent = self
            .process()
            .as_mut()
            .is_some_and(|process| process.signal(name));
        assert!(sent, "the server does not run");
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        lock(&self.process)
    }

    fn try_command<A: AsRef<[u8]>>(&self, command: &[A]) -> io::Result<Value> {
        let mut connection = Connection::open(&self.socket())?;
        if let Transport::Tls(tls) = &self.transport {
            connection.command(&["AUTH", &tls.user, &tls.password])?;
        }
        connection.command(command)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("valkey.log")
    }

    fn spawn(&self) -> Process {
        let configuration = self.folder.path().join("valkey.conf");
        fs::write(&configuration, self.configuration())
            .expect("a file can be written in the server's folder");
        Process::start(&server_binary(), &configuration, &self.log(), &self.folder)
    }

    /// `Err` with the server's log if it ended instead.
    fn wait_until_ready(&self, process: &mut Process) -> Result<(), String> {
        let mut backoff = Backoff::default();
        loop {
            if let Ok(Value::Simple(pong)) = self.try_command(&["PING"])
                && pong == "PONG"
            {
                return Ok(());
            }
            let ended = process.ended();
            if ended.is_some() || !backoff.pause() {
                // What the shell says of a binary that is not there.
                if ended.is_some_and(|status| matches!(status.code(), Some(126 | 127))) {
                    panic!("`{}` {MISSING}", server_binary().display());
                }
                return Err(fs::read_to_string(self.log()).unwrap_or_default());
            }
        }
    }

    fn configuration(&self) -> String {
        // Debug formatting quotes a path much as this file format wants it.
        let mut lines = vec![
            format!("dir {:?}", self.folder.path()),
            format!("unixsocket {:?}", self.socket()),
            "bind 127.0.0.1".into(),
            "daemonize no".into(),
            "save \"\"".into(),
            "appendonly no".into(),
            "enable-debug-command local".into(),
        ];
        let port = self.port.number();
        match &self.transport {
            Transport::Tcp => lines.push(format!("port {port}")),
            Transport::Unix => lines.push("port 0".into()),
            Transport::Tls(tls) => {
                lines.push("port 0".into());
                lines.push(format!("tls-port {port}"));
                lines.push(format!("tls-ca-cert-file {:?}", tls.ca));
                lines.push(format!("tls-cert-file {:?}", tls.server_cert));
                lines.push(format!("tls-key-file {:?}", tls.server_key));
                lines.push("tls-auth-clients yes".into());
                lines.push("user default off".into());
                lines.push(format!(
                    "user {} on >{} ~* &* +@all",
                    tls.user, tls.password
                ));
            }
            Transport::ClusterNode { bus } => {
                lines.push(format!("port {port}"));
                lines.push(format!("cluster-port {}", bus.number()));
                lines.push("cluster-enabled yes".into());
                lines.push("cluster-config-file nodes.conf".into());
            }
        }
        if self.bounds_clients {
            lines.push("maxmemory-clients 256mb".into());
        }
        for (name, value) in &self.settings {
            lines.push(format!("{name} {value}"));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

impl TestServerBuilder {
    /// Speaks TLS only, as [`TestServer::tls`].
    pub fn tls(mut self) -> Self {
        self.kind = Kind::Tls {
            names: &["localhost", "127.0.0.1"],
        };
        self
    }

    /// Speaks TLS only, as [`TestServer::tls_of_another_host`].
    pub fn tls_of_another_host(mut self) -> Self {
        self.kind = Kind::Tls {
            names: &["another-host.test"],
        };
        self
    }

    /// Listens on a Unix socket only, as [`TestServer::unix`].
    pub fn unix(mut self) -> Self {
        self.kind = Kind::Unix;
        self
    }

    pub(crate) fn cluster_node(mut self) -> Self {
        self.kind = Kind::ClusterNode;
        self
    }

    /// Adds a line to the server's configuration: `("maxmemory", "2mb")`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start, with its log or with what to install.
    pub fn start(self) -> TestServer {
        let folder = Folder::new();
        let transport = match self.kind {
            Kind::Plain => Transport::Tcp,
            Kind::Unix => Transport::Unix,
            Kind::Tls { names } => Transport::Tls(Box::new(Tls::issue(folder.path(), names))),
            Kind::ClusterNode => Transport::ClusterNode { bus: Port::free() },
        };
        let mut server = TestServer {
            process: Mutex::new(None),
            transport,
            settings: self.settings,
            bounds_clients: true,
            port: Port::free(),
            folder,
        };
        for _ in 0..ATTEMPTS {
            let mut process = server.spawn();
            match server.wait_until_ready(&mut process) {
                Ok(()) => {
                    server.process = Mutex::new(Some(process));
                    return server;
                }
                // Somebody else's, who does not take free ports.
                Err(log) if log.contains("Address already in use") => {
                    server.port = Port::free();
                    if let Transport::ClusterNode { bus } = &mut server.transport {
                        *bus = Port::free();
                    }
                }
                Err(log) if server.bounds_clients && log.contains("maxmemory-clients") => {
                    server.bounds_clients = false;
                }
                Err(log) => panic!("the server did not start:\n{log}"),
            }
        }
        panic!("{ATTEMPTS} free ports in a row were taken by someone else");
    }
}

/// `valkey-cli`, without arguments so far and without input.
///
/// [`TestServer::cli`] is all that most tests need of it.
pub fn valkey_cli() -> Command {
    let beside = server_binary().with_file_name("valkey-cli");
    let mut cli = if beside.is_file() {
        Command::new(beside)
    } else {
        Command::new("valkey-cli")
    };
    cli.stdin(Stdio::null());
    cli
}

/// By the same rules as `xtask/src/valkey.rs`.
fn server_binary() -> PathBuf {
    std::env::var_os("VALKEY_SERVER")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "valkey-server".into())
        .into()
}
