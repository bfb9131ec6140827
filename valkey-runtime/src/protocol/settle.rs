//! The steps after a load by which the epochs of its tags become known: a state machine without
//! I/O. [`fill`](crate::verbs::tags::fill) drives it on a server, and the model check on a
//! simulated one.
//!
//! The first look reads the epochs. If one is missing, or there is only the mark of another load,
//! the load places a mark of its own. Then it reads the tag clock, and replaces the mark by that
//! clock as the epoch, if the mark still exists. A load that began at the same clock knows that
//! nothing was invalidated in between. An invalidation in that time has advanced the clock. If it
//! had advanced the clock before, it has removed the mark.

use crate::protocol::envelope::epoch::Epoch;
use crate::protocol::envelope::placeholder::Name;
use crate::protocol::found::Found;

/// The next action, for the listed places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Put a mark with this token, and report the entries by [`Settling::marked`].
    Mark(Vec<usize>),
    /// Read the clock, and report it by [`Settling::clock`].
    Clock,
    /// Replace each mark by this epoch if it still exists, and report the successes by
    /// [`Settling::filled`].
    Fill(Vec<(usize, Name)>, Epoch),
    Done,
}

/// The progress so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settling {
    token: u64,
    seen: Vec<Seen>,
}

/// The content of an epoch's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    Known(Epoch),
    Missing,
    /// The mark of a load that found the epoch missing. It may never be settled.
    Pending(Name),
    /// A guard, or an invalidation of this process that the server does not know.
    Unknown,
}

impl Settling {
    /// Starts from the result of a first look. The token is for marks.
    pub(crate) fn new(token: u64, seen: Vec<Seen>) -> (Self, Step) {
        let missing = places(&seen, |seen| {
            matches!(seen, Seen::Missing | Seen::Pending(_))
        });
        let step = match missing.is_empty() {
            true => Step::Done,
            false => Step::Mark(missing),
        };
        (Self { token, seen }, step)
    }

    /// The entries at these places after marks were put there.
    pub(crate) fn marked(&mut self, marked: impl IntoIterator<Item = (usize, Seen)>) -> Step {
        for (place, seen) in marked {
            self.seen[place] = seen;
        }
        match self.own().is_empty() {
            true => Step::Done,
            false => Step::Clock,
        }
    }

    pub(crate) fn clock(&self, clock: u64) -> Step {
        Step::Fill(self.own(), Epoch::new(clock))
    }

    /// Whether each mark was replaced by the epoch.
    pub(crate) fn filled(
        &mut self,
        epoch: Epoch,
        filled: impl IntoIterator<Item = (usize, bool)>,
    ) -> Step {
        for (place, filled) in filled {
            self.seen[place] = match filled {
                true => Seen::Known(epoch),
                false => Seen::Unknown,
            };
        }
        Step::Done
    }

    /// The epochs; `None` for unknown ones.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = Option<Epoch>> {
        self.seen.iter().map(|seen| match seen {
            Seen::Known(epoch) => Some(*epoch),
            Seen::Missing | Seen::Pending(_) | Seen::Unknown => None,
        })
    }

    fn own(&self) -> Vec<(usize, Name)> {
        let marks = self
            .seen
            .iter()
            .enumerate()
            .filter_map(|(at, seen)| match seen {
                Seen::Pending(name) if name.token == self.token => Some((at, *name)),
                _ => None,
            });
        marks.collect()
    }
}

impl Seen {
    pub(crate) fn of(found: &Found) -> Self {
        match found {
            Found::Entry(bytes) => match (Epoch::from_bytes(bytes), Name::of_lease(bytes)) {
                (Some(epoch), _) => Seen::Known(epoch),
                (None, Some(name)) => Seen::Pending(name),
                (None, None) => Seen::Unknown,
            },
            Found::Nothing => Seen::Missing,
            Found::Foreign | Found::Withheld | Found::Outdated(_) | Found::Misplaced(_) => {
                Seen::Unknown
            }
        }
    }
}

fn places(seen: &[Seen], which: impl Fn(&Seen) -> bool) -> Vec<usize> {
    let picked = seen.iter().enumerate().filter(|(_, seen)| which(seen));
    picked.map(|(at, _)| at).collect()
}

/// The names that the model check renames after each step.
#[cfg(test)]
mod names {
    use super::{Seen, Settling, Step};
    use crate::model::explore::names::Visitor;

    impl Settling {
        pub(crate) fn token(&self) -> u64 {
            self.token
        }

        pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
            visitor.token(&mut self.token);
            for seen in &mut self.seen {
                match seen {
                    Seen::Known(epoch) => epoch.visit(visitor),
                    Seen::Pending(name) => visitor.name(name),
                    Seen::Missing | Seen::Unknown => {}
                }
            }
        }
    }

    impl Step {
        pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
            if let Step::Fill(marks, epoch) = self {
                marks.iter_mut().for_each(|(_, name)| visitor.name(name));
                epoch.visit(visitor);
            }
        }
    }
}
