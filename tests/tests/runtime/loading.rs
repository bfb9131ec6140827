//! Cache-aside and guarded writes over every backend: the races of `docs/guides/consistency.md`,
//! driven step by step.
//!
//! Loaders wait on gates that the test opens, so each test is one interleaving, and no test is a
//! matter of luck.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use valkey_runtime::{Cached, Store};

use crate::database::{undisturbed, until};
use crate::stores::On;

suite! {
    crate::loading =>
    a_miss_is_loaded_and_stored
    a_hit_is_not_loaded
    nothing_found_is_not_stored
    the_error_of_a_loader_is_returned_and_the_lease_given_back
    callers_of_one_key_share_a_load
    a_load_that_began_before_a_deletion_is_not_stored
    a_load_that_began_before_an_expiry_on_demand_is_not_stored
    a_load_that_began_before_an_update_is_not_stored
    a_caller_after_an_update_does_not_join_the_load_before_it
    the_same_process_misses_again_and_the_older_load_is_not_stored
    a_load_during_a_guard_is_given_and_not_stored
    a_cancelled_leader_hands_its_load_on
    a_panicking_leader_hands_its_load_on
    a_failed_load_is_not_shared
    loads_are_limited_per_type
    another_store_waits_for_the_lease
    a_lease_given_back_is_taken_at_once
    a_load_is_kept_while_it_runs
    an_older_version_is_replaced_by_a_load
    a_newer_version_is_loaded_beside
    rubbish_is_replaced_by_a_load
    a_set_wins_over_a_load
    an_update_removes_the_entry
    an_update_whose_write_fails_leaves_its_guard
    an_update_that_is_sure_of_nothing_written_ends_its_guard
    a_dropped_update_leaves_its_guard
    nested_guards_end_one_after_the_other
    a_guard_object_is_held_until_released
    a_guard_that_ran_out_says_so
    updates_of_many_keys
    a_write_through_is_stored
    a_write_through_beside_another_writer_is_not_stored
    a_deletion_during_a_write_through_is_not_overwritten
    options_of_a_write_through_and_of_many
    a_hold_keeps_loads_from_being_stored_for_a_while
    many_missing_keys_are_loaded_by_one_call
    more_than_a_thousand_are_loaded_in_chunks
    keys_that_are_loading_are_joined_and_not_loaded_again
    of_many_one_lost_lease_does_not_drop_the_others
    of_many_those_that_another_process_loads_are_not_stored
    many_that_fail_give_their_leases_back
    calls_of_many_never_wait_for_each_other
    keys_of_every_shape_are_given_to_the_loader
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2)]
struct User {
    #[cached(key)]
    id: u64,
    row: u32,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 1)]
struct OldUser {
    #[cached(key)]
    id: u64,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "limited", max_loads = 2)]
struct Limited {
    #[cached(key)]
    id: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "held", hold = "600ms")]
struct Held {
    #[cached(key)]
    id: u64,
}

fn row(row: u32) -> User {
    User { id: 1, row }
}

/// A load that has begun, and ends when the test says with what.
struct Load {
    call: JoinHandle<Result<Option<User>, &'static str>>,
    end: oneshot::Sender<Result<Option<User>, &'static str>>,
}

impl Load {
    /// Returns once the loader runs.
    async fn begin(store: &Store) -> Self {
        let (end, ended) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let store = store.clone();
        let call = tokio::spawn(async move {
            User::get_or_load(&store, 1, async || {
                begin.send(()).unwrap();
                ended.await.unwrap()
            })
            .await
        });
        begun.await.expect("the loader must run");
        Self { call, end }
    }

    async fn end(
        self,
        with: Result<Option<User>, &'static str>,
    ) -> Result<Option<User>, &'static str> {
        self.end.send(with).unwrap();
        self.call.await.unwrap()
    }
}

/// A call that must not load.
fn follow(store: &Store) -> JoinHandle<Result<Option<User>, &'static str>> {
    let store = store.clone();
    tokio::spawn(async move {
        User::get_or_load(&store, 1, async || -> Result<Option<User>, _> {
            panic!("it must not load")
        })
        .await
    })
}

/// Lets what was spawned go as far as it can without the network, and a few round trips to the
/// node of a cluster that has the key 1.
async fn settle(store: &Store) {
    for _ in 0..10 {
        User::exists(store, 1).await.unwrap();
        tokio::task::yield_now().await;
    }
}

async fn a_miss_is_loaded_and_stored(on: On) {
    let store = on.store("load-miss").await;
    let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(row(7)))).await;
    assert_eq!(loaded, Ok(Some(row(7))));
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(7)));
    assert!(store.of::<User>().ttl(1).await.unwrap().is_some());
    let stats = store.stats();
    assert_eq!(
        (stats.loads(), stats.misses(), stats.errors_total()),
        (1, 1, 0)
    );
}

async fn a_hit_is_not_loaded(on: On) {
    let store = on.store("load-hit").await;
    row(7).set(&store).await.unwrap();
    assert_eq!(follow(&store).await.unwrap(), Ok(Some(row(7))));
    assert_eq!((store.stats().loads(), store.stats().hits()), (0, 1));
}

async fn nothing_found_is_not_stored(on: On) {
    let store = on.store("load-none").await;
    for _ in 0..3 {
        assert_eq!(
            User::get_or_load(&store, 1, async || Ok::<_, ()>(None)).await,
            Ok(None)
        );
    }
    assert_eq!(
        store.stats().loads(),
        3,
        "the lease is given back, and nobody waits for it"
    );
}

async fn the_error_of_a_loader_is_returned_and_the_lease_given_back(on: On) {
    let store = on.store("load-fails").await;
    assert_eq!(
        User::get_or_load(&store, 1, async || Err::<Option<User>, _>("no database")).await,
        Err("no database")
    );
    let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(row(1)))).await;
    assert_eq!(loaded, Ok(Some(row(1))));
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(1)));
}

async fn callers_of_one_key_share_a_load(on: On) {
    let store = on.store("load-shared").await;
    let load = Load::begin(&store).await;
    let followers: Vec<_> = (0..100).map(|_| follow(&store)).collect();
    settle(&store).await;
    assert_eq!(load.end(Ok(Some(row(7)))).await, Ok(Some(row(7))));
    for follower in followers {
        assert_eq!(follower.await.unwrap(), Ok(Some(row(7))));
    }
    assert_eq!(store.stats().loads(), 1);
}

/// FusionCache 625: a removal during a load.
async fn a_load_that_began_before_a_deletion_is_not_stored(on: On) {
    let store = on.store("load-del").await;
    let load = Load::begin(&store).await;
    assert!(!User::del(&store, 1).await.unwrap());
    assert_eq!(
        load.end(Ok(Some(row(7)))).await,
        Ok(Some(row(7))),
        "its own caller is given it"
    );
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.stats().refused_fills(), 1);
}

async fn a_load_that_began_before_an_expiry_on_demand_is_not_stored(on: On) {
    let store = on.store("load-expire").await;
    let load = Load::begin(&store).await;
    assert!(!store.of::<User>().mark_stale(1).await.unwrap());
    load.end(Ok(Some(row(7)))).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    row(8).set(&store).await.unwrap();
    assert!(store.of::<User>().mark_stale(1).await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

async fn a_load_that_began_before_an_update_is_not_stored(on: On) {
    let store = on.store("load-update").await;
    let load = Load::begin(&store).await;
    User::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    load.end(Ok(Some(row(7)))).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

async fn a_caller_after_an_update_does_not_join_the_load_before_it(on: On) {
    let store = on.store("load-after").await;
    let old = Load::begin(&store).await;
    User::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    // It does not wait for the old load either.
    let new = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(row(8)))).await;
    assert_eq!(new, Ok(Some(row(8))));
    assert_eq!(old.end(Ok(Some(row(7)))).await, Ok(Some(row(7))));
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(8)));
}

/// A placeholder that was named by its client would be found again by the first load.
async fn the_same_process_misses_again_and_the_older_load_is_not_stored(on: On) {
    let store = on.store("load-again").await;
    let older = Load::begin(&store).await;
    User::del(&store, 1).await.unwrap();
    let newer = Load::begin(&store).await;
    older.end(Ok(Some(row(7)))).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    newer.end(Ok(Some(row(8)))).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(8)));
}

async fn a_load_during_a_guard_is_given_and_not_stored(on: On) {
    let store = on.store("load-guard").await;
    let guard = store.of::<User>().update(1).guard().await.unwrap();
    assert!(guard.is_placed());
    let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(row(7)))).await;
    assert_eq!(loaded, Ok(Some(row(7))));
    assert!(guard.release().await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

async fn a_cancelled_leader_hands_its_load_on(on: On) {
    let store = on.store("load-cancel").await;
    let load = Load::begin(&store).await;
    let other = store.clone();
    let follower = tokio::spawn(async move {
        User::get_or_load(&other, 1, async || Ok::<_, ()>(Some(row(8)))).await
    });
    settle(&store).await;
    load.call.abort();
    assert_eq!(follower.await.unwrap(), Ok(Some(row(8))));
    assert_eq!(
        User::get(&store, 1).await.unwrap(),
        Some(row(8)),
        "under the same lease"
    );
}

async fn a_panicking_leader_hands_its_load_on(on: On) {
    let store = on.store("load-panic").await;
    let load = Load::begin(&store).await;
    let other = store.clone();
    let follower = tokio::spawn(async move {
        User::get_or_load(&other, 1, async || Ok::<_, ()>(Some(row(8)))).await
    });
    settle(&store).await;
    // The loader unwraps what it waits for.
    drop(load.end);
    assert!(load.call.await.unwrap_err().is_panic());
    assert_eq!(follower.await.unwrap(), Ok(Some(row(8))));
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(8)));
}

/// Twenty wait for a load that fails: all of them load at once, none after another, and one of them
/// stores.
async fn a_failed_load_is_not_shared(on: On) {
    const WAITING: usize = 20;
    let store = on.store("load-failed").await;
    let load = Load::begin(&store).await;
    let (running, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let waiting: Vec<_> = (0..WAITING)
        .map(|_| {
            let (store, running, gate) = (store.clone(), running.clone(), gate.clone());
            tokio::spawn(async move {
                User::get_or_load(&store, 1, async || {
                    let open = gate.notified();
                    running.add_permits(1);
                    open.await;
                    Ok::<_, ()>(Some(row(8)))
                })
                .await
            })
        })
        .collect();
    settle(&store).await;
    assert_eq!(load.end(Err("no database")).await, Err("no database"));
    // Where the machine stood still, one of them may have come late and joined another.
    let all = running.acquire_many(WAITING as u32);
    let all = tokio::time::timeout(std::time::Duration::from_secs(30), all).await;
    let all = all.expect("each that waited loads for itself").unwrap();
    gate.notify_waiters();
    for call in waiting {
        assert_eq!(call.await.unwrap(), Ok(Some(row(8))));
    }
    drop(all);
    assert_eq!(store.stats().loads(), 1 + WAITING as u64);
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(8)));
}

async fn loads_are_limited_per_type(on: On) {
    let store = on.store("load-limit").await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Each load waits until another one runs, however fast they are.
    let pair = Arc::new(Barrier::new(2));
    let calls: Vec<_> = (0..20)
        .map(|id| {
            let (store, running, most) = (store.clone(), running.clone(), most.clone());
            let pair = pair.clone();
            tokio::spawn(async move {
                Limited::get_or_load(&store, id, async || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    pair.wait().await;
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, ()>(Some(Limited { id }))
                })
                .await
            })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap().is_some());
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

/// Another process, to all that a store can tell. (The in-process store is one process's.)
async fn another_store_waits_for_the_lease(on: On) {
    if on == On::Memory {
        return;
    }
    let (here, there) = (on.store("load-there").await, on.store("load-there").await);
    let load = Load::begin(&here).await;
    let waiting: Vec<_> = (0..10).map(|_| follow(&there)).collect();
    settle(&there).await;
    load.end(Ok(Some(row(7)))).await.unwrap();
    for call in waiting {
        assert_eq!(call.await.unwrap(), Ok(Some(row(7))));
    }
    assert_eq!(there.stats().loads(), 0);
}

async fn a_lease_given_back_is_taken_at_once(on: On) {
    if on == On::Memory {
        return;
    }
    let (here, there) = (on.store("load-back").await, on.store("load-back").await);
    let load = Load::begin(&here).await;
    let other = there.clone();
    let waiting = tokio::spawn(async move {
        User::get_or_load(&other, 1, async || Ok::<_, ()>(Some(row(8)))).await
    });
    settle(&there).await;
    load.call.abort();
    assert_eq!(waiting.await.unwrap(), Ok(Some(row(8))));
    assert_eq!(User::get(&here, 1).await.unwrap(), Some(row(8)));
}

/// Longer than a lease lives without being renewed.
async fn a_load_is_kept_while_it_runs(on: On) {
    let store = on.store("load-long").await;
    // It is renewed each third of a second.
    let stored = undisturbed(&store, Duration::from_millis(600), async || {
        User::del(&store, 1).await.unwrap();
        let load = Load::begin(&store).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        load.end(Ok(Some(row(7)))).await.unwrap();
        User::get(&store, 1).await.unwrap()
    });
    assert_eq!(stored.await, Some(row(7)));
}

async fn an_older_version_is_replaced_by_a_load(on: On) {
    let store = on.store("load-older").await;
    OldUser {
        id: 1,
        name: "Ada".into(),
    }
    .set(&store)
    .await
    .unwrap();
    let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(row(7)))).await;
    assert_eq!(loaded, Ok(Some(row(7))));
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(7)));
}

async fn a_newer_version_is_loaded_beside(on: On) {
    let store = on.store("load-newer").await;
    row(7).set(&store).await.unwrap();
    let old = || OldUser {
        id: 1,
        name: "Ada".into(),
    };
    let loaded = OldUser::get_or_load(&store, 1, async || Ok::<_, ()>(Some(old()))).await;
    assert_eq!(loaded.unwrap().unwrap().name, "Ada");
    assert_eq!(
        User::get(&store, 1).await.unwrap(),
        Some(row(7)),
        "it is left alone"
    );
}

async fn rubbish_is_replaced_by_a_load(on: On) {
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(prefix = "user", version = 2)]
    struct Impostor {
        #[cached(key)]
        id: String,
    }
    let store = on.store("load-rubbish").await;
    Impostor { id: "1".into() }.set(&store).await.unwrap();
    let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(row(7)))).await;
    assert_eq!(loaded, Ok(Some(row(7))));
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(7)));
    assert_eq!(store.stats().corrupt(), 1);
}

async fn a_set_wins_over_a_load(on: On) {
    let store = on.store("load-set").await;
    let load = Load::begin(&store).await;
    row(8).set(&store).await.unwrap();
    load.end(Ok(Some(row(7)))).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(8)));
}

async fn an_update_removes_the_entry(on: On) {
    let store = on.store("update").await;
    row(7).set(&store).await.unwrap();
    let seen = User::update(&store, 1, async || {
        Ok::<_, ()>(User::get(&store, 1).await.unwrap())
    })
    .await;
    assert_eq!(seen, Ok(None), "while the row is written nothing is read");
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert!(
        row(8)
            .set_with(&store, valkey_runtime::SetOptions::new().if_absent())
            .await
            .unwrap()
    );
}

/// Whether a guard is there: then a load is given and not stored.
async fn is_guarded(store: &Store) -> bool {
    User::get_or_load(store, 1, async || Ok::<_, ()>(Some(row(99))))
        .await
        .unwrap();
    let stored = User::get(store, 1).await.unwrap().is_some();
    User::del(store, 1).await.unwrap();
    !stored
}

/// The life of a guard that a test waits for.
const SHORT: Duration = Duration::from_millis(600);

async fn an_update_whose_write_fails_leaves_its_guard(on: On) {
    let store = on.store("update-fails").await;
    let guarded = undisturbed(&store, SHORT / 2, async || {
        let failed = store
            .of::<User>()
            .update(1)
            .guard_life(SHORT)
            .run(async || Err::<(), _>("it may still commit"));
        let failed = failed.await.unwrap_err();
        assert_eq!(failed, "it may still commit");
        is_guarded(&store).await
    });
    assert!(guarded.await);
    until("it runs out", async || !is_guarded(&store).await).await;
}

async fn an_update_that_is_sure_of_nothing_written_ends_its_guard(on: On) {
    let store = on.store("update-sure").await;
    let failed = store
        .of::<User>()
        .update(1)
        .unwritten_if(|error: &&str| error.starts_with("duplicate"))
        .run(async || Err::<(), _>("duplicate key"))
        .await;
    assert!(failed.is_err());
    assert!(!is_guarded(&store).await);
}

async fn a_dropped_update_leaves_its_guard(on: On) {
    let store = on.store("update-dropped").await;
    let guarded = undisturbed(&store, SHORT / 2, async || {
        let (writing, written) = oneshot::channel();
        let other = store.clone();
        let update = tokio::spawn(async move {
            other
                .of::<User>()
                .update(1)
                .guard_life(SHORT)
                .run(async || {
                    writing.send(()).unwrap();
                    std::future::pending::<Result<(), ()>>().await
                })
                .await
        });
        written.await.unwrap();
        update.abort();
        assert!(update.await.unwrap_err().is_cancelled());
        is_guarded(&store).await
    });
    assert!(guarded.await);
    until("it runs out", async || !is_guarded(&store).await).await;
}

async fn nested_guards_end_one_after_the_other(on: On) {
    let store = on.store("guard-nested").await;
    let outer = store.of::<User>().update(1).guard().await.unwrap();
    User::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    assert!(is_guarded(&store).await);
    assert!(outer.still_held().await.unwrap());
    assert!(outer.release().await.unwrap());
    assert!(!is_guarded(&store).await);
}

async fn a_guard_object_is_held_until_released(on: On) {
    let store = on.store("guard-object").await;
    // It is renewed each third of its life.
    let held = undisturbed(&store, SHORT / 2, async || {
        let guard = store
            .of::<User>()
            .update(1)
            .guard_life(SHORT)
            .guard()
            .await
            .unwrap();
        tokio::time::sleep(SHORT * 3 / 2).await;
        let held = guard.still_held().await.unwrap();
        let guarded = is_guarded(&store).await;
        let released = guard.release().await.unwrap();
        [held, guarded, released, is_guarded(&store).await]
    });
    assert_eq!(held.await, [true, true, true, false]);
    store
        .of::<User>()
        .update(1)
        .guard()
        .await
        .unwrap()
        .abandon()
        .await
        .unwrap();
    assert!(!is_guarded(&store).await);
}

async fn a_guard_that_ran_out_says_so(on: On) {
    let store = on.store("guard-out").await;
    let guard = store.of::<User>().update(1).guard().await.unwrap();
    // As an eviction would, or a restart.
    row(6).set(&store).await.unwrap();
    assert!(!guard.still_held().await.unwrap());
    assert!(!guard.release().await.unwrap());
    assert_eq!(
        User::get(&store, 1).await.unwrap(),
        None,
        "the release removes what came between"
    );
}

async fn updates_of_many_keys(on: On) {
    let store = on.store("update-many").await;
    let users: Vec<_> = (1..=3).map(|id| User { id, row: 7 }).collect();
    User::set_many(&store, &users).await.unwrap();
    let ids = vec![1, 2, 3];
    let during = User::update_many(&store, &ids, async || {
        Ok::<_, ()>(User::get_many(&store, &ids).await.unwrap())
    })
    .await;
    assert_eq!(during.unwrap(), [None, None, None]);
    assert_eq!(
        User::get_many(&store, &ids).await.unwrap(),
        [None, None, None]
    );
    assert!(!is_guarded(&store).await);
}

async fn a_write_through_is_stored(on: On) {
    let store = on.store("through").await;
    row(7).set(&store).await.unwrap();
    assert_eq!(
        User::write_through(&store, &row(8), async || Ok::<_, ()>(3)).await,
        Ok(3)
    );
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(row(8)));
    assert!(store.of::<User>().ttl(1).await.unwrap().is_some());
    let failed = User::write_through(&store, &row(9), async || {
        Err::<(), _>("it may still commit")
    })
    .await;
    assert_eq!(failed, Err("it may still commit"));
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

async fn a_write_through_beside_another_writer_is_not_stored(on: On) {
    let store = on.store("through-beside").await;
    let through = User::write_through(&store, &row(8), async || {
        User::update(&store, 1, async || Ok::<_, ()>(())).await
    });
    through.await.unwrap();
    assert_eq!(
        User::get(&store, 1).await.unwrap(),
        None,
        "which of the two came last, nobody knows"
    );
}

async fn a_deletion_during_a_write_through_is_not_overwritten(on: On) {
    let store = on.store("through-del").await;
    User::write_through(&store, &row(8), async || User::del(&store, 1).await)
        .await
        .unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

async fn options_of_a_write_through_and_of_many(on: On) {
    let store = on.store("through-options").await;
    store
        .of::<User>()
        .write_through(&row(8))
        .strict()
        .ttl(Duration::from_secs(1000))
        .run(async || Ok::<_, ()>(()))
        .await
        .unwrap();
    let left = store.of::<User>().ttl(1).await.unwrap();
    assert!(
        matches!(left, Some(valkey_runtime::Ttl::After(left)) if left > Duration::from_secs(900)),
        "{left:?}"
    );
    let failed = store
        .of::<User>()
        .update_many([1, 2])
        .unwritten_if(|_: &&str| true)
        .run(async || Err::<(), _>("duplicate"))
        .await;
    assert_eq!(failed, Err("duplicate"));
    assert!(!is_guarded(&store).await);
}

async fn a_hold_keeps_loads_from_being_stored_for_a_while(on: On) {
    let store = on.store("hold").await;
    let load = || Held::get_or_load(&store, 1, async || Ok::<_, ()>(Some(Held { id: 1 })));
    let stored = undisturbed(&store, SHORT / 2, async || {
        let written = Held::update(&store, 1, async || Ok::<_, ()>(())).await;
        written.unwrap();
        load().await.unwrap();
        Held::get(&store, 1).await.unwrap()
    });
    assert_eq!(stored.await, None);
    let is_stored = async || {
        load().await.unwrap();
        Held::get(&store, 1).await.unwrap().is_some()
    };
    until("the hold is over", is_stored).await;
    let stored = undisturbed(&store, SHORT / 2, async || {
        until("there is one", is_stored).await;
        assert!(Held::del(&store, 1).await.unwrap());
        is_stored().await
    });
    assert!(!stored.await, "a deletion holds too");
}

fn users(ids: &[u64]) -> Vec<(u64, User)> {
    ids.iter().map(|&id| (id, User { id, row: 7 })).collect()
}

async fn many_missing_keys_are_loaded_by_one_call(on: On) {
    let store = on.store("many-load").await;
    User { id: 2, row: 1 }.set(&store).await.unwrap();
    let mut calls = Vec::new();
    let ids = vec![3, 2, 1, 4, 3];
    let found = User::get_or_load_many(&store, &ids, |missing| {
        calls.push(missing.clone());
        // 4 has no row, and nobody asked for 9.
        async { Ok::<_, ()>(users(&[1, 3, 9])) }
    });
    let found = found.await.unwrap();
    let rows: Vec<_> = found
        .iter()
        .map(|user| user.as_ref().map(|user| (user.id, user.row)))
        .collect();
    assert_eq!(
        rows,
        [Some((3, 7)), Some((2, 1)), Some((1, 7)), None, Some((3, 7))]
    );
    assert_eq!(calls, [[3, 1, 4]]);
    let stored = User::get_many(&store, 1..=9).await.unwrap();
    assert_eq!(
        stored
            .iter()
            .flatten()
            .map(|user| user.id)
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
    // The lease of what has no row was given back.
    let loaded = User::get_or_load(&store, 4, async || {
        Ok::<_, ()>(Some(User { id: 4, row: 8 }))
    })
    .await;
    assert_eq!(loaded.unwrap().unwrap().row, 8);
    assert!(User::exists(&store, 4).await.unwrap());
    assert_eq!(
        User::get_or_load_many(&store, [0u64; 0], async |_| Ok::<Vec<User>, ()>(vec![])).await,
        Ok(vec![])
    );
}

async fn more_than_a_thousand_are_loaded_in_chunks(on: On) {
    let store = on.store("many-chunks").await;
    let mut calls = Vec::new();
    let found = User::get_or_load_many(&store, 0..2500, |missing| {
        calls.push(missing.len());
        async move { Ok::<_, ()>(users(&missing)) }
    });
    assert_eq!(found.await.unwrap().into_iter().flatten().count(), 2500);
    assert_eq!(calls, [1000, 1000, 500]);
    assert_eq!(
        User::get_many(&store, 0..2500)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .count(),
        2500
    );
}

async fn keys_that_are_loading_are_joined_and_not_loaded_again(on: On) {
    let store = on.store("many-join").await;
    let load = Load::begin(&store).await;
    let (begin, begun) = oneshot::channel();
    let mut begin = Some(begin);
    let other = store.clone();
    let many = tokio::spawn(async move {
        User::get_or_load_many(&other, [1, 2], |missing| {
            begin
                .take()
                .expect("one call")
                .send(missing.clone())
                .unwrap();
            async move { Ok::<_, ()>(users(&missing)) }
        })
        .await
    });
    assert_eq!(begun.await.unwrap(), [2]);
    until("the other is stored", async || {
        User::get(&store, 2).await.unwrap().is_some()
    })
    .await;
    load.end(Ok(Some(row(8)))).await.unwrap();
    let found = many.await.unwrap().unwrap();
    assert_eq!(found, [Some(row(8)), Some(User { id: 2, row: 7 })]);
}

async fn of_many_one_lost_lease_does_not_drop_the_others(on: On) {
    let store = on.store("many-lost").await;
    let found = User::get_or_load_many(&store, 1..=3, async |missing| {
        User::del(&store, 2).await.unwrap();
        Ok::<_, ()>(users(&missing))
    });
    assert_eq!(found.await.unwrap().into_iter().flatten().count(), 3);
    let stored = User::get_many(&store, 1..=3).await.unwrap();
    assert_eq!(
        stored.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(store.stats().refused_fills(), 1);
}

async fn of_many_those_that_another_process_loads_are_not_stored(on: On) {
    if on == On::Memory {
        return;
    }
    let (here, there) = (on.store("many-leased").await, on.store("many-leased").await);
    let load = Load::begin(&there).await;
    let found =
        User::get_or_load_many(&here, [1, 2], async |missing| Ok::<_, ()>(users(&missing))).await;
    assert_eq!(
        found.unwrap().into_iter().flatten().count(),
        2,
        "they are not waited for"
    );
    assert_eq!(
        User::get_many(&here, [1, 2]).await.unwrap(),
        [None, Some(User { id: 2, row: 7 })]
    );
    load.end(Ok(Some(row(8)))).await.unwrap();
    assert_eq!(User::get(&here, 1).await.unwrap(), Some(row(8)));
}

async fn many_that_fail_give_their_leases_back(on: On) {
    let store = on.store("many-fail").await;
    let failed =
        User::get_or_load_many(&store, 1..=3, async |_| Err::<Vec<User>, _>("no database")).await;
    assert_eq!(failed, Err("no database"));
    let found =
        User::get_or_load_many(&store, 1..=3, async |missing| Ok::<_, ()>(users(&missing))).await;
    assert_eq!(found.unwrap().into_iter().flatten().count(), 3);
    assert_eq!(
        User::get_many(&store, 1..=3)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .count(),
        3
    );
}

async fn calls_of_many_never_wait_for_each_other(on: On) {
    let store = on.store("many-cycle").await;
    let calls: Vec<_> = (0..40u64)
        .map(|call| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..5 {
                    // Overlapping sets, in different orders.
                    let mut ids: Vec<u64> =
                        (0..8).map(|n| (call * 7 + n * 3 + round) % 12).collect();
                    if call % 2 == 0 {
                        ids.reverse();
                    }
                    let found = User::get_or_load_many(&store, &ids, |missing| async move {
                        tokio::task::yield_now().await;
                        if call % 5 == 0 {
                            Err(())
                        } else {
                            Ok(users(&missing))
                        }
                    });
                    match found.await {
                        Ok(found) => {
                            assert!(found.iter().map(|user| user.as_ref().unwrap().id).eq(ids))
                        }
                        Err(()) => assert_eq!(call % 5, 0),
                    }
                    User::del(&store, round % 12).await.unwrap();
                }
            })
        })
        .collect();
    for call in calls {
        tokio::time::timeout(Duration::from_secs(30), call)
            .await
            .expect("it hangs")
            .unwrap();
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
struct Membership {
    #[cached(key(hash_tag))]
    org: String,
    #[cached(key)]
    user: u64,
}

async fn keys_of_every_shape_are_given_to_the_loader(on: On) {
    let store = on.store("many-shapes").await;
    let keys = [("a:b".to_owned(), 1), ("c".to_owned(), 2)];
    let found = Membership::get_or_load_many(&store, &keys, async |missing: Vec<(String, u64)>| {
        let members = missing
            .into_iter()
            .map(|(org, user)| ((org.clone(), user), Membership { org, user }));
        Ok::<_, ()>(members.collect::<std::collections::HashMap<_, _>>())
    });
    assert_eq!(
        found.await.unwrap()[0],
        Some(Membership {
            org: "a:b".into(),
            user: 1
        })
    );
    assert!(Membership::exists(&store, ("c", 2)).await.unwrap());
}
