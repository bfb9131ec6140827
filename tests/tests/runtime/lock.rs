//! Locks, over every backend. The test of a process that dies is in `processes.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use valkey_runtime::lock::{Lock, LockError};
use valkey_runtime::testing::{self, Fault, Request};
use valkey_runtime::{ErrorKind, Store};
use valkey_tests::resp::Value;
use valkey_tests::{Proxy, Server};

use crate::stores::{On, connect, patient};

suite! {
    crate::lock =>
    one_holds_it_at_a_time_and_fencing_tokens_grow
    a_lock_that_is_dropped_is_released
    so_many_hold_it_at_a_time
    a_caller_waits_no_longer_than_it_was_told_to
    a_lease_is_renewed_while_the_lock_is_held
    a_caller_that_leaves_in_the_middle_leaves_nothing
    a_lost_answer_is_an_error_and_leaves_nothing
    a_store_that_is_off_or_down_gives_no_lock
}

fn lock(name: &str) -> Lock<u64> {
    Lock::builder(name).wait(PATIENCE).build().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(60);

/// The read and the write of a number, with a pause between them: without the lock, additions are
/// lost.
pub(crate) async fn one_holds_it_at_a_time_and_fencing_tokens_grow(on: On) {
    let one = on.store("lock-one").await;
    let other = match on {
        On::Memory => one.clone(),
        _ => on.store("lock-one").await,
    };
    let (lock, number, last) = (lock("one"), Arc::<AtomicU64>::default(), Arc::default());
    let tasks = (0..16).map(|task| {
        let (lock, store) = (lock.clone(), [&one, &other][task % 2].clone());
        let (number, last): (_, Arc<AtomicU64>) = (number.clone(), Arc::clone(&last));
        tokio::spawn(async move {
            for _ in 0..4 {
                let held = lock.lock(&store, 1).await.unwrap();
                assert!(held.is_held());
                let read = number.load(SeqCst);
                let before = last.swap(held.fencing_token(), SeqCst);
                assert!(held.fencing_token() > before);
                tokio::task::yield_now().await;
                number.store(read + 1, SeqCst);
                assert!(held.release().await.unwrap());
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    assert_eq!(number.load(SeqCst), 64);
}

pub(crate) async fn a_lock_that_is_dropped_is_released(on: On) {
    let store = on.store("lock-drop").await;
    let lock = lock("drop");
    let held = lock.try_lock(&store, 1).await.unwrap().unwrap();
    assert!(lock.try_lock(&store, 1).await.unwrap().is_none());
    let another = lock.try_lock(&store, 2).await.unwrap();
    assert!(another.is_some(), "another key");
    assert!(held.still_held().await.unwrap());
    drop(held);
    store.settled().await;
    let held = lock.try_lock(&store, 1).await.unwrap().unwrap();
    assert!(held.time_left() > Duration::from_secs(1));
    assert!(held.release().await.unwrap());
    assert!(lock.try_lock(&store, 1).await.unwrap().is_some());
    assert!(another.is_some_and(|held| held.is_held()));
}

pub(crate) async fn so_many_hold_it_at_a_time(on: On) {
    let store = on.store("lock-permits").await;
    let reports = Lock::<()>::builder("reports").permits(3).wait(PATIENCE);
    let reports = reports.build().unwrap();
    let (running, most) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let tasks = (0..12).map(|_| {
        let (reports, store) = (reports.clone(), store.clone());
        let (running, most) = (running.clone(), most.clone());
        tokio::spawn(async move {
            let held = reports.lock(&store, ()).await.unwrap();
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            running.fetch_sub(1, SeqCst);
            held.release().await.unwrap();
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    assert!(most.load(SeqCst) <= 3, "{most:?}");
    let all = [
        reports.try_lock(&store, ()).await,
        reports.try_lock(&store, ()).await,
        reports.try_lock(&store, ()).await,
    ];
    let all = all.map(|held| held.unwrap().unwrap());
    let fences = all.each_ref().map(|held| held.fencing_token());
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
    assert!(reports.try_lock(&store, ()).await.unwrap().is_none());
    let [first, _second, _third] = all;
    first.release().await.unwrap();
    assert!(reports.try_lock(&store, ()).await.unwrap().is_some());
}

pub(crate) async fn a_caller_waits_no_longer_than_it_was_told_to(on: On) {
    let store = on.store("lock-wait").await;
    let wait = Duration::from_millis(100);
    let short = Lock::<u64>::builder("wait").wait(wait).build().unwrap();
    let held = short.lock(&store, 1).await.unwrap();
    let began = Instant::now();
    match short.lock(&store, 1).await {
        Err(LockError::Busy { name, waited }) => assert_eq!((&*name, waited), ("wait", wait)),
        taken => panic!("{taken:?}"),
    }
    assert!(began.elapsed() >= wait);
    let long = lock("wait");
    let taken = long.lock(&store, 1);
    let (taken, released) = tokio::join!(taken, held.release());
    assert!(released.unwrap() && taken.unwrap().is_held());
}

/// A second is the lease of loads, too.
pub(crate) async fn a_lease_is_renewed_while_the_lock_is_held(on: On) {
    let store = on.store("lock-renewed").await;
    let lease = Duration::from_secs(1);
    let lock = Lock::<u64>::builder("renewed")
        .lease(lease)
        .build()
        .unwrap();
    let held = lock.lock(&store, 1).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < 5 * lease / 2 {
        assert!(lock.try_lock(&store, 1).await.unwrap().is_none());
        assert!(held.is_held());
        tokio::time::sleep(lease / 10).await;
    }
    assert!(held.lost().now_or_never().is_none());
    assert!(held.release().await.unwrap());
    let hangs = Lock::<u64>::builder("hangs").lease(lease / 4);
    let hangs = hangs.renew_for(lease / 2).build().unwrap();
    let held = hangs.lock(&store, 1).await.unwrap();
    held.lost().await;
    assert!(!held.is_held() && began.elapsed() > 5 * lease / 2 + lease / 2);
}

pub(crate) async fn a_caller_that_leaves_in_the_middle_leaves_nothing(on: On) {
    let store = on.store("lock-left").await;
    let lock = lock("left");
    let request = store.faults().hold_next(Request::Lock);
    {
        let mut taking = Box::pin(lock.lock(&store, 1));
        tokio::select! {
            biased;
            taken = &mut taking => panic!("{taken:?}"),
            () = request.reached() => {}
        }
    }
    request.release();
    store.settled().await;
    assert!(lock.try_lock(&store, 1).await.unwrap().is_some());
    store.settled().await;
    // While it waits for another.
    let held = lock.try_lock(&store, 1).await.unwrap().unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(20), lock.lock(&store, 1));
    waits.await.unwrap_err();
    held.release().await.unwrap();
    store.settled().await;
    assert!(lock.try_lock(&store, 1).await.unwrap().is_some());
}

pub(crate) async fn a_lost_answer_is_an_error_and_leaves_nothing(on: On) {
    let store = on.store("lock-answer").await;
    let lock = lock("answer");
    store
        .faults()
        .fail_next(Fault::lost_reply().on(Request::Lock));
    match lock.lock(&store, 1).await {
        Err(LockError::Store(error)) => {
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(error.to_string().starts_with("lock answer#"), "{error}");
        }
        taken => panic!("{taken:?}"),
    }
    store.settled().await;
    let held = lock.try_lock(&store, 1).await.unwrap().unwrap();
    // The release runs, and its answer is lost: the second one finds nothing to do.
    store
        .faults()
        .fail_next(Fault::lost_reply().on(Request::Lock));
    let error = held.release().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    store.settled().await;
    assert!(lock.try_lock(&store, 1).await.unwrap().is_some());
}

pub(crate) async fn a_store_that_is_off_or_down_gives_no_lock(on: On) {
    let store = on.store("lock-off").await;
    let lock = lock("off");
    let kind = async || match lock.lock(&store, 1).await {
        Err(LockError::Store(error)) => {
            let tried = lock.try_lock(&store, 1).await.err();
            assert_eq!(tried.map(|error| error.kind()), Some(error.kind()));
            error.kind()
        }
        taken => panic!("{taken:?}"),
    };
    store.set_enabled(false);
    assert_eq!(kind().await, ErrorKind::Disabled);
    store.set_enabled(true);
    store.faults().take_down();
    assert_eq!(kind().await, ErrorKind::Connection);
    store.faults().recover();
    let held = lock.lock(&store, 1).await.unwrap();
    store.close().await;
    assert_eq!(kind().await, ErrorKind::Closed);
    let error = held.release().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_lease_that_has_ended_is_lost_and_its_holder_releases_nobody_elses() {
    let (store, clock) = testing::memory();
    let lock = lock("ended");
    let late = lock.try_lock(&store, 1).await.unwrap().unwrap();
    clock.advance(Duration::from_millis(9_899));
    assert!(late.is_held());
    clock.advance(Duration::from_millis(1));
    assert!(!late.is_held(), "a hundredth is left out");
    assert!(lock.try_lock(&store, 1).await.unwrap().is_none());
    clock.advance(Duration::from_millis(100));
    let next = lock.try_lock(&store, 1).await.unwrap().unwrap();
    assert!(next.fencing_token() > late.fencing_token());
    late.lost().await;
    assert!(!late.still_held().await.unwrap());
    assert!(!late.release().await.unwrap());
    assert!(next.still_held().await.unwrap());
    assert!(lock.try_lock(&store, 1).await.unwrap().is_none());
    assert!(next.release().await.unwrap());
}

async fn a_lock_that_the_server_loses_is_lost(on: On) {
    let store = on.store("lock-evicted").await;
    let lease = Duration::from_millis(900);
    let lock = Lock::<u64>::builder("evicted")
        .lease(lease)
        .build()
        .unwrap();
    let held = lock.lock(&store, 1).await.unwrap();
    let key = "lock-evicted:::lock:evicted:1";
    assert_eq!(on.raw(&["DEL", key]), Value::Integer(1));
    held.lost().await;
    assert!(!held.is_held() && held.time_left().is_zero());
    let next = lock.try_lock(&store, 1).await.unwrap().unwrap();
    assert!(
        next.fencing_token() > held.fencing_token(),
        "without its state"
    );
    assert!(!held.release().await.unwrap());
    assert!(next.still_held().await.unwrap());
    // Other bytes are never a free lock.
    for plant in [&["SET", key, "what?"][..], &["RPUSH", key, "1"]] {
        on.raw(&["DEL", key]);
        on.raw(plant);
        let error = lock.try_lock(&store, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error.to_string().contains("something else than a lock"),
            "{error}"
        );
        assert_eq!(on.raw(&["EXISTS", key]), Value::Integer(1));
    }
    on.raw(&["DEL", key]);
}

#[tokio::test]
async fn a_lock_that_a_server_loses_is_lost() {
    a_lock_that_the_server_loses_is_lost(On::Plain).await;
}

#[tokio::test]
async fn a_lock_that_a_cluster_loses_is_lost() {
    a_lock_that_the_server_loses_is_lost(On::Cluster).await;
}

#[tokio::test]
async fn without_the_server_a_lock_is_lost_with_its_lease() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = connect(&proxy.url()).await;
    let lease = Duration::from_millis(500);
    let lock = Lock::<u64>::builder("away").lease(lease).build().unwrap();
    let held = lock.lock(&store, 1).await.unwrap();
    proxy.refuse();
    proxy.cut();
    let began = Instant::now();
    held.lost().await;
    assert!(!held.is_held() && began.elapsed() <= Duration::from_secs(60));
}

#[tokio::test]
async fn a_server_at_its_memory_limit_renews_and_releases_locks() {
    let server = Server::plain();
    let store = patient(Store::builder().url(&server.url())).connect().await;
    let store = store.unwrap();
    let lock = lock("full");
    let held = lock.lock(&store, 1).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(held.still_held().await.unwrap());
    let error = lock.try_lock(&store, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(held.release().await.unwrap());
    store.settled().await;
}
