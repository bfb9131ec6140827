//! Allocations: how many a hit makes, and how much is allocated at most for bytes that ask for
//! more.
//!
//! A program of its own, because it counts the allocations of the whole program. The counts are
//! those of one thread, which is also that of the runtime and its connections.

#![cfg(unix)]

use allocation_counter::{AllocationInfo, measure};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "1h")]
struct User {
    #[cached(key)]
    id: u64,
    logins: u64,
    active: bool,
}

const ADA: User = User {
    id: 42,
    logins: 7,
    active: true,
};

/// A text of its own is one allocation.
#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "1h")]
struct Page {
    #[cached(key)]
    id: u64,
    text: String,
}

/// Takes a byte in an entry and 240 in memory.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    wide: Option<[u64; 29]>,
}

/// With either algorithm, under the same keys.
#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "text", ttl = "1h", compress = "zstd")]
struct Zstd {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "text", ttl = "1h", compress = "lz4")]
struct Lz4 {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "sparse", ttl = "1h")]
struct Bomb {
    #[cached(key)]
    id: u64,
    rows: Vec<Sparse>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

const TIMES: u64 = 100;

/// The allocations of one run, where all are alike.
fn each(runtime: &Runtime, mut run: impl AsyncFnMut()) -> f64 {
    runtime.block_on(async {
        for _ in 0..TIMES {
            run().await;
        }
    });
    let info = measure(|| {
        runtime.block_on(async {
            for _ in 0..TIMES {
                run().await;
            }
        });
    });
    info.count_total as f64 / TIMES as f64
}

#[test]
fn a_hit_allocates_its_key_and_its_value() {
    let (runtime, server) = (runtime(), Server::plain());
    for (store, least, most) in [
        (Store::memory(), 1.0, MOST_IN_PROCESS),
        (runtime.block_on(server.store()), 1.0, MOST_ON_SERVER),
    ] {
        store.faults().set_yielding(false);
        let page = Page {
            id: 1,
            text: "x".repeat(100),
        };
        runtime.block_on(async {
            ADA.set(&store).await.unwrap();
            page.set(&store).await.unwrap();
        });
        let plain = each(&runtime, async || {
            assert_eq!(User::get(&store, 42).await.unwrap(), Some(ADA));
        });
        let text = each(&runtime, async || {
            assert!(Page::get(&store, 1).await.unwrap().is_some());
        });
        assert!((least..=most).contains(&plain), "{plain}");
        assert!((text - plain - 1.0).abs() < 0.1, "{text} {plain}");
    }
}

/// The key; and over a server the channel for the answer.
const MOST_IN_PROCESS: f64 = 1.1;
const MOST_ON_SERVER: f64 = 2.1;

/// An entry may make a reader allocate at most 32 times its size.
#[test]
fn an_entry_does_not_decode_to_more_than_its_size_allows() {
    const ROWS: usize = 1 << 20;
    let (runtime, server) = (runtime(), Server::plain());
    let (bytes, read): (usize, AllocationInfo) = {
        let lenient = server.store_builder().max_expansion(1000);
        let lenient = runtime.block_on(lenient.connect()).unwrap();
        let bomb = Bomb {
            id: 1,
            rows: vec![Sparse::default(); ROWS],
        };
        runtime.block_on(bomb.set(&lenient)).unwrap();
        drop(bomb);
        assert_eq!(
            runtime
                .block_on(Bomb::get(&lenient, 1))
                .unwrap()
                .map(|bomb| bomb.rows.len()),
            Some(ROWS)
        );
        let bytes = server.cli(&["STRLEN", "sparse:1"]).parse().unwrap();
        let store = runtime.block_on(server.store());
        // The first use of a type on a store allocates for the type.
        runtime.block_on(Bomb::get(&store, 2)).unwrap();
        let read = measure(|| {
            assert_eq!(runtime.block_on(Bomb::get(&store, 1)).unwrap(), None);
        });
        (bytes, read)
    };
    assert!((ROWS..ROWS + 100).contains(&bytes), "{bytes}");
    let most = 34 * bytes as u64;
    assert!(read.bytes_max < most, "{} of {most}", read.bytes_max);
    assert!(read.bytes_max > bytes as u64, "the entry itself was read");
}

/// A compressed entry makes a reader allocate at most its limit, whatever length it declares and
/// however large it would become.
#[test]
fn a_compressed_entry_does_not_expand_beyond_the_limit() {
    const LIMIT: u64 = 1 << 20;
    let (runtime, server) = (runtime(), Server::plain());
    let builder = || server.store_builder();
    let lenient = runtime.block_on(builder().max_expansion(100_000).connect());
    let lenient = lenient.unwrap();
    let small = builder().max_size(LIMIT as usize).max_expansion(100_000);
    let small = runtime.block_on(small.connect()).unwrap();
    // The first use of a type on a store allocates for the type.
    runtime.block_on(Zstd::get(&small, 9)).unwrap();
    let get = |server: &Server| match server.command(&["GET", "text:1"]) {
        valkey_tests::resp::Value::Bulk(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    for lz4 in [false, true] {
        let text = "x".repeat(8 << 20);
        runtime.block_on(async {
            match lz4 {
                true => Lz4 { id: 1, text }.set(&lenient).await,
                false => Zstd { id: 1, text }.set(&lenient).await,
            }
            .unwrap()
        });
        let honest = get(&server);
        assert!(honest.len() < 64 << 10, "{}", honest.len());
        // What it is; 4 GiB; and just what the limit allows.
        for declared in [None, Some(u32::MAX), Some(LIMIT as u32)] {
            let mut entry = honest.clone();
            if let Some(declared) = declared {
                entry[40..44].copy_from_slice(&declared.to_be_bytes());
                let key = u32::from_be_bytes(entry[21..25].try_into().unwrap());
                let seed = u64::from(entry[30]) << 56 | 1 << 32 | u64::from(key);
                let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&entry[35..], seed) as u32;
                entry[26..30].copy_from_slice(&sum.to_be_bytes());
            }
            server.command(&[b"SET".as_slice(), b"text:1", &entry]);
            let corrupt = small.stats().corrupt();
            let read = measure(|| {
                assert_eq!(runtime.block_on(Zstd::get(&small, 1)).unwrap(), None);
            });
            assert_eq!(small.stats().corrupt(), corrupt + 1);
            let most = LIMIT + 4 * entry.len() as u64 + 4096;
            assert!(
                read.bytes_max < most,
                "{declared:?}: {} of {most}",
                read.bytes_max
            );
        }
    }
}
