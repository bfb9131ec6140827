//! A private, real `valkey-server`.

use crate::base::lock::lock;
use crate::testing::connected::connected;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
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
use crate::testing::wait::{Backoff, COMMAND_TIMEOUT};

const MISSING: &str = "\
is not there: install Valkey (the packages `valkey-server` and `valkey-tools` of \
Debian and Ubuntu, `valkey` elsewhere), or let VALKEY_SERVER name the server's binary";

/// Reports that a program of the server is missing: fails the test, or ends the whole test process
/// if `VALKEY_SERVER_MISSING` is `exit`. One line then replaces a failure of each test.
fn missing(program: &str, why: &str) -> ! {
    let text = format!("`{program}` {MISSING}{why}");
    if std::env::var_os("VALKEY_SERVER_MISSING").is_some_and(|value| value == "exit") {
        // Not `eprintln!`, whose output a test harness keeps back.
        let _ = writeln!(std::io::stderr(), "\nerror: {text}");
        std::process::exit(1);
    }
    panic!("{text}");
}

/// How many times a start may lose the race for a free port.
const ATTEMPTS: u32 = 10;

/// A private `valkey-server` of this test process: on 127.0.0.1 and a free port, without
/// persistence, with its files in a temporary folder.
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
/// It has the setting `maxmemory-clients 256mb`, which a production server should have too: see
/// `docs/guides/invalidations.md`.
///
/// The server is killed and its folder removed when this value is dropped. A shell does the same if
/// the process ends in any other way, even by `SIGKILL`. So the tests of a binary may share a
/// server:
///
/// ```no_run
/// use std::sync::LazyLock;
/// use valkey_runtime::testing::TestServer;
///
/// static SERVER: LazyLock<TestServer> = LazyLock::new(TestServer::plain);
/// ```
///
/// The environment variable `VALKEY_SERVER` names the binary; the default is `valkey-server` on the
/// path. `valkey-cli` is looked for beside the former, then on the path. If either is missing, the
/// test fails; with `VALKEY_SERVER_MISSING=exit` the test process ends with one line.
///
/// Each server also has a Unix socket, which the harness uses. So it can't reach another program's
/// server by mistake.
#[derive(Debug)]
pub struct TestServer {
    // Declared before the folder, so that the process ends first.
    process: Mutex<Option<Process>>,
    transport: Transport,
    settings: Vec<(String, String)>,
    /// Whether the server bounds its buffers for clients that do not read. Servers before Redis 7
    /// have no setting for this.
    bounds_clients: bool,
    port: Port,
    folder: Folder,
}

/// Builds a [`TestServer`]. See [`TestServer::builder`].
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
    /// Starts a server with plain TCP.
    ///
    /// # Panics
    ///
    /// If the server does not start, with its log or with the package to install. This applies to
    /// all functions that start a server.
    pub fn plain() -> Self {
        Self::builder().start()
    }

    /// Starts a server with TLS only, which requires a client certificate. It has one ACL user with
    /// a password; the default user is off. Its certificate is valid for `localhost` and 127.0.0.1.
    /// [`store`](TestServer::store) uses all of this; for other clients see
    /// [`TestServer::credentials`].
    pub fn tls() -> Self {
        Self::builder().tls().start()
    }

    /// As [`TestServer::tls`], but with a certificate that is valid for another host.
    pub fn tls_of_another_host() -> Self {
        Self::builder().tls_of_another_host().start()
    }

    /// Starts a server on a Unix socket, without a port.
    pub fn unix() -> Self {
        Self::builder().unix().start()
    }

    /// Builds a server with further settings.
    pub fn builder() -> TestServerBuilder {
        TestServerBuilder::default()
    }

    /// The server's port on 127.0.0.1.
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

    /// The path of the Unix socket that every server has.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("valkey.sock")
    }

    /// The URL of the server for a store, with user and password. TLS files are not part of it: see
    /// [`TestServer::credentials`].
    pub fn url(&self) -> String {
        match &self.transport {
            Transport::Unix => format!("unix:{}", self.socket().display()),
            _ => self.url_at(self.port.number()),
        }
    }

    /// [`TestServer::url`] with another port of 127.0.0.1, such as that of a proxy to this server.
    pub fn url_at(&self, port: u16) -> String {
        match &self.transport {
            Transport::Tls(tls) => {
                format!("valkeys://{}:{}@127.0.0.1:{port}/", tls.user, tls.password)
            }
            _ => format!("valkey://127.0.0.1:{port}/"),
        }
    }

    /// The certificates, user and password of a TLS server.
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

    /// Opens a store on the server, with its ACL user and client certificate if it has these.
    ///
    /// # Panics
    ///
    /// If the server refuses the store.
    pub async fn store(&self) -> Store {
        connected(self.store_builder()).await
    }

    /// Opens a store with a namespace, so that tests share a server but no keys.
    ///
    /// # Panics
    ///
    /// If the server refuses the store, or the namespace is invalid.
    pub async fn store_in(&self, namespace: &str) -> Store {
        connected(self.store_builder().namespace(namespace)).await
    }

    /// The builder of [`TestServer::store`], for further settings.
    ///
    /// A command waits up to 10 s for its answer, and not 500 ms, so that a busy machine fails no
    /// test. A test of a silent server sets [`Builder::command_timeout`].
    pub fn store_builder(&self) -> Builder {
        let builder = Store::builder()
            .url(&self.url())
            .command_timeout(COMMAND_TIMEOUT);
        match &self.transport {
            Transport::Tls(tls) => builder
                .tls_ca_file(&tls.ca)
                .tls_client_files(&tls.cert, &tls.key),
            _ => builder,
        }
    }

    /// Deletes all keys of all databases.
    ///
    /// # Panics
    ///
    /// If the server can't be reached.
    pub fn flush(&self) {
        let reply = self.command(&["FLUSHALL", "SYNC"]);
        assert_eq!(reply, Value::Simple("OK".into()));
    }

    /// Kills the server (`SIGKILL`) and waits for its end. Its port refuses connections, and stays
    /// reserved, until [`TestServer::restart`].
    pub fn kill(&self) {
        *self.process() = None;
    }

    /// Stops the server (`SIGSTOP`). Connections stay open, and new ones succeed, but nothing is
    /// answered until [`TestServer::resume`].
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Continues a paused server (`SIGCONT`).
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Starts the server again, on the same port and with the same settings; kills it first if it
    /// still runs. It is empty after that, but a cluster node still knows its cluster.
    pub fn restart(&self) {
        let mut process = self.process();
        *process = None;
        let mut new = self.spawn();
        if let Err(log) = self.wait_until_ready(&mut new) {
            panic!("the server did not come back:\n{log}");
        }
        *process = Some(new);
    }

    /// Sends a command, which may contain any bytes, and returns the reply. An error reply is
    /// returned as a value.
    ///
    /// # Panics
    ///
    /// If the server can't be reached.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&self, command: &[A]) -> Value {
        self.try_command(command)
            .unwrap_or_else(|error| panic!("the server does not answer: {error}"))
    }

    /// Runs `valkey-cli`, connected as a client of this server, and returns its output without the
    /// final newline.
    ///
    /// # Panics
    ///
    /// If the server answers with an error. Use [`TestServer::command`] for an expected error.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let mut cli = valkey_cli();
        // `-e` sets the exit status on an error reply.
        cli.arg("-e");
        match &self.transport {
            Transport::Unix => {
                cli.arg("-s").arg(self.socket());
            }
            Transport::Tcp => {
                cli.arg("-p").arg(self.port.number().to_string());
            }
            // `-c` follows redirections to a key's node.
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
            .unwrap_or_else(|error| missing("valkey-cli", &format!(" ({error})")));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "valkey-cli {arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.trim_end_matches('\n').to_owned()
    }

    /// The number of calls of each command since the start or the last
    /// [`TestServer::reset_command_counts`], by its lower-case name (`client|setinfo` for a
    /// subcommand). Commands called by scripts count too, as do those of the harness: `info`,
    /// `config|resetstat`, `auth`, and those given to [`TestServer::command`] and
    /// [`TestServer::cli`].
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

    /// The number of calls of the command with this lower-case name.
    pub fn command_count(&self, name: &str) -> u64 {
        self.command_counts().get(name).copied().unwrap_or(0)
    }

    /// Resets all counts, and all other statistics of the server, to zero.
    pub fn reset_command_counts(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// The cluster bus port of a cluster node.
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

    /// `Err` with the server's log, if the server has ended or does not become ready in time.
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
                // The shell's exit codes for a binary that is missing or can't be run.
                if ended.is_some_and(|status| matches!(status.code(), Some(126 | 127))) {
                    missing(&server_binary().display().to_string(), "");
                }
                return Err(fs::read_to_string(self.log()).unwrap_or_default());
            }
        }
    }

    fn configuration(&self) -> String {
        // Debug formatting quotes a path nearly as this file format requires.
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
    /// Uses TLS only, as [`TestServer::tls`].
    pub fn tls(mut self) -> Self {
        self.kind = Kind::Tls {
            names: &["localhost", "127.0.0.1"],
        };
        self
    }

    /// Uses TLS only, as [`TestServer::tls_of_another_host`].
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
    /// If the server does not start, with its log or with the package to install.
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
                // Another program took the port without reserving it.
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

/// `valkey-cli` without arguments and without input. Most tests only need [`TestServer::cli`].
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

/// Follows the same rules as `xtask/src/valkey.rs`.
fn server_binary() -> PathBuf {
    std::env::var_os("VALKEY_SERVER")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "valkey-server".into())
        .into()
}
