//! Breadth-first exploration of all reachable states, shared by the model checks.

pub(crate) mod names;

use std::collections::{HashSet, VecDeque};
use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use sha1_smol::Sha1;

/// A state of the exploration. States should be equal if no later event can distinguish them.
pub(crate) trait State: Clone + Display + Hash {
    type Event: Display;

    /// All events that can happen next, in an order that depends only on the state.
    fn steps(&self) -> Vec<(Self::Event, Self)>;

    /// The flaw of the state, if it has one.
    fn flaw(&self) -> Option<Flaw>;

    /// Whether nothing more needs to happen. A state that is not over and has no steps is a
    /// deadlock.
    fn is_over(&self) -> bool;
}

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// A read returned an older row than it may.
    StaleRead,
    /// A caller waits for an event that will never happen.
    Deadlock,
    /// All callers are gone, but not all flights.
    Leak,
    /// A process runs two loads at once, although there was no lease to see.
    Herd,
    /// A caller has a lease for a load that it does not run.
    IdleLease,
    /// A change that was reported as made is not in the value.
    LostChange,
    /// A change is in the value twice.
    ChangedTwice,
    /// A change that was reported as failed is in the value.
    WrongReport,
}

/// The shortest way to a flaw.
pub(crate) struct Trace {
    pub(crate) flaw: Flaw,
    /// The number of states that were found before it.
    pub(crate) states: usize,
    /// Each event, and the state after it.
    pub(crate) steps: Vec<(String, String)>,
}

/// Data that makes no difference between states.
#[derive(Clone, Copy)]
pub(crate) struct Ghost<T>(pub(crate) T);

impl<T> PartialEq for Ghost<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Ghost<T> {}

impl<T> Hash for Ghost<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl<T: fmt::Debug> fmt::Debug for Ghost<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Explores all states that are reachable from this one, and returns their number.
pub(crate) fn explore<S: State>(start: &S) -> Result<usize, Trace> {
    let mut search = Search::default();
    let mut frontier = VecDeque::new();
    frontier.extend(search.find(start.clone(), Origin { parent: 0, step: 0 }));
    while let Some((parent, state)) = frontier.pop_front() {
        let steps = state.steps();
        if steps.is_empty() && !state.is_over() {
            return Err(search.trace(start, parent, Flaw::Deadlock));
        }
        for (step, (_, next)) in steps.into_iter().enumerate() {
            let Some((index, next)) = search.find(next, Origin { parent, step }) else {
                continue;
            };
            if let Some(flaw) = next.flaw() {
                return Err(search.trace(start, index, flaw));
            }
            frontier.push_back((index, next));
        }
    }
    Ok(search.origins.len())
}

/// The found states. Each is kept as its fingerprint and its origin, because few states are still
/// to be visited and many were.
#[derive(Default)]
struct Search {
    fingerprints: HashSet<u128>,
    origins: Vec<Origin>,
    bytes: Bytes,
}

/// The number of the previous state, and which of its steps led on.
struct Origin {
    parent: usize,
    step: usize,
}

impl Search {
    /// The state with its number, if it is new.
    fn find<S: State>(&mut self, state: S, origin: Origin) -> Option<(usize, S)> {
        let fingerprint = self.bytes.fingerprint(&state);
        self.fingerprints.insert(fingerprint).then(|| {
            self.origins.push(origin);
            (self.origins.len() - 1, state)
        })
    }

    /// The way to the state with that number, found by repeating its steps.
    fn trace<S: State>(&self, start: &S, mut index: usize, flaw: Flaw) -> Trace {
        let mut way = Vec::new();
        while index != 0 {
            let Origin { parent, step } = self.origins[index];
            way.push(step);
            index = parent;
        }
        let mut state = start.clone();
        let steps = way.into_iter().rev().map(|step| {
            let (event, next) = state.steps().swap_remove(step);
            state = next;
            (event.to_string(), state.to_string())
        });
        Trace {
            flaw,
            states: self.origins.len(),
            steps: steps.collect(),
        }
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} after {} states, by", self.flaw, self.states)?;
        for (at, (event, state)) in self.steps.iter().enumerate() {
            writeln!(f, "{:>4}. {event}\n      {state}", at + 1)?;
        }
        Ok(())
    }
}

/// Gathers the hashed data of a state.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    /// 128 bits of a cryptographic hash: no two states share one.
    fn fingerprint(&mut self, state: &impl Hash) -> u128 {
        self.0.clear();
        state.hash(self);
        let digest = Sha1::from(&self.0).digest().bytes();
        digest
            .first_chunk()
            .map_or(0, |half| u128::from_be_bytes(*half))
    }
}

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Nearly all numbers are small, and hashing takes most of the time.
    fn write_u64(&mut self, number: u64) {
        match u8::try_from(number) {
            Ok(byte) if byte < u8::MAX => self.0.push(byte),
            _ => {
                self.0.push(u8::MAX);
                self.0.extend_from_slice(&number.to_be_bytes());
            }
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        unreachable!("what is gathered is hashed by its owner")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up by one or two, and must not pass four.
    #[derive(Clone, Hash)]
    struct Count(u64);

    impl Display for Count {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl State for Count {
        type Event = u64;

        fn steps(&self) -> Vec<(u64, Self)> {
            let steps = [1, 2].map(|step| (step, Count(self.0 + step)));
            steps.into_iter().filter(|_| self.0 != 3).collect()
        }

        fn flaw(&self) -> Option<Flaw> {
            (self.0 > 4).then_some(Flaw::Leak)
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    #[test]
    fn the_shortest_way_to_a_flaw_is_found() {
        let trace = explore(&Count(0)).unwrap_err();
        let steps: Vec<_> = trace.steps.iter().map(|(_, state)| &**state).collect();
        assert_eq!((trace.flaw, trace.states), (Flaw::Deadlock, 5));
        assert_eq!(steps, ["1", "3"]);
        let trace = explore(&Count(4)).unwrap_err();
        assert_eq!((trace.flaw, trace.steps.len()), (Flaw::Leak, 1));
    }
}
