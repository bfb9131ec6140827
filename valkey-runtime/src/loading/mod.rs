//! Cache-aside that can't go stale: the thin shell around [`call`] and [`flights`], which decide.
//!
//! A load is stored only if the key still holds the lease that the loader put there before it began, or the value that it
//! claimed, so that whatever was deleted or written meanwhile is never overwritten by what was loaded before.
//! `docs/consistency.md` has the races step by step.

mod call;
#[cfg(test)]
mod check;
mod driver;
mod end;
mod flights;
mod many;
mod one;
#[cfg(test)]
pub(crate) mod schedule;
mod sight;
#[cfg(test)]
pub(crate) mod tests;

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use crate::envelope::placeholder::Lease;
use crate::store::Store;
use crate::transition::Verb;
use crate::verbs::Meta;

use flights::{Flights, Moment};

/// How long a lease lives that is not renewed, and how often it is.
pub(crate) const LEASE_LIFE: Duration = Duration::from_secs(1);
const RENEWAL: Duration = Duration::from_millis(300);
/// A load that takes longer goes on, but is not stored; one beside its caller is ended. So long others wait for it.
pub(crate) const LONGEST_LOAD: Duration = Duration::from_secs(10);
/// The pause between two looks at another process's lease: doubled up to the longest, and jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// What the check of tags drives, too.
#[cfg(test)]
pub(crate) mod parts {
    pub(crate) use super::call::{Call, Loaded, Seen, Share, Step};
    pub(crate) use super::flights::{FlightId, Flights, Moment};
    pub(crate) use super::sight::{Asked, seen};
}

type Key = Box<[u8]>;
type TypeFlights = Flights<Key, Bytes, Arc<Notify>>;

pub(crate) use many::get_or_load_many;
pub(crate) use one::{get_or_load, get_or_refresh};

/// The loads of a store, type by type.
#[derive(Default)]
pub(crate) struct Loads {
    moments: AtomicU64,
    types: RwLock<HashMap<TypeId, Arc<TypeLoads>>>,
}

/// The loads of a type on a store.
struct TypeLoads {
    flights: Mutex<TypeFlights>,
    /// One a load that runs.
    permits: Semaphore,
    /// Whether it was said that some of what the type asks for can't be had.
    told: AtomicBool,
}

impl Loads {
    fn moment(&self) -> Moment {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    fn of(&self, of: TypeId, meta: &Meta) -> Arc<TypeLoads> {
        // A panic under this lock leaves the map whole.
        let known = self
            .types
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&of)
            .cloned();
        known.unwrap_or_else(|| {
            let mut types = self.types.write().unwrap_or_else(PoisonError::into_inner);
            let fresh = || {
                let permits = Semaphore::new(usize::from(meta.policy.max_loads));
                Arc::new(TypeLoads {
                    flights: Mutex::new(Flights::new()),
                    permits,
                    told: AtomicBool::new(false),
                })
            };
            types.entry(of).or_insert_with(fresh).clone()
        })
    }

    /// Whether nothing is under way: what a test asks at its end.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        let types = self.types.read().unwrap();
        types
            .values()
            .all(|loads| loads.with(|flights| flights.is_empty()))
    }
}

impl TypeLoads {
    /// Runs a step on the flights, and wakes who waits on those that it moved.
    fn with<R>(&self, step: impl FnOnce(&mut TypeFlights) -> R) -> R {
        #[cfg(test)]
        schedule::switch();
        // A panic in a step is a defect of it, and leaves at worst a flight that nobody ends.
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let result = step(&mut flights);
        let woken = flights.take_wakes();
        drop(flights);
        woken.iter().for_each(|wake| wake.notify_waiters());
        result
    }
}

/// A request for a lease: the moment of its sending, and its token.
type Request = (Moment, u64);

/// Releases a lease in the background. Where that can't be, or not now, it is left to run out.
fn give_back(store: &Store, key: Vec<u8>, lease: Lease) {
    let background = &store.inner().background;
    let store = store.clone();
    background.spawn(async move {
        if let Err(error) = store
            .inner()
            .backend
            .apply(&key, &Verb::Release { lease, pause: 0 })
            .await
        {
            store
                .inner()
                .log_failure(error.at("get_or_load", &key), "a lease is not given back");
        }
    });
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
