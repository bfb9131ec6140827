//! A server that does not answer: it is not asked again and again, missed deletions are delivered
//! later, and until then nothing is read that this process has invalidated.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use valkey_runtime::{BreakerState, Builder, Cached, Error, ErrorKind, SetOptions, Store, Ttl};
use valkey_tests::resp::Value;
use valkey_tests::{FakeServer, Proxy, Reply, Server};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::database::{PATIENCE, until};
use crate::steady::steady;
use crate::stores::connect;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct User {
    #[cached(key)]
    id: u64,
    row: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "city", ttl = "never")]
struct City {
    #[cached(key)]
    id: u64,
    row: u32,
}

fn user(id: u64, row: u32) -> User {
    User { id, row }
}

/// Long enough for a machine that does much else to answer a command.
const DEADLINE: Duration = Duration::from_secs(1);

fn on(url: &str) -> Builder {
    Store::builder().url(url).command_timeout(DEADLINE)
}

async fn get(store: &Store) -> Result<Option<User>, Error> {
    User::get(store, 1).await
}

/// Asks until the store is not asked any more.
async fn until_open(store: &Store) -> Error {
    for _ in 0..10 {
        let error = get(store).await.expect_err("the server does not answer");
        if error.is_refused() {
            return error;
        }
    }
    panic!("the breaker does not open");
}

/// Without asking the store for anything.
async fn closes(store: &Store) {
    until("the breaker closes", async || {
        store.breaker() == BreakerState::Closed
    })
    .await;
}

async fn delivered(store: &Store) {
    until("deletions are delivered", async || store.undelivered() == 0).await;
}

/// The shortest of some calls: what they cost where the machine does nothing else.
async fn shortest<T>(calls: usize, mut call: impl AsyncFnMut() -> T) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..calls {
        let started = Instant::now();
        call().await;
        shortest = shortest.min(started.elapsed());
    }
    shortest
}

/// Ordinary but for what `answer` says.
fn fake(answer: impl Fn(&[Vec<u8>]) -> Reply + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |command| match &*command[0] {
        b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        _ => answer(command),
    })
}

#[tokio::test]
async fn a_stopped_server_is_soon_not_asked_any_more_and_asked_again_when_it_goes_on() {
    let server = Server::plain();
    let store = on(&server.url()).connect().await.unwrap();
    user(1, 1).set(&store).await.unwrap();
    server.pause();
    let started = Instant::now();
    let error = until_open(&store).await;
    assert!(started.elapsed() < DEADLINE * 8, "{:?}", started.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout, "of what opened it");
    assert!(error.is_transient() && error.to_string().contains("was not sent"));
    assert_ne!(store.breaker(), BreakerState::Closed);
    let cost = shortest(100, async || get(&store).await).await;
    assert!(cost < DEADLINE / 20, "{cost:?}");
    let stats = store.stats();
    assert_eq!((stats.breaker_openings(), stats.refused()), (1, 101));

    server.resume();
    closes(&store).await;
    assert_eq!(get(&store).await.unwrap(), Some(user(1, 1)));
    assert_eq!(store.stats().breaker_openings(), 1);
}

#[tokio::test]
async fn a_killed_server_is_not_asked_from_the_first_refused_connection_on() {
    let server = Server::plain();
    let store = on(&server.url()).connect().await.unwrap();
    get(&store).await.unwrap();
    server.kill();
    until("the breaker opens", async || {
        store.breaker() != BreakerState::Closed
    })
    .await;
    let error = get(&store).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_refused()),
        (ErrorKind::Connection, true),
        "{error}"
    );
    let cost = shortest(100, async || get(&store).await).await;
    assert!(cost < DEADLINE / 20, "{cost:?}");
    server.restart();
    closes(&store).await;
    assert_eq!(get(&store).await.unwrap(), None);
}

#[tokio::test]
async fn a_loader_is_not_held_up_by_a_server_that_is_down() {
    let server = Server::plain();
    let store = on(&server.url()).connect().await.unwrap();
    server.pause();
    until_open(&store).await;
    let load = async || {
        let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(user(1, 7)))).await;
        assert_eq!(loaded, Ok(Some(user(1, 7))));
    };
    let cost = shortest(100, load).await;
    assert!(cost < DEADLINE / 20, "{cost:?}");
}

#[tokio::test]
async fn a_slow_command_does_not_open_it_however_many_wait_behind_it() {
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = Mutex::new(goes_on);
    let server = fake(move |command| {
        if command[0] == b"GET" && command[1] == b"user:2" {
            // Nothing of this connection is answered before.
            let _ = goes_on.lock().unwrap().recv();
        }
        Reply::null()
    });
    let store = on(&server.url()).connect().await.unwrap();
    get(&store).await.unwrap();
    let waited = join_all((0..200).map(|_| User::get(&store, 2))).await;
    for error in waited {
        let error = error.expect_err("it takes longer than a deadline");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    drop(go_on);
    assert_eq!(store.breaker(), BreakerState::Closed);
    get(&store).await.unwrap();
    assert_eq!(store.stats().breaker_openings(), 0);
    assert_eq!(server.count("HELLO"), 1);
}

#[tokio::test]
async fn an_answer_of_whatever_kind_does_not_open_it() {
    for said in [
        "LOADING server is loading the dataset in memory",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "NOPERM User ada has no permissions",
        "BUSY The server is busy running a script.",
        "ERR something else",
    ] {
        let server = fake(move |_| Reply::error(said));
        let store = on(&server.url()).connect().await.unwrap();
        for _ in 0..20 {
            assert!(!get(&store).await.unwrap_err().is_refused(), "{said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            (store.breaker(), store.stats().breaker_openings()),
            (BreakerState::Closed, 0)
        );
        assert_eq!(server.count("GET"), 20);
    }
}

/// The server takes connections, and is silent: there is one attempt for all callers. After
/// a stall of the process a call may take an overdue attempt over, so the test is repeated then.
#[test]
fn only_one_attempt_at_a_time_decides() {
    steady(&|| Box::pin(one_attempt_decides()));
}

async fn one_attempt_decides() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    // One attempt lasts as long as this test.
    let builder = on(&proxy.url()).connect_timeout(PATIENCE);
    let store = builder.connect().await.unwrap();
    proxy.stall();
    until_open(&store).await;
    until("an attempt", async || proxy.accepted() == 2).await;
    assert_eq!(store.breaker(), BreakerState::HalfOpen);
    for _ in 0..100 {
        let answers = join_all((0..50).map(|_| get(&store))).await;
        assert!(
            answers
                .into_iter()
                .all(|answer| answer.unwrap_err().is_refused())
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(proxy.accepted(), 2, "by any caller");
    proxy.resume();
    closes(&store).await;
    get(&store).await.unwrap();
}

#[tokio::test]
async fn one_that_lets_us_in_and_then_is_silent_is_asked_ever_less_often() {
    let connected = Arc::new(Mutex::new(Vec::new()));
    let seen = connected.clone();
    let server = FakeServer::scripted(move |command| {
        if command[0] == b"HELLO" {
            seen.lock().unwrap().push(Instant::now());
        }
        match &*command[0] {
            b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
            _ => FakeServer::handshake(command).unwrap_or(Reply::Nothing),
        }
    });
    let builder = on(&server.url()).command_timeout(Duration::from_millis(20));
    let store = builder.connect().await.unwrap();
    until("it was connected to eight times", async || {
        get(&store).await.unwrap_err();
        connected.lock().unwrap().len() >= 8
    })
    .await;
    // Half of 50, 100, 200, 400, 800 and 1000 ms at the least: a busy machine makes it more.
    let connected = connected.lock().unwrap();
    let pauses = connected.windows(2).map(|two| two[1] - two[0]);
    for (pause, least) in pauses.zip([0, 25, 50, 100, 200, 400, 500]) {
        assert!(pause >= Duration::from_millis(least), "{connected:?}");
    }
}

#[tokio::test]
async fn silence_while_it_connects_is_silence_too() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    proxy.stall();
    let builder = on(&proxy.url()).connect_timeout(PATIENCE * 2);
    let store = builder.connect_lazy().unwrap();
    let started = Instant::now();
    until_open(&store).await;
    assert!(started.elapsed() < PATIENCE, "less than it would connect");
    proxy.resume();
    closes(&store).await;
    get(&store).await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_silent_is_not_asked_any_more() {
    let cluster = Server::cluster();
    let store = on(&cluster.url()).connect().await.unwrap();
    get(&store).await.unwrap();
    cluster.nodes().iter().for_each(Server::pause);
    until_open(&store).await;
    cluster.nodes().iter().for_each(Server::resume);
    closes(&store).await;
    // The node of the key has a breaker of its own.
    until("the node is asked", async || get(&store).await.is_ok()).await;
}

/// Its keys cost a deadline each, and the others nothing: whichever answers keeps the one breaker
/// closed.
#[tokio::test]
async fn a_silent_node_of_a_cluster_keeps_nobody_from_the_others() {
    let cluster = Server::cluster();
    let store = on(&cluster.url()).connect().await.unwrap();
    let [silent, ..] = cluster.nodes() else {
        panic!("a cluster without nodes")
    };
    // The others do not take it for lost.
    for node in cluster.nodes() {
        node.cli(&["CONFIG", "SET", "cluster-node-timeout", "60000"]);
    }
    let is_its = |id: &u64| {
        let answer = silent.command(&["EXISTS", &format!("user:{id}")]);
        matches!(answer, Value::Integer(_))
    };
    let (its, others): (Vec<u64>, Vec<u64>) = (0..60).partition(is_its);
    assert!(!others.is_empty() && !its.is_empty());
    silent.pause();

    let until = Instant::now() + DEADLINE * 2;
    let ask_it = async {
        while Instant::now() < until {
            let asked = its.iter().map(|id| User::get(&store, *id));
            for answer in join_all(asked).await {
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
            }
        }
    };
    let ask_others = async {
        while Instant::now() < until {
            for id in &others {
                assert_eq!(User::get(&store, *id).await.unwrap(), None);
            }
        }
    };
    tokio::join!(ask_it, ask_others);
    assert_eq!(store.stats().breaker_openings(), 0);
    silent.resume();
}

/// When an answer comes, of an operation that may take [`OPERATION`]: what follows it has not much
/// time left.
const LATE: Duration = Duration::from_millis(1500);
const OPERATION: Duration = Duration::from_secs(2);

fn late(reply: Reply) -> Reply {
    std::thread::sleep(LATE);
    reply
}

/// All of its time, and less than if the second command had had the deadline of one. A busy machine
/// has more than a second for the rest.
fn is_in_time(took: Duration) {
    assert!(took >= OPERATION - Duration::from_millis(10), "{took:?}");
    assert!(took < LATE + OPERATION, "{took:?}");
}

#[tokio::test]
async fn an_operation_of_two_commands_is_over_in_its_time() {
    let server = fake(|command| match &*command[0] {
        b"EVALSHA" => late(Reply::error("NOSCRIPT No matching script.")),
        _ => Reply::Nothing,
    });
    let builder = on(&server.url()).command_timeout(OPERATION);
    let builder = builder.operation_timeout(OPERATION);
    let store = builder.connect().await.unwrap();
    let started = Instant::now();
    let error = User::touch(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(server.count("EVAL"), 1);
    is_in_time(started.elapsed());
}

#[tokio::test]
async fn a_read_that_has_a_corrupt_entry_removed_is_over_in_its_time() {
    let server = fake(|command| match &*command[0] {
        b"GET" => late(Reply::bulk("rubbish")),
        _ => Reply::Nothing,
    });
    let builder = on(&server.url()).command_timeout(OPERATION);
    // The removal has what an operation has beyond a command: a second, and not two.
    let builder = builder.operation_timeout(OPERATION * 3 / 2);
    let store = builder.connect().await.unwrap();
    let started = Instant::now();
    assert_eq!(get(&store).await.unwrap(), None);
    assert_eq!(server.count("EVALSHA"), 1);
    let took = started.elapsed();
    assert!(took >= LATE && took < LATE + OPERATION, "{took:?}");
}

#[tokio::test]
async fn a_thousand_scripts_that_the_server_forgot_are_sent_once_more_and_the_body_once() {
    let server = Server::plain();
    let store = connect(&server.url()).await;
    let users: Vec<_> = (0..1000).map(|id| user(id, 1)).collect();
    User::set_many(&store, &users).await.unwrap();
    User::del(&store, 4711).await.unwrap();
    server.cli(&["SCRIPT", "FLUSH"]);
    server.reset_command_counts();
    assert_eq!(User::del_many(&store, 0..1000).await.unwrap(), 1000);
    let counts = server.command_counts();
    assert_eq!((counts["evalsha"], counts["eval"]), (1999, 1));
}

#[tokio::test]
async fn deadlines_that_contradict_each_other_are_an_error() {
    let builder = Store::builder().memory().host("h", 1);
    let builder = builder.command_timeout(Duration::from_secs(2));
    let builder = builder.operation_timeout(Duration::from_secs(1));
    let error = builder.connect_lazy().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("operation_timeout"), "{error}");
}

/// The entry of a value of version 1 under that key, stamped at the beginning of 2026, as
/// docs/internals/envelope.md has it: its header, with these bytes for freshness and claim, and
/// `{"id": 1, "row": 1}`.
fn entry(key: &[u8], timing: &[u8]) -> Vec<u8> {
    const PAYLOAD: &[u8] = b"\x82\xa2id\x01\xa3row\x01";
    let stamp = (1_767_225_600_000_000_u64 << 12).to_be_bytes();
    let key = xxh3_64(key) as u32;
    let sum = xxh3_64_with_seed(PAYLOAD, 1 << 32 | u64::from(key)) as u32;
    [
        b"\x9d\x01\x00\xcd\x00\x01\xce\x00\x00\x00\x00\xcf",
        &stamp[..],
        b"\xce",
        &key.to_be_bytes(),
        b"\xce",
        &sum.to_be_bytes(),
        b"\xc0",
        timing,
        b"\xc0\xc0",
        PAYLOAD,
    ]
    .concat()
}

/// A server that has row 1 under every key, and accepts no scripts until the test allows it.
struct Reluctant {
    server: FakeServer,
    takes: Arc<AtomicBool>,
}

impl Reluctant {
    fn new() -> Self {
        Self::holding(b"\xc0\xc0")
    }

    /// The value says of freshness and claim what these bytes do.
    fn holding(timing: &[u8]) -> Self {
        let takes = Arc::new(AtomicBool::new(false));
        let taken = takes.clone();
        let timing = timing.to_vec();
        let server = fake(move |command| match &*command[0] {
            b"GET" => Reply::bulk(entry(&command[1], &timing)),
            b"MGET" => Reply::raw(format!(
                "*{}\r\n{}",
                command.len() - 1,
                "_\r\n".repeat(command.len() - 1)
            )),
            b"EVALSHA" | b"EVAL" if !taken.load(Ordering::SeqCst) => {
                Reply::error("READONLY You can't write against a read only replica.")
            }
            b"EVALSHA" | b"EVAL" => Reply::integer(1),
            _ => Reply::ok(),
        });
        Self { server, takes }
    }

    async fn store(&self) -> Store {
        on(&self.server.url()).connect().await.unwrap()
    }

    /// How often it was asked for anything but scripts.
    fn asked(&self) -> usize {
        let counts = self.server.counts();
        let reads = ["GET", "MGET", "GETRANGE", "PTTL"];
        reads.iter().filter_map(|name| counts.get(*name)).sum()
    }

    async fn take(&self, store: &Store) {
        self.takes.store(true, Ordering::SeqCst);
        delivered(store).await;
    }
}

#[tokio::test]
async fn a_key_whose_deletion_waits_is_a_miss_that_asks_nothing() {
    let server = Reluctant::new();
    let store = server.store().await;
    assert_eq!(get(&store).await.unwrap(), Some(user(1, 1)));
    let error = User::del(&store, 1).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::ReadOnly,
        "the caller gets the error"
    );
    assert_eq!(store.undelivered(), 1);

    let asked = server.asked();
    assert_eq!(get(&store).await.unwrap(), None);
    assert_eq!(User::get_many(&store, [1, 1]).await.unwrap(), [None, None]);
    assert!(!User::exists(&store, 1).await.unwrap());
    assert_eq!(store.of::<User>().ttl(1).await.unwrap(), None::<Ttl>);
    assert!(!User::touch(&store, 1).await.unwrap());
    let if_present = SetOptions::new().if_present();
    assert!(!user(1, 9).set_with(&store, if_present).await.unwrap());
    for row in [7, 8] {
        let load = async || Ok::<_, ()>(Some(user(1, row)));
        let loaded = User::get_or_load(&store, 1, load).await;
        assert_eq!(loaded, Ok(Some(user(1, row))), "loaded, and not stored");
    }
    let load = async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| (id, user(id, 7))));
    let loaded = User::get_or_load_many(&store, [1], load).await;
    assert_eq!(loaded, Ok(vec![Some(user(1, 7))]));
    assert_eq!(server.asked(), asked);
    assert_eq!(
        User::get_many(&store, [2, 1, 3]).await.unwrap(),
        [None, None, None]
    );
    let commands = server.server.commands();
    let last = commands.iter().rev().find(|command| command[0] == b"MGET");
    assert_eq!(last.unwrap()[1..], [b"user:2", b"user:3"], "the others are");

    server.take(&store).await;
    assert_eq!(get(&store).await.unwrap(), Some(user(1, 1)), "asked again");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", stale_if_error = "1h")]
struct Kept {
    #[cached(key)]
    id: u64,
    row: u32,
}

#[tokio::test]
async fn a_stale_value_whose_deletion_waits_is_not_served() {
    let server = Reluctant::holding(b"\xcf\0\0\0\0\0\0\0\0\xcf\0\0\0\0\0\0\0\0");
    let store = server.store().await;
    let fails = async || Kept::get_or_load(&store, 1, async || Err::<Kept, _>("no database")).await;
    assert_eq!(fails().await, Ok(Kept { id: 1, row: 1 }));
    Kept::del(&store, 1).await.unwrap_err();
    assert_eq!(fails().await, Err("no database"));
    server.take(&store).await;
}

#[tokio::test]
async fn all_keys_of_a_batch_that_could_not_be_deleted_are_kept() {
    let server = Reluctant::new();
    let store = server.store().await;
    User::del_many(&store, 0..2500).await.unwrap_err();
    assert_eq!(store.undelivered(), 2500);
    assert_eq!(get(&store).await.unwrap(), None);
    server.take(&store).await;
    assert_eq!(store.stats().queued_deletions(), 2500);
}

/// The row is there already when the write begins, for all one knows; and old as soon as it is
/// committed.
#[tokio::test]
async fn a_row_that_is_written_without_its_guard_is_not_read_from_before_it_is_written() {
    let server = Reluctant::new();
    let store = server.store().await;
    assert_eq!(get(&store).await.unwrap(), Some(user(1, 1)));
    let written = User::update(&store, 1, async || {
        assert_eq!(get(&store).await.unwrap(), None);
        Ok::<_, ()>(())
    });
    assert_eq!(written.await, Ok(()));
    assert_eq!(get(&store).await.unwrap(), None);
    server.take(&store).await;
}

/// A timeout around a call drops it, and nobody knows whether the server heard.
#[tokio::test]
async fn a_change_dropped_half_way_is_kept() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = connect(&proxy.url()).await;
    let soon = Duration::from_millis(20);
    user(3, 1).set(&store).await.unwrap();
    let guard = store.of::<User>().update(4).guard().await.unwrap();
    let held = store.of::<User>().update(5).guard().await.unwrap();
    proxy.stall();
    let del = tokio::time::timeout(soon, User::del(&store, 1));
    let set = tokio::time::timeout(soon, async { user(2, 1).set(&store).await });
    let touch = tokio::time::timeout(soon, User::touch(&store, 3));
    let release = tokio::time::timeout(soon, guard.release());
    assert!(del.await.is_err() && set.await.is_err());
    assert!(touch.await.is_err() && release.await.is_err());
    drop(held);
    assert_eq!(store.undelivered(), 3, "but for what runs out by itself");
    proxy.resume();
    delivered(&store).await;
    assert!(User::exists(&store, 3).await.unwrap());
    assert!(!User::exists(&store, 2).await.unwrap());
}

#[tokio::test]
async fn a_set_that_is_not_confirmed_is_followed_by_a_deletion() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = on(&proxy.url()).connect().await.unwrap();
    user(1, 1).set(&store).await.unwrap();
    proxy.cut_at_next_reply();
    user(1, 2).set(&store).await.unwrap_err();
    delivered(&store).await;
    assert_eq!(server.cli(&["EXISTS", "user:1"]), "0");

    // And so is one that was never sent: what it was to replace may be old.
    user(1, 1).set(&store).await.unwrap();
    proxy.refuse();
    proxy.cut();
    user(1, 2).set(&store).await.unwrap_err();
    User::set_many(&store, &[user(1, 2)]).await.unwrap_err();
    assert_eq!(get(&store).await.unwrap(), None);
    proxy.accept();
    delivered(&store).await;
    assert_eq!(server.cli(&["EXISTS", "user:1"]), "0");
}

/// The server knows of a key what it was told last: it need not be told again to forget what was
/// there before.
#[tokio::test]
async fn a_set_that_is_confirmed_settles_an_older_deletion() {
    let server = Reluctant::new();
    let store = server.store().await;
    User::del_many(&store, [1, 2]).await.unwrap_err();
    user(1, 2).set(&store).await.unwrap();
    User::set_many(&store, &[user(2, 2)]).await.unwrap();
    assert_eq!(store.undelivered(), 0);
    assert_eq!(get(&store).await.unwrap(), Some(user(1, 1)), "asked again");
}

#[tokio::test]
async fn a_deletion_that_is_confirmed_settles_an_older_one() {
    let server = Reluctant::new();
    let store = server.store().await;
    User::del(&store, 1).await.unwrap_err();
    // Until the one that waits is not tried again before long.
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.takes.store(true, Ordering::SeqCst);
    User::del(&store, 1).await.unwrap();
    assert_eq!(store.undelivered(), 0);
}

/// Readers hammer a key whose row is updated while the server is stopped. None of them is given the
/// old row, though it is still in the server when that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn no_value_older_than_an_update_is_read_by_the_process_that_made_it() {
    let server = Server::plain();
    let store = on(&server.url()).connect().await.unwrap();
    user(1, 1).set(&store).await.unwrap();
    server.pause();
    let written = User::update(&store, 1, async || Ok::<_, ()>(())).await;
    assert_eq!(written, Ok(()), "to row 2");

    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (done, reads) = (Arc::new(done), Arc::new(reads));
    let readers: Vec<_> = (0..9)
        .map(|which| {
            let (store, done, reads) = (store.clone(), done.clone(), reads.clone());
            tokio::spawn(async move {
                let load = async || Ok::<_, ()>(Some(user(1, 2)));
                while !done.load(Ordering::SeqCst) {
                    let found = match which % 3 {
                        0 => User::get_or_load(&store, 1, load).await.unwrap(),
                        1 => get(&store).await.unwrap_or(None),
                        _ => {
                            let found = User::get_many(&store, [1]).await;
                            found.unwrap_or_default().into_iter().next().flatten()
                        }
                    };
                    assert_ne!(found, Some(user(1, 1)), "reader {which}");
                    reads.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    tokio::time::sleep(DEADLINE).await;
    server.resume();
    delivered(&store).await;
    let before = reads.load(Ordering::SeqCst);
    let more = async || reads.load(Ordering::SeqCst) > before + 300;
    until("many reads", more).await;
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn beyond_the_bound_no_entry_of_the_type_is_read_that_may_be_older() {
    let server = Server::plain();
    let other = connect(&server.url()).await;
    let proxy = Proxy::to(server.addr());
    let store = connect(&proxy.url()).await;
    user(1, 1).set(&other).await.unwrap();
    let city = City { id: 1, row: 1 };
    city.set(&other).await.unwrap();

    proxy.refuse();
    proxy.cut();
    User::del_many(&store, 100..10_100).await.unwrap_err();
    User::del(&store, 1).await.unwrap_err();
    let stats = store.stats();
    assert_eq!(
        (stats.queued_deletions(), stats.lost_deletions()),
        (10_000, 1)
    );
    assert_eq!(store.undelivered(), 10_000, "bounded");
    proxy.accept();
    delivered(&store).await;

    assert_eq!(get(&other).await.unwrap(), Some(user(1, 1)), "it is there");
    assert_eq!(get(&store).await.unwrap(), None);
    assert_eq!(User::get_many(&store, [1]).await.unwrap(), [None]);
    assert!(!User::exists(&store, 1).await.unwrap());
    assert_eq!(
        City::get(&store, 1).await.unwrap(),
        Some(city),
        "of another type"
    );

    // A load that began well after the loss is known to be newer.
    until("what was loaded is read", async || {
        assert_ne!(get(&store).await.unwrap(), Some(user(1, 1)));
        let load = async || Ok::<_, ()>(Some(user(1, 2)));
        let loaded = User::get_or_load(&store, 1, load).await;
        assert_eq!(loaded, Ok(Some(user(1, 2))));
        get(&store).await.unwrap() == Some(user(1, 2))
    })
    .await;
    assert_eq!(get(&other).await.unwrap(), Some(user(1, 2)), "replaced");
}

#[tokio::test]
async fn waiting_deletions_end_with_their_store() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let store = on(&proxy.url()).connect().await.unwrap();
    user(1, 1).set(&store).await.unwrap();
    proxy.refuse();
    proxy.cut();
    User::del(&store, 1).await.unwrap_err();
    assert!(tasks() > before, "there is one that delivers");
    drop(store);
    until("no task is left", async || tasks() == before).await;
    proxy.accept();
    tokio::time::sleep(DEADLINE).await;
    assert_eq!(server.cli(&["EXISTS", "user:1"]), "1");
}
