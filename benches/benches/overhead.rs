//! The cost of the typed verbs over the client underneath, for `get` and `set` of a struct of about
//! 200 bytes. They are compared with the same bytes through the redis crate, and with handwritten
//! code that uses redis and rmp-serde.
//!
//! ```text
//! cargo bench -p benches --bench overhead
//! cargo bench -p benches --bench overhead -- 8 64
//! ```
//!
//! Numbers limit it to runs with so many tasks.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Arc;

use benches::{Contender, KEYS, Rounds, timed};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

benches::user!(User: prefix = "user");

/// The TTL of a store's entries, so that the commands are the same.
const TTL_MILLIS: u64 = 300_000;

fn bare(connection: &MultiplexedConnection, bytes: &Arc<Vec<u8>>, write: bool) -> Contender {
    let (connection, bytes) = (connection.clone(), bytes.clone());
    Box::new(move |first, count| {
        let (mut connection, bytes) = (connection.clone(), bytes.clone());
        Box::pin(async move {
            for id in first..first + count {
                let key = format!("bare:{}", id % KEYS);
                if write {
                    let () = connection.pset_ex(key, &**bytes, TTL_MILLIS).await.unwrap();
                } else {
                    let found: Vec<u8> = connection.get(key).await.unwrap();
                    assert!(!found.is_empty());
                }
            }
        })
    })
}

fn by_hand(connection: &MultiplexedConnection, write: bool) -> Contender {
    let connection = connection.clone();
    let ada = Arc::new(User::new(0));
    Box::new(move |first, count| {
        let (mut connection, ada) = (connection.clone(), ada.clone());
        Box::pin(async move {
            for id in first..first + count {
                let key = format!("by-hand:{}", id % KEYS);
                if write {
                    let bytes = rmp_serde::to_vec_named(&*ada).unwrap();
                    let () = connection.pset_ex(key, bytes, TTL_MILLIS).await.unwrap();
                } else {
                    let found: Vec<u8> = connection.get(key).await.unwrap();
                    let found: User = rmp_serde::from_slice(&found).unwrap();
                    assert!(found.active);
                }
            }
        })
    })
}

fn typed(store: &Store, write: bool) -> Contender {
    let store = store.clone();
    let ada = Arc::new(User::new(0));
    Box::new(move |first, count| {
        let (store, ada) = (store.clone(), ada.clone());
        Box::pin(async move {
            for id in first..first + count {
                if write {
                    ada.set_at(&store, id % KEYS).await.unwrap();
                } else {
                    assert!(User::get(&store, id % KEYS).await.unwrap().unwrap().active);
                }
            }
        })
    })
}

async fn run(contender: &Contender, tasks: u64, operations: u64) {
    let each = operations / tasks;
    let running: Vec<_> = (0..tasks)
        .map(|task| tokio::spawn(contender(task * each, each)))
        .collect();
    for task in running {
        task.await.unwrap();
    }
}

#[tokio::main]
async fn main() {
    let server = Server::plain();
    let store = Store::connect(&server.url()).await.unwrap();
    let client = redis::Client::open(format!("{}?protocol=resp3", server.url())).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();

    for id in 0..KEYS {
        User::new(id).set(&store).await.unwrap();
        let bytes = rmp_serde::to_vec_named(&User::new(id)).unwrap();
        let () = connection
            .clone()
            .set(format!("by-hand:{id}"), bytes)
            .await
            .unwrap();
    }
    let bytes: Vec<u8> = connection.clone().get("user:0").await.unwrap();
    for id in 0..KEYS {
        let key = format!("bare:{id}");
        let () = connection.clone().set(key, &bytes).await.unwrap();
    }
    println!(
        "entries of {} bytes, {} of them payload",
        bytes.len(),
        rmp_serde::to_vec_named(&User::new(0)).unwrap().len()
    );
    let bytes = Arc::new(bytes);

    // Cargo adds flags of its own.
    let asked: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    for (tasks, operations, rounds) in [
        (1, 2_000, 41),
        (8, 8_000, 41),
        (64, 25_600, 21),
        (256, 51_200, 11),
        (1024, 102_400, 11),
    ] {
        if !asked.is_empty() && !asked.contains(&tasks) {
            continue;
        }
        for write in [false, true] {
            let contenders = [
                bare(&connection, &bytes, write),
                by_hand(&connection, write),
                typed(&store, write),
            ];
            let names = [
                "redis, the same bytes",
                "redis and rmp-serde by hand",
                "valkey-runtime, typed",
            ];
            let mut table = Rounds::new(&names);
            for round in 0..rounds {
                for at in table.order(round) {
                    let ((), time) = timed(run(&contenders[at], tasks, operations)).await;
                    table.add(at, operations as usize, time);
                }
            }
            table.print(&format!(
                "{} with {tasks} task(s)",
                if write { "set" } else { "get" }
            ));
        }
    }
}
