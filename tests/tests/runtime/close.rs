//! The end of a store: nothing of it runs any more, and what could still be told to the server was.
//!
//! Each test has a runtime of its own, which tells how many tasks are left.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use valkey_runtime::{
    BreakerState, Builder, Cached, Error, ErrorKind, SetOptions, Store, UpdateError,
};
use valkey_tests::resp::Value;
use valkey_tests::{ClosedPort, FakeServer, Proxy, Reply, Server};

use crate::database::until;
use crate::stores::On;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct User {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "account", strict)]
struct Account {
    #[cached(key)]
    id: u64,
}

const DEADLINE: Duration = Duration::from_millis(500);
/// So long that a test which waits for it fails.
const AGES: Duration = Duration::from_secs(60);

fn on(url: &str) -> Builder {
    Store::builder().url(url).command_timeout(DEADLINE)
}

fn tasks() -> usize {
    let runtime = tokio::runtime::Handle::current();
    runtime.metrics().num_alive_tasks()
}

/// A dropped connection gets the signal to end, and ends when the runtime gets to it.
async fn no_task_is_left() {
    for _ in 0..1000 {
        if tasks() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} tasks are left", tasks());
}

fn assert_closed<T>(answer: Result<T, Error>) {
    let kind = answer.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Closed));
}

suite! { crate::close => nothing_is_left after_it_every_verb_fails }

async fn nothing_is_left(on: On) {
    let store = on.store("close-nothing-left").await;
    User { id: 1 }.set(&store).await.unwrap();
    let guard = store.of::<User>().update(2).guard().await.unwrap();
    assert!(guard.is_placed());
    assert_eq!(store.stats().background_running(), 1, "it is renewed");
    assert!(tasks() > 0);

    tokio::join!(store.close(), store.close());
    assert_eq!(store.stats().background_running(), 0);
    assert_eq!(store.undelivered(), 0);
    no_task_is_left().await;
    assert_closed(guard.release().await);
    let clone = store.clone();
    tokio::spawn(async move { clone.close().await })
        .await
        .unwrap();
    no_task_is_left().await;
}

async fn after_it_every_verb_fails(on: On) {
    let store = on.store("close-verbs-fail").await;
    User { id: 1 }.set(&store).await.unwrap();
    store.clone().close().await;

    assert_closed(User::get(&store, 1).await);
    assert_closed(store.of::<User>().get_entry(1).await);
    assert_closed(User::get_many(&store, [1, 2]).await);
    assert_closed(User::exists(&store, 1).await);
    assert_closed(store.of::<User>().ttl(1).await);
    assert_closed(User::touch(&store, 1).await);
    assert_closed(User { id: 1 }.set(&store).await);
    let if_absent = SetOptions::new().if_absent();
    assert_closed(User { id: 1 }.set_with(&store, if_absent).await);
    assert_closed(User::set_many(&store, &[User { id: 1 }]).await);
    assert_closed(User::del(&store, 1).await);
    assert_closed(User::del_many(&store, [1, 2]).await);
    assert_closed(store.ping().await);

    let load = async || Ok::<_, ()>(Some(User { id: 1 }));
    let loaded = User::get_or_load(&store, 1, load).await;
    assert_eq!(loaded, Ok(Some(User { id: 1 })));
    let load = async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| (id, User { id })));
    let loaded = User::get_or_load_many(&store, [1], load).await;
    assert_eq!(loaded, Ok(vec![Some(User { id: 1 })]));
    assert_eq!(store.stats().background_refused(), 0);

    let refused = Account::update(&store, 1, async || -> Result<(), ()> {
        panic!("written, without an invalidation")
    });
    let Err(UpdateError::Refused(error)) = refused.await else {
        panic!("it is strict");
    };
    assert_eq!(error.kind(), ErrorKind::Closed);
    let written = User::update(&store, 1, async || Ok::<_, ()>(())).await;
    assert_eq!(written, Ok(()));
    assert_eq!(store.undelivered(), 1);
    assert!(store.stats().background_refused() > 0, "nobody delivers it");
    no_task_is_left().await;
}

#[tokio::test]
async fn leases_of_loads_that_were_dropped_are_given_back() {
    for on in [On::Plain, On::Cluster] {
        let namespace = "close-lease";
        let store = on.store(namespace).await;
        let begun = Notify::new();
        let load = User::get_or_load(&store, 1, async || {
            begun.notify_one();
            pending::<Result<Option<User>, ()>>().await
        });
        tokio::select! {
            loaded = load => panic!("{loaded:?}"),
            () = begun.notified() => {}
        }
        let exists = || on.raw(&["EXISTS", &format!("{namespace}:user:1")]);
        assert_eq!(exists(), Value::Integer(1), "a lease");
        store.close().await;
        assert_eq!(exists(), Value::Integer(0), "{on:?}");
        no_task_is_left().await;
    }
}

/// Its time runs, and close does not wait for more.
async fn closes_in_time(store: &Store) {
    let started = Instant::now();
    store.close().await;
    let (took, operation) = (started.elapsed(), DEADLINE * 2);
    assert!(took < operation * 10, "{took:?}");
    assert_eq!(store.undelivered(), 1, "to be seen");
    assert_eq!(store.stats().background_running(), 0);
    assert_eq!(store.breaker(), BreakerState::Open);
    no_task_is_left().await;
}

#[tokio::test]
async fn on_a_stopped_server() {
    let server = Server::plain();
    let store = on(&server.url()).connect().await.unwrap();
    server.pause();
    User::del(&store, 1).await.unwrap_err();
    assert_eq!(store.stats().background_running(), 1, "it is delivered");
    closes_in_time(&store).await;
}

#[tokio::test]
async fn on_a_server_that_is_down() {
    let server = Server::plain();
    let store = on(&server.url()).connect().await.unwrap();
    server.kill();
    let error = User::del(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    until("the breaker opens", async || {
        assert!(User::get(&store, 2).await.is_err());
        store.breaker() != BreakerState::Closed
    })
    .await;
    assert_eq!(
        store.stats().background_running(),
        2,
        "one that delivers, one that connects"
    );
    closes_in_time(&store).await;
}

#[tokio::test]
async fn on_a_cluster_that_is_stopped() {
    let cluster = Server::cluster();
    let store = on(&cluster.url()).connect().await.unwrap();
    cluster.nodes().iter().for_each(Server::pause);
    User::del(&store, 1).await.unwrap_err();
    closes_in_time(&store).await;
}

/// The task that delivers is in a pause by now.
#[tokio::test]
async fn deletions_that_wait_are_tried_once_more() {
    let takes = Arc::new(AtomicBool::new(false));
    let taken = takes.clone();
    let server = FakeServer::start(move |command| match &*command[0] {
        b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        _ if taken.load(Ordering::SeqCst) => Reply::integer(1),
        _ => Reply::error("READONLY You can't write against a read only replica."),
    });
    let server = Arc::new(server);
    // A silence is not what this is about.
    let builder = on(&server.url()).command_timeout(AGES);
    let builder = builder.operation_timeout(AGES);
    let store = builder.connect().await.unwrap();
    User::del_many(&store, 0..2500).await.unwrap_err();
    assert_eq!(store.undelivered(), 2500);
    let (seen, before) = (server.clone(), server.count("EVALSHA"));
    let tried = move || seen.wait_for("EVALSHA", before + 1, AGES);
    assert!(tokio::task::spawn_blocking(tried).await.unwrap());

    takes.store(true, Ordering::SeqCst);
    store.close().await;
    assert_eq!(store.undelivered(), 0);
    no_task_is_left().await;
}

#[tokio::test]
async fn deletions_are_delivered_to_a_server_that_comes_back_in_time() {
    let server = Server::plain();
    let builder = on(&server.url()).operation_timeout(AGES);
    let store = builder.connect().await.unwrap();
    server.kill();
    User::del(&store, 1).await.unwrap_err();
    until("the breaker opens", async || {
        assert!(User::get(&store, 2).await.is_err());
        store.breaker() != BreakerState::Closed
    })
    .await;
    let back = async { server.restart() };
    tokio::join!(store.close(), back);
    assert_eq!(store.undelivered(), 0);
    no_task_is_left().await;
}

/// All of the first round is refused, for good. The others are delivered all the same, and close
/// does not try for ever.
#[tokio::test]
async fn refused_deletions_do_not_block_the_delivery_of_others() {
    let takes = Arc::new(AtomicBool::new(false));
    let taken = takes.clone();
    let refused = |key: &[u8]| key == b"user:0" || key.starts_with(b"user:1");
    let server = FakeServer::start(move |command| match &*command[0] {
        b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        _ if taken.load(Ordering::SeqCst) && !refused(&command[3]) => Reply::integer(1),
        _ => Reply::error("READONLY You can't write against a read only replica."),
    });
    // A silence is not what this is about.
    let builder = on(&server.url()).command_timeout(AGES);
    let builder = builder.operation_timeout(AGES);
    let store = builder.connect().await.unwrap();
    User::del_many(&store, 0..2500).await.unwrap_err();
    takes.store(true, Ordering::SeqCst);
    let started = Instant::now();
    store.close().await;
    assert!(started.elapsed() < AGES / 2);
    assert_eq!(store.undelivered(), 1 + 1111);
}

#[tokio::test]
async fn a_verb_that_waits_for_an_answer_gets_it() {
    let (answer, answers) = mpsc::channel::<()>();
    let answers = Mutex::new(answers);
    let server = FakeServer::start(move |command| match &*command[0] {
        b"TIME" => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
        _ => {
            let _ = answers.lock().unwrap().recv();
            Reply::null()
        }
    });
    let server = Arc::new(server);
    let store = on(&server.url()).command_timeout(AGES);
    let store = store.connect().await.unwrap();
    let reader = store.clone();
    let read = tokio::spawn(async move { User::get(&reader, 1).await });
    let seen = server.clone();
    let asked = move || seen.wait_for("GET", 1, AGES);
    assert!(tokio::task::spawn_blocking(asked).await.unwrap());

    store.close().await;
    answer.send(()).unwrap();
    assert_eq!(read.await.unwrap().unwrap(), None);
    no_task_is_left().await;
}

#[tokio::test]
async fn a_verb_that_waits_for_a_connection_fails() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    proxy.stall();
    let store = on(&proxy.url()).command_timeout(AGES);
    let store = store.connect_timeout(AGES).connect_lazy().unwrap();
    let (read, ()) = tokio::join!(User::get(&store, 1), store.close());
    assert_closed(read);
    no_task_is_left().await;
}

/// As `a_verb_that_waits_for_a_connection_fails`, and nobody waits.
#[tokio::test]
async fn before_there_was_a_connection() {
    let nobody = ClosedPort::new();
    let store = Store::connect_lazy(&nobody.url()).unwrap();
    assert_eq!(store.stats().background_running(), 1);
    store.close().await;
    no_task_is_left().await;
    assert_closed(User::get(&store, 1).await);
    no_task_is_left().await;
}
