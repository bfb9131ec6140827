//! The cost of tags: a hit without tags, with one and five tags from the key, and with one from the
//! value. Also an invalidation of one entry and of a million.
//!
//! ```text
//! cargo bench -p benches --bench tags
//! ```

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::time::Duration;

use benches::{KEYS, contender, race, timed};
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};
use valkey_tests::{Server, resp::Value};

benches::user!(Plain: prefix = "plain", ttl = "1h");
benches::user!(OneTag: prefix = "one", ttl = "1h", tag = "user:{id}");
benches::user!(FiveTags: prefix = "five", ttl = "1h", tag = "user:{id}", tag = "users", tag = "a", tag = "b", tag = "c");
benches::user!(OfTheValue: prefix = "value", ttl = "1h", tag = "city:{city}");

/// One entry of a million.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "many", ttl = "1h", tag = "group:{group}")]
struct Many {
    #[cached(key)]
    id: u64,
    group: u64,
}

const MILLION: u64 = 1_000_000;

#[tokio::main]
async fn main() {
    let server = Server::plain();
    let store = Store::connect(&server.url()).await.unwrap();
    Plain::fill(&store).await;
    OneTag::fill(&store).await;
    FiveTags::fill(&store).await;
    OfTheValue::fill(&store).await;
    macro_rules! hit {
        ($of:ident) => {
            contender(&store, |store, id| async move {
                let load = async || Err::<$of, _>("it is there");
                let found = $of::get_or_load(&store, id, load).await.unwrap();
                assert!(found.active);
            })
        };
    }
    let contenders = [hit!(Plain), hit!(OneTag), hit!(FiveTags), hit!(OfTheValue)];
    let names = [
        "no tags",
        "one tag, from the key",
        "five tags, from the key",
        "one tag, from the value",
    ];
    for (tasks, reads) in [(1, 2_000), (64, 12_800)] {
        let title = format!("hits with {tasks} task(s), {KEYS} keys");
        race(&title, &names, &contenders, (tasks, reads, 61)).await;
    }
    assert_eq!(store.stats().loads(), 0);
    invalidations(&server, &store).await;
}

/// Group 0 has a million entries, and each other group has one.
async fn invalidations(server: &Server, store: &Store) {
    const ROUNDS: u64 = 201;
    let fill = async |ids: std::ops::Range<u64>, group: fn(u64) -> u64| {
        for first in ids.clone().step_by(10_000) {
            let last = ids.end.min(first + 10_000);
            let entries = (first..last).map(|id| Many {
                id,
                group: group(id),
            });
            let entries: Vec<_> = entries.collect();
            Many::set_many(store, &entries).await.unwrap();
        }
    };
    fill(0..MILLION, |_| 0).await;
    fill(MILLION..MILLION + ROUNDS, |id| id - MILLION + 1).await;
    println!("\nkeys in the server: {:?}", server.command(&["DBSIZE"]));
    assert!(Many::exists(store, MILLION - 1).await.unwrap());

    let (mut of_million, mut of_one) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        of_million.push(timed(invalidate(store, 0)).await.1);
        of_one.push(timed(invalidate(store, round)).await.1);
    }
    println!(
        "the first invalidation of a million entries: {:?}",
        of_million[0]
    );
    println!(
        "the median of {ROUNDS}, of a million entries:  {:?}",
        median(&mut of_million)
    );
    println!(
        "the median of {ROUNDS}, of one entry:          {:?}",
        median(&mut of_one)
    );
    let mut left = 0;
    for first in (0..MILLION).step_by(10_000) {
        let found = Many::get_many(store, first..first + 10_000).await.unwrap();
        left += found.iter().flatten().count();
    }
    println!("of the million are still served: {left}");
    assert_eq!(left, 0);
    let keys = server.command(&["DBSIZE"]);
    assert!(
        matches!(keys, Value::Integer(keys) if keys > 1_000_000),
        "{keys:?}"
    );
}

async fn invalidate(store: &Store, group: u64) {
    Many::cache_tags()
        .group(group)
        .invalidate(store)
        .await
        .unwrap();
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
