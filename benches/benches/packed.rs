//! The cost of compression, encryption and the compact layout: hits and writes of one value through the public API, as
//! ratios to the same value stored plain.
//!
//! ```text
//! cargo bench -p benches --bench packed
//! ```
//!
//! The store is in the process, so that nothing but the runtime's own work counts. Beside a server a
//! hit waits for the network, and the ratios come closer to 1.
//!
//! With the variable `FIGURES` the figures are also written there, as JSON.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::Rounds;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use valkey_runtime::{Cached, EncryptionKeys, Shape, Store};

const ROUNDS: usize = 21;
/// The bytes that a contender reads or writes in a round.
const BYTES: usize = 4 << 20;

/// Rows as an API returns them: names and numbers that differ, and field names that repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Shape)]
struct Row {
    id: u64,
    name: String,
    city: String,
    balance: i64,
    active: bool,
}

fn rows(count: usize) -> Vec<Row> {
    let name = |id: u64| format!("{:x}", id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24);
    (0..count as u64)
        .map(|id| Row {
            id: 1000 + id,
            name: name(id),
            city: ["Lisbon", "Nairobi", "Osaka", "Quito"][id as usize % 4].to_owned(),
            balance: (id as i64 * 7919) % 100_000,
            active: id % 3 == 0,
        })
        .collect()
}

/// A type with these attributes, and its contender.
macro_rules! contender {
    ($name:ident: $($attribute:tt)*) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
        #[cached(ttl = "1h", $($attribute)*)]
        struct $name {
            #[cached(key)]
            id: u64,
            rows: Vec<Row>,
        }

        impl $name {
            fn run(runtime: &Runtime, store: &Store, rows: &[Row], writes: bool, times: usize) -> Duration {
                let value = $name { id: 1, rows: rows.to_vec() };
                runtime.block_on(async {
                    value.set(store).await.unwrap();
                    let began = Instant::now();
                    for _ in 0..times {
                        match writes {
                            true => value.set(store).await.unwrap(),
                            false => {
                                let found = $name::get(store, 1).await.unwrap();
                                assert_eq!(black_box(found).unwrap().rows.len(), rows.len());
                            }
                        }
                    }
                    began.elapsed()
                })
            }
        }
    };
}

contender!(Plain: prefix = "plain");
contender!(Compact: prefix = "compact", layout = "compact");
contender!(Lz4: prefix = "lz4", compress = "lz4", compress_above = 0);
contender!(Zstd: prefix = "zstd", compress = "zstd", compress_above = 0);
contender!(Encrypted: prefix = "encrypted", encrypt);
contender!(Both: prefix = "both", compress = "lz4", compress_above = 0, encrypt);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = runtime
        .block_on(
            Store::builder()
                .memory()
                .encryption_keys(EncryptionKeys::new(1, [7; 32]))
                .connect(),
        )
        .unwrap();
    let names = [
        "plain",
        "compact",
        "lz4",
        "zstd",
        "encrypt",
        "lz4 and encrypt",
    ];
    let runs = [
        Plain::run,
        Compact::run,
        Lz4::run,
        Zstd::run,
        Encrypted::run,
        Both::run,
    ];
    let mut groups = Vec::new();
    for writes in [false, true] {
        for count in [10, 100, 1000] {
            let rows = rows(count);
            let size = rmp_serde::to_vec_named(&rows).unwrap().len();
            let times = (BYTES / size).max(1);
            let mut rounds = Rounds::new(&names);
            for round in 0..ROUNDS {
                for at in rounds.order(round) {
                    let time = runs[at](&runtime, &store, &rows, writes, times);
                    rounds.add(at, times, time);
                }
            }
            let what = if writes { "set" } else { "hit" };
            rounds.print(&format!("{what} of {count} rows, {size} bytes plain"));
            let contenders = names.iter().enumerate().map(|(at, name)| {
                serde_json::json!({ "name": name, "throughput": rounds.throughput(at) })
            });
            groups.push(serde_json::json!({
                "operation": format!("{what} of rows"),
                "size": format!("{size} B"),
                "tasks": 1,
                "contenders": contenders.collect::<Vec<_>>(),
            }));
        }
    }
    if let Some(path) = std::env::var_os("FIGURES") {
        let figures = serde_json::json!({ "throughput": groups, "latency": [] });
        std::fs::write(path, figures.to_string()).expect("the figures can be written");
    }
}
