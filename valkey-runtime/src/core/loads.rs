//! Cache-aside that can't go stale: the thin shell around [`call`] and [`flights`], which decide.
//!
//! A load is stored only if the key still holds the lease that the loader put there before it began, or the value that it
//! claimed, so that whatever was deleted or written meanwhile is never overwritten by what was loaded before.
//! `docs/guides/consistency.md` has the races step by step.

use crate::base::lock::lock;
#[cfg(test)]
use crate::model::schedule;
use crate::protocol::lease::LEASE_LIFE;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::meta::Meta;
#[cfg(test)]
use crate::core::types::Types;

use crate::core::caller::{Caller, Observed, Signal};
use crate::core::shared::Shared;
use crate::protocol::flights::{Flights, Moment};
use crate::protocol::turns::{TurnId, Turns};

/// What the check of tags drives, too.
#[cfg(test)]
pub(crate) mod parts {
    pub(crate) use crate::protocol::call::{Call, Loaded, Seen, Step};
    pub(crate) use crate::protocol::flights::{FlightId, Flights, Moment};
    pub(crate) use crate::protocol::share::Share;
    pub(crate) use crate::verbs::loading::sight::{Asked, seen};
}

pub(crate) type Key = Box<[u8]>;
pub(crate) type TypeFlights = Flights<Key, Shared, Arc<Signal>>;

/// The moments of a store's loads: one order for all its types.
#[derive(Debug, Default)]
pub(crate) struct Moments(AtomicU64);

impl Moments {
    /// None is zero.
    pub(crate) fn moment(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// The loads of a type on a store.
pub(crate) struct TypeLoads {
    state: Mutex<State>,
    /// Whether it was said that some of what the type asks for can't be had.
    pub(crate) told: AtomicBool,
}

/// Who loads, and who waits.
pub(crate) struct State {
    pub(crate) flights: TypeFlights,
    pub(crate) turns: Turns<Arc<Caller>>,
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
    pub(crate) fn with<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        #[cfg(test)]
        schedule::switch();
        let mut state = lock(&self.state);
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
    pub(crate) fn look_at_turns(&self, meta: &Meta) -> usize {
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
    pub(crate) fn are_idle(&self) -> bool {
        let is_idle = |state: &mut State| state.flights.is_empty() && state.turns.is_empty();
        self.iter().all(|of| of.loads.with(is_idle))
    }
}
