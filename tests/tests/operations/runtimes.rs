//! Runtimes that end, stand still, lack something, or are not there: the store goes on from
//! whichever is alive.
//!
//! A runtime that is only driven by `block_on` stands still between two calls, and a call that is
//! refused at once drives nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::{BreakerState, Cached, Error, ErrorKind, Store};
use valkey_tests::{FakeServer, Reply, Server};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn user(id: u64) -> User {
    let name = "Ada".to_owned();
    User { id, name }
}

/// The time that a test may take which waits for something: ten times what it needs, and more.
const AGES: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(3);

/// Stands still but for `block_on`.
fn still() -> Runtime {
    RuntimeBuilder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn connected(server: &Server, runtime: &Runtime) -> Store {
    let builder = server.store_builder().command_timeout(DEADLINE);
    runtime.block_on(builder.connect()).unwrap()
}

/// Calls until it succeeds, with a pause in which nothing is driven.
fn call_until(mut call: impl FnMut() -> bool) -> usize {
    let began = Instant::now();
    let mut calls = 1;
    while !call() {
        assert!(began.elapsed() < AGES, "{calls} calls were in vain");
        calls += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    calls
}

/// Calls until the breaker has opened.
fn open_breaker(store: &Store, runtime: &Runtime) {
    call_until(|| {
        let _ = runtime.block_on(User::get(store, 1));
        store.breaker() != BreakerState::Closed
    });
}

#[test]
fn a_runtime_that_is_driven_by_block_on_alone_connects_again() {
    let server = Server::plain();
    let runtime = still();
    let store = connected(&server, &runtime);
    server.kill();
    open_breaker(&store, &runtime);
    let refused = runtime.block_on(User::get(&store, 1)).unwrap_err();
    assert!(refused.is_refused(), "{refused}");
    server.restart();
    call_until(|| runtime.block_on(User::get(&store, 1)).is_ok());
    assert_eq!(store.breaker(), BreakerState::Closed);
}

#[test]
fn a_program_that_only_loads_connects_again() {
    let server = Server::plain();
    let runtime = still();
    let store = connected(&server, &runtime);
    server.kill();
    open_breaker(&store, &runtime);
    server.restart();
    let load = || User::get_or_load(&store, 1, async || Ok::<_, ()>(user(1)));
    call_until(|| {
        runtime.block_on(load()).unwrap();
        store.breaker() == BreakerState::Closed
    });
}

#[test]
fn another_runtime_continues_the_work_of_one_that_stands_still() {
    let server = Server::plain();
    let first = still();
    let store = connected(&server, &first);
    server.kill();
    open_breaker(&store, &first);
    server.restart();
    // The first is there still, and does nothing.
    let second = still();
    call_until(|| second.block_on(User::get(&store, 1)).is_ok());
    // The tasks that it still had to run do no harm.
    first.block_on(async { tokio::time::sleep(Duration::from_millis(300)).await });
    assert_eq!(store.breaker(), BreakerState::Closed);
    second.block_on(User::get(&store, 1)).unwrap();
}

/// The connecting task is as late as the caller that waits for it, so it is not replaced.
#[test]
fn a_process_that_stood_still_connects_once() {
    let (answers, asked) = std::sync::mpsc::channel::<()>();
    let asked = std::sync::Mutex::new(asked);
    let server = FakeServer::scripted(move |command| {
        // Fails once the test has dropped its end: from then on the server answers at once.
        let _ = asked.lock().unwrap().recv();
        FakeServer::handshake(command)
            .unwrap_or_else(|| Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"))
    });
    let builder = Store::builder().url(&server.url()).connect_timeout(AGES);
    let connects = builder.command_timeout(AGES).connect();
    let stands_still = async {
        let began = Instant::now();
        while server.commands().is_empty() {
            assert!(began.elapsed() < AGES, "nothing was sent");
            tokio::task::yield_now().await;
        }
        std::thread::sleep(Duration::from_secs(1));
        // Both have had a turn since.
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(answers);
    };
    let (store, ()) = still().block_on(async { tokio::join!(connects, stands_still) });
    store.unwrap();
    assert_eq!(server.connections(), 1);
}

#[test]
fn deletions_that_wait_in_a_runtime_that_stands_still_are_delivered_from_another() {
    let server = Server::plain();
    let (first, second, other) = (still(), still(), still());
    let store = connected(&server, &first);
    let elsewhere = connected(&server, &other);
    first.block_on(user(1).set(&store)).unwrap();
    server.pause();
    let write = User::update(&store, 1, async || Ok::<_, ()>(()));
    first.block_on(write).unwrap();
    assert!(store.undelivered() > 0);
    server.resume();
    call_until(|| {
        let _ = second.block_on(User::get(&store, 2));
        store.undelivered() == 0
    });
    assert_eq!(other.block_on(User::get(&elsewhere, 1)).unwrap(), None);
}

#[test]
fn deletions_whose_runtime_ended_are_delivered_at_the_next_request_of_any_kind() {
    let server = Server::plain();
    for request in 0..4 {
        let (first, other) = (still(), still());
        let store = connected(&server, &first);
        let elsewhere = connected(&server, &other);
        first.block_on(user(1).set(&store)).unwrap();
        server.pause();
        let write = User::update(&store, 1, async || Ok::<_, ()>(()));
        first.block_on(write).unwrap();
        assert!(store.undelivered() > 0);
        drop(first);
        server.resume();
        let second = still();
        let limiter = RateLimiter::builder("api")
            .quota(100, AGES)
            .build()
            .unwrap();
        call_until(|| {
            second.block_on(async {
                match request {
                    0 => drop(User::get(&store, 2).await),
                    1 => drop(store.ping().await),
                    2 => drop(limiter.check(&store, "x").await),
                    _ => drop(user(3).set(&store).await),
                }
            });
            store.undelivered() == 0
        });
        assert_eq!(other.block_on(User::get(&elsewhere, 1)).unwrap(), None);
    }
}

#[test]
fn a_key_that_is_read_by_block_on_alone_is_not_withheld_for_ever() {
    let runtime = still();
    let store = Store::memory();
    runtime.block_on(user(1).set(&store)).unwrap();
    store.faults().take_down();
    runtime.block_on(User::del(&store, 1)).unwrap_err();
    assert_eq!(store.undelivered(), 1);
    store.faults().recover();
    // Each of these is a miss that asks nothing, and so drives nothing.
    call_until(|| {
        let found = runtime.block_on(User::get(&store, 1)).unwrap();
        assert_eq!(found, None);
        store.undelivered() == 0
    });
}

#[test]
fn background_work_runs_where_it_is_wanted_to() {
    let server = Server::plain();
    let home = RuntimeBuilder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let tasks = || home.metrics().num_alive_tasks();
    let store = server.store_builder().runtime(home.handle().clone());
    let store = still().block_on(store.connect()).unwrap();
    assert!(tasks() > 0, "the connection is there");
    // The runtime that opened it has ended, and nobody notices.
    let runtime = still();
    runtime.block_on(user(1).set(&store)).unwrap();
    drop(runtime);
    let runtime = still();
    assert_eq!(
        runtime.block_on(User::get(&store, 1)).unwrap(),
        Some(user(1))
    );

    // Once that one ends too, another has to do.
    home.shutdown_background();
    call_until(|| runtime.block_on(User::get(&store, 1)).is_ok());
}

#[test]
fn a_connection_that_ended_with_its_runtime_is_replaced_before_it_is_asked() {
    let server = Server::plain();
    let first = still();
    // With the deadlines of the kit: a silence is not what this is about.
    let store = first.block_on(server.store());
    drop(first);
    for id in 0..20 {
        // It ends with its round, and with it the connection that was made in it.
        let runtime = still();
        let stored = runtime.block_on(user(id).set(&store));
        stored.unwrap_or_else(|error| panic!("{id}: {error}"));
        let found = runtime.block_on(User::get(&store, id)).unwrap();
        assert_eq!(found, Some(user(id)));
    }
    assert_eq!(store.breaker(), BreakerState::Closed);
}

/// The command is under way when the runtime of the connection ends, and with it the connection. A
/// read would be sent once more, from the caller's own runtime.
#[test]
fn a_command_whose_connection_ended_with_another_runtime_gets_an_error_that_says_so() {
    let server = FakeServer::start(|command| match &*command[0] {
        b"SET" => Reply::Nothing,
        _ => Reply::raw("*2\r\n$10\r\n1767225600\r\n$1\r\n0\r\n"),
    });
    let [first, second] = [(); 2].map(|()| {
        RuntimeBuilder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    });
    let builder = Store::builder().url(&server.url()).connect_timeout(AGES);
    let store = first.block_on(builder.command_timeout(AGES).connect());
    let store = store.unwrap();
    let asks = store.clone();
    let asks = second.spawn(async move { user(1).set(&asks).await });
    assert!(server.wait_for("SET", 1, AGES), "the command is sent");
    drop(first);
    let error = second.block_on(asks).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.to_string().contains("`Builder::runtime`"), "{error}");
}

fn is_config_error(error: &Error, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(what), "{error}");
}

/// Every verb of a store whose server can't be asked from here says so.
async fn every_verb_says(store: &Store, what: &str) {
    let limiter = RateLimiter::builder("api").quota(1, AGES).build().unwrap();
    macro_rules! says {
        ($($verb:expr),* $(,)?) => {
            $(is_config_error(&$verb.await.err().expect(stringify!($verb)), what);)*
        };
    }
    says!(
        user(1).set(store),
        User::get(store, 1),
        User::get_many(store, [1, 2]),
        User::exists(store, 1),
        store.of::<User>().ttl(1),
        User::touch(store, 1),
        User::del(store, 1),
        User::del_many(store, [1, 2]),
        store.of::<User>().mark_stale(1),
        store.of::<User>().count(),
        store.of::<User>().purge(),
        store.ping(),
        store.invalidate_tag("x"),
        limiter.reset(store, "x"),
        async { store.batch().set(&user(1)).send().await.all() },
        async { store.invalidations().await },
    );
    let loaded = User::get_or_load(store, 1, async || Ok::<_, ()>(user(1)));
    assert_eq!(loaded.await, Ok(user(1)), "loaders run");
    let many = User::get_or_load_many(store, [1], async |keys: Vec<u64>| {
        let rows = keys.into_iter().map(|id| (id, user(id)));
        Ok::<_, ()>(rows.collect::<Vec<_>>())
    });
    assert_eq!(many.await.unwrap(), [Some(user(1))]);
    let written = User::update(store, 1, async || Ok::<_, ()>(7)).await;
    assert_eq!(written, Ok(7), "and so do writes");
    let decision = limiter.check(store, "x").await.unwrap();
    assert_eq!(decision.failure(), Some(ErrorKind::Config));
}

#[test]
fn outside_of_tokio_every_verb_says_so() {
    let server = Server::plain();
    let runtime = RuntimeBuilder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let connected = connected(&server, &runtime);
    let lazy = server.store_builder().connect_lazy().unwrap();
    let done = async {
        let error = server.store_builder().connect().await.unwrap_err();
        is_config_error(&error, "outside of one");
        for store in [&connected, &lazy] {
            every_verb_says(store, "outside of one").await;
        }
        connected.close().await;
        lazy.close().await;
        let error = User::get(&connected, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    .now_or_never();
    assert!(done.is_some(), "nothing is waited for");
}

/// How many panics there are, of whatever thread, while something is done.
fn panics(work: impl FnOnce()) -> usize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.to_string();
            if text.contains("A Tokio 1.x context was found") {
                PANICS.fetch_add(1, Ordering::SeqCst);
            } else {
                before(info);
            }
        }));
    });
    let before = PANICS.load(Ordering::SeqCst);
    work();
    PANICS.load(Ordering::SeqCst) - before
}

#[test]
fn a_runtime_without_timers_gets_an_error_that_says_so() {
    let server = Server::plain();
    let good = RuntimeBuilder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let store = connected(&server, &good);
    let panics = panics(|| {
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let error = server.store_builder().connect().await.unwrap_err();
            is_config_error(&error, "no timers");
            every_verb_says(&store, "no timers").await;
        });
        runtime.block_on(store.close());
    });
    assert!(panics <= 1, "{panics} panics: one is how tokio is asked");
}

#[test]
fn a_runtime_without_io_gets_an_error_and_one_that_has_it_goes_on() {
    let server = Server::plain();
    let store = server.store_builder().connect_lazy().unwrap();
    let panics = panics(|| {
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let error = server.store_builder().connect().await.unwrap_err();
            is_config_error(&error, "no I/O");
            for _ in 0..20 {
                let error = User::get(&store, 1).await.unwrap_err();
                is_config_error(&error, "no I/O");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    });
    assert!(panics <= 2, "{panics} panics: one a store");
    let runtime = still();
    call_until(|| runtime.block_on(User::get(&store, 1)).is_ok());
}

#[test]
fn a_store_is_closed_though_a_runtime_with_a_task_of_it_stands_still() {
    let server = Server::plain();
    let first = still();
    let store = connected(&server, &first);
    server.kill();
    open_breaker(&store, &first);
    assert!(store.stats().background_running() > 0);
    let began = Instant::now();
    still().block_on(store.close());
    assert!(began.elapsed() < AGES);
    let error = still().block_on(User::get(&store, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// A store in a `static`, and tests with a runtime each.
#[test]
fn a_store_is_shared_by_runtimes_that_come_and_go() {
    let server = Server::plain();
    let store = Arc::new(server.store_builder().connect_lazy().unwrap());
    let threads = (0..4).map(|thread| {
        let store = store.clone();
        std::thread::spawn(move || {
            let mut failures = Vec::new();
            for round in 0..25 {
                let id = thread * 100 + round;
                still().block_on(async {
                    if let Err(error) = user(id).set(&store).await {
                        failures.push(error);
                    }
                    if let Err(error) = User::get(&store, id).await {
                        failures.push(error);
                    }
                });
            }
            failures
        })
    });
    let threads: Vec<_> = threads.collect();
    let failures = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap());
    for error in failures {
        // A command may have been under way when the connection ended with another's runtime.
        assert!(error.is_transient(), "{error}");
    }
    assert_eq!(store.stats().breaker_openings(), 0);
}
