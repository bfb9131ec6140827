//! Failures of servers and networks: each one is an error of the right kind, within its deadline,
//! and nothing is lost by it.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::database::{PATIENCE, until};
use crate::stores::{CLUSTER, PLAIN, TLS, connect, patient};
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Error, ErrorKind, SetOptions, Store};
use valkey_tests::{ClosedPort, FakeServer, Proxy, Reply, Server};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn ada(id: u64) -> User {
    User {
        id,
        name: "Ada".into(),
    }
}

/// For a store that is to give a command up, and to be answered while the server goes on.
const DEADLINE: Duration = Duration::from_secs(1);

/// Fails with this kind, long before a deadline of ours would be suspected to be missing.
async fn fails<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Error>>) -> Error {
    let started = Instant::now();
    let error = call.await.expect_err("it must fail");
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{error} took {:?}",
        started.elapsed()
    );
    error
}

/// Opens a patient store on the server of this URL.
async fn open(url: &str) -> Result<Store, Error> {
    let builder = patient(Store::builder().url(url));
    builder.require_server().connect().await
}

/// Tries until it succeeds: a store comes back by itself, but when is the network's affair.
async fn recovers(store: &Store) {
    until("it comes back", async || {
        // A deletion of what failed before may be delivered in between.
        ada(1).set(store).await.is_ok()
            && matches!(User::get(store, 1).await, Ok(Some(found)) if found == ada(1))
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let nobody = ClosedPort::new();
    let url = format!("valkey://ada:hunter2@127.0.0.1:{}", nobody.port());
    let error = fails(open(&url)).await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(
        error.is_transient() && error.to_string().contains("127.0.0.1"),
        "{error}"
    );
    assert!(
        std::error::Error::source(&error).is_none(),
        "the text has it"
    );

    let store = patient(Store::builder().url(&url)).connect_lazy().unwrap();
    let error = fails(User::get(&store, 1)).await;
    assert_eq!(
        (error.kind(), error.operation(), error.key()),
        (ErrorKind::Connection, Some("get"), Some("user:1"))
    );
    for shown in [format!("{error} {error:?}"), format!("{store:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    for error in [
        fails(User::get_many(&store, [1])).await,
        fails(store.of::<User>().ttl(1)).await,
        fails(store.ping()).await,
        fails(ada(1).set(&store)).await,
        fails(User::set_many(&store, &[ada(1)])).await,
        fails(User::del_many(&store, [1])).await,
    ] {
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }
    assert_eq!(store.stats().errors(ErrorKind::Connection), 7);
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let error = fails(open("valkey://no-such-host.invalid")).await;
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[tokio::test]
async fn no_seed_of_a_cluster_is_there() {
    let seeds = [ClosedPort::new(), ClosedPort::new()];
    let error = fails(open(&format!(
        "valkey+cluster://127.0.0.1:{},127.0.0.1:{}",
        seeds[0].port(),
        seeds[1].port()
    )))
    .await;
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[tokio::test]
async fn a_cluster_that_is_none() {
    let error = fails(open(&format!(
        "valkey+cluster://127.0.0.1:{}",
        PLAIN.port()
    )))
    .await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("cluster"), "{error}");
}

#[tokio::test]
async fn a_node_of_a_cluster_asked_as_a_single_server() {
    let store = connect(&format!("valkey://127.0.0.1:{}", CLUSTER.nodes()[0].port())).await;
    let errors = futures_util::future::join_all((0..32).map(|id| User::get(&store, id))).await;
    let error = errors
        .into_iter()
        .find_map(Result::err)
        .expect("some slot is elsewhere");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("valkey+cluster://"), "{error}");
}

#[tokio::test]
async fn a_database_that_the_server_does_not_have() {
    let url = format!("valkey://127.0.0.1:{}/4711", PLAIN.port());
    let error = fails(open(&url)).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn a_wrong_password() {
    let error = fails(patient(TLS.store_builder()).password("hunter2").connect()).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(!error.is_transient());
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let error = fails(patient(TLS.store_builder()).username("nobody").connect()).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(
        patient(TLS.store_builder()).connect().await.is_ok(),
        "the right ones are right"
    );
}

#[tokio::test]
async fn a_key_that_the_user_may_not_use() {
    let server = Server::plain();
    server.cli(&["ACL", "SETUSER", "ada", "on", ">secret", "~user:1", "+@all"]);
    let store = connect(&format!("valkey://ada:secret@127.0.0.1:{}", server.port())).await;
    ada(1).set(&store).await.unwrap();
    let error = fails(ada(2).set(&store)).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_the_time() {
    let server = Server::plain();
    server.cli(&[
        "ACL", "SETUSER", "ada", "on", ">secret", "~*", "+@all", "-time",
    ]);
    let store = connect(&format!("valkey://ada:secret@127.0.0.1:{}", server.port())).await;
    ada(1).set(&store).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_authority() {
    let tls = TLS.credentials();
    let error = fails(
        patient(TLS.store_builder())
            .tls_ca_file(&tls.foreign_ca)
            .connect(),
    )
    .await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    let error = fails(open(&TLS.url())).await;
    assert_eq!(
        error.kind(),
        ErrorKind::Tls,
        "the system's authorities don't know it either: {error}"
    );
}

#[tokio::test]
async fn a_certificate_of_another_host() {
    let server = Server::tls_of_another_host();
    let error = fails(patient(server.store_builder()).connect()).await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn a_client_certificate_of_another_authority() {
    let tls = TLS.credentials();
    let error = fails(
        patient(TLS.store_builder())
            .tls_client_files(&tls.foreign_cert, &tls.foreign_key)
            .connect(),
    )
    .await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn certificates_that_are_none() {
    let error = fails(
        patient(TLS.store_builder())
            .tls_ca_pem("not a certificate")
            .connect(),
    )
    .await;
    assert!(
        matches!(error.kind(), ErrorKind::Config | ErrorKind::Tls),
        "{error}"
    );
    let error = fails(
        patient(TLS.store_builder())
            .tls_client_pem("no", "none")
            .connect(),
    )
    .await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let error = fails(
        Store::builder()
            .url("valkeys://h")
            .tls_ca_file("/no/such/file")
            .connect(),
    )
    .await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}

#[tokio::test]
async fn a_plain_server_behind_a_tls_url() {
    let builder = Store::builder().url(&format!("valkeys://127.0.0.1:{}", PLAIN.port()));
    let error = fails(
        builder
            .require_server()
            .connect_timeout(Duration::from_secs(2))
            .connect(),
    )
    .await;
    assert!(
        matches!(error.kind(), ErrorKind::Tls | ErrorKind::Timeout),
        "{error}"
    );
    assert!(
        error.kind() == ErrorKind::Tls || error.to_string().contains("may not speak TLS"),
        "{error}"
    );
}

#[tokio::test]
async fn a_tls_server_behind_a_plain_url() {
    let error = fails(open(&format!("valkey://127.0.0.1:{}", TLS.port()))).await;
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

/// The first bytes on the wire of a TLS URL are a TLS handshake; no command, no password goes out
/// in the clear.
#[tokio::test]
async fn a_tls_url_never_speaks_in_plain_text() {
    for scheme in ["valkeys", "rediss", "valkeys+cluster"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut heard = Vec::new();
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 64];
            let count = stream.read(&mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..count]);
            heard
        });
        let builder = Store::builder().url(&format!("{scheme}://ada:hunter2@127.0.0.1:{port}"));
        builder
            .connect_timeout(Duration::from_secs(2))
            .require_server()
            .connect()
            .await
            .unwrap_err();
        assert_eq!(server.join().unwrap()[..2], [0x16, 0x03], "{scheme}");
    }
    let error = Store::builder()
        .url("valkeys://h")
        .tls(false)
        .connect_lazy()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_network_that_swallows_everything() {
    let proxy = Proxy::to(PLAIN.addr());
    proxy.stall();
    let builder = Store::builder()
        .url(&proxy.url())
        .connect_timeout(Duration::from_millis(100));
    let error = fails(builder.require_server().connect()).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");

    proxy.resume();
    let builder = Store::builder().url(&proxy.url()).command_timeout(DEADLINE);
    let store = builder.connect().await.unwrap();
    ada(1).set(&store).await.unwrap();
    proxy.stall();
    let error = fails(User::get(&store, 1)).await;
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ErrorKind::Timeout, true),
        "{error}"
    );
    let error = fails(User::get_many(&store, 0..100_000)).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    proxy.resume();
    recovers(&store).await;
}

#[tokio::test]
async fn a_server_that_hangs() {
    let server = Server::plain();
    let builder = Store::builder()
        .url(&server.url())
        .command_timeout(DEADLINE);
    let store = builder.connect().await.unwrap();
    server.pause();
    assert_eq!(fails(User::get(&store, 1)).await.kind(), ErrorKind::Timeout);
    server.resume();
    recovers(&store).await;
}

#[tokio::test]
async fn a_server_that_restarts() {
    let server = Server::plain();
    let store = connect(&server.url()).await;
    ada(1).set(&store).await.unwrap();
    server.kill();
    assert_eq!(
        fails(User::get(&store, 1)).await.kind(),
        ErrorKind::Connection
    );
    assert_eq!(
        fails(User::get(&store, 1)).await.kind(),
        ErrorKind::Connection
    );
    server.restart();
    recovers(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut() {
    let proxy = Proxy::to(PLAIN.addr());
    let store = connect(&proxy.url()).await;
    for connections in 2..5 {
        proxy.cut();
        // No command is needed for it to be noticed.
        assert!(proxy.wait_for_accepted(connections, PATIENCE));
        recovers(&store).await;
    }
}

#[tokio::test]
async fn a_reply_that_is_lost() {
    let proxy = Proxy::to(PLAIN.addr());
    let builder = patient(Store::builder().url(&proxy.url()));
    let store = builder.namespace("lost-reply").connect().await.unwrap();
    proxy.cut_at_next_reply();
    assert_eq!(
        fails(ada(7).set(&store)).await.kind(),
        ErrorKind::Connection
    );
    recovers(&store).await;
    assert_eq!(
        User::get(&store, 7).await.unwrap(),
        None,
        "it may have been carried out or not, or may be yet"
    );
}

/// A deployment during an outage of the cache is no outage of the site.
#[tokio::test]
async fn a_lazy_store_opens_without_its_server() {
    let proxy = Proxy::to(PLAIN.addr());
    proxy.refuse();
    let builder = patient(Store::builder().url(&proxy.url()));
    let store = builder.namespace("lazy").connect_lazy().unwrap();
    assert_eq!(
        fails(User::get(&store, 1)).await.kind(),
        ErrorKind::Connection
    );
    proxy.accept();
    recovers(&store).await;
}

#[tokio::test]
async fn the_environment_can_ask_for_a_lazy_store() {
    let nobody = ClosedPort::new();
    let port = nobody.port().to_string();
    let open = |lazy: &'static str| {
        let port = port.clone();
        let variables = move |name: &str| match name {
            "VALKEY_HOST" => Some("127.0.0.1".to_owned()),
            "VALKEY_PORT" => Some(port.clone()),
            "VALKEY_LAZY" => Some(lazy.to_owned()),
            _ => None,
        };
        valkey_runtime::Builder::from_variables(variables)
            .unwrap()
            .open()
    };
    assert!(open("true").await.is_ok());
    assert!(
        open("false").await.is_ok(),
        "it waits for the first attempt"
    );
}

/// A handshake that is refused for now is tried again: the client's own connection manager would
/// give up for good.
#[tokio::test]
async fn a_server_that_refuses_the_handshake_for_now() {
    let refusals = Arc::new(AtomicUsize::new(2));
    let left = refusals.clone();
    let server = FakeServer::scripted(move |command| {
        let refuse = &*command[0] == b"HELLO"
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
        match FakeServer::handshake(command) {
            _ if refuse => Reply::error("LOADING server is loading the dataset in memory"),
            Some(reply) => reply,
            None if &*command[0] == b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
            None => Reply::null(),
        }
    });
    let builder = patient(Store::builder().url(&server.url()));
    let store = builder.connect_lazy().unwrap();
    assert_eq!(fails(User::get(&store, 1)).await.kind(), ErrorKind::Loading);
    until("it is let in", async || User::get(&store, 1).await.is_ok()).await;
    assert_eq!(server.count("HELLO"), 3);
}

/// Ordinary but for what `answer` says.
fn fake(answer: impl Fn(&[Vec<u8>]) -> Option<Reply> + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |command| match &*command[0] {
        b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        _ => answer(command).unwrap_or_else(Reply::ok),
    })
}

#[tokio::test]
async fn each_error_of_a_server_has_a_kind() {
    for (said, kind, transient) in [
        (
            "LOADING server is loading the dataset in memory",
            ErrorKind::Loading,
            true,
        ),
        (
            "READONLY You can't write against a read only replica.",
            ErrorKind::ReadOnly,
            true,
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            ErrorKind::OutOfMemory,
            true,
        ),
        (
            "MISCONF Errors writing to the AOF file",
            ErrorKind::ReadOnly,
            true,
        ),
        (
            "NOREPLICAS Not enough good replicas to write.",
            ErrorKind::ReadOnly,
            true,
        ),
        (
            "BUSY The server is busy running a script.",
            ErrorKind::Unavailable,
            true,
        ),
        (
            "CLUSTERDOWN The cluster is down",
            ErrorKind::Unavailable,
            true,
        ),
        (
            "MASTERDOWN Link with MASTER is down",
            ErrorKind::Unavailable,
            true,
        ),
        (
            "TRYAGAIN Multiple keys request during rehashing of slot",
            ErrorKind::Unavailable,
            true,
        ),
        ("NOPERM User ada has no permissions", ErrorKind::Auth, false),
        ("NOAUTH Authentication required.", ErrorKind::Auth, false),
        ("ERR something else", ErrorKind::Server, false),
    ] {
        let server = fake(move |_| Some(Reply::error(said)));
        let store = connect(&server.url()).await;
        for error in [
            fails(User::get(&store, 1)).await,
            fails(User::exists(&store, 1)).await,
            fails(store.of::<User>().ttl(1)).await,
            fails(ada(1).set_with(&store, SetOptions::new().if_absent())).await,
            fails(ada(1).set(&store)).await,
            fails(User::del(&store, 1)).await,
        ] {
            assert_eq!(
                (error.kind(), error.is_transient()),
                (kind, transient),
                "{said}: {error}"
            );
            assert_eq!(error.key(), Some("user:1"));
        }
        for error in [
            fails(User::get_many(&store, [3, 4])).await,
            fails(User::set_many(&store, &[ada(1), ada(2)])).await,
            fails(User::del_many(&store, [1, 2])).await,
        ] {
            assert_eq!(error.kind(), kind, "{said}: {error}");
        }
    }
}

#[tokio::test]
async fn nonsense_from_a_server() {
    let server = fake(|_| Some(Reply::raw("*0\r\n")));
    let store = connect(&server.url()).await;
    assert_eq!(fails(User::get(&store, 1)).await.kind(), ErrorKind::Server);
    assert_eq!(
        fails(User::get_many(&store, [1, 2])).await.kind(),
        ErrorKind::Server
    );
    assert_eq!(fails(User::del(&store, 1)).await.kind(), ErrorKind::Server);

    let server = fake(|_| Some(Reply::raw("HTTP/1.1 400 Bad Request\r\n\r\n")));
    let store = connect(&server.url()).await;
    assert_eq!(
        fails(User::get(&store, 1)).await.kind(),
        ErrorKind::Connection
    );
}

#[tokio::test]
async fn a_batch_that_fails_in_part_says_so_and_stores_the_rest() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let seen = stored.clone();
    let server = fake(move |command| match &*command[1] {
        b"user:2" => Some(Reply::error(
            "OOM command not allowed when used memory > 'maxmemory'.",
        )),
        key => {
            seen.lock()
                .unwrap()
                .push(String::from_utf8_lossy(key).into_owned());
            None
        }
    });
    let store = connect(&server.url()).await;
    let error = fails(User::set_many(&store, &[ada(1), ada(2), ada(3)])).await;
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::OutOfMemory, Some("user:2"))
    );
    assert!(error.to_string().contains("1 of 3"), "{error}");
    assert_eq!(*stored.lock().unwrap(), ["user:1", "user:3"]);
}

#[tokio::test]
async fn a_server_at_its_memory_limit() {
    let server = Server::builder()
        .setting("maxmemory", "2mb")
        .setting("maxmemory-policy", "noeviction")
        .start();
    let store = connect(&server.url()).await;
    let mut stored = 0;
    let error = loop {
        match (User {
            id: stored,
            name: "x".repeat(10_000),
        })
        .set(&store)
        .await
        {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10_000, "there is no limit");
    };
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ErrorKind::OutOfMemory, true),
        "{error}"
    );
    let fill = User {
        id: stored,
        name: "x".repeat(10_000),
    };
    let error = fails(fill.set_with(&store, SetOptions::new().if_absent())).await;
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(
        User::get(&store, 0).await.unwrap().is_some(),
        "reading goes on"
    );
    assert!(
        User::del(&store, 0).await.unwrap(),
        "and so does invalidation"
    );
    assert_eq!(User::del_many(&store, 0..stored).await.unwrap(), stored - 1);
    fill.set(&store).await.unwrap();
}

#[tokio::test]
async fn a_server_that_became_a_replica() {
    let server = Server::plain();
    let store = connect(&server.url()).await;
    ada(1).set(&store).await.unwrap();
    let nobody = ClosedPort::new();
    server.cli(&["REPLICAOF", "127.0.0.1", &nobody.port().to_string()]);
    assert_eq!(
        fails(ada(1).set_with(&store, SetOptions::new().if_present()))
            .await
            .kind(),
        ErrorKind::ReadOnly
    );
    assert_eq!(
        User::get(&store, 1).await.unwrap(),
        Some(ada(1)),
        "reading goes on"
    );
    assert_eq!(fails(ada(1).set(&store)).await.kind(), ErrorKind::ReadOnly);
    assert_eq!(
        fails(User::del(&store, 1)).await.kind(),
        ErrorKind::ReadOnly
    );
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    ada(2).set(&store).await.unwrap();
}

#[tokio::test]
async fn no_log_line_shows_a_password() {
    let log = Log::default();
    let _logging = log.takes();
    patient(TLS.store_builder())
        .password("hunter2")
        .connect()
        .await
        .unwrap_err();
    let nobody = ClosedPort::new();
    open(&format!("valkey://ada:hunter2@127.0.0.1:{}", nobody.port()))
        .await
        .unwrap_err();
    let builder = patient(TLS.store_builder()).namespace("logged");
    let store = builder.connect().await.unwrap();
    ada(1).set(&store).await.unwrap();
    User::get(&store, 1).await.unwrap();
    let text = log.text();
    assert!(
        text.contains("connecting to the server failed"),
        "nothing was logged: {text}"
    );
    assert!(
        !text.contains("hunter2") && !text.contains(&TLS.credentials().password),
        "{text}"
    );
}

/// The log of this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes all lines, as long as what this gives is kept.
    pub(crate) fn takes(&self) -> impl Sized + use<> {
        let subscriber = || {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_writer(self.clone())
                .finish()
        };
        // Where there is only one subscriber, the first thread to reach a log line decides whether
        // it is ever written, and the threads of other tests have none.
        let second = tracing::Dispatch::new(subscriber());
        (second, tracing::subscriber::set_default(subscriber()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_store_opens_while_its_server_is_down() {
    let proxy = Proxy::to(PLAIN.addr());
    proxy.refuse();
    let builder = || patient(Store::builder().url(&proxy.url())).namespace("opens");
    let store = builder().connect().await.unwrap();
    assert_eq!(
        fails(User::get(&store, 1)).await.kind(),
        ErrorKind::Connection
    );
    let required = builder().require_server().connect().await.unwrap_err();
    assert_eq!(required.kind(), ErrorKind::Connection);
    proxy.accept();
    recovers(&store).await;
}

/// A wrong setting is no outage: it would not pass.
#[tokio::test]
async fn a_store_with_a_wrong_password_does_not_open() {
    let builder = patient(TLS.store_builder()).password("wrong");
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "tagged", tag = "one:{id}")]
struct Tagged {
    #[cached(key)]
    id: u64,
}

/// A server that closes the connection in place of the first `lost` replies to `GET` or `SET`.
fn loses(lost: usize) -> FakeServer {
    let answered = AtomicUsize::new(0);
    FakeServer::start(move |command| match &*command[0] {
        b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        b"GET" | b"GETRANGE" | b"SET" | b"MGET"
            if answered.fetch_add(1, Ordering::SeqCst) < lost =>
        {
            Reply::Close
        }
        b"GET" => Reply::null(),
        b"GETRANGE" => Reply::bulk(""),
        b"MGET" => {
            let keys = command.len() - 1;
            Reply::raw(format!("*{keys}\r\n{}", "_\r\n".repeat(keys)))
        }
        _ => Reply::ok(),
    })
}

#[tokio::test]
async fn a_read_whose_connection_is_lost_is_sent_once_more() {
    let server = loses(1);
    let store = connect(&server.url()).await;
    assert_eq!(User::get(&store, 7).await.unwrap(), None);
    // The value may be too large to be sent, so the second read is bounded.
    assert_eq!((server.count("GET"), server.count("GETRANGE")), (1, 1));
    assert_eq!(server.connections(), 2);

    let server = loses(1);
    let store = connect(&server.url()).await;
    let found = User::get_many(&store, [7, 8]).await.unwrap();
    assert_eq!(found, [None, None]);
    assert_eq!((server.count("MGET"), server.count("GET")), (1, 2));

    // A value with tags that follow from its key is read with their epochs, and after a loss before
    // them.
    let server = loses(1);
    let store = connect(&server.url()).await;
    assert_eq!(Tagged::get(&store, 7).await.unwrap(), None);
    assert_eq!((server.count("MGET"), server.count("GETRANGE")), (2, 1));

    let server = loses(2);
    let store = connect(&server.url()).await;
    let error = User::get(&store, 7).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert_eq!((server.count("GET"), server.count("GETRANGE")), (1, 1));
}

#[tokio::test]
async fn a_write_whose_connection_is_lost_is_not_repeated() {
    let server = loses(1);
    let store = connect(&server.url()).await;
    let error = ada(7).set(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert_eq!(server.count("SET"), 1);
}
