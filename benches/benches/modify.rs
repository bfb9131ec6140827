//! Changes of one value by 2, 30 and 300 tasks, in one process and in two, beside a `get` and a
//! `set`, which lose some. How many changes a second, the longest wait, and what is lost.
//!
//! ```text
//! cargo bench -p benches --bench modify
//! ```

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, ModifyOptions, Store};
use valkey_tests::Server;

/// Changes in a round.
const CHANGES: u64 = 3000;
const ROUNDS: usize = 9;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "1h")]
struct Tally {
    #[cached(key)]
    id: u64,
    count: u64,
}

fn counted(before: Option<Tally>) -> Tally {
    let count = before.map_or(0, |before| before.count) + 1;
    Tally { id: 1, count }
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Modify,
    GetAndSet,
}

async fn change(store: &Store, how: How) {
    match how {
        How::Modify => {
            let patient = ModifyOptions::new().within(Duration::from_secs(600));
            let changed = store.of::<Tally>().modify_with(1, patient, counted);
            changed.await.unwrap();
        }
        How::GetAndSet => {
            let before = Tally::get(store, 1).await.unwrap();
            counted(before).set(store).await.unwrap();
        }
    }
}

/// The time of a round, the longest wait of a change, and the number of lost changes.
async fn round(stores: &[Store], tasks: u64, how: How) -> (Duration, Duration, u64) {
    Tally::del(&stores[0], 1).await.unwrap();
    let each = CHANGES / tasks;
    let began = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let store = stores[task as usize % stores.len()].clone();
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                for _ in 0..each {
                    let began = Instant::now();
                    change(&store, how).await;
                    longest = longest.max(began.elapsed());
                }
                longest
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for task in running {
        longest = longest.max(task.await.unwrap());
    }
    let time = began.elapsed();
    let found = Tally::get(&stores[0], 1).await.unwrap();
    (time, longest, each * tasks - found.unwrap().count)
}

fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).expect("numbers"));
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let server = Server::plain();
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(Store::connect(&server.url()).await.unwrap());
    }
    println!(
        "{:<24}{:>7}{:>12}{:>18}{:>10}",
        "", "tasks", "changes/s", "longest wait, ms", "lost"
    );
    for (name, how, processes) in [
        ("modify", How::Modify, 1),
        ("modify, two processes", How::Modify, 2),
        ("get and set", How::GetAndSet, 1),
    ] {
        for tasks in [1, 2, 30, 300] {
            let (mut rates, mut waits, mut lost) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (time, longest, gone) = round(&stores[..processes], tasks, how).await;
                rates.push((CHANGES / tasks * tasks) as f64 / time.as_secs_f64());
                waits.push(longest.as_secs_f64() * 1000.0);
                lost.push(gone);
            }
            assert!(how == How::GetAndSet || lost.iter().all(|lost| *lost == 0));
            println!(
                "{name:<24}{tasks:>7}{:>12.0}{:>18.1}{:>10}",
                median(rates),
                median(waits),
                median(lost)
            );
        }
    }
}
