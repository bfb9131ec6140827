//! The cost of a near hit through the public API, beside the bare cache with the same keys: of one
//! thread, and of two.
//!
//! ```text
//! cargo bench -p benches --bench near
//! ```

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use benches::Rounds;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

benches::user!(Near: prefix = "near", ttl = "1h", near = "1h");

const KEYS: u64 = 1000;
const READS: usize = 400_000;
const ROUNDS: usize = 21;

/// The output of a future that is ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a near hit waits for nothing"),
    }
}

/// The key of a read: all keys in an order that no prefetcher knows.
fn key(thread: usize, read: usize) -> u64 {
    (read as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(20 + thread as u32)
        % KEYS
}

/// The time of `READS` reads in each of some threads.
fn time(threads: usize, read: &(dyn Fn(u64) + Sync)) -> Duration {
    let barrier = Barrier::new(threads);
    let one = |thread: usize| {
        barrier.wait();
        let began = Instant::now();
        (0..READS).for_each(|at| read(key(thread, at)));
        began.elapsed()
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| {
                let one = &one;
                scope.spawn(move || one(thread))
            })
            .collect();
        let times = all.into_iter().map(|one| one.join().unwrap());
        times.max().unwrap()
    })
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Server::plain();
    let store = runtime.block_on(async {
        let store = Store::connect(&server.url()).await.unwrap();
        Near::fill(&store).await;
        // Until changes are reported, nothing is copied.
        loop {
            for id in 0..KEYS {
                assert!(Near::get_shared(&store, id).await.unwrap().is_some());
            }
            if store.stats().near_hits() >= KEYS {
                break store;
            }
        }
    });
    for id in 0..KEYS {
        assert!(ready(Near::get_shared(&store, id)).unwrap().is_some());
    }
    let by_number: Cache<u64, Arc<u64>> = Cache::new(2 * KEYS as usize);
    let by_bytes: Cache<Box<[u8]>, Arc<u64>> = Cache::new(2 * KEYS as usize);
    for id in 0..KEYS {
        by_number.insert(id, Arc::new(id));
        by_bytes.insert(format!("near:{id}").into_bytes().into(), Arc::new(id));
    }
    let read: [&(dyn Fn(u64) + Sync); 4] = [
        &|id| assert_eq!(*by_number.get(&id).unwrap(), id),
        &|id| {
            let key = format!("near:{id}").into_bytes();
            assert_eq!(*by_bytes.get(&key[..]).unwrap(), id);
        },
        &|id| assert_eq!(ready(Near::get_shared(&store, id)).unwrap().unwrap().id, id),
        &|id| {
            assert_eq!(
                black_box(ready(Near::get(&store, id))).unwrap().unwrap().id,
                id
            )
        },
    ];
    let names = [
        "quick_cache, the number as key",
        "quick_cache, the key's bytes",
        "get_shared",
        "get",
    ];
    for threads in [1, 2] {
        let mut rounds = Rounds::new(&names);
        for round in 0..ROUNDS {
            for at in rounds.order(round) {
                rounds.add(at, READS * threads, time(threads, read[at]));
            }
        }
        rounds.print(&format!("near hits of {threads} thread(s)"));
    }
    let mut rounds = Rounds::new(&["1 thread", "2 threads"]);
    for round in 0..ROUNDS {
        for at in rounds.order(round) {
            let threads = at + 1;
            rounds.add(at, READS * threads, time(threads, read[2]));
        }
    }
    rounds.print("get_shared, by threads");
}
