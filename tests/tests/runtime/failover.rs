//! Servers that are not, or no more, the ones to ask: replicas, primaries that were replaced, nodes
//! of a cluster that hang or that can't be reached.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use valkey_runtime::{BreakerState, Cached, Error, ErrorKind, Invalidation, Store};
use valkey_tests::resp::Value;
use valkey_tests::{ClosedPort, FakeServer, Proxy, Reply, Server, eventually};

use crate::stores::{connect, patient};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "1h")]
struct User {
    #[cached(key)]
    id: u64,
    row: u32,
}

fn user(id: u64, row: u32) -> User {
    User { id, row }
}

/// Many times what it takes.
const LONG: Duration = Duration::from_secs(60);

/// Waits for something that a call shows.
async fn until(what: &str, mut happens: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !happens().await {
        assert!(started.elapsed() < LONG, "{what} not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// Why a patient store can't be opened.
async fn refusal(url: &str) -> Error {
    let store = patient(Store::builder().url(url))
        .require_server()
        .connect()
        .await;
    store.unwrap_err()
}

/// All that an error shows of itself.
fn all_of(error: &Error) -> String {
    let mut all = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        all.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    all
}

// Behind a fixed address.

#[tokio::test]
async fn a_store_behind_a_fixed_address_comes_to_the_new_primary_and_delivers_there() {
    let (old, new) = (Server::plain(), Server::plain());
    let follows = |one: &Server, other: &Server| {
        let port = other.port().to_string();
        let reply = one.command(&["REPLICAOF", "127.0.0.1", &port]);
        assert_eq!(reply, Value::Simple("OK".into()));
    };
    follows(&new, &old);
    let proxy = Proxy::to(old.addr());
    let store = connect(&proxy.url()).await;
    let mut changes = store.invalidations().await.unwrap();
    user(1, 1).set(&store).await.unwrap();
    eventually("the replica has the entry", || {
        new.cli(&["EXISTS", "user:1"]) == "1"
    });

    new.command(&["REPLICAOF", "NO", "ONE"]);
    follows(&old, &new);
    proxy.lead_to(new.addr());
    let error = User::del(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(store.undelivered(), 1);
    until("the deletion is delivered", async || {
        store.undelivered() == 0
    })
    .await;
    assert_eq!(new.cli(&["EXISTS", "user:1"]), "0");
    user(2, 1).set(&store).await.unwrap();
    assert_eq!(User::get(&store, 2).await.unwrap(), Some(user(2, 1)));
    assert_eq!(new.cli(&["EXISTS", "user:2"]), "1");
    let stats = store.stats();
    assert_eq!((stats.breaker_openings(), stats.refused()), (0, 0));
    until("both connections are renewed, once", async || {
        proxy.accepted() == 4
    })
    .await;
    // Changes come from the new one, too: the old one is gone for good.
    old.kill();
    let other = connect(&new.url()).await;
    let told = async {
        loop {
            user(3, 1).set(&other).await.unwrap();
            match tokio::time::timeout(Duration::from_millis(100), changes.next()).await {
                Ok(Some(Invalidation::Key(key))) if key.is::<User>(3) => break,
                Ok(None) => panic!("the stream ended"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(LONG, told)
        .await
        .expect("it is reported");
    assert_eq!(proxy.accepted(), 4);
}

/// A replica may be all that there is for the moment. It is read, and asked for another once a
/// second.
#[tokio::test]
async fn a_server_that_cannot_serve_is_reconnected_to_at_most_once_a_second() {
    let asked = [
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "LOADING server is loading the dataset in memory",
    ]
    .map(|said| async move {
        let server = FakeServer::start(move |command| match &*command[0] {
            b"GET" => Reply::error(said),
            _ => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        });
        let store = connect(&server.url()).await;
        // A busy machine may take two attempts for the first connection.
        let before = server.count("HELLO");
        let (began, mut connected) = (Instant::now(), Vec::new());
        until("two renewals", async || {
            let error = User::get(&store, 1).await.unwrap_err();
            assert!(
                !error.is_refused() && error.is_transient(),
                "{said}: {error}"
            );
            if server.count("HELLO") > before + connected.len() {
                connected.push(Instant::now());
            }
            connected.len() == 2
        })
        .await;
        assert_eq!(store.breaker(), BreakerState::Closed);
        assert_eq!(store.stats().breaker_openings(), 0);
        // The first is due at once, and a second after that the next: though a machine that is busy
        // is late with the first. A server that is loading is waited for before that, for a second.
        let waits = if said.starts_with("LOADING") { 2 } else { 1 };
        let took = connected[1] - began;
        assert!(took >= Duration::from_secs(waits), "{said}: {took:?}");
    });
    join_all(asked).await;
}

/// For how long a server may say that it loads, or nothing, until it is doubted.
const DOUBT: Duration = Duration::from_secs(1);
/// How often is tried what a machine may be too busy for.
const ATTEMPTS: usize = 20;

#[tokio::test]
async fn a_server_that_loads_for_a_moment_is_not_reconnected_to() {
    for attempt in 1.. {
        let loading = Arc::new(AtomicUsize::new(20));
        let left = loading.clone();
        let server = FakeServer::start(move |command| match &*command[0] {
            b"GET" => {
                let less = |n: usize| n.checked_sub(1);
                match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                    Ok(_) => Reply::error("LOADING server is loading the dataset in memory"),
                    Err(_) => Reply::null(),
                }
            }
            _ => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        });
        let store = connect(&server.url()).await;
        let took = until("it has loaded", async || User::get(&store, 1).await.is_ok()).await;
        // Otherwise that was no moment.
        if took < DOUBT {
            assert_eq!(server.count("HELLO"), 1);
            break;
        }
        assert!(attempt < ATTEMPTS, "it took {took:?}");
    }
}

#[tokio::test]
async fn a_replica_is_read_while_no_other_server_lets_us_in() {
    let (primary, replica) = (Server::plain(), Server::plain());
    let port = primary.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    user(1, 1)
        .set(&connect(&primary.url()).await)
        .await
        .unwrap();
    eventually("the replica has the entry", || {
        replica.cli(&["EXISTS", "user:1"]) == "1"
    });
    let proxy = Proxy::to(replica.addr());
    let store = connect(&proxy.url()).await;
    proxy.refuse();
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        let error = user(1, 2).set(&store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
        // An entry that is to be deleted is not read; others are.
        assert_eq!(User::get(&store, 2).await.unwrap(), None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.breaker(), BreakerState::Closed);
}

// A cluster of servers that answer as the test says.

/// A node that answers `CLUSTER SLOTS` with what `slots` says: ranges, and the ports that have
/// them.
fn node(slots: Table, answer: impl Fn(&[Vec<u8>]) -> Reply + Send + Sync + 'static) -> FakeServer {
    node_of_epoch(1, slots, answer)
}

/// The same, and how much it knows of the cluster.
fn node_of_epoch(
    epoch: u64,
    slots: Table,
    answer: impl Fn(&[Vec<u8>]) -> Reply + Send + Sync + 'static,
) -> FakeServer {
    FakeServer::start(move |command| match (&*command[0], slots.get()) {
        (b"CLUSTER", _) if &*command[1] == b"INFO" => Reply::bulk(format!(
            "cluster_state:ok\r\ncluster_current_epoch:{epoch}\r\n"
        )),
        (b"CLUSTER", Some(slots)) => {
            let mut raw = format!("*{}\r\n", slots.len());
            for (first, last, ports) in slots {
                raw += &format!("*{}\r\n:{first}\r\n:{last}\r\n", 2 + ports.len());
                for port in ports {
                    raw += &format!("*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$1\r\nx\r\n");
                }
            }
            Reply::raw(raw)
        }
        (b"TIME", _) => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        _ => answer(command),
    })
}

/// Ranges of slots, and the ports of the nodes that have them, the primary first.
type Table = Arc<OnceLock<Vec<(u16, u16, Vec<u16>)>>>;

fn url(nodes: &[&FakeServer]) -> String {
    let hosts: Vec<_> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    format!("valkey+cluster://{}/", hosts.join(","))
}

fn is_get(command: &[Vec<u8>]) -> bool {
    &*command[0] == b"GET"
}

#[tokio::test]
async fn a_primary_that_was_replaced_is_not_believed() {
    let (before, now): (Table, Table) = Default::default();
    let old = node(before.clone(), |_| Reply::bulk("rubbish of old"));
    let new = node_of_epoch(2, now.clone(), |_| Reply::null());
    let witness = node_of_epoch(2, now.clone(), |_| Reply::null());
    // The old one stood still, and knows nothing of it.
    let [one, two, three] = [&old, &new, &witness].map(FakeServer::port);
    before.set(vec![(0, 16383, vec![one, two, three])]).unwrap();
    now.set(vec![(0, 16383, vec![two, one, three])]).unwrap();
    let store = connect(&url(&[&old])).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert_eq!(old.count("EVALSHA"), 0, "what it said is nothing to remove");
    assert_eq!((old.count("GET"), new.count("GET")), (1, 1));
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert_eq!((old.count("GET"), new.count("GET")), (1, 2));
}

#[tokio::test]
async fn a_primary_that_nobody_confirms_is_not_believed() {
    let slots = Table::default();
    let primary = node(slots.clone(), |_| Reply::null());
    let replica = FakeServer::start(|_| Reply::Nothing);
    slots
        .set(vec![(0, 16383, vec![primary.port(), replica.port()])])
        .unwrap();
    let builder = Store::builder().url(&url(&[&primary]));
    let builder = builder.command_timeout(Duration::from_secs(1));
    let store = builder.connect().await.unwrap();
    let error = User::get(&store, 1).await.unwrap_err();
    assert!(error.is_transient() && !error.is_refused());
    let name = format!("127.0.0.1:{}", primary.port());
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!(primary.count("GET"), 1);
}

/// Others still know the primary: it is asked once, and then no more while it goes on answering.
#[tokio::test]
async fn a_primary_is_confirmed_once_while_it_is_heard_of() {
    for attempt in 1.. {
        let slots = Table::default();
        let nodes = [(); 2].map(|()| node(slots.clone(), |_| Reply::null()));
        let [one, two] = [&nodes[0], &nodes[1]].map(FakeServer::port);
        // Each is the other's replica.
        let ranges = vec![(0, 8191, vec![one, two]), (8192, 16383, vec![two, one])];
        slots.set(ranges).unwrap();
        let began = Instant::now();
        let store = connect(&url(&[&nodes[0], &nodes[1]])).await;
        let slots_asked = || {
            nodes
                .iter()
                .map(|node| node.count("CLUSTER SLOTS"))
                .sum::<usize>()
        };
        // How often each was asked, until when, and the longest time that it was not.
        let (mut heard, mut longest) = ([(0, began); 2], Duration::ZERO);
        let mut ask = async |id| {
            User::get(&store, id).await.unwrap();
            for (node, (gets, last)) in nodes.iter().zip(&mut heard) {
                if node.count("GET") > *gets {
                    *gets = node.count("GET");
                    longest = longest.max(last.elapsed());
                    *last = Instant::now();
                }
            }
            longest
        };
        for id in 0..20 {
            ask(id).await;
        }
        let asked = slots_asked();
        let mut longest = Duration::ZERO;
        for id in 0..200 {
            longest = ask(id).await;
        }
        // Otherwise it was heard of too seldom.
        if longest < DOUBT / 2 {
            assert!(asked <= 4 + 2, "by the seeds, and once for each: {asked}");
            assert_eq!(slots_asked(), asked);
            break;
        }
        assert!(attempt < ATTEMPTS, "{longest:?} between two answers");
    }
}

#[tokio::test]
async fn a_command_goes_where_it_is_sent_and_the_next_one_at_once() {
    let slots = Table::default();
    let port = Arc::new(OnceLock::new());
    let there = port.clone();
    let one = node(slots.clone(), move |command| match is_get(command) {
        true => Reply::error(format!("MOVED 10778 127.0.0.1:{}", there.get().unwrap())),
        false => Reply::ok(),
    });
    let two = node(slots.clone(), |_| Reply::null());
    port.set(two.port()).unwrap();
    // Both say that the first one has everything: a slot has moved since.
    slots
        .set(vec![(0, 16383, vec![one.port(), two.port()])])
        .unwrap();
    let store = connect(&url(&[&one])).await;
    for _ in 0..3 {
        let asked = User::get(&store, 1).await;
        // By then the nodes may have been asked again.
        assert!(asked.is_ok() || two.count("GET") > 0, "{asked:?}");
    }
    assert!(two.count("GET") > 0);
}

#[tokio::test]
async fn a_key_that_moves_is_asked_for_where_it_moves_to() {
    let slots = Table::default();
    let port = Arc::new(OnceLock::new());
    let there = port.clone();
    let one = node(slots.clone(), move |command| match is_get(command) {
        true => Reply::error(format!("ASK 10778 127.0.0.1:{}", there.get().unwrap())),
        false => Reply::ok(),
    });
    let nobody = ClosedPort::new();
    let elsewhere = nobody.addr();
    let asking = Arc::new(AtomicBool::new(false));
    let asks = asking.clone();
    let two = node(slots.clone(), move |command| match &*command[0] {
        b"ASKING" => {
            asks.store(true, Ordering::SeqCst);
            Reply::ok()
        }
        b"GET" if asks.swap(false, Ordering::SeqCst) => Reply::null(),
        _ => Reply::error(format!("MOVED 10778 {elsewhere}")),
    });
    port.set(two.port()).unwrap();
    slots
        .set(vec![(0, 16383, vec![one.port(), two.port()])])
        .unwrap();
    let store = connect(&url(&[&one])).await;
    for times in 1..3 {
        assert_eq!(User::get(&store, 1).await.unwrap(), None);
        assert_eq!((one.count("GET"), two.count("GET")), (times, times));
    }
}

#[tokio::test]
async fn nodes_that_send_a_key_around_end_in_an_error() {
    let slots = Table::default();
    let there = slots.clone();
    let around = node(slots.clone(), move |_| {
        let port = there.get().unwrap()[0].2[0];
        Reply::error(format!("ASK 10778 127.0.0.1:{port}"))
    });
    slots.set(vec![(0, 16383, vec![around.port()])]).unwrap();
    let store = connect(&url(&[&around])).await;
    let error = User::get(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(around.count("GET") < 20);
}

/// Some keys of a slot that moves are here and some there.
#[tokio::test]
async fn keys_of_a_slot_that_is_being_moved_are_read_one_by_one() {
    // Their keys are of one slot.
    let ids = [1, 11896, 22855];
    let slots = Table::default();
    let server = node(slots.clone(), |command| {
        match (&*command[0], command.len()) {
            (b"MGET", 2) => Reply::raw("*1\r\n_\r\n"),
            (b"MGET", _) => Reply::error("TRYAGAIN Multiple keys request during rehashing of slot"),
            _ => Reply::ok(),
        }
    });
    slots.set(vec![(0, 16383, vec![server.port()])]).unwrap();
    let store = connect(&url(&[&server])).await;
    let read = User::get_many(&store, ids).await.unwrap();
    assert_eq!(read, [None, None, None]);
    assert_eq!(server.count("MGET"), 1 + 1 + 3);
}

/// A connection that is lost in a failover, or by an operator's `CLIENT KILL`.
#[tokio::test]
async fn a_read_that_a_lost_connection_did_not_answer_is_sent_once_more() {
    for losses in [1, 2] {
        let slots = Table::default();
        let gets = AtomicUsize::new(0);
        let server = node(slots.clone(), move |command| match is_get(command) {
            true if gets.fetch_add(1, Ordering::SeqCst) < losses => Reply::Close,
            _ => Reply::null(),
        });
        slots.set(vec![(0, 16383, vec![server.port()])]).unwrap();
        let store = connect(&url(&[&server])).await;
        let read = User::get(&store, 1).await;
        assert_eq!(server.count("GET"), 2);
        match losses {
            1 => assert_eq!(read.unwrap(), None),
            _ => assert_eq!(read.unwrap_err().kind(), ErrorKind::Connection, "once"),
        }
    }
}

#[tokio::test]
async fn a_cluster_that_is_down_says_so_at_once() {
    let slots = Table::default();
    let server = node(slots.clone(), |_| {
        Reply::error("CLUSTERDOWN The cluster is down")
    });
    slots.set(vec![(0, 16383, vec![server.port()])]).unwrap();
    let store = connect(&url(&[&server])).await;
    let error = User::get(&store, 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_refused()),
        (ErrorKind::Unavailable, false)
    );
    assert_eq!(store.breaker(), BreakerState::Closed);
}

// Nodes that can't be reached.

#[tokio::test]
async fn announced_addresses_that_can_not_be_reached_are_named() {
    let slots = Table::default();
    let seeds = [(); 2].map(|()| node(slots.clone(), |_| Reply::null()));
    let nobody = [(); 2].map(|()| ClosedPort::new());
    let [one, two] = [&nobody[0], &nobody[1]].map(ClosedPort::port);
    slots
        .set(vec![(0, 8191, vec![one]), (8192, 16383, vec![two])])
        .unwrap();
    let [one, two] = [one, two].map(|port| format!("127.0.0.1:{port}:"));
    for seeds in [&seeds[..1], &seeds[..]] {
        let seeds: Vec<_> = seeds.iter().collect();
        let error = refusal(&url(&seeds)).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        for named in [&*one, &*two, "cluster-announce-ip"] {
            assert!(text.contains(named), "{named}: {text}");
        }
        assert!(!text.contains("within"), "it was refused: {text}");
    }
}

#[tokio::test]
async fn one_announced_address_that_can_not_be_reached_costs_its_own_keys() {
    let slots = Table::default();
    let (server, nobody) = (node(slots.clone(), |_| Reply::null()), ClosedPort::new());
    let ranges = vec![
        (0, 8191, vec![server.port()]),
        (8192, 16383, vec![nobody.port()]),
    ];
    slots.set(ranges).unwrap();
    let unreachable = format!("{}:", nobody.addr());
    let store = connect(&url(&[&server])).await;
    let (mut found, mut failed) = (0, 0);
    for id in 0..100 {
        match User::get(&store, id).await {
            Ok(_) => found += 1,
            Err(error) => {
                assert!(error.to_string().contains(&unreachable), "{error}");
                failed += 1;
            }
        }
    }
    assert!(found > 20 && failed > 20, "{found} found, {failed} failed");
    assert_eq!(server.count("GET"), found, "each of its keys");
    assert_eq!(store.breaker(), BreakerState::Closed);
    assert_eq!(store.stats().breaker_openings(), 0);
}

/// Ranges of slots, and the host name and the port of the node that has them.
type Named = Arc<OnceLock<Vec<(u16, u16, String, u16)>>>;

/// A node that answers `CLUSTER SLOTS` with these ranges.
fn node_of_names(slots: Named) -> FakeServer {
    FakeServer::start(move |command| match (&*command[0], slots.get()) {
        (b"CLUSTER", Some(slots)) if &*command[1] == b"SLOTS" => {
            let mut raw = format!("*{}\r\n", slots.len());
            for (first, last, name, port) in slots {
                raw += &format!("*3\r\n:{first}\r\n:{last}\r\n*3\r\n");
                raw += &format!("${}\r\n{name}\r\n:{port}\r\n$1\r\nx\r\n", name.len());
            }
            Reply::raw(raw)
        }
        (b"TIME", _) => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        _ => Reply::null(),
    })
}

/// A host name that no resolver knows, and none is asked for: a part of it is too long.
fn no_host(number: u8) -> String {
    format!("node-{number}.{}", "x".repeat(64))
}

#[tokio::test]
async fn announced_host_names_that_do_not_resolve_are_named() {
    let slots = Named::default();
    let seed = node_of_names(slots.clone());
    let [one, two] = [1, 2].map(no_host);
    let ranges = vec![
        (0, 8191, one.clone(), 7001),
        (8192, 16383, two.clone(), 7002),
    ];
    slots.set(ranges).unwrap();
    let error = refusal(&url(&[&seed])).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    let (one, two) = (format!("{one}:7001:"), format!("{two}:7002:"));
    for named in [&*one, &*two, "cluster-announce-hostname"] {
        assert!(text.contains(named), "{named}: {text}");
    }
    assert!(!text.contains("within"), "no time has run out: {text}");
}

#[tokio::test]
async fn one_announced_host_name_that_does_not_resolve_costs_its_own_keys() {
    let slots = Named::default();
    let (server, unknown) = (node_of_names(slots.clone()), no_host(2));
    let ranges = vec![
        (0, 8191, "127.0.0.1".to_owned(), server.port()),
        (8192, 16383, unknown.clone(), 7002),
    ];
    slots.set(ranges).unwrap();
    let store = connect(&url(&[&server])).await;
    let (mut found, mut failed) = (0, 0);
    for id in 0..100 {
        match User::get(&store, id).await {
            Ok(_) => found += 1,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&format!("{unknown}:7002:")), "{text}");
                assert!(!text.contains("within"), "no time has run out: {text}");
                failed += 1;
            }
        }
    }
    assert!(found > 20 && failed > 20, "{found} found, {failed} failed");
    assert_eq!(server.count("GET"), found, "each of its keys");
    assert_eq!(store.breaker(), BreakerState::Closed);
}

#[tokio::test]
async fn the_error_names_the_reason_of_each_seed() {
    let server = FakeServer::scripted(|_| {
        Reply::error("WRONGPASS invalid username-password pair or user is disabled.")
    });
    let name = format!("127.0.0.1:{}", server.port());
    let nobody = [(); 2].map(|()| ClosedPort::new());
    let [one, two] = [&nobody[0], &nobody[1]].map(ClosedPort::addr);
    let url = format!("valkey+cluster://{one},{name}/");
    let error = refusal(&url).await;
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    let text = error.to_string();
    assert!(text.contains("WRONGPASS") && text.contains(&name), "{text}");

    let error = refusal(&format!("valkey+cluster://{one},{two}/")).await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    let text = error.to_string();
    assert!(
        text.contains(&format!("{one}: ")) && text.contains(&format!("{two}: ")),
        "{text}"
    );
    assert!(!text.contains("within"), "they refused: {text}");
}

#[tokio::test]
async fn a_seed_that_hangs_keeps_nobody_out() {
    let slots = Table::default();
    let server = node(slots.clone(), |_| Reply::null());
    slots.set(vec![(0, 16383, vec![server.port()])]).unwrap();
    let hangs = FakeServer::scripted(|_| Reply::Nothing);
    let builder = patient(Store::builder().url(&url(&[&hangs, &server])));
    let store = builder.connect_timeout(LONG * 10).connect();
    let store = tokio::time::timeout(LONG, store)
        .await
        .expect("in no time")
        .unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_command_that_waited_for_a_connection_is_counted() {
    let nobody = ClosedPort::new();
    let builder = patient(Store::builder().url(&nobody.url()));
    let store = builder.connect_lazy().unwrap();
    let error = User::get(&store, 1).await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert_eq!(store.stats().refused(), 1);
}

// Servers and passwords that do not fit.

#[tokio::test]
async fn a_server_without_resp3_is_a_mistake_of_the_configuration() {
    for said in [
        "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `ada`, `hunter2`",
        "ERR unknown command 'HELLO 3 AUTH ada hunter2'",
        "ERR invalid request: HELLO 3 AUTH ada hunter2",
        "NOPROTO unsupported protocol version",
    ] {
        let server = FakeServer::scripted(move |_| Reply::error(said));
        let url = format!("valkey://ada:hunter2@127.0.0.1:{}/", server.port());
        let error = refusal(&url).await;
        assert_eq!(
            (error.kind(), error.is_transient()),
            (ErrorKind::Config, false)
        );
        let all = all_of(&error);
        assert!(all.contains("RESP3") && !all.contains("hunter2"), "{all}");
    }
}

#[tokio::test]
async fn a_password_is_cut_from_whatever_a_server_says() {
    let server = FakeServer::start(|command| match &*command[0] {
        b"GET" => Reply::error("ERR a proxy says: AUTH ada hunter2 was fine, and GET is not"),
        _ => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
    });
    let url = format!("valkey://ada:hunter2@127.0.0.1:{}/", server.port());
    let store = connect(&url).await;
    let error = User::get(&store, 1).await.unwrap_err();
    let all = all_of(&error);
    assert!(
        all.contains("a proxy says") && !all.contains("hunter2"),
        "{all}"
    );
}

#[tokio::test]
async fn a_password_that_is_not_valid_any_more_is_said_to_be_that() {
    let server = Server::plain();
    let set = |password| server.cli(&["CONFIG", "SET", "requirepass", password]);
    let url = format!("valkey://:old@127.0.0.1:{}/", server.port());
    set("old");
    let store = connect(&url).await;
    User::get(&store, 1).await.unwrap();
    let socket = server.socket();
    let cli = |words: &[&str]| {
        let mut cli = valkey_tests::valkey_cli();
        cli.arg("-s").arg(&socket).args(["-a", "old"]).args(words);
        assert!(cli.output().unwrap().status.success());
    };
    cli(&["CONFIG", "SET", "requirepass", "new"]);
    let mut cli = valkey_tests::valkey_cli();
    cli.arg("-s")
        .arg(&socket)
        .args(["-a", "new", "CLIENT", "KILL", "TYPE", "normal"]);
    assert!(cli.output().unwrap().status.success());
    let mut last = None;
    until("the store is refused", async || {
        last = User::get(&store, 1).await.err().filter(Error::is_refused);
        last.is_some()
    })
    .await;
    let error = last.unwrap();
    assert_eq!(error.kind(), ErrorKind::Auth);
    let text = error.to_string();
    assert!(
        text.contains("password") && !text.contains("did not answer"),
        "{text}"
    );
    assert!(!error.is_transient());
}

// A cluster of real servers.

/// One of three primaries stands still. It costs its own keys, until its replica takes its place;
/// and when it goes on it is not believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_stands_still_costs_its_own_keys_until_it_is_replaced() {
    let cluster = tokio::task::spawn_blocking(Server::cluster_with_replicas);
    let cluster = cluster.await.unwrap();
    let [silent, ..] = cluster.nodes() else {
        panic!("a cluster without nodes")
    };
    // Nobody takes it for lost until the test has seen what that costs.
    let lost_after = |millis: &str| {
        for node in cluster.nodes().iter().chain(cluster.replicas()) {
            if !std::ptr::eq(node, silent) {
                node.cli(&["CONFIG", "SET", "cluster-node-timeout", millis]);
            }
        }
    };
    silent.cli(&["CONFIG", "SET", "cluster-node-timeout", "60000"]);
    lost_after("60000");
    cluster.wait_until_ok();
    let open = async || {
        let builder = cluster.store_builder().connect_timeout(LONG);
        builder.command_timeout(DOUBT * 2).connect().await.unwrap()
    };
    let (store, idle) = (open().await, open().await);
    let users: Vec<_> = (0..40).map(|id| user(id, 1)).collect();
    User::set_many(&store, &users).await.unwrap();
    let (its, others): (Vec<u64>, Vec<u64>) = (0..40).partition(|id| {
        matches!(
            silent.command(&["EXISTS", &format!("user:{id}")]),
            Value::Integer(1)
        )
    });
    assert!(!its.is_empty() && !others.is_empty());
    for id in &its {
        assert_eq!(User::get(&idle, *id).await.unwrap(), Some(user(*id, 1)));
    }

    silent.pause();
    // One after the other, so that silence is never interrupted but by what comes of another node.
    for (one, other) in its.iter().cycle().zip(&others).take(12) {
        let error = User::get(&store, *one).await.unwrap_err();
        assert!(
            error.to_string().contains(&silent.port().to_string()),
            "{error}"
        );
        assert_eq!(
            User::get(&store, *other).await.unwrap(),
            Some(user(*other, 1))
        );
    }
    assert_eq!(store.breaker(), BreakerState::Closed);
    assert_eq!(store.stats().breaker_openings(), 0);

    // With all six as seeds, while one hangs.
    let builder = cluster.store_builder().connect_timeout(LONG * 10);
    let other = builder.command_timeout(DOUBT * 10).connect();
    let other = tokio::time::timeout(LONG, other)
        .await
        .expect("by the others")
        .unwrap();
    assert_eq!(
        User::get(&other, others[0]).await.unwrap(),
        Some(user(others[0], 1))
    );

    let [replica, ..] = cluster.replicas() else {
        panic!("a cluster without replicas")
    };
    let takes_over = || match replica.command(&["ROLE"]) {
        Value::Array(role) => role.first().and_then(Value::text).as_deref() == Some("master"),
        _ => false,
    };
    lost_after("5000");
    until("its replica takes its place", async || takes_over()).await;
    let back = until("the store finds the new one", async || {
        user(its[0], 2).set(&store).await.is_ok()
    })
    .await;
    assert!(back < Duration::from_secs(10), "{back:?}");
    for id in &its {
        until("an update is confirmed", async || {
            let written = User::update(&other, *id, async || Ok::<_, ()>(())).await;
            written.is_ok() && other.undelivered() == 0
        })
        .await;
    }

    // The reads wait in its socket when it goes on.
    let reads: Vec<_> = (0..60)
        .map(|at| {
            let (store, id) = (idle.clone(), its[at % its.len()]);
            tokio::spawn(async move { User::get(&store, id).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    silent.resume();
    for read in reads {
        // An error is one of the calls that waited for longer than a command may.
        if let Ok(found) = read.await.unwrap() {
            assert_eq!(found, None, "an old row");
        }
    }
    for id in &its {
        let found = User::get(&idle, *id).await;
        assert!(matches!(found, Ok(None) | Err(_)), "{found:?}");
    }
}
