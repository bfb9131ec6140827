//! The load builder: each combination of choices does what each of them does alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use valkey_runtime::{Cached, LoadError, Loaded, ManualClock, Source, Store, Ttl};

use crate::database::until;
use crate::stores::On;

suite! {
    crate::builder =>
    a_loader_that_always_has_a_value_gives_one
    and_takes_no_absence_from_others
    rows_are_values_or_pairs_of_key_and_value
    a_row_says_how_it_is_stored
    many_are_loaded_fresh
    many_bypass_the_cache
    many_have_the_metadata_of_their_entries
    a_key_that_comes_twice_has_its_value_twice
    many_have_a_hard_timeout
    a_look_up_has_the_choices_of_a_load
    a_ttl_of_the_call_is_that_of_the_entry
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "row", ttl = "5m", ttl_absent = "1m", jitter = "0%")]
struct Row {
    #[cached(key)]
    id: u64,
    #[cached(alias)]
    name: String,
}

fn row(id: u64, name: &str) -> Row {
    let name = name.to_owned();
    Row { id, name }
}

async fn a_loader_that_always_has_a_value_gives_one(on: On) {
    let store = on.store("always").await;
    let loaded: Result<Row, ()> = Row::get_or_load(&store, 1, async || Ok(row(1, "Ada"))).await;
    assert_eq!(loaded, Ok(row(1, "Ada")));
    let load = store.of::<Row>().load(1).entry();
    let hit = load
        .run(async || Err::<Row, _>("it is cached"))
        .await
        .unwrap();
    assert_eq!(
        (hit.source(), hit.into_value()),
        (Source::Cached, row(1, "Ada"))
    );
}

async fn and_takes_no_absence_from_others(on: On) {
    let store = on.store("absences").await;
    let absent = async || Ok::<_, ()>(None::<Row>);
    assert_eq!(Row::get_or_load(&store, 1, absent).await, Ok(None));
    assert_eq!(store.stats().loads(), 1);
    assert_eq!(Row::get_or_load(&store, 1, absent).await, Ok(None));
    assert_eq!(store.stats().loads(), 1, "that there is none is cached");

    // One that is cached.
    let loaded = Row::get_or_load(&store, 1, async || Ok::<_, ()>(row(1, "Ada"))).await;
    assert_eq!(loaded, Ok(row(1, "Ada")));
    assert_eq!(
        Row::get(&store, 1).await.unwrap(),
        Some(row(1, "Ada")),
        "its value took the place"
    );

    // And one that is loaded at the moment.
    let (begun, end) = (Notify::new(), Notify::new());
    let leader = Row::get_or_load(&store, 2, async || {
        begun.notify_one();
        end.notified().await;
        Ok::<_, ()>(None::<Row>)
    });
    let follower = async {
        begun.notified().await;
        let follower = Row::get_or_load(&store, 2, async || Ok::<_, ()>(row(2, "Alan")));
        let end = async {
            until("the follower waits", async || store.stats().misses() == 3).await;
            end.notify_one();
        };
        tokio::join!(follower, end).0
    };
    let (led, followed) = tokio::join!(leader, follower);
    assert_eq!((led, followed), (Ok(None), Ok(row(2, "Alan"))));
}

async fn rows_are_values_or_pairs_of_key_and_value(on: On) {
    let store = on.store("rows").await;
    let values = async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| row(id, "v")));
    let loaded = Row::get_or_load_many(&store, [1, 2], values).await.unwrap();
    assert_eq!(loaded, [Some(row(1, "v")), Some(row(2, "v"))]);
    let pairs = async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| (id, row(id, "p"))));
    let loaded = Row::get_or_load_many(&store, [2, 3], pairs).await.unwrap();
    assert_eq!(loaded, [Some(row(2, "v")), Some(row(3, "p"))]);
    // A row that was not asked for has no place.
    let others = async |_| Ok::<_, ()>([row(9, "o")]);
    assert_eq!(
        Row::get_or_load_many(&store, [4], others).await,
        Ok(vec![None])
    );
    assert_eq!(Row::get(&store, 9).await.unwrap(), None);
}

async fn a_row_says_how_it_is_stored(on: On) {
    let store = on.store("rows-stored").await;
    let a_minute = Duration::from_secs(60);
    let load = async |ids: Vec<u64>| {
        Ok::<_, ()>(ids.into_iter().map(move |id| match id {
            1 => (id, Loaded::value(row(id, "v")).ttl(a_minute)),
            _ => (id, Loaded::value(row(id, "v")).dont_store()),
        }))
    };
    let loaded = Row::get_or_load_many(&store, [1, 2], load).await.unwrap();
    assert_eq!(loaded.iter().flatten().count(), 2);
    let rows = store.of::<Row>();
    assert!(matches!(rows.ttl(1).await.unwrap(), Some(Ttl::After(left)) if left <= a_minute));
    assert!(!rows.exists(2).await.unwrap());
}

async fn many_are_loaded_fresh(on: On) {
    let store = on.store("many-fresh").await;
    Row::set_many(&store, &[row(1, "old"), row(2, "old")])
        .await
        .unwrap();
    let load = store.of::<Row>().load_many([1, 2]).fresh();
    let loaded =
        load.run(async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| row(id, "new"))));
    assert_eq!(
        loaded.await,
        Ok(vec![Some(row(1, "new")), Some(row(2, "new"))])
    );
    assert_eq!(Row::get(&store, 2).await.unwrap(), Some(row(2, "new")));
}

async fn many_bypass_the_cache(on: On) {
    let store = on.store("many-bypass").await;
    row(1, "old").set(&store).await.unwrap();
    let load = store.of::<Row>().load_many([1, 2]).bypass();
    let loaded =
        load.run(async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| row(id, "new"))));
    assert_eq!(
        loaded.await,
        Ok(vec![Some(row(1, "new")), Some(row(2, "new"))])
    );
    let cached = Row::get_many(&store, [1, 2]).await.unwrap();
    assert_eq!(cached, [Some(row(1, "old")), None]);
    assert_eq!(store.stats().loads(), 1, "one run of the loader");
}

async fn many_have_the_metadata_of_their_entries(on: On) {
    let store = on.store("many-entries").await;
    row(1, "v").set(&store).await.unwrap();
    let load = store.of::<Row>().load_many([1, 2, 3]).entry();
    let found = load.run(async |ids: Vec<u64>| {
        Ok::<_, ()>(ids.into_iter().filter(|id| *id < 3).map(|id| row(id, "v")))
    });
    let found = found.await.unwrap();
    let sources = found
        .iter()
        .map(|entry| entry.as_ref().map(valkey_runtime::Entry::source));
    let sources: Vec<_> = sources.collect();
    assert_eq!(sources, [Some(Source::Cached), Some(Source::Loaded), None]);
    for entry in found.iter().flatten() {
        let left = entry.expires_in();
        assert!(
            matches!(left, Some(Ttl::After(left)) if left <= Duration::from_secs(300)),
            "{left:?}"
        );
    }
}

async fn a_key_that_comes_twice_has_its_value_twice(on: On) {
    let store = on.store("many-twice").await;
    let load = async |ids: Vec<u64>| {
        assert_eq!(ids, [7, 8]);
        Ok::<_, ()>(ids.into_iter().map(|id| row(id, "v")))
    };
    let loaded = store
        .of::<Row>()
        .load_many([7, 8, 7])
        .entry()
        .run(load)
        .await
        .unwrap();
    let loaded = loaded.into_iter().map(|entry| entry.unwrap().into_value());
    assert_eq!(
        loaded.collect::<Vec<_>>(),
        [row(7, "v"), row(8, "v"), row(7, "v")]
    );
}

async fn many_have_a_hard_timeout(on: On) {
    let store = on.store("many-timeout").await;
    let load = store
        .of::<Row>()
        .load_many([1, 2])
        .timeout(Duration::from_millis(20));
    let hung = load.run(async |_| std::future::pending::<Result<Vec<Row>, ()>>().await);
    assert_eq!(hung.await, Err(LoadError::Deadline));
    let failed = store
        .of::<Row>()
        .load_many([1])
        .queue_timeout(Duration::from_secs(60));
    let failed = failed.run(async |_| Err::<Vec<Row>, _>("no database"));
    assert_eq!(failed.await, Err(LoadError::Load("no database")));
}

async fn a_look_up_has_the_choices_of_a_load(on: On) {
    let store = on.store("look-up").await;
    let (found, loaded) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let find = async || {
        found.fetch_add(1, SeqCst);
        Ok::<_, ()>(Some(1))
    };
    let load = async |id| {
        loaded.fetch_add(1, SeqCst);
        Ok::<_, ()>(row(id, "Ada"))
    };
    let queries = || (found.load(SeqCst), loaded.load(SeqCst));
    let by_name = || Row::load_by_name(&store, "Ada");
    let first = by_name().entry().run(find, load).await.unwrap().unwrap();
    assert_eq!((first.source(), queries()), (Source::Loaded, (1, 1)));
    let second = by_name().entry().run(find, load).await.unwrap().unwrap();
    assert_eq!((second.source(), queries()), (Source::Cached, (1, 1)));
    by_name().fresh().run(find, load).await.unwrap().unwrap();
    assert_eq!(queries(), (2, 2));
    by_name().bypass().run(find, load).await.unwrap().unwrap();
    assert_eq!(queries(), (3, 3));
    let in_background = by_name().in_background().run(
        || async { Err::<Option<u64>, _>("it is cached") },
        |_| async { Err::<Row, _>("it is cached") },
    );
    assert_eq!(in_background.await, Ok(Some(row(1, "Ada"))));
    let hung = by_name().fresh().timeout(Duration::from_millis(20));
    let hung = hung.run(
        async || Ok(Some(1)),
        async |_| std::future::pending::<Result<Row, ()>>().await,
    );
    assert_eq!(hung.await, Err(LoadError::Deadline));
}

async fn a_ttl_of_the_call_is_that_of_the_entry(on: On) {
    let store = on.store("call-ttl").await;
    let rows = store.of::<Row>();
    let a_minute = Duration::from_secs(60);
    let load = async || Ok::<_, ()>(row(1, "v"));
    let loaded = rows
        .load(1)
        .ttl(a_minute)
        .fresh()
        .entry()
        .run(load)
        .await
        .unwrap();
    assert_eq!(loaded.expires_in(), Some(Ttl::After(a_minute)));
    let load = async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| row(id, "v")));
    let loaded = rows
        .load_many([2])
        .ttl(a_minute)
        .entry()
        .run(load)
        .await
        .unwrap();
    assert_eq!(
        loaded[0].as_ref().unwrap().expires_in(),
        Some(Ttl::After(a_minute))
    );
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    ttl = "100s",
    jitter = "0%",
    refresh_ahead = "80%",
    stale_if_error = "1h",
    load_timeout = "1ms"
)]
struct Price {
    #[cached(key)]
    id: u64,
    cents: u64,
}

async fn on_clock() -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    (store.connect().await.unwrap(), clock)
}

fn price(id: u64, cents: u64) -> Price {
    Price { id, cents }
}

/// Prices by one load in the background, which ends when it is let go.
#[derive(Clone, Default)]
struct Prices {
    asked: Arc<std::sync::Mutex<Vec<Vec<u64>>>>,
    open: Arc<Notify>,
    waits: bool,
}

impl Prices {
    async fn of(self, ids: Vec<u64>) -> Result<Vec<Price>, ()> {
        self.asked.lock().unwrap().push(ids.clone());
        if self.waits {
            self.open.notified().await;
        }
        Ok(ids.into_iter().map(|id| price(id, 2)).collect())
    }

    async fn get(&self, store: &Store, ids: impl IntoIterator<Item = u64>) -> Vec<Option<u64>> {
        let prices = self.clone();
        let load = store.of::<Price>().load_many(ids).in_background();
        let found = load.run(move |ids| prices.clone().of(ids)).await.unwrap();
        found.into_iter().map(|price| Some(price?.cents)).collect()
    }
}

/// Hits whose time is mostly over are loaded again by one run of the loader, and nobody waits for
/// it.
#[tokio::test]
async fn many_are_refreshed_ahead_in_one_load() {
    let (store, clock) = on_clock().await;
    Price::set_many(&store, &[price(1, 1), price(2, 1), price(3, 1)])
        .await
        .unwrap();
    clock.advance(Duration::from_secs(85));
    price(3, 1).set(&store).await.unwrap();
    let prices = Prices::default();
    // One of them is missing, and is loaded for the caller.
    let found = prices.get(&store, [1, 2, 3, 4]).await;
    assert_eq!(found, [Some(1), Some(1), Some(1), Some(2)]);
    until("the load is over", async || {
        store.stats().background_running() == 0
    })
    .await;
    let mut asked = prices.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, [vec![1, 2], vec![4]]);
    assert_eq!(store.stats().refreshes(), 2);
    let found = prices.get(&store, [1, 2, 3]).await;
    assert_eq!(found, [Some(2), Some(2), Some(1)]);
}

/// Stale values are the answer after `load_timeout`, and the load goes on.
#[tokio::test]
async fn many_stale_values_serve_while_their_load_is_slow() {
    let (store, clock) = on_clock().await;
    Price::set_many(&store, &[price(1, 1), price(2, 1)])
        .await
        .unwrap();
    clock.advance(Duration::from_secs(101));
    let prices = Prices {
        waits: true,
        ..Prices::default()
    };
    assert_eq!(prices.get(&store, [1, 2]).await, [Some(1), Some(1)]);
    assert_eq!(store.stats().stale(), 2);
    prices.open.notify_one();
    until("the load is over", async || {
        store.stats().background_running() == 0
    })
    .await;
    assert_eq!(prices.get(&store, [1, 2]).await, [Some(2), Some(2)]);
    assert_eq!(*prices.asked.lock().unwrap(), [vec![1, 2]]);
}

/// Where one of the keys has no value to serve, its callers wait for the load, and all of its
/// values are new.
#[tokio::test]
async fn many_wait_for_a_key_without_a_stale_value() {
    let (store, clock) = on_clock().await;
    price(1, 1).set(&store).await.unwrap();
    clock.advance(Duration::from_secs(101));
    let prices = Prices {
        waits: true,
        ..Prices::default()
    };
    let opened = async {
        until("they are loaded", async || {
            !prices.asked.lock().unwrap().is_empty()
        })
        .await;
        prices.open.notify_one();
    };
    let (found, ()) = tokio::join!(prices.get(&store, [1, 2]), opened);
    assert_eq!(found, [Some(2), Some(2)]);
}

/// A load of a loader that always has a value shares the value of another such load.
#[tokio::test]
async fn loads_of_values_are_shared() {
    let store = Store::memory();
    let loads = AtomicUsize::new(0);
    let load = async || {
        loads.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        Ok::<_, ()>(row(1, "Ada"))
    };
    let given = join_all((0..10).map(|_| Row::get_or_load(&store, 1, load))).await;
    assert!(given.iter().all(|given| *given == Ok(row(1, "Ada"))));
    assert_eq!(loads.load(SeqCst), 1);
}
