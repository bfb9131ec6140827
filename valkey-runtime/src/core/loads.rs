//! The loads of a type, which can't store stale values: the state that
//! [`call`](crate::protocol::call) and [`flights`](crate::protocol::flights) decide on.
//!
//! A load is stored only if the key still has the lease that was placed before the load began, or
//! the value that it claimed. So a load never overwrites a deletion or a write that happened
//! meanwhile. `docs/guides/consistency.md` has the races step by step.

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

/// The parts that the check of tags drives, too.
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
    /// The next moment, which is never zero.
    pub(crate) fn moment(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// The loads of a type on a store.
pub(crate) struct TypeLoads {
    state: Mutex<State>,
    /// Whether a warning was logged that `refresh_ahead` and `load_timeout` need `get_or_refresh`.
    pub(crate) told: AtomicBool,
}

/// The flights and turns of a type.
pub(crate) struct State {
    pub(crate) flights: TypeFlights,
    pub(crate) turns: Turns<Arc<Caller>>,
    /// The callers that had turns at the last look, and the time of that look.
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

    /// Runs a step on the flights and turns, and wakes the callers that it affects.
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

    /// The number of loads that wait for a turn.
    pub(crate) fn queued(&self) -> usize {
        self.with(|state| state.turns.queued())
    }

    /// The number of loads that have a turn.
    pub(crate) fn running(&self) -> usize {
        self.with(|state| state.turns.running().count())
    }

    /// Takes the turns of callers that stand still, and returns their number.
    pub(crate) fn look_at_turns(&self, meta: &Meta) -> usize {
        let longest = Duration::from_millis(meta.policy.load_deadline_millis) + LEASE_LIFE;
        self.with(|state| {
            // Other callers look, too, and a few looks in the life of a lease are enough.
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
    /// Whether no load is under way, which a test checks at its end.
    pub(crate) fn are_idle(&self) -> bool {
        let is_idle = |state: &mut State| state.flights.is_empty() && state.turns.is_empty();
        self.iter().all(|of| of.loads.with(is_idle))
    }
}
