//! Every interleaving of a few callers that change one value, exhaustively. No change is lost or
//! made twice, and none is reported as failed although it was made.
//!
//! The check explores the real code: [`Course`] decides for each caller, and
//! [`apply`](crate::protocol::transition::apply) changes a real entry. The network is simulated. An
//! answer may be lost after the request ran, or before; then the request may run at any later
//! moment, or never. A caller may be dropped at any step. A [`Budget`] says how often.
//!
//! The value is how often each caller has changed it. [`Mutation`]s show that the check can find a
//! lost change: small departures from the rules, each of which leads to a flaw.
//!
//! Outside of the check are: the reading of an entry (`verbs/modify.rs`), the turns of a process,
//! which only save work, and the length of pauses. A creation whose request runs late, after the
//! value was deleted, creates it again: this is the one exception, as for a conditional `set`.

use std::fmt;

use crate::model::explore::{Flaw, Ghost, State, Trace, explore};
use crate::protocol::envelope::{Head, Header, head};
use crate::protocol::modify::{Answer, Course, Next};
use crate::protocol::transition::{Becomes, Change, Put, Read, Swap, Verb, apply};

const NOW: u64 = 1_000_000;
const VERSION: u16 = 1;
const CALLERS: usize = 3;

/// How often each caller has changed the value.
type Counts = [u8; CALLERS];

/// A small world to explore.
#[derive(Clone, Copy, Debug)]
struct Setup {
    callers: &'static [Kind],
    budget: Budget,
    mutation: Option<Mutation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Counts itself, and creates a missing value.
    Counts,
    /// Deletes the value that it reads.
    Deletes,
    /// No caller of `modify`: it deletes whatever is there, once.
    PlainDeletion,
}

/// How often each event may happen; they may happen at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    lost_answers: u8,
    drops: u8,
    /// A request is refused and not carried out.
    failures: u8,
}

/// A departure from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    /// A write takes effect whatever is there.
    BlindWrite,
    /// After a lost answer the caller begins again.
    BeginsAgain,
    /// A write that is sent again is judged as if it were the first.
    ForgetsTheLoss,
    /// After a lost answer, another caller's value means that the change was not made.
    NotMineNotMade,
    /// All values have one stamp.
    OneStamp,
}

/// A request to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Request {
    by: usize,
    read: Read,
    becomes: Becomes,
    stamp: u64,
    counts: Counts,
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Looks,
    Writes(Request, Course),
    /// The change is made, and reported so.
    Done,
    /// It is not made, and reported so.
    Failed,
    /// Nobody knows.
    Unknown,
}

#[derive(Clone, Hash)]
struct World {
    entry: Option<Vec<u8>>,
    callers: Vec<(Kind, Phase)>,
    /// The callers whose reported changes must be in the value.
    kept: [bool; CALLERS],
    /// Requests that may run, and nobody awaits.
    strays: Vec<Request>,
    left: Budget,
    stamps: u64,
    setup: Ghost<Setup>,
}

impl World {
    fn new(setup: Setup) -> Self {
        Self {
            entry: None,
            callers: setup
                .callers
                .iter()
                .map(|kind| (*kind, Phase::Looks))
                .collect(),
            kept: [false; CALLERS],
            strays: Vec::new(),
            left: setup.budget,
            stamps: 0,
            setup: Ghost(setup),
        }
    }

    fn is_mutated(&self, mutation: Mutation) -> bool {
        self.setup.0.mutation == Some(mutation)
    }

    fn value(&self) -> Option<(u64, Counts)> {
        let bytes = self.entry.as_deref()?;
        let Head::Known(header) = head(bytes) else {
            unreachable!("only values are stored")
        };
        let counts = bytes[header.len()..].try_into();
        Some((header.stamp, counts.expect("one for each caller")))
    }

    /// A caller reads the value and makes its request of it.
    fn look(&mut self, at: usize) {
        let value = self.value();
        self.stamps += 1;
        let stamp = match self.is_mutated(Mutation::OneStamp) {
            true => 1,
            false => self.stamps,
        };
        let read = match value {
            Some((stamp, _)) => Read::Value(stamp),
            None => Read::Nothing {
                rejected: None,
                newer_wins: u64::MAX,
            },
        };
        let mut counts = value.map_or([0; CALLERS], |(_, counts)| counts);
        let becomes = match (self.callers[at].0, value) {
            (Kind::Counts, _) => {
                counts[at] += 1;
                Becomes::Stored
            }
            (Kind::Deletes, Some(_)) => Becomes::Removed,
            (Kind::Deletes, None) => return self.ends(at, Phase::Failed),
            (Kind::PlainDeletion, _) => {
                self.entry = None;
                self.kept = [false; CALLERS];
                return self.ends(at, Phase::Failed);
            }
        };
        let again = false;
        let request = Request {
            by: at,
            read,
            becomes,
            stamp,
            counts,
            again,
        };
        self.ends(at, Phase::Writes(request, Course::default()));
    }

    fn ends(&mut self, at: usize, phase: Phase) {
        self.callers[at].1 = phase;
    }

    /// The server runs a request.
    fn run(&mut self, request: Request) -> bool {
        let header = Header::value(VERSION, request.stamp);
        let mut bytes = [&header.to_bytes()[..], &request.counts].concat();
        header.seal(&mut bytes);
        let put = Put {
            versions: VERSION.into(),
            bytes: &bytes,
            ttl: None,
        };
        let there = self.value().map(|(stamp, _)| stamp);
        let read = match (self.is_mutated(Mutation::BlindWrite), there) {
            (true, Some(stamp)) => Read::Value(stamp),
            (true, None) => Read::Nothing {
                rejected: None,
                newer_wins: 0,
            },
            (false, _) => request.read,
        };
        let swap = Swap {
            read,
            put,
            becomes: request.becomes,
            again: request.again,
        };
        let (change, done) = apply(self.entry.as_deref(), &Verb::Swap(swap), NOW);
        match change {
            Change::Put { bytes, .. } => self.entry = Some(bytes.into_owned()),
            Change::Remove => {
                // It deletes the entry that it has read.
                for (kept, counted) in self.kept.iter_mut().zip(request.counts) {
                    *kept &= counted == 0;
                }
                self.entry = None;
            }
            Change::Keep => {}
            other => unreachable!("{other:?}"),
        }
        done
    }

    /// A caller hears an answer.
    fn hears(&mut self, at: usize, answer: Answer) {
        let (_, Phase::Writes(request, mut course)) = self.callers[at] else {
            unreachable!("it awaits one")
        };
        let mut next = course.after(answer);
        if self.is_mutated(Mutation::BeginsAgain) && next == Next::Repeat {
            next = Next::Again;
        }
        if self.is_mutated(Mutation::NotMineNotMade) && answer == Answer::No {
            next = Next::Again;
        }
        let again = course.may_be_done() && !self.is_mutated(Mutation::ForgetsTheLoss);
        if self.is_mutated(Mutation::ForgetsTheLoss) {
            course = Course::default();
        }
        let phase = match next {
            Next::Done => {
                self.kept[at] |= request.becomes == Becomes::Stored;
                Phase::Done
            }
            Next::Again => Phase::Looks,
            Next::Repeat => Phase::Writes(Request { again, ..request }, course),
            Next::Failed => Phase::Failed,
            Next::Unknown => Phase::Unknown,
        };
        self.ends(at, phase);
    }
}

/// The subject of an event, and the event.
struct Event(usize, &'static str);

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "caller {} {}", self.0, self.1)
    }
}

impl State for World {
    type Event = Event;

    fn steps(&self) -> Vec<(Event, Self)> {
        let mut steps = Vec::new();
        let mut add = |at, what, step: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            step(&mut world);
            steps.push((Event(at, what), world));
        };
        for (at, (_, phase)) in self.callers.iter().enumerate() {
            if let Phase::Looks = phase {
                add(at, "looks", &|world| world.look(at));
            }
            let Phase::Writes(request, _) = *phase else {
                continue;
            };
            add(at, "writes, and hears the answer", &|world| {
                let answer = match world.run(request) {
                    true => Answer::Yes,
                    false => Answer::No,
                };
                world.hears(at, answer);
            });
            if self.left.lost_answers > 0 {
                add(at, "writes, and hears nothing", &|world| {
                    world.left.lost_answers -= 1;
                    world.run(request);
                    world.hears(at, Answer::Lost);
                });
                add(
                    at,
                    "hears nothing, and its request may run later",
                    &|world| {
                        world.left.lost_answers -= 1;
                        world.strays.push(request);
                        world.hears(at, Answer::Lost);
                    },
                );
            }
            if self.left.failures > 0 {
                add(at, "is refused", &|world| {
                    world.left.failures -= 1;
                    world.hears(at, Answer::Failed);
                });
            }
            if self.left.drops > 0 {
                add(at, "is dropped", &|world| {
                    world.left.drops -= 1;
                    world.strays.push(request);
                    world.ends(at, Phase::Unknown);
                });
            }
        }
        for (stray, request) in self.strays.iter().enumerate() {
            add(request.by, "has its request run late", &|world| {
                let request = world.strays.remove(stray);
                world.run(request);
            });
        }
        steps
    }

    fn flaw(&self) -> Option<Flaw> {
        let counts = self.value().map_or([0; CALLERS], |(_, counts)| counts);
        for (at, (_, phase)) in self.callers.iter().enumerate() {
            match (counts[at], phase) {
                (2.., _) => return Some(Flaw::ChangedTwice),
                (1.., Phase::Failed) => return Some(Flaw::WrongReport),
                (0, _) if self.kept[at] => return Some(Flaw::LostChange),
                _ => {}
            }
        }
        None
    }

    fn is_over(&self) -> bool {
        let is_over = |phase| matches!(phase, Phase::Done | Phase::Failed | Phase::Unknown);
        self.callers.iter().all(|(_, phase)| is_over(*phase))
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}; {:?}; {:?}",
            self.value(),
            self.callers,
            self.strays
        )
    }
}

fn run(setup: Setup) -> Result<usize, Trace> {
    let outcome = explore(&World::new(setup));
    match &outcome {
        Ok(states) => eprintln!("{setup:?}: {states} states, nothing wrong"),
        Err(trace) => eprintln!("{setup:?}: {:?} by {} steps", trace.flaw, trace.steps.len()),
    }
    outcome
}

fn holds(setup: Setup) {
    if let Err(trace) = run(setup) {
        panic!("{trace}");
    }
}

fn is_found(mutation: Mutation, flaw: Flaw, setup: Setup) {
    let mutation = Some(mutation);
    match run(Setup { mutation, ..setup }) {
        Ok(_) => panic!("{mutation:?} is not found"),
        Err(trace) => assert_eq!(trace.flaw, flaw, "{trace}"),
    }
}

mod tests {
    use super::*;
    use Kind::{Counts, Deletes, PlainDeletion};

    const NOTHING: Budget = Budget {
        lost_answers: 0,
        drops: 0,
        failures: 0,
    };

    const THREE: Setup = Setup {
        callers: &[Counts, Counts, Counts],
        budget: NOTHING,
        mutation: None,
    };

    const PAIR: Setup = Setup {
        callers: &[Counts, Counts],
        ..THREE
    };

    const TWO_LOST: Budget = Budget {
        lost_answers: 2,
        ..NOTHING
    };

    #[test]
    fn three_count_at_once() {
        holds(THREE);
    }

    #[test]
    fn answers_are_lost_requests_run_late_and_callers_are_dropped() {
        let budget = Budget {
            lost_answers: 2,
            drops: 1,
            failures: 1,
        };
        holds(Setup { budget, ..THREE });
        // More than a caller sends again.
        let budget = Budget {
            lost_answers: 5,
            ..NOTHING
        };
        holds(Setup { budget, ..PAIR });
    }

    #[test]
    fn one_deletes_what_the_others_count() {
        let budget = Budget {
            lost_answers: 1,
            drops: 1,
            failures: 1,
        };
        for callers in [
            &[Counts, Counts, Deletes],
            &[Counts, Deletes, Deletes],
            &[Counts, Counts, PlainDeletion],
        ] {
            holds(Setup {
                callers,
                budget,
                ..THREE
            });
        }
    }

    #[test]
    fn blind_writes_are_found() {
        is_found(Mutation::BlindWrite, Flaw::LostChange, PAIR);
        let callers = &[Counts, Counts, Deletes];
        is_found(
            Mutation::BlindWrite,
            Flaw::LostChange,
            Setup { callers, ..THREE },
        );
    }

    #[test]
    fn values_with_one_stamp_are_found() {
        is_found(Mutation::OneStamp, Flaw::LostChange, THREE);
    }

    #[test]
    fn a_change_that_begins_again_after_a_loss_is_found() {
        let budget = TWO_LOST;
        for mutation in [
            Mutation::BeginsAgain,
            Mutation::ForgetsTheLoss,
            Mutation::NotMineNotMade,
        ] {
            is_found(mutation, Flaw::ChangedTwice, Setup { budget, ..PAIR });
        }
    }
}
