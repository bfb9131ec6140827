//! Loads under more demand than there is capacity, loaders that hang, panic or block, and callers
//! that nobody polls: the cache goes on working, and comes back by itself.
//!
//! Most of it runs in stopped time, which goes on whenever nobody has anything to do: seconds of
//! queueing take no time, and durations are exact.

use std::ffi::OsString;
use std::future::pending;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use valkey_runtime::{Cached, Clock, ErrorKind, LoadError, Loaded, Source, Stale, Store};
use valkey_tests::Server;

use crate::log::Log;

#[path = "operations/log.rs"]
mod log;

/// Tokio's time, which stands still while anybody has something to do.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_micros(&self) -> u64 {
        1_767_225_600_000_000 + u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

async fn memory() -> Store {
    let clock = Arc::new(TokioClock(Instant::now()));
    let store = Store::builder().memory().clock(clock);
    store.connect().await.unwrap()
}

/// Until the other tasks have brought it about, without a moment of time.
async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came about");
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The warnings about a type.
fn warnings(log: &Log, of: &str) -> Vec<String> {
    let of = format!("db.collection.name={of:?}");
    let lines = log.lines("WARN").into_iter();
    lines.filter(|line| line.contains(&of)).collect()
}

/// The number of lines that each of these lines stands for in addition to itself: `None` for the
/// first one, which is logged at once.
fn repeated(lines: &[String]) -> Vec<Option<u64>> {
    let number = |line: &String| {
        let (_, number) = line.split_once("repeated=")?;
        let number = number.split(|c: char| !c.is_ascii_digit()).next()?;
        number.parse().ok()
    };
    lines.iter().map(number).collect()
}

/// Eight loads of half a second at a time: sixteen a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "hot", max_loads = 8)]
struct Hot {
    #[cached(key)]
    id: u64,
}

/// With every default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
struct Default64 {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(max_loads = 1, load_deadline = "2s")]
struct One {
    #[cached(key)]
    id: u64,
}

macro_rules! slow {
    ($name:ident, $of:ident, $millis:literal) => {
        async fn $name(store: &Store, id: u64) -> $of {
            let load = async || {
                sleep(Duration::from_millis($millis)).await;
                Ok::<_, ()>($of { id })
            };
            $of::get_or_load(store, id, load).await.unwrap()
        }
    };
}

slow!(hot, Hot, 500);
slow!(default64, Default64, 500);
slow!(one, One, 20);

mod overload {
    use super::*;

    /// Every key is asked for once a second, and nobody gives up. All are stored as fast as the
    /// loads allow, each by one load.
    #[tokio::test(start_paused = true)]
    async fn a_backlog_of_more_than_ten_seconds_is_worked_off() {
        let (store, began) = (memory().await, Instant::now());
        let mut calls = JoinSet::new();
        while store.of::<Hot>().count().await.unwrap() < 300 {
            for id in 0..300 {
                let store = store.clone();
                calls.spawn(async move { hot(&store, id).await });
            }
            sleep(seconds(1.0)).await;
            assert!(began.elapsed() < seconds(60.0), "{}", store.stats());
        }
        let taken = began.elapsed();
        assert!(taken <= seconds(1.2 * 19.0), "{taken:?}");
        calls.join_all().await;
        let stats = store.stats();
        assert_eq!((stats.loads(), stats.refused_fills()), (300, 0));
        assert_eq!((stats.loads_running(), stats.loads_queued()), (0, 0));
        // A call that looked before its key was stored, and joins after, queues once more and then
        // finds it.
        assert!(stats.queued_loads() >= 292, "{}", stats.queued_loads());
        assert!(stats.longest_queue() >= seconds(18.0), "{stats}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cold_start_with_every_default_is_over_when_each_key_was_loaded_once() {
        let (store, began) = (memory().await, Instant::now());
        let mut calls = JoinSet::new();
        while store.of::<Default64>().count().await.unwrap() < 3000 {
            for id in 0..3000 {
                let store = store.clone();
                calls.spawn(async move { default64(&store, id).await });
            }
            sleep(seconds(2.0)).await;
            assert!(began.elapsed() < seconds(60.0), "{}", store.stats());
        }
        let taken = began.elapsed();
        assert!(
            taken <= seconds(1.2 * 3000.0 * 0.5 / 64.0),
            "{taken:?} of {}",
            store.stats()
        );
        calls.join_all().await;
        assert_eq!(store.stats().loads(), 3000);
    }

    /// Callers of ever other keys, who give up after five seconds: first twice as many as can be
    /// served, then half as many.
    #[tokio::test(start_paused = true)]
    async fn goodput_holds_while_callers_give_up_and_comes_back_by_itself() {
        let store = memory().await;
        let mut id = 0;
        let mut callers = async |a_second: u64, for_seconds: u64| {
            let mut calls = JoinSet::new();
            for _ in 0..for_seconds * a_second {
                let store = store.clone();
                id += 1;
                calls.spawn(async move { timeout(seconds(5.0), hot(&store, id)).await.is_ok() });
                sleep(seconds(1.0) / u32::try_from(a_second).unwrap()).await;
            }
            let served = calls.join_all().await;
            served.into_iter().filter(|served| *served).count()
        };
        let served = callers(32, 30).await;
        // 30 s and the 5 s after that are 560 loads.
        assert!(served >= 240, "{served} of 960");
        let served = callers(8, 20).await;
        assert_eq!(served, 160, "{}", store.stats());
        assert_eq!(store.stats().loads_queued(), 0);
    }

    /// The first caller of a key gives up while it is queued; the place in the queue is that of the
    /// key.
    #[tokio::test(start_paused = true)]
    async fn a_follower_takes_the_place_of_a_queued_leader_that_gives_up() {
        let store = memory().await;
        let mut others = JoinSet::new();
        for id in 0..16 {
            let store = store.clone();
            others.spawn(async move { hot(&store, id).await });
        }
        until(|| store.stats().loads_queued() == 8).await;
        let short = timeout(seconds(0.7), hot(&store, 100));
        let long = async {
            sleep(seconds(0.1)).await;
            hot(&store, 100).await
        };
        // Newer ones, which have every other turn while so many wait.
        let newer = async {
            sleep(seconds(0.1)).await;
            join_all((200..208).map(|id| hot(&store, id))).await
        };
        let (short, long, _) = tokio::join!(short, long, newer);
        assert!(short.is_err(), "it gives up while it is queued");
        assert_eq!(long, Hot { id: 100 });
        others.join_all().await;
        assert_eq!(store.stats().loads(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_follows_a_queued_load_queues_no_longer_than_it_says() {
        let store = memory().await;
        let mut others = JoinSet::new();
        for id in 0..9 {
            let (running, queued) = if id < 8 { (id + 1, 0) } else { (8, 1) };
            let call = store.clone();
            others.spawn(async move { hot(&call, id).await });
            until(|| {
                let stats = store.stats();
                (stats.loads_running(), stats.loads_queued()) == (running, queued)
            })
            .await;
        }
        let load = async || Ok::<_, ()>(Hot { id: 8 });
        let queued = store
            .of::<Hot>()
            .load(8)
            .queue_timeout(seconds(0.2))
            .run(load)
            .await;
        assert_eq!(queued, Err(LoadError::Queue));
        let many = store.of::<Hot>();
        let load = async |_| Ok::<_, ()>([(20, Hot { id: 20 })]);
        let queued = many
            .load_many([20])
            .queue_timeout(seconds(0.2))
            .run(load)
            .await;
        assert_eq!(queued, Err(LoadError::Queue));
        others.join_all().await;
    }
}

mod hangs {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hung_key_costs_its_own_callers_alone() {
        let store = memory().await;
        let mut hung = JoinSet::new();
        for id in 1..=60 {
            let store2 = store.clone();
            hung.spawn(
                async move { Hot::get_or_load(&store2, 0, pending::<Result<Hot, ()>>).await },
            );
            let began = Instant::now();
            assert_eq!(hot(&store, id).await, Hot { id });
            assert_eq!(began.elapsed(), seconds(0.5), "key {id}");
            sleep(seconds(0.5)).await;
        }
        let stats = store.stats();
        // Its lease is renewed for ten seconds, and then the next caller has one; each load ends
        // after thirty.
        assert!(stats.loads_running() <= 3, "{}", stats.loads_running());
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_passes_its_deadline_has_failed() {
        let store = memory().await;
        let hung = tokio::spawn({
            let store = store.clone();
            async move { One::get_or_load(&store, 1, pending::<Result<One, ()>>).await }
        });
        until(|| store.stats().loads() == 1).await;
        let began = Instant::now();
        // The same key, and another.
        let (same, other) = tokio::join!(one(&store, 1), one(&store, 2));
        assert_eq!((same.id, other.id), (1, 2));
        let taken = began.elapsed();
        assert!(taken >= seconds(2.0) && taken < seconds(2.2), "{taken:?}");
        let stats = store.stats();
        assert_eq!((stats.late_loads(), stats.failed_loads()), (1, 1));
        assert!(One::exists(&store, 1).await.unwrap(), "it is stored");
        assert!(!hung.is_finished(), "its own caller goes on waiting");
        hung.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_limits_is_given_an_error_at_the_deadline_of_its_type() {
        let store = memory().await;
        let load = pending::<Result<One, ()>>;
        let given = store
            .of::<One>()
            .load(1)
            .queue_timeout(seconds(3600.0))
            .run(load)
            .await;
        assert_eq!(given, Err(LoadError::Deadline));
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(
        ttl = "1s",
        jitter = "0%",
        stale_if_error = "1h",
        load_timeout = "100ms",
        load_deadline = "2s",
        max_loads = 1
    )]
    struct Served {
        #[cached(key)]
        id: u64,
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_value_is_served_at_the_deadline() {
        let store = memory().await;
        Served { id: 1 }.set(&store).await.unwrap();
        sleep(seconds(1.5)).await;
        let began = Instant::now();
        let served = Served::get_or_load(&store, 1, pending::<Result<Served, ()>>).await;
        assert_eq!(served, Ok(Served { id: 1 }));
        assert_eq!(began.elapsed(), seconds(2.0));
    }

    /// The only turn is that of another key, which hangs.
    #[tokio::test(start_paused = true)]
    async fn the_timeout_for_stale_values_covers_the_queue() {
        let store = memory().await;
        Served { id: 1 }.set(&store).await.unwrap();
        sleep(seconds(1.5)).await;
        let hung = tokio::spawn({
            let store = store.clone();
            async move { Served::get_or_load(&store, 2, pending::<Result<Served, ()>>).await }
        });
        until(|| store.stats().loads() == 1).await;
        let loads = store.stats().loads();
        let load = async || Ok::<_, ()>(Served { id: 1 });
        for refreshes in [false, true] {
            let began = Instant::now();
            let served = match refreshes {
                false => store.of::<Served>().load(1).entry().run(load).await,
                true => {
                    store
                        .of::<Served>()
                        .load(1)
                        .in_background()
                        .entry()
                        .run(async || Ok::<_, ()>(Served { id: 1 }))
                        .await
                }
            };
            assert_eq!(served.unwrap().source(), Source::Stale);
            assert_eq!(began.elapsed(), Duration::from_millis(100));
        }
        let many =
            Served::get_or_load_many(&store, [1], async |_| Ok::<_, ()>([(1, Served { id: 1 })]));
        assert_eq!(many.await, Ok(vec![Some(Served { id: 1 })]));
        assert_eq!(store.stats().loads(), loads);
        hung.abort();
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(max_loads = 4)]
    struct Row {
        #[cached(key)]
        id: u64,
    }

    /// One process has all its turns taken by loads that hang, and a call in its queue. Another
    /// loads that key, and stores it.
    #[tokio::test]
    async fn a_process_whose_turns_are_taken_keeps_no_key_from_another() {
        let server = Server::plain();
        let patient = server.store_builder().command_timeout(seconds(30.0));
        let patient = patient.operation_timeout(seconds(60.0));
        let one = patient.clone().connect().await.unwrap();
        let other = patient.connect().await.unwrap();
        let row = async |store: &Store, id| {
            Row::get_or_load(store, id, async || Ok::<_, ()>(Row { id })).await
        };
        let mut hung = JoinSet::new();
        for id in 0..4 {
            let one = one.clone();
            hung.spawn(async move { Row::get_or_load(&one, id, pending::<Result<Row, ()>>).await });
        }
        let mut queued = pin!(row(&one, 105));
        let began = Instant::now();
        while one.stats().loads_queued() == 0 {
            assert!(began.elapsed() < seconds(60.0), "the call is not queued");
            let waits = timeout(Duration::from_millis(1), &mut queued).await;
            assert!(waits.is_err());
        }
        assert_eq!(row(&other, 105).await, Ok(Row { id: 105 }));
        assert_eq!(other.stats().waited(), 0, "there is no lease to wait for");
        assert!(Row::exists(&other, 105).await.unwrap(), "it is stored");
        // Once its turn comes it looks once more, and loads nothing.
        hung.abort_all();
        assert_eq!(queued.await, Ok(Row { id: 105 }));
        assert_eq!(one.stats().loads(), 4);
    }
}

mod unpolled {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    struct Item {
        #[cached(key)]
        id: u64,
    }

    slow!(item, Item, 20);

    /// The stream holds all turns of the type, and is not polled while its consumer loads one more.
    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_consumer_loads_goes_on() {
        let store = memory().await;
        let began = Instant::now();
        let mut items = stream::iter(0..100)
            .map(|id| item(&store, id))
            .buffer_unordered(100);
        let mut seen = 0;
        while let Some(found) = items.next().await {
            item(&store, 1000 + found.id).await;
            seen += 1;
        }
        let (taken, stats) = (began.elapsed(), store.stats());
        assert_eq!(seen, 100);
        assert!(taken < seconds(20.0), "{taken:?}");
        assert!(stats.stalled_loads() > 0, "{stats}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_branch_that_select_left_stops_neither_its_key_nor_others() {
        let store = memory().await;
        for id in [1, 2] {
            let left = One::get_or_load(&store, 1, async || {
                sleep(seconds(1.0)).await;
                Ok::<_, ()>(One { id: 1 })
            });
            let mut left = pin!(left);
            tokio::select! {
                given = &mut left => panic!("{given:?}"),
                () = sleep(seconds(0.1)) => {}
            }
            let began = Instant::now();
            assert_eq!(one(&store, id).await, One { id });
            let taken = began.elapsed();
            assert!(taken < seconds(2.5), "key {id}: {taken:?}");
            // It goes on when it is polled, and has what it loads for itself.
            assert_eq!(left.await, Ok(One { id: 1 }));
            One::del(&store, 1).await.unwrap();
        }
        assert_eq!(store.stats().stalled_loads(), 2);
        assert_eq!(store.stats().loads_running(), 0);
    }

    /// The future was queued when it was left: its turn comes while nobody polls it.
    #[tokio::test(start_paused = true)]
    async fn a_queued_branch_that_select_left_gives_its_turn_up() {
        let store = memory().await;
        let first = tokio::spawn({
            let store = store.clone();
            async move { one(&store, 1).await }
        });
        until(|| store.stats().loads() == 1).await;
        let mut left = pin!(one(&store, 2));
        tokio::select! {
            given = &mut left => panic!("{given:?}"),
            () = sleep(Duration::from_millis(1)) => {}
        }
        first.await.unwrap();
        assert_eq!(
            timeout(seconds(5.0), one(&store, 3)).await,
            Ok(One { id: 3 })
        );
        assert_eq!(left.await, One { id: 2 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_bulk_load_that_is_not_polled_stops_no_other() {
        let store = memory().await;
        let load = async |ids: Vec<u64>| {
            sleep(seconds(1.0)).await;
            Ok::<_, ()>(ids.into_iter().map(|id| (id, One { id })))
        };
        let mut left = pin!(One::get_or_load_many(&store, [1, 2], load));
        tokio::select! {
            given = &mut left => panic!("{given:?}"),
            () = sleep(seconds(0.1)) => {}
        }
        let both = async { tokio::join!(one(&store, 1), one(&store, 3)) };
        let (same, other) = timeout(seconds(6.0), both).await.unwrap();
        assert_eq!((same.id, other.id), (1, 3));
        assert_eq!(left.await.unwrap().len(), 2);
    }
}

mod nested {
    use super::*;

    fn chain(store: &Store, id: u64) -> std::pin::Pin<Box<dyn Future<Output = One> + Send + '_>> {
        Box::pin(async move {
            let load = async || {
                if id > 0 {
                    chain(store, id - 1).await;
                }
                Ok::<_, ()>(One { id })
            };
            One::get_or_load(store, id, load).await.unwrap()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn loads_of_one_type_within_one_another_need_one_turn() {
        let (store, began) = (memory().await, Instant::now());
        assert_eq!(chain(&store, 10).await.id, 10);
        let children = One::get_or_load(&store, 1000, async || {
            join_all((100..200).map(|id| one(&store, id))).await;
            Ok::<_, ()>(One { id: 1000 })
        });
        assert!(children.await.is_ok());
        let of_itself = One::get_or_load(&store, 2000, async || {
            One::get_or_load(&store, 2000, async || Ok::<_, ()>(One { id: 2000 })).await
        });
        assert!(of_itself.await.is_ok());
        assert_eq!(began.elapsed(), Duration::from_millis(20));
        assert_eq!(store.stats().loads_beside_turns(), 0);
    }

    #[derive(Clone, Debug, Serialize, Deserialize, Cached)]
    #[cached(max_loads = 4)]
    struct Left {
        #[cached(key)]
        id: u64,
    }

    #[derive(Clone, Debug, Serialize, Deserialize, Cached)]
    #[cached(max_loads = 4)]
    struct Right {
        #[cached(key)]
        id: u64,
    }

    macro_rules! within {
        ($name:ident, $outer:ident, $inner:ident) => {
            async fn $name(store: &Store, id: u64) {
                let load = async || {
                    sleep(Duration::from_millis(20)).await;
                    let load = async || Ok::<_, ()>($inner { id: id + 100 });
                    $inner::get_or_load(store, id + 100, load).await?;
                    Ok::<_, ()>($outer { id })
                };
                $outer::get_or_load(store, id, load).await.unwrap();
            }
        };
    }

    within!(left, Left, Right);
    within!(right, Right, Left);

    #[tokio::test(start_paused = true)]
    async fn two_types_that_load_each_other_wait_a_second_and_go_on() {
        let (store, began) = (memory().await, Instant::now());
        let lefts = join_all((0..4).map(|id| left(&store, id)));
        let rights = join_all((0..4).map(|id| right(&store, id)));
        tokio::join!(lefts, rights);
        let taken = began.elapsed();
        assert!(taken < seconds(3.0), "{taken:?}");
        assert!(store.stats().loads_beside_turns() > 0);
    }

    /// The futures of loaders end where they begin, as far as the compiler is concerned.
    #[tokio::test]
    async fn three_loaders_are_nested_in_place() {
        let store = Store::memory();
        let given = Left::get_or_load(&store, 1, async || {
            let inner = Right::get_or_load(&store, 1, async || {
                let inner = One::get_or_load(&store, 1, async || {
                    tokio::task::yield_now().await;
                    Ok::<_, ()>(One { id: 1 })
                });
                Ok::<_, ()>(Right {
                    id: inner.await?.id,
                })
            });
            Ok::<_, ()>(Left {
                id: inner.await?.id,
            })
        });
        assert_eq!(given.await.unwrap().id, 1);
    }

    /// Each is copied a few times before it is polled. What rarely happens is boxed in it.
    #[tokio::test]
    async fn the_futures_of_hits_and_writes_are_small() {
        let store = Store::memory();
        let load = One::get_or_load(&store, 1, async || Ok::<_, ()>(One { id: 1 }));
        let sizes = [
            ("get", size_of_val(&One::get(&store, 1)), 1536),
            ("set", size_of_val(&One { id: 1 }.set(&store)), 2048),
            ("get_or_load", size_of_val(&load), 2048),
        ];
        for (what, size, most) in sizes {
            assert!(size <= most, "{what}: {size}");
        }
    }

    #[tokio::test]
    async fn the_future_of_a_load_is_little_larger_than_its_loader() {
        let store = Store::memory();
        async fn large<const BYTES: usize>() -> Result<One, ()> {
            let bytes = std::hint::black_box([1u8; BYTES]);
            tokio::task::yield_now().await;
            Ok(One {
                id: bytes.iter().copied().map(u64::from).sum(),
            })
        }
        macro_rules! sizes {
            ($($bytes:literal)*) => { $(
                let loader = size_of_val(&large::<$bytes>());
                let most = 2 * loader + 2048;
                let load = One::get_or_load(&store, 1, large::<$bytes>);
                let refresh = store.of::<One>().load(1).in_background().run(|| large::<$bytes>());
                let update = One::update(&store, 1, large::<$bytes>);
                for (what, size) in [
                    ("get_or_load", size_of_val(&load)),
                    ("a load in the background", size_of_val(&refresh)),
                    ("update", size_of_val(&update)),
                ] {
                    assert!(size <= most, "{what} of a loader of {loader}: {size}");
                }
            )* };
        }
        sizes!(8 1200 16_384);
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(prefix = "person", alias = "name")]
    struct Person {
        #[cached(key)]
        id: u64,
        name: String,
    }

    #[tokio::test]
    async fn the_futures_of_all_loads_and_writes_are_little_larger_than_their_loaders() {
        let store = Store::memory();
        let of = store.of::<One>();
        async fn bytes<const BYTES: usize>() -> u64 {
            let bytes = std::hint::black_box([1u8; BYTES]);
            tokio::task::yield_now().await;
            bytes.iter().copied().map(u64::from).sum()
        }
        let mut too_large = Vec::new();
        macro_rules! sizes {
            ($($bytes:literal)*) => { $(
                let loader = size_of_val(&bytes::<$bytes>());
                let one = || async {
                    let id = bytes::<$bytes>().await;
                    Ok::<_, ()>(One { id })
                };
                let known = |_: Option<Stale<One>>| async {
                    let id = bytes::<$bytes>().await;
                    Ok::<_, ()>(One { id })
                };
                let rows = |_: Vec<u64>| async {
                    let id = bytes::<$bytes>().await;
                    Ok::<_, ()>([One { id }])
                };
                let find = || async {
                    let id = bytes::<$bytes>().await;
                    Ok::<_, ()>(Some(id))
                };
                let person = |id: u64| async move {
                    let name = bytes::<$bytes>().await.to_string();
                    Ok::<_, ()>(Person { id, name })
                };
                let write = || async {
                    let sum = bytes::<$bytes>().await;
                    Ok::<_, ()>(sum)
                };
                let by_name = || Person::load_by_name(&store, "Ada");
                for (what, size) in [
                    ("entry", size_of_val(&of.load(1).entry().run(one))),
                    ("entry in background", size_of_val(&of.load(1).in_background().entry().run(one))),
                    ("revalidate", size_of_val(&of.load(1).revalidate(known))),
                    ("revalidate in background", size_of_val(&of.load(1).in_background().revalidate(known))),
                    ("load_many", size_of_val(&of.load_many([1, 2]).run(rows))),
                    ("load_many of entries", size_of_val(&of.load_many([1, 2]).entry().run(rows))),
                    ("load_many in background", size_of_val(&of.load_many([1, 2]).in_background().run(rows))),
                    ("by alias", size_of_val(&by_name().run(find, person))),
                    ("by alias in background", size_of_val(&by_name().in_background().run(find, person))),
                    ("update_many", size_of_val(&of.update_many([1, 2]).run(write))),
                    ("strict update", size_of_val(&of.update(1).strict().run(write))),
                    ("write_through", size_of_val(&of.write_through(&One { id: 1 }).run(write))),
                ] {
                    if size > 2 * loader + 2048 {
                        too_large.push(format!("{what} of a loader of {loader}: {size}"));
                    }
                }
            )* };
        }
        sizes!(8 1200 16_384);
        assert!(too_large.is_empty(), "{too_large:#?}");
    }
}

mod failures {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(
        ttl = "100s",
        jitter = "0%",
        refresh_ahead = "1%",
        stale_if_error = "1h",
        retry_after = "5s"
    )]
    struct Page {
        #[cached(key)]
        id: u64,
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_whose_loader_panics_is_a_failed_load() {
        let (store, runs) = (memory().await, Arc::new(AtomicUsize::new(0)));
        Page { id: 1 }.set(&store).await.unwrap();
        sleep(seconds(1.2)).await;
        let hit = async |millis| {
            let runs = runs.clone();
            let load = move |_| async move {
                runs.fetch_add(1, SeqCst);
                panic!("a defect of the loader, which this test wants");
                #[expect(unreachable_code, reason = "says what it would give")]
                Ok::<_, ()>(Page { id: 1 })
            };
            let page = store
                .of::<Page>()
                .load(1)
                .in_background()
                .revalidate(load)
                .await;
            assert_eq!(page, Ok(Page { id: 1 }));
            sleep(Duration::from_millis(millis)).await;
        };
        for _ in 0..100 {
            hit(2).await;
        }
        assert_eq!(runs.load(SeqCst), 1);
        assert_eq!(store.stats().failed_loads(), 1);
        sleep(seconds(6.0)).await;
        hit(2).await;
        assert_eq!(runs.load(SeqCst), 2, "after the pause it is tried again");
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(ttl = "5s", jitter = "0%", refresh_ahead = "40%")]
    struct Short {
        #[cached(key)]
        id: u64,
    }

    /// The pause after a failed load, 5 s, is longer than the time that the value has left.
    #[tokio::test(start_paused = true)]
    async fn a_failed_refresh_is_tried_again_before_its_value_expires() {
        let (store, runs) = (memory().await, Arc::new(AtomicUsize::new(0)));
        Short { id: 1 }.set(&store).await.unwrap();
        let began = tokio::time::Instant::now();
        while began.elapsed() < seconds(4.9) {
            let runs = runs.clone();
            let load = move || async move {
                runs.fetch_add(1, SeqCst);
                Err::<Short, _>("no database")
            };
            let load = store
                .of::<Short>()
                .load(1)
                .in_background()
                .entry()
                .run(load);
            assert_eq!(load.await.unwrap().source(), Source::Cached);
            sleep(Duration::from_millis(10)).await;
        }
        // At 2 s, each time after half of what is left, and at least 0.6 s later: 3.5 s, 4.25 s, 4.9 s.
        let runs = runs.load(SeqCst);
        assert!((3..=4).contains(&runs), "{runs}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_a_loader_is_its_callers_alone() {
        let store = memory().await;
        let panics = tokio::spawn({
            let store = store.clone();
            async move {
                let load = async || {
                    sleep(seconds(0.1)).await;
                    panic!("a defect of the loader, which this test wants");
                    #[expect(unreachable_code, reason = "says what it would give")]
                    Ok::<_, ()>(One { id: 1 })
                };
                One::get_or_load(&store, 1, load).await
            }
        });
        until(|| store.stats().loads() == 1).await;
        assert_eq!(one(&store, 1).await, One { id: 1 });
        assert!(panics.await.unwrap_err().is_panic());
        let stats = store.stats();
        assert_eq!((stats.loads(), stats.failed_loads()), (2, 1));
        assert_eq!(stats.loads_running(), 0);
    }

    /// Its closure panics, or the future that it returns.
    #[tokio::test(start_paused = true)]
    async fn a_panicking_bulk_loader_is_a_failed_load() {
        for at_once in [true, false] {
            let (store, log) = (memory().await, Log::default());
            let _taken = log.takes();
            let panics = tokio::spawn({
                let store = store.clone();
                async move {
                    let load = move |_: Vec<u64>| {
                        assert!(!at_once, "a defect of the loader, which this test wants");
                        async {
                            sleep(seconds(0.1)).await;
                            panic!("a defect of the loader, which this test wants");
                            #[expect(unreachable_code, reason = "says what it would give")]
                            Ok::<_, ()>([One { id: 1 }])
                        }
                    };
                    One::get_or_load_many(&store, [1, 2], load).await
                }
            });
            until(|| store.stats().loads() == 1).await;
            let others = tokio::join!(one(&store, 1), one(&store, 2));
            assert_eq!(others, (One { id: 1 }, One { id: 2 }));
            assert!(panics.await.unwrap_err().is_panic());
            let stats = store.stats();
            assert_eq!((stats.loads(), stats.failed_loads()), (3, 1));
            assert_eq!((stats.loads_running(), stats.loads_queued()), (0, 0));
            let lines = warnings(&log, "one");
            assert_eq!(repeated(&lines), [None], "{lines:#?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stale_values_are_served_where_their_bulk_loader_panics() {
        let store = memory().await;
        for id in [1, 2] {
            Page { id }.set(&store).await.unwrap();
        }
        sleep(seconds(101.0)).await;
        let load = async |_: Vec<u64>| {
            panic!("a defect of the loader, which this test wants");
            #[expect(unreachable_code, reason = "says what it would give")]
            Ok::<_, ()>([Page { id: 1 }])
        };
        let pages = Page::get_or_load_many(&store, [1, 2], load).await;
        assert_eq!(pages, Ok(vec![Some(Page { id: 1 }), Some(Page { id: 2 })]));
        let stats = store.stats();
        assert_eq!((stats.failed_loads(), stats.stale()), (1, 2));
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(prefix = "person", alias = "name")]
    struct Person {
        #[cached(key)]
        id: u64,
        name: String,
    }

    async fn ada(id: u64) -> Result<Person, ()> {
        let name = "Ada".into();
        Ok(Person { id, name })
    }

    #[tokio::test(start_paused = true)]
    async fn a_panicking_look_up_by_an_alias_is_a_failed_load() {
        let (store, log) = (memory().await, Log::default());
        let _taken = log.takes();
        let panics = tokio::spawn({
            let store = store.clone();
            async move {
                let find = || async {
                    sleep(seconds(0.1)).await;
                    panic!("a defect of the look-up, which this test wants");
                    #[expect(unreachable_code, reason = "says what it would give")]
                    Ok::<_, ()>(Some(1))
                };
                Person::load_by_name(&store, "Ada").run(find, ada).await
            }
        });
        until(|| store.stats().loads() == 1).await;
        let find = || async { Ok::<_, ()>(Some(1)) };
        let found = Person::load_by_name(&store, "Ada").run(find, ada).await;
        assert_eq!(found, ada(1).await.map(Some));
        assert!(panics.await.unwrap_err().is_panic());
        let stats = store.stats();
        let by_name = stats.types().find(|of| of.name() == "person by name");
        let by_name = by_name.unwrap();
        assert_eq!((by_name.loads(), by_name.failed_loads()), (2, 1));
        assert_eq!((stats.failed_loads(), stats.loads_running()), (1, 0));
        let lines = warnings(&log, "person by name");
        assert_eq!(repeated(&lines), [None], "{lines:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_served_where_its_loader_panics() {
        let store = memory().await;
        Page { id: 1 }.set(&store).await.unwrap();
        sleep(seconds(101.0)).await;
        let load = async || {
            panic!("a defect of the loader, which this test wants");
            #[expect(unreachable_code, reason = "says what it would give")]
            Ok::<_, ()>(Page { id: 1 })
        };
        let page = store.of::<Page>().load(1).entry().run(load).await;
        assert_eq!(page.unwrap().source(), Source::Stale);
    }

    #[derive(Debug, Serialize, Deserialize, Cached)]
    struct Large {
        #[cached(key)]
        id: u64,
        bytes: Vec<u8>,
    }

    #[derive(Clone, Debug, Serialize, Deserialize, Cached)]
    struct File {
        #[cached(key)]
        id: u64,
        path: PathBuf,
    }

    #[tokio::test(start_paused = true)]
    async fn rows_that_are_too_large_are_loaded_once_for_all_who_wait() {
        let store = Store::builder().memory().max_size(1 << 10);
        let store = store.connect().await.unwrap();
        let loads = AtomicUsize::new(0);
        let call = async || {
            let load = async || {
                loads.fetch_add(1, SeqCst);
                sleep(seconds(0.2)).await;
                let bytes = vec![7; 2 << 10];
                Ok::<_, ()>(Large { id: 1, bytes })
            };
            Large::get_or_load(&store, 1, load).await.unwrap()
        };
        for given in join_all((0..500).map(|_| call())).await {
            assert_eq!(given.bytes.len(), 2 << 10);
        }
        assert_eq!(loads.load(SeqCst), 1);
        let stats = store.stats();
        assert_eq!(
            (stats.errors(ErrorKind::TooLarge), stats.coalesced()),
            (1, 499)
        );
    }

    /// Compressed it would be far below the limit.
    #[derive(Debug, Serialize, Deserialize, Cached)]
    #[cached(compress = "zstd")]
    struct Shrinking {
        #[cached(key)]
        id: u64,
        text: String,
    }

    /// Encrypted it is above the limit, and in plain text it would not be.
    #[derive(Debug, Serialize, Deserialize, Cached)]
    #[cached(encrypt)]
    struct Growing {
        #[cached(key)]
        id: u64,
        text: String,
    }

    #[tokio::test(start_paused = true)]
    async fn packed_rows_that_are_too_large_are_loaded_once_for_all_and_logged_once_a_minute() {
        let clock = Arc::new(TokioClock(Instant::now()));
        let keys = valkey_runtime::EncryptionKeys::new(1, [1; 32]);
        let store = Store::builder().memory().clock(clock).max_size(1 << 10);
        let store = store.encryption_keys(keys).connect().await.unwrap();
        let log = Log::default();
        let _taken = log.takes();
        let loads = AtomicUsize::new(0);
        let text = |length: usize| "a".repeat(length);
        let both = async || {
            let load = async || {
                loads.fetch_add(1, SeqCst);
                sleep(seconds(0.2)).await;
                Ok::<_, ()>(Shrinking {
                    id: 1,
                    text: text(2 << 10),
                })
            };
            let shrinking = Shrinking::get_or_load(&store, 1, load).await.unwrap();
            assert_eq!(shrinking.text, text(2 << 10));
            let load = async || {
                loads.fetch_add(1, SeqCst);
                sleep(seconds(0.2)).await;
                Ok::<_, ()>(Growing {
                    id: 1,
                    text: text(970),
                })
            };
            let growing = Growing::get_or_load(&store, 1, load).await.unwrap();
            assert_eq!(growing.text, text(970));
        };
        for (round, wait) in [(1, 61.0), (2, 0.0)] {
            join_all((0..100).map(|_| both())).await;
            assert_eq!(loads.load(SeqCst), 2 * round, "one load for all who wait");
            sleep(seconds(wait)).await;
        }
        for of in ["shrinking", "growing"] {
            assert_eq!(repeated(&warnings(&log, of)), [None, None], "{of}");
        }
        assert_eq!(store.stats().errors(ErrorKind::TooLarge), 4);
        both().await;
        let lines = warnings(&log, "growing");
        assert_eq!(lines.len(), 2, "not within the minute: {lines:#?}");
        assert!(
            lines.iter().all(|line| !line.contains("aaaa")),
            "{lines:#?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn rows_that_cannot_be_encoded_are_loaded_once_for_all_who_wait() {
        let store = memory().await;
        let loads = AtomicUsize::new(0);
        let call = async || {
            let load = async || {
                loads.fetch_add(1, SeqCst);
                sleep(seconds(0.2)).await;
                let path = OsString::from_vec(vec![b'/', 0xff]).into();
                Ok::<_, ()>(File { id: 1, path })
            };
            File::get_or_load(&store, 1, load).await.unwrap()
        };
        for given in join_all((0..500).map(|_| call())).await {
            assert!(given.path.to_str().is_none());
        }
        assert_eq!(loads.load(SeqCst), 1);
        let stats = store.stats();
        assert_eq!(
            (stats.errors(ErrorKind::Encode), stats.coalesced()),
            (1, 499)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_reason_why_a_row_is_not_stored_is_logged_once_a_minute() {
        let clock = Arc::new(TokioClock(Instant::now()));
        let store = Store::builder().memory().clock(clock).max_size(1 << 10);
        let (store, log) = (store.connect().await.unwrap(), Log::default());
        let _taken = log.takes();
        let load_both = async || {
            let load = async || {
                let bytes = vec![7; 2 << 10];
                Ok::<_, ()>(Large { id: 1, bytes })
            };
            Large::get_or_load(&store, 1, load).await.unwrap();
            let load = async || {
                let path = OsString::from_vec(vec![b'/', 0xff]).into();
                Ok::<_, ()>(File { id: 1, path })
            };
            File::get_or_load(&store, 1, load).await.unwrap();
        };
        for _ in 0..100 {
            load_both().await;
        }
        sleep(seconds(61.0)).await;
        load_both().await;
        for (of, kind) in [("large", ErrorKind::TooLarge), ("file", ErrorKind::Encode)] {
            let lines = warnings(&log, of);
            assert_eq!(repeated(&lines), [None, Some(99)], "{lines:#?}");
            let kind_of_line = format!("error.type={:?}", kind.as_str());
            assert!(
                lines.iter().all(|line| line.contains(&kind_of_line)),
                "{lines:#?}"
            );
            assert_eq!(store.stats().errors(kind), 101, "each is counted");
        }
    }

    /// Its lease is renewed in its own task, which it keeps from going on.
    #[tokio::test]
    async fn a_loader_that_blocks_its_thread_is_counted_and_referred_to_spawn_blocking() {
        for in_bulk in [false, true] {
            let (store, log) = (Store::memory(), Log::default());
            let _taken = log.takes();
            if in_bulk {
                let load = async |_: Vec<u64>| {
                    std::thread::sleep(seconds(1.05));
                    Ok::<_, ()>([One { id: 1 }])
                };
                let given = One::get_or_load_many(&store, [1, 2], load).await;
                assert_eq!(given, Ok(vec![Some(One { id: 1 }), None]));
            } else {
                let load = async || {
                    std::thread::sleep(seconds(1.05));
                    Ok::<_, ()>(One { id: 1 })
                };
                One::get_or_load(&store, 1, load).await.unwrap();
            }
            assert_eq!(store.stats().stalled_loads(), 1);
            let exists = One::exists(&store, 1).await.unwrap();
            assert!(!exists, "its lease has expired");
            let lines = warnings(&log, "one");
            assert_eq!(repeated(&lines), [None], "{lines:#?}");
            assert!(lines[0].contains("`spawn_blocking`"), "{lines:#?}");
        }
    }
}

/// Log lines about loads: the first one at once, and then a number once a minute.
mod logged {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(prefix = "narrow", max_loads = 1, load_deadline = "10m")]
    struct Narrow {
        #[cached(key)]
        id: u64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(prefix = "wide")]
    struct Wide {
        #[cached(key)]
        id: u64,
    }

    async fn narrow(store: &Store, id: u64, takes: Duration) {
        let load = async || {
            sleep(takes).await;
            Ok::<_, ()>(Narrow { id })
        };
        Narrow::get_or_load(store, id, load).await.unwrap();
    }

    /// A load of a [`Narrow`] within that of a [`Wide`].
    async fn wide(store: &Store, id: u64) {
        let load = async || {
            narrow(store, id, Duration::ZERO).await;
            Ok::<_, ()>(Wide { id })
        };
        Wide::get_or_load(store, id, load).await.unwrap();
    }

    /// A call that waits for a turn reports it once a second.
    #[tokio::test(start_paused = true)]
    async fn a_queue_is_logged_once_a_minute() {
        let (store, log) = (memory().await, Log::default());
        let _taken = log.takes();
        let queued = async {
            until(|| store.stats().loads_running() == 1).await;
            narrow(&store, 2, Duration::ZERO).await;
        };
        tokio::join!(narrow(&store, 1, seconds(130.0)), queued);
        let mut lines = warnings(&log, "narrow");
        // One more is about the load of 130 seconds.
        lines.retain(|line| line.contains("`max_loads`"));
        assert_eq!(repeated(&lines), [None, Some(59), Some(59)], "{lines:#?}");
        let stats = store.stats();
        assert_eq!((stats.queued_loads(), stats.loads_queued()), (1, 0));
        assert!(stats.longest_queue() >= seconds(130.0), "{stats}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_nested_load_without_a_turn_is_logged_once_a_minute() {
        let (store, log) = (memory().await, Log::default());
        let _taken = log.takes();
        let three = async |first: u64| {
            let nested = async {
                until(|| store.stats().loads_running() == 1).await;
                join_all((first + 1..first + 4).map(|id| wide(&store, id))).await;
            };
            tokio::join!(narrow(&store, first, seconds(5.0)), nested);
        };
        three(0).await;
        sleep(seconds(60.0)).await;
        three(10).await;
        let lines = warnings(&log, "narrow");
        assert_eq!(repeated(&lines), [None, Some(2)], "{lines:#?}");
        assert_eq!(store.stats().loads_beside_turns(), 6);
    }

    /// A branch that `select!` has left holds the only turn, until another call takes it away.
    #[tokio::test(start_paused = true)]
    async fn a_stalled_load_is_logged_once_a_minute() {
        let (store, log) = (memory().await, Log::default());
        let _taken = log.takes();
        let stall = async |id: u64| {
            let left = One::get_or_load(&store, id, async || {
                sleep(seconds(1.0)).await;
                Ok::<_, ()>(One { id })
            });
            let mut left = pin!(left);
            tokio::select! {
                given = &mut left => panic!("{given:?}"),
                () = sleep(seconds(0.1)) => {}
            }
            one(&store, id + 1).await;
            assert_eq!(left.await, Ok(One { id }));
        };
        stall(10).await;
        stall(20).await;
        sleep(seconds(60.0)).await;
        stall(30).await;
        let mut lines = warnings(&log, "one");
        // The others are about the call that waits for the turn.
        lines.retain(|line| !line.contains("`max_loads`"));
        assert_eq!(repeated(&lines), [None, Some(1)], "{lines:#?}");
        assert_eq!(store.stats().stalled_loads(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_past_its_deadline_is_logged_once_a_minute() {
        let (store, log) = (memory().await, Log::default());
        let _taken = log.takes();
        let hangs = async |id: u64| {
            let load = store.of::<One>().load(id).queue_timeout(seconds(3600.0));
            let given = load.run(pending::<Result<One, ()>>).await;
            assert_eq!(given, Err(LoadError::Deadline));
        };
        hangs(1).await;
        hangs(2).await;
        sleep(seconds(60.0)).await;
        hangs(3).await;
        let lines = warnings(&log, "one");
        assert_eq!(repeated(&lines), [None, Some(1)], "{lines:#?}");
        assert!(
            lines
                .iter()
                .all(|line| line.contains("error.type=\"timeout\"")),
            "{lines:#?}"
        );
        assert!(lines[0].contains("`load_deadline`"), "{lines:#?}");
        assert_eq!(store.stats().late_loads(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_takes_too_long_to_be_stored_is_logged_once_a_minute() {
        let (store, log) = (memory().await, Log::default());
        let _taken = log.takes();
        let slow = async |id: u64| {
            let load = async || {
                sleep(seconds(12.0)).await;
                Ok::<_, ()>(Default64 { id })
            };
            Default64::get_or_load(&store, id, load).await.unwrap()
        };
        tokio::join!(slow(1), slow(2));
        sleep(seconds(60.0)).await;
        slow(3).await;
        let lines = warnings(&log, "default64");
        assert_eq!(repeated(&lines), [None, Some(1)], "{lines:#?}");
        assert!(!Default64::exists(&store, 3).await.unwrap());
    }
}

mod ends {
    use super::*;

    /// A lease is renewed while its load runs, for ten seconds.
    #[tokio::test(start_paused = true)]
    async fn a_load_of_nine_seconds_is_stored_and_one_of_twelve_is_not() {
        let store = memory().await;
        for (id, takes, stored) in [(1, 9.0, true), (3, 12.0, false)] {
            let load = async || {
                sleep(seconds(takes)).await;
                Ok::<_, ()>(Default64 { id })
            };
            let given = Default64::get_or_load(&store, id, load).await;
            assert_eq!(given, Ok(Default64 { id }));
            let load = async |ids: Vec<u64>| {
                sleep(seconds(takes)).await;
                Ok::<_, ()>(ids.into_iter().map(|id| (id, Default64 { id })))
            };
            let given = Default64::get_or_load_many(&store, [id + 1], load).await;
            assert_eq!(given, Ok(vec![Some(Default64 { id: id + 1 })]));
            for id in [id, id + 1] {
                let exists = Default64::exists(&store, id).await.unwrap();
                assert_eq!(exists, stored, "{takes} s, key {id}");
            }
        }
        assert_eq!(store.stats().refused_fills(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn written_bytes_are_counted_for_one_key_and_for_many() {
        let store = memory().await;
        let load = async || Ok::<_, ()>(One { id: 1 });
        One::get_or_load(&store, 1, load).await.unwrap();
        let one = store.stats().written_bytes();
        assert!(one > 0);
        let load = async |ids: Vec<u64>| Ok::<_, ()>(ids.into_iter().map(|id| (id, One { id })));
        One::get_or_load_many(&store, [2, 3, 4], load)
            .await
            .unwrap();
        assert_eq!(store.stats().written_bytes(), 4 * one);
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(
        ttl = "100s",
        jitter = "0%",
        refresh_ahead = "1%",
        stale_if_error = "1h"
    )]
    struct Aging {
        #[cached(key)]
        id: u64,
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_whose_refresh_fails_is_not_counted_as_stale_while_it_is_fresh() {
        let store = memory().await;
        Aging { id: 1 }.set(&store).await.unwrap();
        sleep(seconds(2.0)).await;
        let hit = store
            .of::<Aging>()
            .load(1)
            .in_background()
            .run(async || Err::<Aging, _>("no database"));
        assert_eq!(hit.await, Ok(Aging { id: 1 }));
        sleep(seconds(1.0)).await;
        let stats = store.stats();
        assert_eq!(
            (stats.failed_loads(), stats.refreshes(), stats.stale()),
            (1, 1, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_is_unchanged_is_deleted_where_the_store_was_switched_off_meanwhile() {
        let store = memory().await;
        Aging { id: 1 }.set(&store).await.unwrap();
        sleep(seconds(101.0)).await;
        let load = async |stale: Option<Stale<Aging>>| {
            store.set_enabled(false);
            Ok::<_, ()>(stale.unwrap().unchanged())
        };
        let given = store.of::<Aging>().load(1).revalidate(load).await;
        assert_eq!(given, Ok(Some(Aging { id: 1 })));
        store.set_enabled(true);
        assert_eq!(Aging::get(&store, 1).await.unwrap(), None);
        let load = async |stale: Option<Stale<Aging>>| {
            assert!(stale.is_none(), "nothing is left");
            Ok::<_, ()>(Loaded::<Aging>::absent())
        };
        store.of::<Aging>().load(1).revalidate(load).await.unwrap();
    }
}

mod absences {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(ttl_absent = "30s", jitter = "0%", alias = "name")]
    struct Named {
        #[cached(key)]
        id: u64,
        name: String,
    }

    fn named(id: u64) -> Named {
        let name = "Ada".into();
        Named { id, name }
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_lives_as_long_as_its_load_says() {
        let store = memory().await;
        for (id, short) in [(1, seconds(1.0)), (2, seconds(60.0))] {
            let absent = || Loaded::absent().ttl(short);
            let load = async || Ok::<_, ()>(absent());
            let _: Option<Named> = Named::get_or_load(&store, id, load).await.unwrap();
            let load = async || Ok::<_, ()>(None::<Named>);
            store
                .of::<Named>()
                .load(id + 10)
                .ttl(short)
                .run(load)
                .await
                .unwrap();
        }
        let found = async |id| {
            let load = async || Ok::<_, ()>(Some(named(id)));
            Named::get_or_load(&store, id, load)
                .await
                .unwrap()
                .is_some()
        };
        sleep(seconds(20.0)).await;
        assert!(found(1).await && found(11).await);
        sleep(seconds(20.0)).await;
        assert!(
            !found(2).await && !found(12).await,
            "longer than the type's 30 s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_ttl_of_zero_stores_nothing_and_is_no_mistake() {
        let store = memory().await;
        for found in [None, Some(named(1))] {
            for at_the_call in [false, true] {
                let loads = store.stats().loads();
                for _ in 0..2 {
                    let load = async || {
                        let loaded = found.clone().map_or(Loaded::absent(), Loaded::value);
                        Ok::<_, ()>(match at_the_call {
                            true => loaded,
                            false => loaded.ttl(Duration::ZERO),
                        })
                    };
                    let named = store.of::<Named>().load(1);
                    let given = match at_the_call {
                        true => named.ttl(Duration::ZERO).run(load).await,
                        false => named.run(load).await,
                    };
                    assert_eq!(given, Ok(found.clone()));
                }
                assert_eq!(store.stats().loads(), loads + 2);
            }
        }
        assert_eq!(store.stats().errors_total(), 0);
    }

    /// A hundred callers of an alias that nothing has. Those who came before a look-up began share
    /// what it found; who comes after that asks again.
    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_finds_nothing_is_shared_by_those_who_came_before() {
        let store = memory().await;
        let queries = AtomicUsize::new(0);
        let call = async || {
            let find = async || {
                queries.fetch_add(1, SeqCst);
                sleep(seconds(0.1)).await;
                Ok::<_, ()>(None)
            };
            let load = async |id| Ok::<_, ()>(named(id));
            Named::load_by_name(&store, "nobody").run(find, load).await
        };
        let given = join_all((0..100).map(|_| call())).await;
        assert!(given.iter().all(|given| *given == Ok(None)));
        assert!(queries.load(SeqCst) <= 2, "{queries:?}");
        let before = queries.load(SeqCst);
        assert_eq!(call().await, Ok(None));
        assert_eq!(queries.load(SeqCst), before + 1);
    }
}
