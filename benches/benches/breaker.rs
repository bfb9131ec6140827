//! The cost of a server that is down: `get_or_load` and `get` with an open breaker, with the server
//! killed, and with it stopped, so that connections stay open without answers. Also the time until
//! the store recovers after the server.
//!
//! ```text
//! cargo bench -p benches --bench breaker
//! ```

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use valkey_runtime::{BreakerState, Cached, Store};
use valkey_tests::Server;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn ada(id: u64) -> User {
    User {
        id,
        name: "Augusta Ada King, Countess of Lovelace".into(),
    }
}

const CALLS: u64 = 50_000;

/// The sorted times of many calls in sequence.
async fn timed(mut call: impl AsyncFnMut(u64)) -> Vec<Duration> {
    let mut times = Vec::new();
    for id in 0..CALLS {
        let started = Instant::now();
        call(id).await;
        times.push(started.elapsed());
    }
    times.sort();
    times
}

fn print(what: &str, times: &[Duration]) {
    let micros = |part: f64| {
        let at = (times.len() as f64 * part) as usize;
        times[at.min(times.len() - 1)].as_nanos() as f64 / 1000.0
    };
    println!(
        "{what:<46}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
        micros(0.5),
        micros(0.99),
        micros(0.999),
        micros(1.0)
    );
}

async fn measure(how: &str, store: &Store) {
    println!(
        "\n{:<46}{:>10}{:>10}{:>10}{:>10}",
        format!("microseconds, the server {how}"),
        "median",
        "99 %",
        "99.9 %",
        "longest"
    );
    let loader = async |id| Ok::<_, ()>(Some(ada(id)));
    let loads = timed(async |id| {
        assert!(std::hint::black_box(loader(id).await).is_ok());
    });
    print("the loader alone", &loads.await);
    let loads = timed(async |id| {
        let loaded = User::get_or_load(store, id, || loader(id)).await;
        assert!(loaded.is_ok());
    });
    print("get_or_load", &loads.await);
    let gets = timed(async |id| {
        assert!(User::get(store, id).await.is_err_and(|e| e.is_refused()));
    });
    print("get, which fails", &gets.await);
    let updates = timed(async |id| {
        let written = User::update(store, id % 1000, async || Ok::<_, ()>(())).await;
        assert!(written.is_ok());
    });
    print("update, whose deletion is kept", &updates.await);
    let gets = timed(async |id| {
        assert!(User::get(store, id % 1000).await.is_ok_and(|u| u.is_none()));
    });
    print("get of a key whose deletion is kept", &gets.await);
}

/// The time until the breaker opens, with one call after the other.
async fn open(store: &Store) -> Duration {
    let started = Instant::now();
    while !User::get(store, 1).await.is_err_and(|e| e.is_refused()) {}
    started.elapsed()
}

async fn back(store: &Store) -> Duration {
    let started = Instant::now();
    while store.breaker() != BreakerState::Closed {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    started.elapsed()
}

#[tokio::main]
async fn main() {
    let server = Server::plain();
    let store = Store::connect(&server.url()).await.unwrap();
    ada(1).set(&store).await.unwrap();

    server.pause();
    let opened = open(&store).await;
    measure("stopped", &store).await;
    server.resume();
    println!(
        "open after {opened:?}, closed {:?} after the server went on",
        back(&store).await
    );

    while store.undelivered() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.kill();
    let opened = open(&store).await;
    measure("killed", &store).await;
    server.restart();
    println!(
        "open after {opened:?}, closed {:?} after the restart",
        back(&store).await
    );
}
