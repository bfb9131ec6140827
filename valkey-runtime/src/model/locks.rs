//! Every interleaving of a few callers of one lock, with lost answers, requests that run twice,
//! callers that die, leases that end, and a state that is lost, exhaustively.
//!
//! The rules are the real ones ([`lock::decide`], [`lock::granted`], [`lock::renewed`]). Simulated are
//! the server with one key, the network, and the shells of the callers. All clocks are one here:
//! their different speeds are outside of the check.
//!
//! Three promises are checked in each state:
//!
//! - No more callers than allowed believe that they hold the lock, unless its state was lost.
//! - Each holder's fencing token is larger than all earlier ones, also after its state was lost.
//! - After a release no late request takes the lock for the caller that released it, until another
//!   has released it too.
//!
//! [`Mutation`]s show that the check can find a departure from each rule.

use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use crate::model::explore::{Flaw, State, explore};
use crate::protocol::lock::{self, Act, Answer, Ask, Then};

/// The life of a lease in ticks. A tick is a millisecond.
const LIFE: u64 = 2;
const TICK: u64 = 1000;

/// A departure from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutation {
    /// A release removes the holder, whatever its token: a lock made of `SET NX` and `DEL`.
    ReleaseOfAnyone,
    /// A lease counts from the answer.
    CountsFromAnswer,
    /// A renewal takes the lock again if its lease has ended.
    RenewalTakes,
    /// Fencing tokens count up, and the server's time plays no part.
    FenceWithoutTime,
    /// A request that runs after the release takes the lock.
    LateRunTakes,
    /// A caller too many is let in.
    OneTooMany,
    /// A caller goes on after its lease has ended.
    NeverLooksAtTheClock,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Idle,
    /// It waits for the answer to a request that was sent then.
    Asks(Act, u64),
    Holds,
    /// It has released the lock, is dead, or has given up.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Caller {
    phase: Phase,
    /// The moment until which it believes to hold the lock; 0 if it does not.
    until: u64,
    /// Requests that it may still begin.
    left: u8,
}

/// A caller whose time with the lock is over.
const OVER: Caller = Caller {
    phase: Phase::Over,
    until: 0,
    left: 0,
};

/// A request under way, and its answer once it has run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sent {
    by: usize,
    act: Act,
    answer: Option<Answer>,
    /// Whether its caller waits for the answer.
    awaited: bool,
}

/// How often something may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Budget {
    ticks: u64,
    lost_answers: u8,
    second_runs: u8,
    deaths: u8,
    lost_states: u8,
}

#[derive(Clone)]
struct World {
    mutation: Option<Mutation>,
    permits: u32,
    now: u64,
    state: Option<Vec<u8>>,
    callers: Vec<Caller>,
    requests: Vec<Sent>,
    /// Requests that may run once more.
    again: Vec<(usize, Act)>,
    budget: Budget,
    /// The fencing token of each caller that has one.
    fences: Vec<u64>,
    /// The caller that released last.
    released: Option<usize>,
    was_lost: bool,
    flaw: Option<Flaw>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.now, &self.state, &self.callers, &self.requests).hash(state);
        (&self.again, self.budget, &self.fences, self.released).hash(state);
        (self.was_lost, self.flaw).hash(state);
    }
}

impl Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_deref().map(String::from_utf8_lossy);
        write!(f, "at {}: {state:?} {:?}", self.now, self.callers)?;
        write!(f, " {:?}", self.requests)
    }
}

impl World {
    fn new(callers: usize, permits: u32, budget: Budget, mutation: Option<Mutation>) -> Self {
        let caller = Caller {
            phase: Phase::Idle,
            until: 0,
            left: 2,
        };
        Self {
            mutation,
            permits,
            now: TICK,
            state: None,
            callers: vec![caller; callers],
            requests: Vec::new(),
            again: Vec::new(),
            budget,
            fences: vec![0; callers],
            released: None,
            was_lost: false,
            flaw: None,
        }
    }

    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn token(by: usize) -> u64 {
        by as u64 + 1
    }

    /// The server runs a request.
    fn run(&mut self, by: usize, act: Act) -> Answer {
        let mut ask = Ask {
            act,
            token: Self::token(by),
            life: LIFE,
            permits: self.permits + u32::from(self.has(Mutation::OneTooMany)),
        };
        let mut state = self.state.clone();
        if self.has(Mutation::ReleaseOfAnyone)
            && act == Act::Release
            && let Some(token) = state.as_ref().and_then(|state| state.get(33..49))
        {
            let token = std::str::from_utf8(token).unwrap();
            ask.token = u64::from_str_radix(token, 16).unwrap();
        }
        if self.has(Mutation::RenewalTakes) && act == Act::Renew {
            ask.act = Act::Acquire;
        }
        if self.has(Mutation::LateRunTakes)
            && let Some(state) = &mut state
        {
            state[17..33].fill(b'0');
        }
        let (mut answer, then) = lock::decide(state.as_deref(), &ask, self.now);
        if let Then::Put(mut put, _) = then {
            let fence = self.fences[by];
            if self.has(Mutation::FenceWithoutTime)
                && matches!(answer, Answer::Held(new) if new > fence && act == Act::Acquire)
            {
                let last = self.state.as_ref().map_or(0, |state| {
                    std::str::from_utf8(&state[1..17]).unwrap().parse().unwrap()
                });
                let digits = format!("{:016}", last + 1);
                put[1..17].copy_from_slice(digits.as_bytes());
                let at = put.len() - 32;
                put[at..at + 16].copy_from_slice(digits.as_bytes());
                answer = Answer::Held(last + 1);
            }
            self.state = Some(put);
        }
        match (answer, act) {
            (Answer::Held(_), Act::Release) if ask.token == Self::token(by) => {
                self.released = Some(by);
            }
            (_, Act::Release) => {}
            (Answer::Held(fence), _) => self.has_fence(by, act, fence),
            _ => {}
        }
        answer
    }

    /// A new fencing token is larger than all before, and no renewal gives a new one. (A request
    /// that runs again after the end of its lease takes the lock once more, with a new token.)
    fn has_fence(&mut self, by: usize, act: Act, fence: u64) {
        let largest = self.fences.iter().copied().max().unwrap_or(0);
        let is_new = fence != self.fences[by];
        if is_new && (fence <= largest || act == Act::Renew) {
            self.flaw = Some(Flaw::StaleRead);
        }
        self.fences[by] = fence;
    }

    fn is_holder(&self, by: usize) -> bool {
        let token = format!("{:016x}", Self::token(by));
        let state = self.state.as_deref().unwrap_or_default();
        let holders = state.get(33..).unwrap_or_default().chunks(64);
        let ends = |holder: &[u8]| -> u64 {
            std::str::from_utf8(&holder[16..32])
                .unwrap()
                .parse()
                .unwrap()
        };
        holders
            .filter(|holder| ends(holder) > self.now)
            .any(|holder| holder.starts_with(token.as_bytes()))
    }

    fn send(&mut self, by: usize, act: Act, awaited: bool) {
        if awaited {
            self.callers[by].phase = Phase::Asks(act, self.now);
        }
        self.requests.push(Sent {
            by,
            act,
            answer: None,
            awaited,
        });
    }

    /// A caller gets an answer.
    fn answered(&mut self, by: usize, answer: Answer) {
        let Phase::Asks(act, sent) = self.callers[by].phase else {
            return;
        };
        let sent = match self.has(Mutation::CountsFromAnswer) {
            true => self.now,
            false => sent,
        };
        let now = self.now;
        let caller = &mut self.callers[by];
        (caller.phase, caller.until) = match (act, answer) {
            (Act::Acquire, Answer::Held(_)) => (Phase::Holds, lock::granted(sent, LIFE)),
            (Act::Renew, Answer::Held(_)) => {
                (Phase::Holds, lock::renewed(caller.until, now, sent, LIFE))
            }
            (Act::Acquire, _) => (Phase::Idle, 0),
            (Act::Renew | Act::Release, _) => (Phase::Over, 0),
        };
        if caller.phase == Phase::Over {
            *caller = OVER;
        }
    }

    /// A caller whose answer was lost does as the shell does.
    fn unanswered(&mut self, by: usize) {
        let Phase::Asks(act, _) = self.callers[by].phase else {
            return;
        };
        match act {
            Act::Acquire => {
                self.callers[by] = OVER;
                self.send(by, Act::Release, false);
            }
            Act::Renew => self.callers[by].phase = Phase::Holds,
            Act::Release => self.callers[by] = OVER,
        }
    }

    fn check(&mut self) {
        let never_looks = self.has(Mutation::NeverLooksAtTheClock);
        let believes = |caller: &&Caller| {
            let holds = matches!(caller.phase, Phase::Holds | Phase::Asks(Act::Renew, _));
            holds && (self.now < caller.until || never_looks && caller.until > 0)
        };
        let holders = self.callers.iter().filter(believes).count();
        if holders > self.permits as usize && !self.was_lost {
            self.flaw = Some(Flaw::Herd);
        }
        if self.released.is_some_and(|by| self.is_holder(by)) {
            self.flaw = Some(Flaw::IdleLease);
        }
    }
}

impl State for World {
    type Event = String;

    fn steps(&self) -> Vec<(String, Self)> {
        let mut steps = Vec::new();
        let mut step = |name: String, change: &dyn Fn(&mut Self)| {
            let mut next = self.clone();
            change(&mut next);
            next.check();
            steps.push((name, next));
        };
        for (by, caller) in self.callers.iter().enumerate() {
            let begins = match caller.phase {
                Phase::Idle => &[Act::Acquire][..],
                Phase::Holds => &[Act::Renew, Act::Release],
                Phase::Asks(..) | Phase::Over => &[],
            };
            for act in begins {
                // A release ends the caller: it is always possible.
                if caller.left > 0 || *act == Act::Release {
                    step(format!("{by} sends {act:?}"), &|next| {
                        let left = &mut next.callers[by].left;
                        *left = left.saturating_sub(1);
                        next.send(by, *act, true);
                    });
                }
            }
            if self.budget.deaths > 0 && !matches!(caller.phase, Phase::Idle | Phase::Over) {
                step(format!("{by} dies"), &|next| {
                    next.budget.deaths -= 1;
                    next.callers[by] = OVER;
                    for request in &mut next.requests {
                        request.awaited &= request.by != by;
                    }
                });
            }
        }
        for (
            at,
            Sent {
                by,
                act,
                answer,
                awaited,
            },
        ) in self.requests.iter().copied().enumerate()
        {
            match answer {
                None => {
                    step(format!("{act:?} of {by} runs"), &|next| {
                        let answer = next.run(by, act);
                        match awaited {
                            true => next.requests[at].answer = Some(answer),
                            false => drop(next.requests.remove(at)),
                        }
                    });
                    if self.budget.second_runs > 0 {
                        step(
                            format!("{act:?} of {by} runs, and may run again"),
                            &|next| {
                                next.budget.second_runs -= 1;
                                next.again.push((by, act));
                                let answer = next.run(by, act);
                                match awaited {
                                    true => next.requests[at].answer = Some(answer),
                                    false => drop(next.requests.remove(at)),
                                }
                            },
                        );
                    }
                }
                Some(answer) => {
                    step(format!("{by} gets {answer:?}"), &|next| {
                        next.requests.remove(at);
                        if awaited {
                            next.answered(by, answer);
                        }
                    });
                }
            }
            if awaited && self.budget.lost_answers > 0 {
                step(format!("{by} gets no answer to {act:?}"), &|next| {
                    next.budget.lost_answers -= 1;
                    match answer {
                        // It may run later, or never.
                        None => next.requests[at].awaited = false,
                        Some(_) => drop(next.requests.remove(at)),
                    }
                    next.unanswered(by);
                });
            }
        }
        for (at, (by, act)) in self.again.iter().copied().enumerate() {
            step(format!("{act:?} of {by} runs again"), &|next| {
                next.again.remove(at);
                next.run(by, act);
            });
        }
        if self.budget.ticks > 0 {
            step("time passes".into(), &|next| {
                next.budget.ticks -= 1;
                next.now += TICK;
            });
        }
        if self.budget.lost_states > 0 && self.state.is_some() {
            step("the state is lost".into(), &|next| {
                next.budget.lost_states -= 1;
                next.state = None;
                (next.was_lost, next.released) = (true, None);
                // No two tokens are of one microsecond: a lock is not lost and taken in less.
                next.now += 1;
            });
        }
        steps
    }

    fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    fn is_over(&self) -> bool {
        true
    }
}

const CALM: Budget = Budget {
    ticks: 2,
    lost_answers: 0,
    second_runs: 0,
    deaths: 0,
    lost_states: 0,
};

/// The setups: callers, permits, and what may happen.
fn setups() -> [(usize, u32, Budget); 6] {
    let lost_answers = Budget {
        lost_answers: 1,
        ..CALM
    };
    let deaths = Budget { deaths: 1, ..CALM };
    let second_runs = Budget {
        second_runs: 1,
        ..CALM
    };
    let lost_states = Budget {
        lost_states: 1,
        ..CALM
    };
    let short = Budget { ticks: 1, ..CALM };
    [
        (2, 1, lost_answers),
        (2, 1, deaths),
        (2, 1, second_runs),
        (2, 1, lost_states),
        (3, 1, CALM),
        (3, 2, short),
    ]
}

#[test]
fn a_lock_has_one_holder_or_so_many_and_fencing_tokens_grow() {
    for (callers, permits, budget) in setups() {
        let world = World::new(callers, permits, budget, None);
        let states = explore(&world).unwrap_or_else(|trace| panic!("{trace}"));
        eprintln!("{callers} callers, {permits} at a time, {budget:?}: {states} states");
        assert!(states > 1_000, "only {states} states");
    }
}

#[test]
fn a_departure_from_each_rule_is_found() {
    for (mutation, flaw) in [
        (Mutation::ReleaseOfAnyone, Flaw::Herd),
        (Mutation::CountsFromAnswer, Flaw::Herd),
        (Mutation::RenewalTakes, Flaw::StaleRead),
        (Mutation::FenceWithoutTime, Flaw::StaleRead),
        (Mutation::LateRunTakes, Flaw::IdleLease),
        (Mutation::OneTooMany, Flaw::Herd),
        (Mutation::NeverLooksAtTheClock, Flaw::Herd),
    ] {
        let found = setups().into_iter().find_map(|(callers, permits, budget)| {
            let world = World::new(callers, permits, budget, Some(mutation));
            explore(&world).err()
        });
        let trace = found.unwrap_or_else(|| panic!("{mutation:?} is not found"));
        assert_eq!(trace.flaw, flaw, "{mutation:?}: {trace}");
    }
}
