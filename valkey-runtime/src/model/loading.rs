//! Every interleaving of a few callers and writers, exhaustively. No read returns an older row than
//! it may, nobody waits forever, nothing is left behind, and without a visible lease a process runs
//! one load at a time.
//!
//! The check explores the real code. The server's half of each verb is
//! [`transition`](crate::protocol::transition) on real entries. The client's steps are
//! [`Call`](crate::protocol::call::Call) and [`Flights`](crate::protocol::flights::Flights), and
//! [`seen`](crate::verbs::loading::sight::seen) interprets an answer. Only their surroundings are
//! simulated: the shell that carries out the steps, the network, the database, and writers. A
//! request is sent, run and answered in three steps, and in between anything else may happen.
//! Callers may be dropped and processes may crash before any step. Replies are lost, a request runs
//! again at any later moment, leases run out although they are renewed, entries expire and are
//! evicted, and loads fail. A [`Budget`] says how often.
//!
//! The values of a timed type have a freshness, after which they are stale and are claimed in
//! place. After the end of a guarded write or a deletion, no older row may be returned. After a
//! soft expiry an older row may be returned, but only as a stale one.
//!
//! The invariants are the [`Flaw`]s. [`Mutation`]s show that the check can find them: small
//! departures from the rules, each of which leads to a flaw.
//!
//! Outside of the check are:
//!
//! - renewals by the shell: here a lease runs out at any moment, and a live writer's guard never;
//! - the length of the shell's pauses: here a caller may lose its patience at any time;
//! - the time for which a stale value may serve: here it lasts as long as the value exists;
//! - parts of other modules: a `hold`, plain `set`s, a `touch`, corrupt entries, best-effort
//!   updates that did not get their guard;
//! - a server that forgets acknowledged writes.
//!
//! There is one key, and a caller calls once.

pub(crate) mod names;
pub(crate) mod reader;
pub(crate) mod server;
pub(crate) mod world;
pub(crate) mod writer;

use std::fmt;
use std::time::Instant;

use crate::model::loading::server::Row;
use crate::model::loading::world::World;
use crate::model::loading::writer::Kind;

use crate::model::explore::{Flaw, Trace, explore};

/// A small world to explore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// The callers of each process.
    processes: &'static [&'static [Caller]],
    writers: &'static [Kind],
    /// The version in which the first row is cached from the beginning, if it is.
    cached: Option<u16>,
    /// The number of a row that does not exist.
    absent: Option<Row>,
    /// The type's values have a freshness.
    timed: bool,
    /// A stale value may be returned if there is nothing better.
    serves: bool,
    /// The server answers nobody.
    down: bool,
    /// The number of loads that a process runs at a time; zero means no limit.
    turns: usize,
    budget: Budget,
    mutation: Option<Mutation>,
}

/// A caller of a loading verb.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Caller {
    /// Of the type, as its process knows it.
    version: u16,
    /// Accepts no stored value.
    fresh: bool,
    /// Refreshes the value that it finds.
    refresh: bool,
}

/// How often each event may happen; they may happen at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Of processes and of writers.
    crashes: u8,
    /// A caller is dropped.
    drops: u8,
    /// A caller stops waiting: for a flight, or, if it has a fallback, for its own load.
    timeouts: u8,
    failed_loads: u8,
    /// A loader never ends.
    hangs: u8,
    /// A caller's future is not polled any more.
    stalls: u8,
    /// A loaded value is not to be stored.
    discards: u8,
    lost_replies: u8,
    /// A request runs a second time.
    resends: u8,
    /// Of values, or of their freshness. These run out at any time: a lease, a claim, a pause, and
    /// a dead writer's place in a guard.
    expiries: u8,
    /// Of any entry.
    evictions: u8,
}

/// A departure from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A fill needs no lease.
    PlainFill,
    /// A converted row replaces whatever is there now, except a guard.
    BlindWriteBack,
    /// A deletion removes a guard.
    GuardDeleted,
    /// A write-through is stored although its guard was shared.
    SharingForgotten,
    /// Callers follow a load although they did not see its lease.
    BlindJoin,
    /// The name of a placeholder is only its maker's token.
    NamedByToken,
    /// A write that reported an error ends its guard at once, though it may still be committed.
    LeaveOnError,
    /// Nobody is woken when a flight has changed.
    Deaf,
    /// A dropped caller does not report that it is gone.
    SilentDrop,
    /// A caller that should wait for a flight loads instead.
    Restless,
    /// A soft expiry leaves a value's stamp and claim as they are.
    ClaimOutlivesExpiry,
    /// A deletion has only the effect of a soft expiry.
    SoftDeletion,
    /// A fill under a claim takes any timed value for the claimed one.
    ClaimNamedByToken,
    /// A load without a lease replaces a stale value.
    UnclaimedFill,
    /// The followers of a failed load get a stale value as if it had been loaded.
    StaleServedAsFresh,
    /// They get the value that their leader saw once, although it has not claimed that value.
    UnclaimedShared,
    /// A caller requests a lease before it has its turn to load.
    LeaseBeforeTurn,
    /// A loader that never ends holds its turn and its followers.
    NoDeadline,
    /// A caller that is not polled holds its turn and its followers.
    Unwatched,
}

const NOTHING: Budget = Budget {
    crashes: 0,
    drops: 0,
    timeouts: 0,
    failed_loads: 0,
    hangs: 0,
    stalls: 0,
    discards: 0,
    lost_replies: 0,
    resends: 0,
    expiries: 0,
    evictions: 0,
};

const V1: Caller = Caller {
    version: 1,
    fresh: false,
    refresh: false,
};

const V2: Caller = Caller { version: 2, ..V1 };

const FRESH: Caller = Caller { fresh: true, ..V1 };

const REFRESH: Caller = Caller {
    refresh: true,
    ..V1
};

const ONE_OF_EACH: Budget = Budget {
    crashes: 1,
    drops: 1,
    timeouts: 1,
    failed_loads: 1,
    hangs: 0,
    stalls: 0,
    discards: 0,
    lost_replies: 1,
    resends: 1,
    expiries: 1,
    evictions: 1,
};

/// Two callers in one process, without any disturbance.
const PAIR: Setup = Setup {
    processes: &[&[V1, V1]],
    writers: &[],
    cached: None,
    absent: None,
    timed: false,
    serves: false,
    down: false,
    turns: 0,
    budget: NOTHING,
    mutation: None,
};

/// The same for a type that serves stale values. A value exists.
const TIMED: Setup = Setup {
    cached: Some(1),
    timed: true,
    serves: true,
    ..PAIR
};

const TIMED_THREE: Setup = Setup {
    processes: &[&[V1, V1, V1]],
    ..TIMED
};

/// One of the two refreshes the value that it finds.
const REFRESHING: Setup = Setup {
    processes: &[&[REFRESH, V1]],
    ..TIMED
};

const REFRESHING_APART: Setup = Setup {
    processes: &[&[REFRESH], &[V1]],
    ..TIMED
};

#[cfg(soak)]
const PAIR_AND_ONE: Setup = Setup {
    processes: &[&[V1, V1], &[V1]],
    ..PAIR
};

const THREE: Setup = Setup {
    processes: &[&[V1, V1, V1]],
    ..PAIR
};

const FOUR: Setup = Setup {
    processes: &[&[V1; 4]],
    ..PAIR
};

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
fn is_found(mutation: Mutation, flaw: Flaw, setup: Setup) {
    let mutation = Some(mutation);
    match run(Setup { mutation, ..setup }) {
        Ok(_) => panic!("{mutation:?} is not found"),
        Err(trace) => assert_eq!(trace.flaw, flaw, "{trace}"),
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "callers {:?}, writers {:?}",
            self.processes, self.writers
        )?;
        if self.down {
            write!(f, ", server down")?;
        }
        if let Some(version) = self.cached {
            write!(f, ", cached in version {version}")?;
        }
        if self.timed {
            write!(f, ", timed")?;
        }
        if self.serves {
            write!(f, ", serving")?;
        }
        if self.turns > 0 {
            write!(f, ", turns {}", self.turns)?;
        }
        if let Some(row) = self.absent {
            write!(f, ", row {row} absent")?;
        }
        for (what, times) in self.budget.named() {
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

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fresh = if self.fresh { " fresh" } else { "" };
        let refresh = if self.refresh { " refreshing" } else { "" };
        write!(f, "v{}{fresh}{refresh}", self.version)
    }
}

impl Budget {
    fn named(self) -> [(&'static str, u8); 11] {
        [
            ("crashes", self.crashes),
            ("drops", self.drops),
            ("timeouts", self.timeouts),
            ("failed loads", self.failed_loads),
            ("hangs", self.hangs),
            ("stalls", self.stalls),
            ("discards", self.discards),
            ("lost replies", self.lost_replies),
            ("resends", self.resends),
            ("expiries", self.expiries),
            ("evictions", self.evictions),
        ]
    }
}

mod tests {
    use super::Flaw::{Deadlock, Herd, IdleLease, Leak, StaleRead};
    use super::Kind::{Delete, MarkStale, Through, Update, WriteBack};
    use super::*;

    #[test]
    fn callers_queue_for_the_one_turn() {
        holds(Setup {
            writers: &[Delete],
            turns: 1,
            budget: Budget {
                drops: 1,
                failed_loads: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn a_loader_hangs() {
        holds(Setup {
            writers: &[Delete],
            turns: 1,
            budget: Budget {
                hangs: 1,
                drops: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn a_caller_is_not_polled() {
        for turns in [0, 1] {
            holds(Setup {
                writers: &[Update],
                turns,
                budget: Budget {
                    stalls: 1,
                    expiries: 1,
                    ..NOTHING
                },
                ..PAIR
            });
        }
    }

    #[test]
    fn a_caller_is_not_polled_and_another_is_dropped() {
        holds(Setup {
            writers: &[Delete],
            turns: 1,
            budget: Budget {
                stalls: 1,
                drops: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn a_caller_of_what_is_served_stale_is_not_polled() {
        holds(Setup {
            turns: 1,
            budget: Budget {
                stalls: 1,
                expiries: 1,
                failed_loads: 1,
                ..NOTHING
            },
            ..TIMED
        });
    }

    #[test]
    fn leases_before_turns_are_found() {
        is_found(
            Mutation::LeaseBeforeTurn,
            IdleLease,
            Setup {
                writers: &[Delete],
                turns: 1,
                ..PAIR
            },
        );
    }

    #[test]
    fn loads_without_a_deadline_are_found() {
        let hangs = Budget {
            hangs: 1,
            ..NOTHING
        };
        for turns in [0, 1] {
            is_found(
                Mutation::NoDeadline,
                Deadlock,
                Setup {
                    turns,
                    budget: hangs,
                    ..PAIR
                },
            );
        }
    }

    #[test]
    fn callers_that_nobody_watches_are_found() {
        let stalls = Budget {
            stalls: 1,
            ..NOTHING
        };
        for turns in [0, 1] {
            is_found(
                Mutation::Unwatched,
                Deadlock,
                Setup {
                    turns,
                    budget: stalls,
                    ..PAIR
                },
            );
        }
    }

    #[test]
    fn an_update_a_deletion_an_expiry_and_a_crash() {
        holds(Setup {
            writers: &[Update, Delete],
            budget: Budget {
                crashes: 1,
                expiries: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn a_write_through_a_deletion_and_a_request_that_is_run_again() {
        holds(Setup {
            writers: &[Through, Delete],
            budget: Budget {
                resends: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn a_write_through_and_an_eviction() {
        holds(Setup {
            writers: &[Through],
            budget: Budget {
                evictions: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn a_deletion_and_everything_that_may_go_wrong() {
        holds(Setup {
            writers: &[Delete],
            budget: ONE_OF_EACH,
            ..PAIR
        });
    }

    #[test]
    fn three_callers_one_is_dropped_and_one_fails() {
        holds(Setup {
            writers: &[Delete],
            budget: Budget {
                drops: 1,
                failed_loads: 1,
                ..NOTHING
            },
            ..THREE
        });
    }

    #[test]
    fn callers_are_dropped_or_wait_no_longer() {
        holds(Setup {
            writers: &[Delete],
            budget: Budget {
                drops: 2,
                timeouts: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn two_versions_of_a_type() {
        holds(Setup {
            processes: &[&[V2], &[V1]],
            writers: &[Update],
            budget: Budget {
                crashes: 1,
                resends: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    /// Untimed, and timed with claims.
    #[test]
    fn a_converted_row_is_written_back() {
        let written_back = Setup {
            processes: &[&[V2], &[V1]],
            cached: Some(1),
            budget: Budget {
                resends: 1,
                ..NOTHING
            },
            ..PAIR
        };
        holds(Setup {
            writers: &[WriteBack, Update],
            ..written_back
        });
        holds(Setup {
            writers: &[WriteBack, Delete],
            timed: true,
            serves: true,
            ..written_back
        });
    }

    #[test]
    fn an_entry_of_an_older_version() {
        holds(Setup {
            cached: Some(0),
            writers: &[Update],
            ..PAIR
        });
    }

    #[test]
    fn an_entry_of_a_newer_version() {
        holds(Setup {
            cached: Some(2),
            budget: Budget {
                drops: 1,
                expiries: 1,
                ..NOTHING
            },
            ..THREE
        });
    }

    #[test]
    fn a_row_that_is_deleted() {
        holds(Setup {
            writers: &[Update],
            absent: Some(1),
            budget: Budget {
                drops: 1,
                lost_replies: 1,
                ..NOTHING
            },
            ..PAIR
        });
    }

    #[test]
    fn callers_that_take_nothing_that_is_there() {
        holds(Setup {
            processes: &[&[V1, FRESH], &[FRESH]],
            writers: &[Delete],
            ..PAIR
        });
    }

    #[test]
    fn a_server_that_is_down() {
        holds(Setup {
            down: true,
            budget: Budget {
                drops: 2,
                timeouts: 1,
                failed_loads: 2,
                ..NOTHING
            },
            ..FOUR
        });
    }

    #[test]
    fn a_stale_value_an_update_a_failure_and_a_request_that_is_run_again() {
        holds(Setup {
            writers: &[Update],
            budget: Budget {
                failed_loads: 1,
                resends: 1,
                expiries: 1,
                ..NOTHING
            },
            ..TIMED
        });
    }

    #[test]
    fn stale_values_a_soft_expiry_and_callers_that_go_or_wait_no_longer() {
        holds(Setup {
            writers: &[MarkStale],
            budget: Budget {
                drops: 2,
                timeouts: 1,
                failed_loads: 1,
                discards: 1,
                ..NOTHING
            },
            ..TIMED
        });
    }

    #[test]
    fn a_stale_value_whose_claim_is_inherited() {
        holds(Setup {
            writers: &[MarkStale],
            budget: Budget {
                drops: 1,
                failed_loads: 1,
                ..NOTHING
            },
            ..TIMED_THREE
        });
    }

    #[test]
    fn a_refresh_a_deletion_and_a_soft_expiry() {
        holds(Setup {
            writers: &[Delete, MarkStale],
            ..REFRESHING
        });
    }

    #[test]
    fn a_refresh_a_write_through_and_a_crash() {
        holds(Setup {
            writers: &[Through],
            budget: Budget {
                crashes: 1,
                ..NOTHING
            },
            ..REFRESHING
        });
    }

    #[test]
    fn a_refresh_in_another_process_and_a_request_that_is_run_again() {
        holds(Setup {
            writers: &[MarkStale],
            budget: Budget {
                lost_replies: 1,
                resends: 1,
                ..NOTHING
            },
            ..REFRESHING_APART
        });
    }

    #[test]
    fn a_refresh_where_nothing_stale_may_serve() {
        holds(Setup {
            serves: false,
            writers: &[Update],
            budget: Budget {
                expiries: 1,
                failed_loads: 1,
                ..NOTHING
            },
            ..REFRESHING_APART
        });
    }

    #[test]
    fn a_stale_value_of_a_row_that_is_deleted() {
        holds(Setup {
            writers: &[MarkStale],
            absent: Some(1),
            budget: Budget {
                failed_loads: 1,
                expiries: 1,
                evictions: 1,
                ..NOTHING
            },
            ..TIMED
        });
    }

    #[test]
    fn each_departure_from_the_rules_is_found() {
        let deletion = Setup {
            writers: &[Delete],
            ..PAIR
        };
        let update = Setup {
            writers: &[Update],
            ..PAIR
        };
        let update_and_deletion = Setup {
            writers: &[Update, Delete],
            ..PAIR
        };
        let update_and_write_through = Setup {
            writers: &[Update, Through],
            ..PAIR
        };
        let deletion_and_resend = Setup {
            writers: &[Delete],
            budget: Budget {
                resends: 1,
                ..NOTHING
            },
            ..PAIR
        };
        let drop = Setup {
            budget: Budget {
                drops: 1,
                ..NOTHING
            },
            ..PAIR
        };
        let outage = Setup { down: true, ..PAIR };
        let conversion = Setup {
            processes: &[&[V2]],
            writers: &[WriteBack, Delete],
            cached: Some(1),
            ..PAIR
        };
        is_found(Mutation::PlainFill, StaleRead, deletion);
        is_found(Mutation::BlindWriteBack, StaleRead, conversion);
        is_found(Mutation::GuardDeleted, StaleRead, update_and_deletion);
        is_found(
            Mutation::SharingForgotten,
            StaleRead,
            update_and_write_through,
        );
        is_found(Mutation::BlindJoin, StaleRead, update);
        is_found(Mutation::NamedByToken, StaleRead, deletion_and_resend);
        is_found(Mutation::LeaveOnError, StaleRead, update);
        is_found(Mutation::Deaf, Deadlock, PAIR);
        is_found(Mutation::SilentDrop, Leak, drop);
        is_found(Mutation::Restless, Herd, outage);
    }

    #[test]
    fn each_departure_from_the_rules_of_claims_is_found() {
        let expiry = Setup {
            writers: &[MarkStale],
            ..TIMED
        };
        let refresh = Setup {
            writers: &[MarkStale],
            ..REFRESHING
        };
        let loss = Setup {
            budget: Budget {
                lost_replies: 1,
                expiries: 1,
                ..NOTHING
            },
            ..expiry
        };
        let failure = Setup {
            budget: Budget {
                failed_loads: 1,
                ..NOTHING
            },
            ..expiry
        };
        let deletion_and_failure = Setup {
            writers: &[Delete],
            ..failure
        };
        is_found(Mutation::ClaimOutlivesExpiry, StaleRead, refresh);
        is_found(Mutation::SoftDeletion, StaleRead, deletion_and_failure);
        is_found(Mutation::ClaimNamedByToken, StaleRead, refresh);
        is_found(Mutation::UnclaimedFill, StaleRead, loss);
        is_found(Mutation::StaleServedAsFresh, StaleRead, failure);
    }

    /// The setups by which the design was checked, and setups that are too large for every day.
    #[cfg(soak)]
    #[test]
    fn soak() {
        let crash = Budget {
            crashes: 1,
            ..NOTHING
        };
        let eviction = Budget {
            evictions: 1,
            ..NOTHING
        };
        let resend = Budget {
            resends: 1,
            ..NOTHING
        };
        let drop_and_failure = Budget {
            drops: 1,
            failed_loads: 1,
            ..NOTHING
        };
        let drop_and_losses = Budget {
            drops: 1,
            lost_replies: 2,
            ..NOTHING
        };
        let drop_and_expiry = Budget {
            drops: 1,
            expiries: 1,
            ..NOTHING
        };
        let on = |setup, writers, budget| {
            holds(Setup {
                writers,
                budget,
                ..setup
            })
        };
        on(PAIR, &[Update, Update], crash);
        on(PAIR_AND_ONE, &[Update, Through], crash);
        on(PAIR_AND_ONE, &[Update, Delete], crash);
        on(PAIR, &[Update, Through], eviction);
        on(PAIR, &[Update, Delete], resend);
        on(PAIR, &[Through, Update], resend);
        on(PAIR, &[Update], ONE_OF_EACH);
        on(PAIR_AND_ONE, &[Delete], resend);
        on(PAIR, &[Update, Delete], ONE_OF_EACH);
        on(THREE, &[Update], drop_and_failure);
        on(FOUR, &[Delete], drop_and_failure);
        on(FOUR, &[], drop_and_losses);
        let newer = Setup {
            cached: Some(2),
            ..FOUR
        };
        on(newer, &[], drop_and_expiry);
        let versions = Setup {
            processes: &[&[V2, V2], &[V1]],
            ..PAIR
        };
        on(versions, &[Through], NOTHING);
        let fresh = Setup {
            processes: &[&[V1, V1, FRESH]],
            ..PAIR
        };
        on(fresh, &[Update], NOTHING);
        let outage = Setup {
            processes: &[&[V1; 6]],
            down: true,
            ..PAIR
        };
        on(outage, &[], drop_and_failure);
    }

    /// The same for timed values.
    #[cfg(soak)]
    #[test]
    fn soak_of_claims() {
        let failure = Budget {
            failed_loads: 1,
            expiries: 1,
            ..NOTHING
        };
        let drop_and_failure = Budget {
            drops: 1,
            ..failure
        };
        let resend = Budget {
            resends: 1,
            ..failure
        };
        let everything = Budget {
            discards: 1,
            ..ONE_OF_EACH
        };
        let on = |setup, writers, budget| {
            holds(Setup {
                writers,
                budget,
                ..setup
            })
        };
        for writers in [&[Update], &[Through], &[Delete], &[MarkStale]] {
            on(TIMED, writers, everything);
        }
        on(TIMED, &[Update, MarkStale], resend);
        on(TIMED, &[Through, Delete], resend);
        on(REFRESHING, &[MarkStale], everything);
        on(REFRESHING, &[Update], everything);
        on(REFRESHING_APART, &[MarkStale], everything);
        let in_two = Setup {
            processes: &[&[REFRESH, V1], &[V1]],
            ..TIMED
        };
        on(in_two, &[MarkStale, Delete], NOTHING);
        on(in_two, &[MarkStale], drop_and_failure);
        on(in_two, &[Update], failure);
        on(TIMED_THREE, &[Update], drop_and_failure);
        let twice = Budget {
            expiries: 2,
            ..drop_and_failure
        };
        on(TIMED_THREE, &[Through], twice);
        let last_one = Setup {
            writers: &[Through],
            budget: twice,
            ..TIMED_THREE
        };
        is_found(Mutation::UnclaimedShared, StaleRead, last_one);
        let and_two = Setup {
            processes: &[&[REFRESH, V1, V1]],
            ..TIMED
        };
        on(and_two, &[MarkStale], drop_and_failure);
        let fresh = Setup {
            processes: &[&[REFRESH, FRESH], &[V1]],
            ..TIMED
        };
        on(fresh, &[MarkStale], NOTHING);
        let versions = Setup {
            processes: &[&[V2, V2], &[REFRESH]],
            ..TIMED
        };
        on(versions, &[Update], failure);
        let brief = Setup {
            serves: false,
            ..in_two
        };
        on(brief, &[Update], failure);
    }
}
