//! The subscribers of a store get its changes, and learn when they may have missed some.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use valkey_runtime::{
    Builder, Cached, ErrorKind, InvalidatedKey, Invalidation, Invalidations, SetOptions, Store,
};
use valkey_tests::resp::{Value, encode};
use valkey_tests::{Cluster, Proxy, Server, eventually};

use crate::database::{PATIENCE, until};
use crate::faults::Log;
use crate::stores::{On, connect, patient};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "1h", ttl_absent = "1h")]
struct User {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "seat")]
struct Seat {
    #[cached(key(hash_tag))]
    plane: String,
    #[cached(key)]
    row: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "person", alias = "email")]
struct Person {
    #[cached(key)]
    id: u64,
    email: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "member", ttl = "1h", tag = "org:{org}", clear)]
struct Member {
    #[cached(key)]
    id: u64,
    org: u64,
}

/// A silent server is soon known to be, and a busy machine is not taken for one.
const SHORT: Duration = Duration::from_secs(1);

async fn store(server: &Server) -> Store {
    connect(&server.url()).await
}

async fn next(told: &mut Invalidations) -> Option<Invalidation> {
    let next = tokio::time::timeout(PATIENCE, told.next()).await;
    next.expect("an item comes")
}

async fn key(told: &mut Invalidations) -> InvalidatedKey {
    match next(told).await {
        Some(Invalidation::Key(key)) => key,
        other => panic!("{other:?}"),
    }
}

async fn gap(told: &mut Invalidations) {
    assert_eq!(next(told).await, Some(Invalidation::Gap));
}

/// Reads all items until one is this key of the user's.
async fn before(told: &mut Invalidations, id: u64) -> Vec<Invalidation> {
    let mut read = Vec::new();
    loop {
        match next(told).await.expect("the store is open") {
            Invalidation::Key(key) if key.is::<User>(id) => return read,
            item => read.push(item),
        }
    }
}

async fn set(store: &Store, id: u64) {
    User { id }.set(store).await.unwrap();
}

/// The next change is reported, and nothing from before it.
async fn gets_changes(store: &Store, told: &mut Invalidations) {
    assert!(told.is_live());
    set(store, 77).await;
    assert!(key(told).await.is::<User>(77));
    assert_eq!(told.next().now_or_never(), None);
}

suite! {
    crate::invalidations =>
        every_change_is_reported
        reads_and_calls_that_change_nothing_are_not_reported
        each_subscriber_gets_the_changes
        keys_of_another_namespace_are_not_reported
        aliases_are_passed_by
        tags_and_types_are_reported
        a_slow_subscriber_gets_a_gap_and_others_get_none
        the_end_of_the_store_is_that_of_its_streams
}

async fn every_change_is_reported(on: On) {
    let store = on.store("told-changes").await;
    let mut told = store.invalidations().await.unwrap();
    set(&store, 1).await;
    let first = key(&mut told).await;
    assert!(first.is_of::<User>() && first.is::<User>(1));
    assert!(!first.is::<User>(2) && !first.is_of::<Seat>() && !first.is::<Seat>(("user", 1)));
    assert_eq!(first.prefix(), "user");
    assert_eq!(first.as_bytes(), b"user:1");

    let (plane, row) = ("D:{1}".to_owned(), 7);
    Seat { plane, row }.set(&store).await.unwrap();
    let seat = key(&mut told).await;
    assert!(seat.is::<Seat>(("D:{1}", 7)) && !seat.is::<Seat>(("D", 7)));
    assert_eq!(seat.as_bytes(), b"seat:{D%3A%7B1%7D}:7");
    assert_eq!(seat.key::<Seat>(), Some(("D:{1}".to_owned(), 7)));
    assert_eq!((first.key::<User>(), seat.key::<User>()), (Some(1), None));

    assert!(User::touch(&store, 1).await.unwrap());
    assert!(key(&mut told).await.is::<User>(1));
    let if_absent = SetOptions::new().if_absent();
    assert!(User { id: 2 }.set_with(&store, if_absent).await.unwrap());
    assert!(key(&mut told).await.is::<User>(2));
    assert!(User::del(&store, 1).await.unwrap());
    assert!(key(&mut told).await.is::<User>(1));
    User::set_many(&store, &[User { id: 3 }, User { id: 4 }])
        .await
        .unwrap();
    let (one, other) = (key(&mut told).await, key(&mut told).await);
    let both: BTreeSet<_> = [one.as_bytes(), other.as_bytes()].into();
    assert_eq!(both, [&b"user:3"[..], b"user:4"].into());

    // A lease, and a value: once or twice.
    User::get_or_load(&store, 5, async || Ok::<_, ()>(Some(User { id: 5 })))
        .await
        .unwrap();
    assert!(key(&mut told).await.is::<User>(5));
    // A guard, and its end.
    User::update(&store, 6, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    let read = before(&mut told, 6).await;
    let of_5 = |item: &Invalidation| matches!(item, Invalidation::Key(key) if key.is::<User>(5));
    assert!(read.iter().all(of_5), "{read:?}");
    store.close().await;
}

async fn reads_and_calls_that_change_nothing_are_not_reported(on: On) {
    let store = on.store("told-reads").await;
    set(&store, 1).await;
    User::del(&store, 2).await.unwrap();
    let mut told = store.invalidations().await.unwrap();
    User::get(&store, 1).await.unwrap();
    User::get_many(&store, [1, 2]).await.unwrap();
    assert!(!User::del(&store, 2).await.unwrap());
    let if_present = SetOptions::new().if_present();
    assert!(!User { id: 2 }.set_with(&store, if_present).await.unwrap());
    // On each node of a cluster.
    for id in 3..30 {
        set(&store, id).await;
        assert!(key(&mut told).await.is::<User>(id));
    }
}

async fn each_subscriber_gets_the_changes(on: On) {
    let store = on.store("told-each").await;
    let mut first = store.invalidations().await.unwrap();
    set(&store, 1).await;
    let mut second = store.clone().invalidations().await.unwrap();
    set(&store, 2).await;
    // Each node of a cluster reports by a connection of its own, so either may come first.
    let (one, other) = (key(&mut first).await, key(&mut first).await);
    let both: BTreeSet<_> = [one.as_bytes(), other.as_bytes()].into();
    assert_eq!(both, [&b"user:1"[..], b"user:2"].into());
    // Changes from before may be reported; changes from after are.
    let of_1 = |item: &Invalidation| matches!(item, Invalidation::Key(key) if key.is::<User>(1));
    let read = before(&mut second, 2).await;
    assert!(read.iter().all(of_1), "{read:?}");
    drop(first);
    set(&store, 3).await;
    // It is a `Stream` as well.
    loop {
        let item = tokio::time::timeout(PATIENCE, StreamExt::next(&mut second)).await;
        match item.expect("an item comes") {
            Some(Invalidation::Key(key)) if key.is::<User>(3) => break,
            Some(item) if of_1(&item) => {}
            item => panic!("{item:?}"),
        }
    }
}

async fn keys_of_another_namespace_are_not_reported(on: On) {
    let store = on.store("told-mine").await;
    let mut told = store.invalidations().await.unwrap();
    let other = on.store("told-min").await;
    let another = on.store("told-mine2").await;
    for id in 1..30 {
        set(&other, id).await;
        set(&another, id).await;
        set(&store, id).await;
        assert!(before(&mut told, id).await.is_empty());
    }
}

async fn the_end_of_the_store_is_that_of_its_streams(on: On) {
    let store = on.store("told-end").await;
    let mut told = store.invalidations().await.unwrap();
    let mut waits = store.invalidations().await.unwrap();
    let waits = tokio::spawn(async move { next(&mut waits).await });
    store.close().await;
    assert!(!told.is_live());
    assert_eq!(next(&mut told).await, None);
    assert_eq!(next(&mut told).await, None);
    assert_eq!(waits.await.unwrap(), None);
    assert_eq!(store.stats().background_running(), 0);
    let error = store.invalidations().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Closed);

    let store = on.store("told-end").await;
    let mut told = store.invalidations().await.unwrap();
    drop(store);
    assert_eq!(next(&mut told).await, None, "dropped");
}

#[tokio::test]
async fn a_store_without_a_namespace_gets_all_keys() {
    let server = Server::plain();
    let store = store(&server).await;
    let mut told = store.invalidations().await.unwrap();
    server.command(&["SET", "session", "no type's"]);
    server.command(&["SET", "session:7", "another program's"]);
    let session = key(&mut told).await;
    assert_eq!(
        (session.prefix(), session.as_bytes()),
        ("session", &b"session:7"[..])
    );
    server.command(&["SET", "::tag:a", "7"]);
    assert!(matches!(next(&mut told).await, Some(Invalidation::Tag(tag)) if tag.as_str() == "a"));
    gets_changes(&store, &mut told).await;
}

/// How many connections the node tracks keys for.
fn tracking(node: &Server) -> usize {
    let list = node.command(&["CLIENT", "LIST"]).text().unwrap();
    let tracks = |line: &str| {
        let flags = line
            .split(' ')
            .find_map(|field| field.strip_prefix("flags="));
        flags.is_some_and(|flags| flags.contains('t') && flags.contains('B'))
    };
    list.lines().filter(|line| tracks(line)).count()
}

async fn none_is_tracked(nodes: &[Server]) {
    until("no connection tracks", async || {
        nodes.iter().all(|node| tracking(node) == 0)
    })
    .await;
}

/// One a node, whatever the number of subscribers, and none without.
async fn connections_come_and_go_with_the_subscribers(builder: Builder, nodes: &[Server]) {
    let tracking = || nodes.iter().map(tracking).collect::<Vec<_>>();
    let store = builder
        .namespace("told-connections")
        .connect()
        .await
        .unwrap();
    set(&store, 1).await;
    assert_eq!(tracking(), vec![0; nodes.len()]);
    let running = store.stats().background_running();
    let first = store.invalidations().await.unwrap();
    let mut second = store.clone().invalidations().await.unwrap();
    assert_eq!(tracking(), vec![1; nodes.len()]);
    drop(first);
    gets_changes(&store, &mut second).await;
    assert_eq!(tracking(), vec![1; nodes.len()]);
    drop(second);
    none_is_tracked(nodes).await;
    until("its tasks have ended", async || {
        store.stats().background_running() == running
    })
    .await;

    let mut again = store.invalidations().await.unwrap();
    gets_changes(&store, &mut again).await;
    assert_eq!(tracking(), vec![1; nodes.len()]);
    store.close().await;
    none_is_tracked(nodes).await;
}

#[tokio::test]
async fn connections_to_a_server_come_and_go_with_the_subscribers() {
    let server = Server::plain();
    let builder = patient(Store::builder().url(&server.url()));
    connections_come_and_go_with_the_subscribers(builder, &[server]).await;
    let server = Server::unix();
    let builder = patient(Store::builder().url(&server.url()));
    connections_come_and_go_with_the_subscribers(builder, &[server]).await;
    let server = Server::tls();
    let builder = patient(server.store_builder());
    connections_come_and_go_with_the_subscribers(builder, &[server]).await;
}

#[tokio::test]
async fn connections_to_a_cluster_come_and_go_with_the_subscribers() {
    let cluster = Server::cluster();
    let builder = patient(Store::builder().url(&cluster.url()));
    connections_come_and_go_with_the_subscribers(builder, cluster.nodes()).await;
}

#[tokio::test]
async fn the_connection_ends_with_a_store_that_is_dropped() {
    let server = Server::plain();
    let store = store(&server).await;
    let mut told = store.invalidations().await.unwrap();
    drop(store);
    assert_eq!(next(&mut told).await, None);
    none_is_tracked(&[server]).await;
}

/// A stream whose future is dropped half-way leaves nothing behind.
#[tokio::test]
async fn a_subscription_that_is_given_up_leaves_nothing() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = connect(&proxy.url()).await;
    let running = store.stats().background_running();
    proxy.stall();
    assert!(store.invalidations().now_or_never().is_none());
    until("its task has ended", async || {
        store.stats().background_running() == running
    })
    .await;
    proxy.resume();
    none_is_tracked(&[server]).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let server = Server::plain();
    let store = store(&server).await;
    let running = store.stats().background_running();
    server.kill();
    let error = store.invalidations().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert_eq!(error.operation(), Some("invalidations"));
    until("its task has ended", async || {
        store.stats().background_running() <= running + 1
    })
    .await;
    server.restart();
    until("it is there again", async || {
        store.invalidations().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_silent_is_an_error() {
    let server = Server::plain();
    let builder = Store::builder().url(&server.url()).connect_timeout(SHORT);
    let store = builder.connect().await.unwrap();
    server.pause();
    let error = store.invalidations().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    server.resume();
    until("it is there again", async || {
        store.invalidations().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_cluster_of_which_a_node_is_not_there_is_an_error() {
    let cluster = Server::cluster();
    let store = connect(&cluster.url()).await;
    cluster.nodes()[2].kill();
    let error = store.invalidations().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    let port = cluster.nodes()[2].port().to_string();
    assert!(error.to_string().contains(&port), "{error}");
    cluster.nodes().iter().for_each(Server::kill);
    let error = store.invalidations().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_track_gets_an_error() {
    let server = Server::plain();
    let allow = |rule| {
        server.cli(&[
            "ACL", "SETUSER", "ada", "on", ">secret", "~*", "+@all", rule,
        ])
    };
    allow("-client|tracking");
    let url = format!("valkey://ada:secret@127.0.0.1:{}/", server.port());
    let store = connect(&url).await;
    let error = store.invalidations().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    allow("+client|tracking");
    let mut told = store.invalidations().await.unwrap();
    gets_changes(&store, &mut told).await;
}

/// The server's own word: the store gets to know at once, and connects again.
#[tokio::test]
async fn a_connection_that_is_killed_is_a_gap() {
    let server = Server::plain();
    let store = store(&server).await;
    let mut told = store.invalidations().await.unwrap();
    set(&store, 1).await;
    let Some(id) = server
        .command(&["CLIENT", "LIST"])
        .text()
        .unwrap()
        .lines()
        .find(|line| line.contains("flags=tB"))
        .and_then(|line| Some(line.split(' ').next()?.strip_prefix("id=")?.to_owned()))
    else {
        panic!("no connection tracks")
    };
    assert!(key(&mut told).await.is::<User>(1));
    server.cli(&["CLIENT", "KILL", "ID", &id]);
    gap(&mut told).await;
    until("it is connected again", async || told.is_live()).await;
    // The gap of the new connection, unless it came before the other was read.
    assert!(matches!(
        told.next().now_or_never(),
        None | Some(Some(Invalidation::Gap))
    ));
    gets_changes(&store, &mut told).await;
}

/// One gap when the connection is lost, and another when there is one: a copy may have been made
/// between the two.
#[tokio::test]
async fn a_lost_connection_is_a_gap_and_the_next_one_another() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = connect(&proxy.url()).await;
    let mut told = store.invalidations().await.unwrap();
    let mut sleeps = store.invalidations().await.unwrap();
    set(&store, 1).await;
    assert!(key(&mut told).await.is::<User>(1));

    proxy.refuse();
    proxy.cut();
    gap(&mut told).await;
    assert!(!told.is_live());
    server.command(&["SET", "user:2", "changed meanwhile"]);
    assert!(told.next().now_or_never().is_none());
    let error = store.invalidations().await.err().unwrap();
    assert_eq!(
        error.kind(),
        ErrorKind::Connection,
        "another subscriber gets the error: {error}"
    );

    proxy.accept();
    gap(&mut told).await;
    until("there is a connection for writes", async || {
        store.ping().await.is_ok()
    })
    .await;
    gets_changes(&store, &mut told).await;
    gap(&mut sleeps).await;
    assert!(sleeps.next().now_or_never().is_none(), "one for all of it");
}

#[tokio::test]
async fn a_restarted_server_is_a_gap() {
    let server = Server::plain();
    let store = store(&server).await;
    let mut told = store.invalidations().await.unwrap();
    server.kill();
    gap(&mut told).await;
    assert!(!told.is_live());
    server.restart();
    gap(&mut told).await;
    until("there is a connection for writes", async || {
        store.ping().await.is_ok()
    })
    .await;
    gets_changes(&store, &mut told).await;
}

/// Nobody says that it is gone, so it is asked.
#[tokio::test]
async fn a_silent_connection_is_a_gap() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let builder = Store::builder().url(&proxy.url()).connect_timeout(SHORT);
    let store = builder.command_timeout(SHORT).connect().await.unwrap();
    let mut told = store.invalidations().await.unwrap();
    proxy.stall();
    gap(&mut told).await;
    assert!(!told.is_live());
    proxy.resume();
    gap(&mut told).await;
    until("there is a connection for writes", async || {
        store.ping().await.is_ok()
    })
    .await;
    set(&store, 1).await;
    // Another gap would be no mistake, if the machine was silent for so long.
    let only_gaps = |item: &Invalidation| *item == Invalidation::Gap;
    assert!(before(&mut told, 1).await.iter().all(only_gaps));
}

#[tokio::test]
async fn a_server_that_answers_keeps_its_connection() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = connect(&proxy.url()).await;
    let mut told = store.invalidations().await.unwrap();
    let accepted = proxy.accepted();
    server.reset_command_counts();
    until("it was asked twice", async || {
        server.command_count("ping") >= 2
    })
    .await;
    assert_eq!(proxy.accepted(), accepted);
    gets_changes(&store, &mut told).await;
}

#[tokio::test]
async fn a_server_that_is_emptied_at_once_is_a_gap() {
    for command in ["FLUSHALL", "FLUSHDB"] {
        let server = Server::plain();
        let store = store(&server).await;
        let mut told = store.invalidations().await.unwrap();
        set(&store, 1).await;
        assert!(key(&mut told).await.is::<User>(1));
        server.command(&[command]);
        gap(&mut told).await;
        gets_changes(&store, &mut told).await;
    }
    let cluster = Server::cluster();
    let store = connect(&cluster.url()).await;
    let mut told = store.invalidations().await.unwrap();
    cluster.nodes()[1].command(&["FLUSHALL"]);
    gap(&mut told).await;
    gets_changes(&store, &mut told).await;
}

async fn aliases_are_passed_by(on: On) {
    let store = on.store("told-aliases").await;
    let mut told = store.invalidations().await.unwrap();
    let ada = Person {
        id: 1,
        email: "ada@example.org".into(),
    };
    let loaded = Person::load_by_email(&store, &ada.email).run(
        async || Ok::<_, ()>(Some(1)),
        async |_| Ok(Some(ada.clone())),
    );
    assert_eq!(loaded.await, Ok(Some(ada.clone())));
    let found = Person::get_by_email(&store, &ada.email).await.unwrap();
    assert_eq!(found, Some(ada), "the alias is there");
    for id in 1..30 {
        set(&store, id).await;
        for item in before(&mut told, id).await {
            assert!(matches!(item, Invalidation::Key(key) if key.is::<Person>(1)));
        }
    }
}

async fn tags_and_types_are_reported(on: On) {
    let store = on.store("told-tags").await;
    for (id, org) in [(1, 7), (2, 42)] {
        Member { id, org }.set(&store).await.unwrap();
    }
    let mut told = store.invalidations().await.unwrap();
    let mut next_but_users = async |store: &Store| {
        // The items that come before these changes, on every node.
        let mut items = Vec::new();
        for id in 1..30 {
            set(store, id).await;
            items.extend(before(&mut told, id).await);
        }
        items
    };
    assert!(next_but_users(&store).await.is_empty());
    store.invalidate_tag("org:42").await.unwrap();
    let items = next_but_users(&store).await;
    // The clock has changed, too.
    let [Invalidation::Tag(tag)] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!(tag.as_str(), Member::cache_tags().org(42).as_str());
    Member::cache_tags()
        .org(7)
        .invalidate(&store)
        .await
        .unwrap();
    let items = next_but_users(&store).await;
    let [Invalidation::Tag(tag)] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!(tag.as_str(), "org:7");
    store.of::<Member>().clear().await.unwrap();
    let items = next_but_users(&store).await;
    let [Invalidation::Type(ty)] = &items[..] else {
        panic!("{items:?}")
    };
    assert!(ty.is_of::<Member>() && !ty.is_of::<User>());
    assert_eq!(ty.prefix(), "member");
}

async fn a_slow_subscriber_gets_a_gap_and_others_get_none(on: On) {
    let store = on.store("told-slow").await;
    let mut reads = store.invalidations().await.unwrap();
    let mut sleeps = store.invalidations().await.unwrap();
    for thousand in 0..10 {
        let ids = thousand * 1000..(thousand + 1) * 1000;
        let users: Vec<_> = ids.clone().map(|id| User { id }).collect();
        User::set_many(&store, &users).await.unwrap();
        let mut read = BTreeSet::new();
        for _ in ids.clone() {
            read.insert(key(&mut reads).await.as_bytes().to_vec());
        }
        let all = ids.map(|id| format!("user:{id}").into_bytes());
        assert_eq!(read, all.collect());
    }
    gap(&mut sleeps).await;
    assert!(sleeps.next().now_or_never().is_none());
    set(&store, 1).await;
    for told in [&mut reads, &mut sleeps] {
        assert!(key(told).await.is::<User>(1));
        assert!(told.is_live());
    }
}

/// An id of a user whose key is on this node.
fn on_node(cluster: &Cluster, at: usize) -> u64 {
    let node = &cluster.nodes()[at];
    let served = |id: &u64| {
        let answer = node.command(&["EXISTS", &format!("user:{id}")]);
        matches!(answer, Value::Integer(_))
    };
    (1000..).find(served).unwrap()
}

#[tokio::test]
async fn a_node_of_a_cluster_that_dies_is_a_gap() {
    let cluster = Server::cluster();
    let builder = Store::builder()
        .url(&cluster.url())
        .command_timeout(PATIENCE);
    let store = builder.connect().await.unwrap();
    let ids = [0, 1, 2].map(|at| on_node(&cluster, at));
    let mut told = store.invalidations().await.unwrap();
    cluster.nodes()[2].kill();
    gap(&mut told).await;
    assert!(!told.is_live());
    let key_of_2 = format!("user:{}", ids[2]);
    let others = &cluster.nodes()[..2];
    others[0].command(&["SET", &format!("user:{}", ids[0]), "7"]);
    assert!(
        key(&mut told).await.is::<User>(ids[0]),
        "the others are still told"
    );

    cluster.nodes()[2].restart();
    gap(&mut told).await;
    assert!(told.is_live());
    cluster.wait_until_ok();
    cluster.nodes()[2].command(&["SET", &key_of_2, "7"]);
    assert!(before(&mut told, ids[2]).await.is_empty());
}

fn say(node: &Server, command: &[&str]) {
    let answer = node.command(command).text();
    assert_eq!(answer.as_deref(), Some("OK"), "{command:?}");
}

/// Has the last node a replica of the second, whose slots are all but the first's.
fn with_a_replica(cluster: &Cluster) -> [&Server; 3] {
    let [one, primary, replica] = cluster.nodes() else {
        panic!("three nodes")
    };
    let range = ["10923", "16383"];
    for node in [one, primary, replica] {
        say(node, &["CLUSTER", "DELSLOTSRANGE", range[0], range[1]]);
    }
    // A message that was under way may still name the old owner.
    eventually("the second has the slots of the last", || {
        let add = ["CLUSTER", "ADDSLOTSRANGE", range[0], range[1]];
        let has = primary.command(&add).text().as_deref() == Some("OK");
        if !has {
            primary.command(&["CLUSTER", "DELSLOTSRANGE", range[0], range[1]]);
        }
        has
    });
    primary.command(&["CLUSTER", "BUMPEPOCH"]);
    let id = primary.command(&["CLUSTER", "MYID"]).text().unwrap();
    eventually("the slots are known to have moved", || {
        replica
            .command(&["CLUSTER", "REPLICATE", &id])
            .text()
            .as_deref()
            == Some("OK")
    });
    eventually("it is a replica", || {
        let replication = replica.command(&["INFO", "replication"]).text().unwrap();
        replication.contains("role:slave") && replication.contains("master_link_status:up")
    });
    cluster.wait_until_ok();
    [one, primary, replica]
}

#[tokio::test]
async fn a_failover_is_a_gap() {
    let cluster = Server::cluster();
    let [one, primary, replica] = with_a_replica(&cluster);
    let id = on_node(&cluster, 1);
    let store = connect(&cluster.url()).await;
    let mut told = store.invalidations().await.unwrap();
    until("those with slots are tracked", async || {
        [one, primary, replica].map(tracking) == [1, 1, 0]
    })
    .await;
    primary.kill();
    gap(&mut told).await;
    assert!(!told.is_live());
    say(replica, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
    // It is known to be required, and then it is tracked.
    until("the replica is tracked in its place", async || {
        told.is_live()
    })
    .await;
    gap(&mut told).await;
    assert_eq!(tracking(replica), 1);
    until("it takes writes", async || {
        let answer = replica.command(&["SET", &format!("user:{id}"), "7"]);
        answer.text().as_deref() == Some("OK")
    })
    .await;
    assert!(before(&mut told, id).await.is_empty());
}

/// Nothing is lost, but the keys are elsewhere.
#[tokio::test]
async fn a_failover_by_hand_is_a_gap_within_a_second() {
    let cluster = Server::cluster();
    let [one, primary, replica] = with_a_replica(&cluster);
    let id = on_node(&cluster, 1);
    let store = connect(&cluster.url()).await;
    let mut told = store.invalidations().await.unwrap();
    say(replica, &["CLUSTER", "FAILOVER"]);
    gap(&mut told).await;
    until("the replica is tracked in its place", async || {
        told.is_live() && [one, primary, replica].map(tracking) == [1, 0, 1]
    })
    .await;
    while let Some(item) = told.next().now_or_never() {
        assert_eq!(item, Some(Invalidation::Gap));
    }
    replica.command(&["SET", &format!("user:{id}"), "7"]);
    assert!(key(&mut told).await.is::<User>(id));
}

/// The changes are reported from a thread of the store's own.
#[test]
fn a_stream_outlives_its_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let server = Server::plain();
    let first = runtime();
    let (store, mut told) = first.block_on(async {
        let store = store(&server).await;
        let told = store.invalidations().await.unwrap();
        (store, told)
    });
    drop(first);
    runtime().block_on(async {
        assert!(told.is_live());
        until("there is a connection for writes", async || {
            store.ping().await.is_ok()
        })
        .await;
        gets_changes(&store, &mut told).await;
    });
}

/// Writes so many keys with long names, in one go.
fn write_many(server: &Server, count: u32) {
    const WRITE: &str =
        "for i = 1, ARGV[1] do redis.call('SET', 'user:' .. i .. string.rep('x', 200), '') end";
    let answer = server.command(&["EVAL", WRITE, "0", &count.to_string()]);
    assert_eq!(answer, Value::Null);
}

/// How many bytes the server keeps for clients that track.
fn unread(server: &Server) -> u64 {
    let clients = server.command(&["CLIENT", "LIST"]).text().unwrap();
    let field = |line: &str, name: &str| {
        let mut fields = line.split(' ');
        let value = fields.find_map(|field| field.strip_prefix(name));
        value.unwrap_or_default().to_owned()
    };
    let tracking = clients
        .lines()
        .filter(|line| field(line, "flags=").contains('t'));
    tracking
        .map(|line| field(line, "omem=").parse::<u64>().unwrap())
        .sum()
}

/// The runtime that subscribed is driven only now and then. The messages of the server are read all
/// the same.
#[test]
fn nothing_piles_up_in_the_server_while_the_runtime_stands_still() {
    let server = Server::plain();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let (_store, mut told) = runtime.block_on(async {
        let store = store(&server).await;
        let told = store.invalidations().await.unwrap();
        (store, told)
    });
    // 24 MB, and more than the system would keep.
    write_many(&server, 100_000);
    eventually("all of it is read", || unread(&server) == 0);
    // Of that the last, or that there was more than is kept.
    runtime.block_on(async {
        loop {
            match next(&mut told).await {
                Some(Invalidation::Key(key)) if !key.as_bytes().starts_with(b"user:100000x") => {}
                Some(Invalidation::Key(_) | Invalidation::Gap) => break,
                other => panic!("{other:?}"),
            }
        }
    });
}

/// The log of a store that subscribes to a server with these settings.
async fn said_of(settings: &[(&str, &str)]) -> String {
    let log = Log::default();
    let _logging = log.takes();
    let server = settings
        .iter()
        .fold(Server::builder(), |server, (name, value)| {
            server.setting(name, value)
        });
    let server = server.start();
    let store = store(&server).await;
    for _ in 0..3 {
        let mut told = store.invalidations().await.unwrap();
        gets_changes(&store, &mut told).await;
    }
    log.text()
}

#[tokio::test]
async fn a_server_that_puts_what_is_unread_in_the_place_of_entries_is_warned_of_once() {
    let (entries, clients) = ("maxmemory", "maxmemory-clients");
    let said = said_of(&[(entries, "64mb"), (clients, "0")]).await;
    let lines: Vec<_> = said.lines().filter(|line| line.contains(clients)).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("WARN"), "{}", lines[0]);
    let output = ("client-output-buffer-limit", "normal 32mb 8mb 60");
    for settings in [
        &[(clients, "0")][..],
        &[(entries, "64mb"), (clients, "5%")],
        &[(entries, "64mb"), (clients, "0"), output],
    ] {
        let said = said_of(settings).await;
        assert!(!said.contains("WARN"), "{settings:?}: {said}");
    }
}

/// As the kit's servers are, and as the page says.
#[tokio::test]
async fn a_subscriber_that_stopped_is_closed_and_writes_go_on() {
    let server = Server::builder()
        .setting("maxmemory", "32mb")
        .setting("maxmemory-policy", "allkeys-lru")
        .setting("maxmemory-clients", "4mb")
        .start();
    let store = store(&server).await;
    User { id: 1 }.set(&store).await.unwrap();
    // As a process that is stopped: its connection is there, and nobody reads from it.
    let mut stopped = TcpStream::connect(server.addr()).unwrap();
    for command in [&["HELLO", "3"][..], &["CLIENT", "TRACKING", "ON", "BCAST"]] {
        stopped.write_all(&encode(command)).unwrap();
    }
    until("it is tracked", async || tracking(&server) == 1).await;
    until("it is closed", async || {
        write_many(&server, 5_000);
        tracking(&server) == 0
    })
    .await;
    // Entries are still there, and one more is stored.
    assert_ne!(server.command(&["DBSIZE"]), Value::Integer(0));
    User { id: 2 }.set(&store).await.unwrap();
    assert!(User::exists(&store, 2).await.unwrap());
}
