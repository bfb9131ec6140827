//! Tests that go by leases on a machine that may stand still.
//!
//! A lease lives for a second of real time, and is renewed each third of one. Where a thread of the
//! test or a server has no turn for a good part of that, it runs out, and another loads, or what
//! was loaded is not stored: as it should be, and not what the test is about.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use valkey_tests::resp::Value;
use valkey_tests::{Server, TURN, repeat};

/// The longest that a test may take. A test that waits for another that has failed has no end of
/// its own.
const LONGEST: Duration = Duration::from_secs(240);

thread_local! {
    /// The namespaces of the test that runs, and where they are.
    static NAMESPACES: RefCell<Vec<(&'static [Server], String)>> = const { RefCell::new(Vec::new()) };
}

/// The test that runs writes into this namespace of shared servers.
pub(crate) fn writes_into(servers: &'static [Server], namespace: &str) {
    watch(servers);
    NAMESPACES.with_borrow_mut(|all| all.push((servers, namespace.to_owned())));
}

/// The turns of one thread.
struct Turns {
    last: Cell<Instant>,
    longest: Cell<Duration>,
}

impl Turns {
    fn new() -> Self {
        Self {
            last: Cell::new(Instant::now()),
            longest: Cell::default(),
        }
    }

    fn note(&self) {
        let now = Instant::now();
        let longest = self.longest.get().max(now - self.last.replace(now));
        self.longest.set(longest);
    }
}

/// The shared servers, which are asked all the time: how often, and when that last took longer than
/// a turn.
#[derive(Default)]
struct Watched {
    servers: Vec<&'static Server>,
    rounds: usize,
    late: Option<(Instant, Duration)>,
}

static WATCHED: LazyLock<Mutex<Watched>> = LazyLock::new(|| {
    std::thread::spawn(|| {
        loop {
            let started = Instant::now();
            std::thread::sleep(TURN / 20);
            let servers = WATCHED.lock().unwrap().servers.clone();
            for server in servers {
                server.command(&["PING"]);
            }
            let took = started.elapsed();
            let mut watched = WATCHED.lock().unwrap();
            watched.rounds += 1;
            if took > TURN {
                watched.late = Some((Instant::now(), took));
            }
        }
    });
    Mutex::default()
});

fn watch(servers: &'static [Server]) {
    let mut watched = WATCHED.lock().unwrap();
    for server in servers {
        if !watched.servers.iter().any(|one| std::ptr::eq(*one, server)) {
            watched.servers.push(server);
        }
    }
}

/// Runs a test, and runs it again where it fails while its thread or a shared server stood still;
/// then what it has left in the servers is removed.
pub(crate) fn steady(test: &dyn Fn() -> LocalBoxFuture<'static, ()>) {
    repeat(|| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let (turns, started) = (Turns::new(), Instant::now());
        let outcome = runtime.block_on(async {
            let test = async {
                let in_time = tokio::time::timeout(LONGEST, test()).await;
                in_time.expect("the test has no end");
            };
            let test = AssertUnwindSafe(test).catch_unwind();
            let ticks = async {
                loop {
                    tokio::time::sleep(TURN / 40).await;
                    turns.note();
                }
            };
            tokio::select! {
                biased;
                outcome = test => outcome,
                () = ticks => unreachable!("it ends with the test"),
            }
        });
        turns.note();
        // The tasks that it has spawned end with it.
        drop(runtime);
        if outcome.is_ok() {
            return (outcome, Duration::ZERO);
        }
        let longest = turns.longest.get().max(late_since(started));
        for (servers, namespace) in NAMESPACES.take() {
            servers.iter().for_each(|server| clear(server, &namespace));
        }
        (outcome, longest)
    });
}

/// The longest that the servers took for an answer since then.
fn late_since(started: Instant) -> Duration {
    // Those that are asked at this moment are asked to the end.
    let rounds = || WATCHED.lock().unwrap().rounds;
    let end = rounds() + 2;
    while rounds() < end {
        std::thread::sleep(TURN / 40);
    }
    let late = WATCHED.lock().unwrap().late;
    let late = late.filter(|(at, _)| *at > started);
    late.map_or(Duration::ZERO, |(_, took)| took)
}

fn clear(server: &Server, namespace: &str) {
    let Value::Array(keys) = server.command(&["KEYS", &format!("{namespace}:*")]) else {
        panic!("no keys")
    };
    for key in keys {
        if let Value::Bulk(key) = key {
            server.command(&[&b"DEL"[..], &key]);
        }
    }
}
