//! The harness, tested: a fault test is worth no more than the fault.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use valkey_tests::example::steady_on;
use valkey_tests::resp::{Value, encode, read_value};
use valkey_tests::{FakeServer, Proxy, Reply, Server, TURN, eventually, valkey_cli};

const PATIENCE: Duration = Duration::from_secs(20);

static PLAIN: LazyLock<Server> = LazyLock::new(Server::plain);

/// A connection that knows no more than the protocol.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn send(&mut self, command: &[&str]) {
        self.0
            .get_mut()
            .write_all(&encode(command))
            .expect("the command is sent");
    }

    fn receive(&mut self) -> io::Result<Value> {
        read_value(&mut self.0)
    }

    fn ask(&mut self, command: &[&str]) -> Value {
        self.send(command);
        self.receive().expect("a reply")
    }

    /// Whether nothing arrives for a while. The while is short: it can only
    /// make a broken harness pass, never a working one fail.
    fn hears_nothing(&mut self) -> bool {
        let stream = self.0.get_ref();
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("not zero");
        let nothing = self
            .0
            .fill_buf()
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.0
            .get_ref()
            .set_read_timeout(Some(PATIENCE))
            .expect("not zero");
        nothing
    }

    /// Waits for the other side to close the connection.
    fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn pong() -> Value {
    Value::Simple("PONG".into())
}

#[test]
fn a_plain_server_answers_over_its_port_and_to_valkey_cli() {
    let server = &*PLAIN;
    assert_eq!(server.cli(&["SET", "colour", "blue"]), "OK");
    let mut client = Client::connect(server.addr()).expect("it listens");
    assert_eq!(
        client.ask(&["GET", "colour"]),
        Value::Bulk(b"blue".to_vec())
    );
    assert_eq!(
        server.command(&[&b"SET"[..], b"bytes", b"\r\n\0\xff"]),
        Value::Simple("OK".into())
    );
    assert_eq!(
        server.command(&["GET", "bytes"]),
        Value::Bulk(b"\r\n\0\xff".to_vec())
    );
}

#[test]
fn a_setting_reaches_the_server() {
    let server = Server::builder().setting("maxmemory", "3mb").start();
    assert_eq!(
        server.cli(&["CONFIG", "GET", "maxmemory"]),
        "maxmemory\n3145728"
    );
}

#[test]
fn every_server_bounds_the_memory_for_its_clients() {
    let bound = |server: &Server| server.cli(&["CONFIG", "GET", "maxmemory-clients"]);
    let servers = [Server::plain(), Server::unix(), Server::tls()];
    let cluster = Server::cluster();
    for server in servers.iter().chain(cluster.nodes()) {
        assert_eq!(bound(server), "maxmemory-clients\n268435456");
    }
    let server = &servers[0];
    server.restart();
    assert_eq!(bound(server), "maxmemory-clients\n268435456");
    // A test's own setting replaces it.
    let server = Server::builder().setting("maxmemory-clients", "4mb");
    assert_eq!(bound(&server.start()), "maxmemory-clients\n4194304");
}

#[test]
fn a_server_on_a_unix_socket_has_no_port() {
    let server = Server::unix();
    assert_eq!(server.cli(&["PING"]), "PONG");
    assert_eq!(server.cli(&["CONFIG", "GET", "port"]), "port\n0");
    assert!(server.url().starts_with("unix:/"));
}

#[test]
fn commands_are_counted() {
    let server = Server::plain();
    let mut client = Client::connect(server.addr()).expect("it listens");
    client.ask(&["GET", "a"]);
    client.ask(&["GET", "b"]);
    assert_eq!(server.command_count("get"), 2);
    assert_eq!(server.command_count("set"), 0);
    server.reset_command_counts();
    assert_eq!(server.command_count("get"), 0);
}

#[test]
fn a_killed_server_refuses_and_comes_back_on_its_port() {
    let server = Server::plain();
    let mut client = Client::connect(server.addr()).expect("it listens");
    assert_eq!(client.ask(&["PING"]), pong());
    server.kill();
    assert!(client.is_closed());
    assert!(Client::connect(server.addr()).is_err());
    server.restart();
    let mut client = Client::connect(server.addr()).expect("it listens again");
    assert_eq!(client.ask(&["PING"]), pong());
}

#[test]
fn a_paused_server_accepts_and_answers_when_it_goes_on() {
    let server = Server::plain();
    server.pause();
    let mut client = Client::connect(server.addr()).expect("the system accepts");
    client.send(&["PING"]);
    assert!(client.hears_nothing());
    server.resume();
    assert_eq!(client.receive().expect("a reply"), pong());
}

#[test]
fn a_test_that_fails_while_its_server_stands_still_is_run_again() {
    let server = Server::plain();
    let runs = Cell::new(0);
    steady_on(&server, || {
        runs.set(runs.get() + 1);
        if runs.get() == 1 {
            server.pause();
            thread::sleep(2 * TURN);
            server.resume();
            panic!("as it should");
        }
    });
    assert_eq!(runs.get(), 2);
}

#[test]
fn a_dropped_server_is_gone_with_its_folder() {
    let server = Server::plain();
    let (addr, folder) = (server.addr(), folder_of(&server));
    assert!(folder.is_dir());
    drop(server);
    assert!(Client::connect(addr).is_err());
    assert!(!folder.exists());
}

#[test]
fn a_paused_server_can_be_dropped() {
    let server = Server::plain();
    server.pause();
    let addr = server.addr();
    drop(server);
    assert!(Client::connect(addr).is_err());
}

/// Set in the process that [`a_server_ends_with_its_process`] kills.
const VICTIM: &str = "VALKEY_TESTS_VICTIM";

#[test]
fn a_server_ends_with_its_process() {
    if std::env::var_os(VICTIM).is_some() {
        be_the_victim();
    }
    let mut victim = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "a_server_ends_with_its_process", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let output = BufReader::new(victim.stdout.take().expect("it is piped"));
    let (addr, folder) = output
        .lines()
        .find_map(|line| {
            let line = line.expect("text");
            let (addr, folder) = line.split_once("victim ")?.1.split_once(' ')?;
            Some((
                addr.parse::<SocketAddr>().expect("an address"),
                PathBuf::from(folder),
            ))
        })
        .expect("the victim says where its server is");

    let mut client = Client::connect(addr).expect("the server listens");
    assert_eq!(client.ask(&["PING"]), pong());
    assert!(folder.is_dir());

    // SIGKILL: the victim can do nothing about its server.
    victim.kill().expect("a child can be killed");
    victim.wait().expect("a child can be waited for");
    assert!(client.is_closed());
    eventually("the folder is removed", || !folder.exists());
    assert!(Client::connect(addr).is_err());
}

/// Starts a server as tests share one, says where it is, and waits.
fn be_the_victim() -> ! {
    let server = &*PLAIN;
    writeln!(
        io::stdout(),
        "victim {} {}",
        server.addr(),
        folder_of(server).display()
    )
    .expect("the parent reads");
    // Ends without a kill too, if the parent does.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(1);
}

fn folder_of(server: &Server) -> PathBuf {
    let socket = server.socket();
    socket.parent().expect("it is in the folder").to_owned()
}

#[test]
fn a_cluster_serves_all_slots_and_finds_its_state_again() {
    let started = Instant::now();
    let cluster = Server::cluster();
    assert!(started.elapsed() < PATIENCE);
    let nodes = cluster.nodes();
    assert_eq!(nodes.len(), 3);
    for index in 0..30 {
        // Followed to its node, whichever is asked.
        assert_eq!(
            nodes[index % 3].cli(&["SET", &format!("k{index}"), "v"]),
            "OK"
        );
    }
    let sizes: Vec<_> = nodes.iter().map(|node| node.cli(&["DBSIZE"])).collect();
    assert!(sizes.iter().all(|size| size != "0"), "{sizes:?}");
    assert_eq!(cluster.command_counts()["set"], 30);

    nodes[1].restart();
    cluster.wait_until_ok();
    assert_eq!(nodes[1].cli(&["DBSIZE"]), "0");
}

static TLS: LazyLock<Server> = LazyLock::new(Server::tls);

/// `valkey-cli` with arguments of one's own.
fn cli(server: &Server, host: &str, arguments: &[&Path]) -> Output {
    let tls = server.credentials();
    valkey_cli()
        .args(["-h", host, "-p", &server.port().to_string(), "--tls"])
        .args(arguments)
        .args([
            "--user",
            &tls.user,
            "-a",
            &tls.password,
            "--no-auth-warning",
        ])
        .arg("PING")
        .output()
        .expect("valkey-cli runs")
}

fn succeeds(output: &Output) -> bool {
    output.stdout == b"PONG\n"
}

#[test]
fn a_tls_server_lets_a_client_with_a_certificate_in() {
    let tls = TLS.credentials();
    assert_eq!(TLS.cli(&["PING"]), "PONG");
    assert_eq!(TLS.cli(&["ACL", "WHOAMI"]), "app");
    for host in ["127.0.0.1", "localhost"] {
        let output = cli(
            &TLS,
            host,
            &[
                "--cacert".as_ref(),
                &tls.ca,
                "--cert".as_ref(),
                &tls.cert,
                "--key".as_ref(),
                &tls.key,
            ],
        );
        assert!(succeeds(&output), "{host}: {output:?}");
    }
}

#[test]
fn a_tls_server_refuses_a_client_without_its_certificate() {
    let tls = TLS.credentials();
    let none = cli(&TLS, "127.0.0.1", &["--cacert".as_ref(), &tls.ca]);
    assert!(!succeeds(&none), "{none:?}");
    let foreign = cli(
        &TLS,
        "127.0.0.1",
        &[
            "--cacert".as_ref(),
            &tls.ca,
            "--cert".as_ref(),
            &tls.foreign_cert,
            "--key".as_ref(),
            &tls.foreign_key,
        ],
    );
    assert!(!succeeds(&foreign), "{foreign:?}");
}

#[test]
fn a_client_refuses_the_server_of_another_authority() {
    let tls = TLS.credentials();
    let output = cli(
        &TLS,
        "127.0.0.1",
        &[
            "--cacert".as_ref(),
            &tls.foreign_ca,
            "--cert".as_ref(),
            &tls.cert,
            "--key".as_ref(),
            &tls.key,
        ],
    );
    assert!(!succeeds(&output), "{output:?}");
}

#[test]
fn a_tls_server_knows_no_default_user_and_no_plain_text() {
    let mut client = Client::connect(TLS.addr()).expect("it listens");
    client.send(&["PING"]);
    assert!(client.is_closed());
    let wrong = TLS.command(&["AUTH", "default", "guess"]);
    assert!(
        matches!(&wrong, Value::Error(text) if text.starts_with("WRONGPASS")),
        "{wrong:?}"
    );
}

#[test]
fn the_server_of_another_host_serves_who_does_not_check_the_name() {
    // valkey-cli is such a client.
    assert_eq!(Server::tls_of_another_host().cli(&["PING"]), "PONG");
}

#[test]
fn a_proxy_forwards_in_both_directions() {
    let proxy = Proxy::to(PLAIN.addr());
    let mut client = Client::connect(([127, 0, 0, 1], proxy.port()).into()).expect("it listens");
    assert_eq!(client.ask(&["PING"]), pong());
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn a_proxy_cuts_connections_and_accepts_new_ones() {
    let proxy = Proxy::to(PLAIN.addr());
    let addr = ([127, 0, 0, 1], proxy.port()).into();
    let mut client = Client::connect(addr).expect("it listens");
    assert_eq!(client.ask(&["PING"]), pong());
    proxy.cut();
    assert!(client.is_closed());
    let mut client = Client::connect(addr).expect("it listens still");
    assert_eq!(client.ask(&["PING"]), pong());
}

#[test]
fn a_test_process_without_a_server_ends_with_one_line() {
    let tests = ["a_plain_server", "a_proxy_without_a_server", "a_lost_reply"];
    let run = |missing: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(tests)
            .env("VALKEY_SERVER", "/nowhere/valkey-server")
            .env("VALKEY_SERVER_MISSING", missing)
            .env("RUST_TEST_THREADS", "1")
            .output()
            .unwrap();
        assert!(!output.status.success());
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).unwrap()
    };
    let text = run("exit");
    let lines: Vec<_> = text.lines().filter(|l| l.contains("install")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("`/nowhere/valkey-server`"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(run("").matches("FAILED").count() > tests.len());
}

#[test]
fn a_stalled_proxy_holds_everything_back() {
    let proxy = Proxy::to(PLAIN.addr());
    let addr = ([127, 0, 0, 1], proxy.port()).into();
    let mut old = Client::connect(addr).expect("it listens");
    assert_eq!(old.ask(&["PING"]), pong());
    proxy.stall();
    let mut new = Client::connect(addr).expect("it accepts");
    old.send(&["PING"]);
    new.send(&["PING"]);
    assert!(old.hears_nothing());
    assert!(new.hears_nothing());
    proxy.resume();
    assert_eq!(old.receive().expect("a reply"), pong());
    assert_eq!(new.receive().expect("a reply"), pong());

    proxy.stall();
    old.send(&["PING"]);
    proxy.cut();
    assert!(old.is_closed());
}

#[test]
fn a_refusing_proxy_keeps_its_connections_and_its_port() {
    let proxy = Proxy::to(PLAIN.addr());
    let addr = ([127, 0, 0, 1], proxy.port()).into();
    let mut client = Client::connect(addr).expect("it listens");
    assert_eq!(client.ask(&["PING"]), pong());
    proxy.refuse();
    let refused = Client::connect(addr).err().map(|error| error.kind());
    assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(client.ask(&["PING"]), pong());
    proxy.accept();
    let mut client = Client::connect(addr).expect("it listens again");
    assert_eq!(client.ask(&["PING"]), pong());
}

#[test]
fn a_lost_reply_is_that_of_a_command_carried_out() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let addr = ([127, 0, 0, 1], proxy.port()).into();

    let mut client = Client::connect(addr).expect("it listens");
    proxy.cut_at_next_reply();
    client.send(&["SET", "cut", "1"]);
    assert!(client.is_closed());
    assert_eq!(server.cli(&["GET", "cut"]), "1");

    let mut client = Client::connect(addr).expect("it listens");
    proxy.drop_next_reply();
    client.send(&["SET", "dropped", "1"]);
    // The server carries the command out before the proxy sees the reply.
    assert!(proxy.wait_for_loss(PATIENCE));
    assert_eq!(server.cli(&["GET", "dropped"]), "1");
    client.send(&["PING"]);
    assert!(client.hears_nothing());

    let mut client = Client::connect(addr).expect("it listens");
    assert_eq!(client.ask(&["PING"]), pong());
}

#[test]
fn a_proxy_without_a_server_closes_what_it_accepts() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    server.kill();
    let mut client = Client::connect(([127, 0, 0, 1], proxy.port()).into()).expect("it listens");
    assert!(client.is_closed());
}

#[test]
fn a_fake_server_shakes_hands_and_answers_by_script() {
    let server = FakeServer::start(|command| match &*command[0] {
        b"GET" => Reply::error("LOADING server is loading the dataset in memory"),
        b"SET" => Reply::ok(),
        _ => Reply::integer(7),
    });
    let mut client = Client::connect(server.addr()).expect("it listens");
    let Value::Array(hello) = client.ask(&["HELLO", "2"]) else {
        panic!("HELLO 2 is answered by an array");
    };
    assert_eq!(hello.len(), 14);
    assert_eq!(
        client.ask(&["CLIENT", "SETINFO", "LIB-NAME", "x"]),
        Value::Simple("OK".into())
    );
    assert_eq!(
        client.ask(&["GET", "a"]),
        Value::Error("LOADING server is loading the dataset in memory".into())
    );
    assert_eq!(client.ask(&["set", "a", "b"]), Value::Integer(7));
    assert_eq!(client.ask(&["SET", "a", "b"]), Value::Simple("OK".into()));
    assert_eq!(server.count("CLIENT SETINFO"), 1);
    assert_eq!(server.counts()["SET"], 2);
    assert_eq!(server.commands()[2], [b"GET", &b"a"[..]]);
}

#[test]
fn a_fake_server_greets_in_the_third_version_with_a_map() {
    let server = FakeServer::start(|_| Reply::null());
    let mut client = Client::connect(server.addr()).expect("it listens");
    client.send(&["HELLO", "3"]);
    client.send(&["QUIT"]);
    let mut greeting = String::new();
    while !greeting.ends_with("_\r\n") {
        assert_ne!(client.0.read_line(&mut greeting).expect("text"), 0);
    }
    assert!(greeting.starts_with("%7\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n"));
    assert!(greeting.contains("$5\r\nproto\r\n:3\r\n"));
}

#[test]
fn a_fake_server_falls_silent_or_hangs_up() {
    let server = FakeServer::start(|command| match &*command[0] {
        b"GET" => Reply::Nothing,
        _ => Reply::Close,
    });
    let mut client = Client::connect(server.addr()).expect("it listens");
    client.send(&["GET", "a"]);
    client.send(&["PING"]);
    assert!(server.wait_for("PING", 1, PATIENCE));
    assert!(client.hears_nothing());
    client.send(&["DEL", "a"]);
    assert!(client.is_closed());
}

#[test]
fn a_fake_server_holds_a_reply_back_until_told() {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let server = FakeServer::start(move |_| {
        let released = released.lock().expect("one connection");
        released.recv().expect("the test releases it")
    });
    let mut client = Client::connect(server.addr()).expect("it listens");
    client.send(&["GET", "a"]);
    assert!(server.wait_for("GET", 1, PATIENCE));
    assert!(client.hears_nothing());
    release.send(Reply::bulk("now")).expect("it waits");
    assert_eq!(
        client.receive().expect("a reply"),
        Value::Bulk(b"now".to_vec())
    );
}

#[test]
fn a_dropped_fake_server_is_gone() {
    let server = FakeServer::start(|_| Reply::bulk("it is me"));
    let me = Value::Bulk(b"it is me".to_vec());
    let addr = server.addr();
    let mut client = Client::connect(addr).expect("it listens");
    assert_eq!(client.ask(&["WHO"]), me);
    drop(server);
    assert!(client.is_closed());
    // By now another may have the port.
    if let Ok(mut other) = Client::connect(addr) {
        other.send(&["WHO"]);
        assert_ne!(other.receive().ok(), Some(me));
    }
}
