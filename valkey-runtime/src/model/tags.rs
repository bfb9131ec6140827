//! Every interleaving of a few callers and writers of one entry under one tag, exhaustively. No
//! read returns an older row than it may, nobody waits forever, and no flight is left behind.
//!
//! The tag's name is known only from the loaded row; in some setups it follows from the key, too.
//! The check explores the real code. The server's half of each verb is
//! [`transition`](crate::protocol::transition) on real entries, epochs and marks. The client's
//! steps are [`Call`](crate::core::loads::parts::Call),
//! [`Flights`](crate::core::loads::parts::Flights) and
//! [`Settling`](crate::protocol::settle::Settling). [`verdict`](crate::verbs::tags::read::verdict)
//! decides the effect of an epoch on an entry. Only their surroundings are simulated: the shell
//! that carries out the steps, the network, the database, and writers.
//!
//! Callers may be dropped and writers may die before any step, a request runs again at any later
//! moment, and any of the three keys may be evicted. A [`Budget`] says how often. Leases, claims
//! and marks run out at any moment. The place of a dead writer in a guard runs out once the lease
//! or claim that was at the key at its death has changed: `TAG_GUARD_LIFE` ensures that order.
//!
//! A read that begins after an invalidation has returned must not return an older row. The same
//! holds for a read that begins after the commit of a guarded row, even if its writer dies, unless
//! there are evictions. [`Mutation`]s show that the check can find such reads: small departures
//! from the rules, each of which leads to a flaw.
//!
//! Outside of the check are:
//!
//! - everything that `model::loading` explores; soft invalidations; `set` and write-through; the
//!   outbox;
//! - a server's time that steps back while its clock is evicted;
//! - a claim that has run out and is made again by a late copy of its request. A caller that took
//!   it over would have to load for longer than the guard of a dead writer lasts; the shell stores
//!   nothing under such a claim.
//!
//! A look at an entry runs and is answered in one step, and so is each request of a writer.

pub(crate) mod reader;
pub(crate) mod server;
pub(crate) mod world;
pub(crate) mod writer;

use std::fmt;
use std::time::Instant;

use crate::model::explore::{Flaw, Trace, explore};
use crate::model::tags::world::World;
use crate::model::tags::writer::Kind;

/// A small world to explore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// The number of callers of each process.
    processes: &'static [usize],
    /// The number of other callers, which only `get`.
    gets: usize,
    writers: &'static [Kind],
    /// The first row is cached from the beginning.
    cached: bool,
    /// The tag follows from the key: the epoch is read beside the entry, before or after.
    by_key: bool,
    /// Concurrent requests run in any order, as on a cluster.
    any_order: bool,
    budget: Budget,
    mutation: Option<Mutation>,
}

/// How often each event may happen; they may happen at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Of writers.
    crashes: u8,
    /// A caller is dropped.
    drops: u8,
    /// Of the entry, the epoch or the clock.
    evictions: u8,
    /// A request runs a second time.
    resends: u8,
    /// A caller that finds a value claims it, to refresh it ahead. Only then values are timed.
    refreshes: u8,
}

/// A departure from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// An entry is stored with the tag's epoch that is found after the load.
    ClockAfterLoad,
    /// A missing epoch becomes the clock, without a mark before.
    NoMark,
    /// The name of a mark is only its token.
    MarkNamedByToken,
    /// An invalidation writes a missing epoch.
    RaiseMissing,
    /// A guarded writer advances the clock only after it has written.
    AdvancedOnce,
    /// The place of a dead writer runs out at any time.
    ShortGuard,
    /// Claims, unlike leases, may outlive that place.
    EndlessClaim,
    /// The followers of a load get its result although the epochs did not admit it.
    OvertakenShared,
    /// They get its result although it was not stored.
    UnstoredShared,
    /// Callers join a load while, and after, it reads the epochs.
    JoinedLate,
}

const NOTHING: Budget = Budget {
    crashes: 0,
    drops: 0,
    evictions: 0,
    resends: 0,
    refreshes: 0,
};

/// Two callers in one process, without any disturbance.
const PAIR: Setup = Setup {
    processes: &[2],
    gets: 0,
    writers: &[],
    cached: false,
    by_key: false,
    any_order: false,
    budget: NOTHING,
    mutation: None,
};

/// Two callers in two processes, on a cluster.
const APART: Setup = Setup {
    processes: &[1, 1],
    any_order: true,
    ..PAIR
};

/// One caller that loads, and one that only reads.
const ONE: Setup = Setup {
    processes: &[1],
    gets: 1,
    ..PAIR
};

/// A value exists from the beginning.
const CACHED: Setup = Setup {
    cached: true,
    ..PAIR
};

const CRASH: Budget = Budget {
    crashes: 1,
    ..NOTHING
};

const DROP: Budget = Budget {
    drops: 1,
    ..NOTHING
};

const EVICTION: Budget = Budget {
    evictions: 1,
    ..NOTHING
};

const CRASH_AND_REFRESH: Budget = Budget {
    crashes: 1,
    refreshes: 1,
    ..NOTHING
};

const EVICTION_AND_RESEND: Budget = Budget {
    evictions: 1,
    resends: 1,
    ..NOTHING
};

impl Setup {
    fn is_timed(&self) -> bool {
        self.budget.refreshes > 0
    }
}

/// Explores all states, and prints their number.
fn run(setup: Setup) -> Result<usize, Trace> {
    let begun = Instant::now();
    let outcome = explore(&World::new(setup));
    let time = begun.elapsed();
    match &outcome {
        Ok(states) => eprintln!("{setup}: {states} states, nothing wrong, in {time:.1?}"),
        Err(trace) => {
            let (flaw, states, steps) = (trace.flaw, trace.states, trace.steps.len());
            eprintln!("{setup}: {flaw:?} after {states} states, by {steps} steps, in {time:.1?}");
        }
    }
    outcome
}

/// Asserts that a setup has no flaw.
fn holds(setup: Setup) {
    if let Err(trace) = run(setup) {
        panic!("{trace}");
    }
}

/// Asserts that the check finds the mutation.
fn is_found(mutation: Mutation, setup: Setup) {
    let mutation = Some(mutation);
    match run(Setup { mutation, ..setup }) {
        Ok(_) => panic!("{mutation:?} is not found"),
        Err(trace) => assert_eq!(trace.flaw, Flaw::StaleRead, "{trace}"),
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            gets,
            writers,
            ..
        } = self;
        write!(f, "callers {processes:?} and {gets}, writers {writers:?}")?;
        if self.cached {
            write!(f, ", cached")?;
        }
        if self.by_key {
            write!(f, ", tag by key")?;
        }
        if self.any_order {
            write!(f, ", any order")?;
        }
        let Budget {
            crashes,
            drops,
            evictions,
            resends,
            refreshes,
        } = self.budget;
        let budget = [
            ("crashes", crashes),
            ("drops", drops),
            ("evictions", evictions),
            ("resends", resends),
            ("refreshes", refreshes),
        ];
        for (what, times) in budget {
            if times > 0 {
                write!(f, ", {what} {times}")?;
            }
        }
        match self.mutation {
            Some(mutation) => write!(f, ", {mutation:?}"),
            None => Ok(()),
        }
    }
}

mod tests {
    use super::Kind::{Delete, Guard, Invalidate};
    use super::*;

    /// The setup with these writers, and this budget.
    fn with(writers: &'static [Kind], budget: Budget, setup: Setup) -> Setup {
        Setup {
            writers,
            budget,
            ..setup
        }
    }

    #[test]
    fn an_invalidation_and_a_caller_that_is_dropped() {
        holds(with(&[Invalidate], DROP, PAIR));
    }

    #[test]
    fn an_invalidation_that_is_delivered_late_and_an_eviction() {
        holds(with(&[Delete], EVICTION, APART));
    }

    #[test]
    fn two_invalidations_an_eviction_and_a_request_that_is_run_again() {
        holds(with(&[Invalidate], EVICTION_AND_RESEND, ONE));
        holds(with(&[Invalidate, Delete], EVICTION, ONE));
    }

    #[test]
    fn a_tag_that_follows_from_the_key() {
        let by_key = Setup {
            by_key: true,
            any_order: true,
            ..ONE
        };
        holds(with(&[Invalidate, Delete], NOTHING, by_key));
    }

    #[test]
    fn a_guarded_write_and_a_crash() {
        holds(with(&[Guard], CRASH, PAIR));
    }

    #[test]
    fn a_guarded_write_an_invalidation_and_a_crash() {
        holds(with(&[Guard, Invalidate], CRASH, ONE));
    }

    #[test]
    fn a_guarded_write_a_refresh_and_a_crash() {
        holds(with(&[Guard], CRASH_AND_REFRESH, CACHED));
    }

    #[test]
    fn each_departure_from_the_rules_is_found() {
        let (one, two) = (&[Invalidate], &[Invalidate, Invalidate]);
        let cached = Setup {
            cached: true,
            ..ONE
        };
        is_found(Mutation::ClockAfterLoad, with(one, NOTHING, ONE));
        is_found(Mutation::NoMark, with(one, EVICTION, ONE));
        is_found(
            Mutation::MarkNamedByToken,
            with(one, EVICTION_AND_RESEND, ONE),
        );
        is_found(Mutation::RaiseMissing, with(two, EVICTION, ONE));
        is_found(Mutation::AdvancedOnce, with(&[Guard], CRASH, cached));
        is_found(Mutation::ShortGuard, with(&[Guard], CRASH, ONE));
        is_found(Mutation::OvertakenShared, with(one, NOTHING, PAIR));
        is_found(Mutation::UnstoredShared, with(&[Guard], CRASH, PAIR));
        is_found(Mutation::JoinedLate, with(one, NOTHING, PAIR));
    }

    /// A caller that claims an entry reads its epoch again, after the clock. So the flaw needs a
    /// claim that is taken over: its new leader reads only the clock.
    #[test]
    fn a_claim_that_outlives_the_guard_of_a_dead_writer_is_found() {
        let inherited = Setup { gets: 1, ..CACHED };
        let budget = Budget {
            drops: 1,
            ..CRASH_AND_REFRESH
        };
        is_found(Mutation::EndlessClaim, with(&[Guard], budget, inherited));
    }

    /// The setups by which the design was checked, and setups that are too large for every day.
    #[cfg(soak)]
    #[test]
    fn soak() {
        let evictions = Budget {
            evictions: 2,
            ..NOTHING
        };
        let refreshes = Budget {
            refreshes: 2,
            ..NOTHING
        };
        let everything = Budget {
            drops: 1,
            refreshes: 1,
            ..EVICTION_AND_RESEND
        };
        let crash_and_resend = Budget {
            resends: 1,
            ..CRASH_AND_REFRESH
        };
        let crash_and_drop = Budget {
            drops: 1,
            ..CRASH_AND_REFRESH
        };
        let watched = Setup { gets: 1, ..PAIR };
        let by_key = Setup {
            by_key: true,
            ..APART
        };
        let inherited = Setup { gets: 1, ..CACHED };
        let (one, two) = (&[Invalidate], &[Invalidate, Invalidate]);
        holds(with(one, evictions, PAIR));
        holds(with(one, EVICTION_AND_RESEND, PAIR));
        holds(with(one, EVICTION_AND_RESEND, by_key));
        holds(with(one, everything, ONE));
        holds(with(two, refreshes, PAIR));
        holds(with(&[Guard, Invalidate], CRASH, PAIR));
        holds(with(&[Guard, Guard], CRASH, PAIR));
        holds(with(&[Guard, Delete], crash_and_drop, ONE));
        holds(with(&[Guard], crash_and_drop, inherited));
        holds(with(&[Guard], crash_and_resend, CACHED));
        holds(with(&[Guard], CRASH, watched));
    }
}
