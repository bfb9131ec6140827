//! What only the inside shows: that nothing is left behind, whatever becomes of the callers.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use serde::{Deserialize, Serialize};

use crate::{BestEffort, Cached, Store, Ttl};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

impl Cached for User {
    const PREFIX: &'static str = "user";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 1;
    type Guarding = BestEffort;
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

/// A call is dropped after each number of polls, alone and with another that goes beside it. Nothing hangs, nothing is left
/// behind, and who is left is given the value.
#[tokio::test]
async fn a_call_dropped_at_any_point_leaves_nothing_behind() {
    for followed in [false, true] {
        for polls in 0.. {
            let store = Store::memory();
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
            // What is given back in the background.
            tokio::task::yield_now().await;
            assert!(store.inner().loads.is_idle(), "after {polls} polls");
            assert_eq!(call().await, Ok(Some(ada())));
            assert!(store.inner().loads.is_idle());
            if done {
                assert!(polls > 3, "there was nothing to drop");
                break;
            }
        }
    }
}
