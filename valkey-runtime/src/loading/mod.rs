//! Cache-aside that can't go stale: the thin shell around [`call`] and [`flights`], which decide.
//!
//! A load is stored only if the key still holds the lease that the loader put there before it began, or the value that it
//! claimed, so that whatever was deleted or written meanwhile is never overwritten by what was loaded before.
//! `docs/consistency.md` has the races step by step.

mod call;
mod caller;
#[cfg(test)]
mod check;
mod driver;
mod end;
mod flights;
mod many;
mod one;
#[cfg(test)]
pub(crate) mod schedule;
mod shared;
mod sight;
#[cfg(test)]
pub(crate) mod tests;
mod turns;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
use crate::warnings::Detail;

use caller::{Caller, Observed, Panic, Running, Signal};
use flights::{Flights, Moment};
use shared::Shared;
use turns::{TurnId, Turns};

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
type TypeFlights = Flights<Key, Shared, Arc<Signal>>;

pub(crate) use driver::{Limits, many};
pub(crate) use many::get_or_load_many;
pub(crate) use one::{get_or_load, get_or_refresh};

/// The moments of a store's loads: one order for all its types.
#[derive(Debug, Default)]
pub(crate) struct Moments(AtomicU64);

impl Moments {
    /// None is zero.
    fn moment(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// The loads of a type on a store.
pub(crate) struct TypeLoads {
    state: Mutex<State>,
    /// Whether it was said that some of what the type asks for can't be had.
    told: AtomicBool,
}

/// Who loads, and who waits.
struct State {
    flights: TypeFlights,
    turns: Turns<Arc<Caller>>,
    /// Those who had their turns when that was last looked at, and when it was.
    seen: Vec<(TurnId, Observed)>,
    seen_at: Option<Instant>,
}

impl TypeLoads {
    pub(crate) fn new(meta: &Meta) -> Self {
        Self {
            state: Mutex::new(State {
                flights: Flights::new(),
                turns: Turns::new(usize::from(meta.policy.max_loads)),
                seen: Vec::new(),
                seen_at: None,
            }),
            told: AtomicBool::new(false),
        }
    }

    /// Runs a step on the flights and turns, and wakes who waits on those that it moved.
    fn with<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        #[cfg(test)]
        schedule::switch();
        // A panic in a step is a defect of it, and leaves at worst a flight that nobody ends.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = step(&mut state);
        let (woken, granted) = (state.flights.take_wakes(), state.turns.take_granted());
        drop(state);
        woken.iter().for_each(|wake| wake.moved.notify_waiters());
        granted
            .iter()
            .for_each(|caller| caller.turn.notify_waiters());
        result
    }

    /// How many loads wait for a turn.
    pub(crate) fn queued(&self) -> usize {
        self.with(|state| state.turns.queued())
    }

    /// How many have a turn.
    pub(crate) fn running(&self) -> usize {
        self.with(|state| state.turns.running().count())
    }

    /// Takes their turns from those that stand still. Says of how many.
    fn look_at_turns(&self, meta: &Meta) -> usize {
        let longest = Duration::from_millis(meta.policy.load_deadline_millis) + LEASE_LIFE;
        self.with(|state| {
            // Others look, too: once while a lease lives is enough.
            if state
                .seen_at
                .is_some_and(|at| at.elapsed() < LEASE_LIFE / 4)
            {
                return 0;
            }
            state.seen_at = Some(Instant::now());
            let mut known = std::mem::take(&mut state.seen).into_iter().peekable();
            let mut still = Vec::new();
            for (id, caller) in state.turns.running() {
                while known.next_if(|(other, _)| *other < id).is_some() {}
                let mut seen = match known.next_if(|(other, _)| *other == id) {
                    Some((_, seen)) => seen,
                    None => caller.seen(),
                };
                match seen.stands_still(longest) {
                    true => still.push(id),
                    false => state.seen.push((id, seen)),
                }
            }
            for id in &still {
                state.turns.leave(*id);
            }
            still.len()
        })
    }
}

#[cfg(test)]
impl Types {
    /// Whether no load is under way: what a test asks at its end.
    fn are_idle(&self) -> bool {
        let is_idle = |state: &mut State| state.flights.is_empty() && state.turns.is_empty();
        self.iter().all(|of| of.loads.with(is_idle))
    }
}

/// A request for a lease: the moment of its sending, and its token.
type Request = (Moment, u64);

/// Releases a lease in the background. Where that can't be, or not now, it is left to run out. A value that was claimed is not
/// claimed again for so many milliseconds.
fn give_back(store: &Store, of: &Arc<Type>, key: Vec<u8>, lease: Lease, pause: u64) {
    let background = &store.inner().background;
    let (store, of) = (store.clone(), of.clone());
    background.spawn(async move {
        if let Err(error) = store
            .inner()
            .backend
            .apply(&key, &Verb::Release { lease, pause })
            .await
        {
            of.log_failure_at("get_or_load", &key, error, "a lease is not given back");
        }
    });
}

/// Runs a loader for so many keys, whose call was queued for so long: it is counted and timed, and has a span of its own. Says
/// for how long it kept its thread at once.
async fn run_loader<R, E, F>(
    of: &Type,
    keys: usize,
    beside: Option<&Span>,
    queued: Duration,
    work: Running<F>,
) -> (Result<Result<R, E>, Panic>, Duration)
where
    F: Future<Output = Result<R, E>> + Unpin,
{
    of.counters().count(Count::Load);
    let _timed = Timed {
        of,
        began: Instant::now(),
    };
    let span = of.load_span(keys, beside, queued);
    traced!(span, work, |(loaded, _)| match loaded {
        Ok(loaded) => Ending::of_foreign(loaded),
        Err(_) => Ending::panicked(),
    })
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

impl Type {
    /// A load stood still: its caller was not polled, or kept its thread.
    fn stalled(&self, how_many: usize) {
        if how_many == 0 {
            return;
        }
        self.counters().add(Count::StalledLoad, how_many);
        self.warn("loads stand still and lose their turns", None, || {
            Detail::text(format_args!(
                "their futures are not polled, or block their threads: poll them, or spawn them as tasks"
            ))
        });
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
