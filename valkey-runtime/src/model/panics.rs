//! Checks that need internal access: nothing is left behind, whatever happens to the callers.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::base::ttl::Ttl;
use crate::core::store::Store;
use crate::protocol::found::Found;
use crate::protocol::transition::{Placing, Rejected};
use crate::schema::guarding::BestEffort;
use crate::schema::policy::Policy;
use crate::verbs::raw::Raw;
use crate::{Cached, CachedType};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    name: String,
}

impl CachedType for User {
    const PREFIX: &'static str = "user";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 1;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

fn ada() -> User {
    User { name: "Ada".into() }
}

/// A loader with several points at which it can be dropped.
async fn load() -> Result<Option<User>, ()> {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    Ok(Some(ada()))
}

/// A call is dropped after each number of polls, alone and beside a second call. Nothing hangs,
/// nothing is left behind, and the second call gets the value.
#[tokio::test]
async fn a_call_dropped_at_any_point_leaves_nothing_behind() {
    for followed in [false, true] {
        for polls in 0.. {
            let store = Store::memory();
            // The polls are counted.
            store.faults().set_yielding(false);
            let call = || {
                let store = store.clone();
                async move { User::get_or_load(&store, 1, load).await }
            };
            let mut dropped = Box::pin(call());
            let mut other = followed.then(|| Box::pin(call()));
            let mut context = Context::from_waker(Waker::noop());
            let mut done = false;
            for _ in 0..polls {
                done = dropped.as_mut().poll(&mut context).is_ready();
                if done {
                    break;
                }
                if let Some(other) = &mut other {
                    assert_eq!(
                        other.as_mut().poll(&mut context),
                        Poll::Pending,
                        "it follows"
                    );
                }
            }
            drop(dropped);
            if let Some(other) = other {
                assert_eq!(other.await, Ok(Some(ada())), "after {polls} polls");
            }
            // Lets the background give leases back.
            tokio::task::yield_now().await;
            assert!(store.inner().types.are_idle(), "after {polls} polls");
            assert_eq!(call().await, Ok(Some(ada())));
            assert!(store.inner().types.are_idle());
            if done {
                assert!(polls > 3, "there was nothing to drop");
                break;
            }
        }
    }
}

/// A change is dropped after each number of polls, alone and before a second one that waits for its
/// turn. It is made once or not at all, and stops nobody.
#[tokio::test]
async fn a_change_dropped_at_any_point_leaves_nothing_behind() {
    let longer = |user: Option<User>| User {
        name: user.map_or(String::new(), |user| user.name) + "x",
    };
    for followed in [false, true] {
        for polls in 0.. {
            let store = Store::memory();
            let change = || {
                let store = store.clone();
                async move { User::modify(&store, 1, longer).await.unwrap() }
            };
            let mut dropped = Box::pin(change());
            let mut other = followed.then(|| Box::pin(change()));
            let mut context = Context::from_waker(Waker::noop());
            let mut done = false;
            for _ in 0..polls {
                done = dropped.as_mut().poll(&mut context).is_ready();
                if done {
                    break;
                }
                if let Some(other) = &mut other {
                    let waits = other.as_mut().poll(&mut context).is_pending();
                    assert!(waits, "it has no turn");
                }
            }
            drop(dropped);
            let expected = match other {
                Some(other) => other.await.name.len() + 1,
                None => change().await.name.len(),
            };
            if followed {
                assert_eq!(change().await.name.len(), expected);
            }
            // The first change is in it, or is not.
            let made = expected - 1 - usize::from(followed);
            assert!(made <= 1 && (!done || made == 1), "after {polls} polls");
            assert!(store.inner().types.of::<User>().modifying.is_empty());
            if done {
                assert!(polls > 2, "there was nothing to drop");
                break;
            }
        }
    }
}

/// A leader hangs, or waits for itself: nobody waits longer than a loader may run.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let store = Store::memory();
    let hung = tokio::spawn({
        let store = store.clone();
        async move { User::get_or_load(&store, 1, std::future::pending::<Result<User, ()>>).await }
    });
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    assert_eq!(User::get_or_load(&store, 1, load).await, Ok(Some(ada())));
    assert_eq!(
        User::get_or_load_many(&store, [1], async |_| Ok::<_, ()>([(1, ada())])).await,
        Ok(vec![Some(ada())])
    );
    assert_eq!(
        began.elapsed().as_secs(),
        30,
        "the default deadline, once: then it is stored"
    );
    hung.abort();
    assert!(hung.await.unwrap_err().is_cancelled());

    let of_itself = User::get_or_load(&store, 2, async || User::get_or_load(&store, 2, load).await);
    assert_eq!(of_itself.await, Ok(Some(ada())));
    tokio::task::yield_now().await;
    assert!(store.inner().types.are_idle());
}

#[tokio::test(start_paused = true)]
async fn the_time_of_loads_is_taken_however_they_end() {
    let store = Store::memory();
    let load = async |id, millis| {
        let slow = async || {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            if id == 1 { Ok(ada()) } else { Err(()) }
        };
        User::get_or_load(&store, id, slow).await
    };
    load(1, 30).await.unwrap();
    load(2, 50).await.unwrap_err();
    let cut_off = tokio::time::timeout(Duration::from_millis(20), load(3, 90));
    cut_off.await.unwrap_err();
    let stats = store.stats();
    assert_eq!((stats.loads(), stats.failed_loads()), (3, 1));
    // A timer of tokio may be a millisecond late.
    assert_eq!(stats.load_time().as_millis() / 10, 10);
    assert_eq!(stats.longest_load().as_millis() / 10, 5);
}

/// The time of tokio, which a test can pause.
#[derive(Debug)]
struct TokioClock(tokio::time::Instant);

impl crate::base::clock::Clock for TokioClock {
    fn now_micros(&self) -> u64 {
        1_767_225_600_000_000 + u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// The leases of the second chunk are kept while the first chunk is loaded.
#[tokio::test(start_paused = true)]
async fn leases_of_later_chunks_are_kept() {
    let clock = std::sync::Arc::new(TokioClock(tokio::time::Instant::now()));
    let store = Store::builder()
        .memory()
        .clock(clock)
        .connect()
        .await
        .unwrap();
    let loaded = User::get_or_load_many(&store, 0..1500, async |ids| {
        tokio::time::sleep(crate::protocol::lease::LEASE_LIFE * 3).await;
        Ok::<_, ()>(ids.into_iter().map(|id| (id, ada())))
    });
    assert_eq!(loaded.await.unwrap().into_iter().flatten().count(), 1500);
    assert_eq!(store.stats().refused_fills(), 0);
}

/// Its values may serve as a fallback if a loader fails.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page(u32);

impl CachedType for Page {
    const PREFIX: &'static str = "page";
    const TTL: Ttl = Ttl::from_millis(60_000);
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy::new().stale_if_error(Duration::from_millis(60_000));
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

/// A caller waits for another process, which loads the successor of a stale value. The value is
/// updated. Another caller follows the first one, whose load now has a lease in place of the
/// deleted value, and fails. The first caller may get the stale value, because it existed when it
/// called. The second one may not.
#[tokio::test]
async fn a_follower_after_an_update_is_not_given_the_older_stale_value() {
    let store = Store::memory();
    // One poll of a call goes as far as it can.
    store.faults().set_yielding(false);
    store.of::<Page>().set_at(1, &Page(1)).await.unwrap();
    assert!(store.of::<Page>().mark_stale(1).await.unwrap());
    let backend = &store.inner().gateway;
    let Found::Entry(bytes) = backend.get(b"page:1").await.unwrap() else {
        panic!("it is kept");
    };
    let claim = Placing::Lease {
        token: 77,
        life: 10_000,
        rejected: Rejected::Claim(Raw::new(bytes, b"page:1", store.inner()).header.stamp),
    };
    backend.place(b"page:1", &claim).await.unwrap();

    let (begun, fails) = (Notify::new(), Notify::new());
    let mut leader = pin!(Page::get_or_load(&store, 1, async || {
        begun.notify_one();
        fails.notified().await;
        Err::<Page, _>("no database")
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(leader.as_mut().poll(&mut context).is_pending(), "it waits");
    let updated = Page::update(&store, 1, async || Ok::<_, ()>(()));
    updated.await.unwrap();
    tokio::select! {
        given = &mut leader => panic!("{given:?}"),
        () = begun.notified() => {}
    }
    let load = async || Ok::<_, &str>(Page(2));
    let mut follower = pin!(Page::get_or_load(&store, 1, load));
    assert!(
        follower.as_mut().poll(&mut context).is_pending(),
        "it follows"
    );
    fails.notify_one();
    assert_eq!(leader.await, Ok(Page(1)));
    assert_eq!(follower.await, Ok(Page(2)));
}
