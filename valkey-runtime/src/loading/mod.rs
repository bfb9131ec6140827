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

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tracing::Span;

use crate::envelope::placeholder::Lease;
use crate::stats::Count;
use crate::store::Store;
use crate::trace::{Ending, traced};
use crate::transition::Verb;
use crate::types::Type;
#[cfg(test)]
use crate::types::Types;
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

/// The moments of a store's loads: one order for all its types.
#[derive(Debug, Default)]
pub(crate) struct Moments(AtomicU64);

impl Moments {
    fn moment(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// The loads of a type on a store.
pub(crate) struct TypeLoads {
    flights: Mutex<TypeFlights>,
    /// One a load that runs.
    permits: Semaphore,
    /// Whether it was said that some of what the type asks for can't be had.
    told: AtomicBool,
}

impl TypeLoads {
    pub(crate) fn new(meta: &Meta) -> Self {
        Self {
            flights: Mutex::new(Flights::new()),
            permits: Semaphore::new(usize::from(meta.policy.max_loads)),
            told: AtomicBool::new(false),
        }
    }

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

#[cfg(test)]
impl Types {
    /// Whether no load is under way: what a test asks at its end.
    fn are_idle(&self) -> bool {
        self.iter()
            .all(|of| of.loads.with(|flights| flights.is_empty()))
    }
}

/// A request for a lease: the moment of its sending, and its token.
type Request = (Moment, u64);

/// Releases a lease in the background. Where that can't be, or not now, it is left to run out.
fn give_back(store: &Store, of: &Arc<Type>, key: Vec<u8>, lease: Lease) {
    let background = &store.inner().background;
    let (store, of) = (store.clone(), of.clone());
    background.spawn(async move {
        if let Err(error) = store
            .inner()
            .backend
            .apply(&key, &Verb::Release { lease, pause: 0 })
            .await
        {
            of.log_failure_at("get_or_load", &key, error, "a lease is not given back");
        }
    });
}

/// Runs a loader for so many keys: it is counted and timed, and has a span of its own.
async fn run_loader<R, E, Fut: Future<Output = Result<R, E>>>(
    of: &Type,
    keys: usize,
    beside: Option<&Span>,
    load: impl FnOnce() -> Fut,
) -> Result<R, E> {
    of.counters().count(Count::Load);
    let _timed = Timed {
        of,
        began: Instant::now(),
    };
    let span = of.load_span(keys, beside);
    traced!(span, async { load().await }, |loaded| Ending::of_foreign(
        loaded
    ))
}

/// Takes the time of a load until it is dropped: by whatever means it ends.
struct Timed<'t> {
    of: &'t Type,
    began: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.of.loaded(self.began.elapsed());
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
