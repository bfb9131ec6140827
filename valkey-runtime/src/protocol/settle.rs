//! The steps by which the epochs of some tags become known to who has loaded something under them: a state machine without I/O,
//! which [`fill`](crate::verbs::tags::fill) drives on a server, and an exhaustive check on a simulated one.
//!
//! They are looked at first. Where there is none, or only the mark of another who found none, a mark is put, the clock looked at,
//! and the mark settled into that if it is still one's own. Who began at the same clock knows that nothing was invalidated
//! between: an invalidation in the meantime has advanced the clock or, having advanced it before, taken the mark away.

use crate::protocol::envelope::epoch::Epoch;
use crate::protocol::envelope::placeholder::Name;
use crate::protocol::found::Found;

/// What is to be done next, at each of the places in its list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Put a mark with this token, and tell what is there by [`Settling::marked`].
    Mark(Vec<usize>),
    /// Look at the clock, and tell it by [`Settling::clock`].
    Clock,
    /// Replace each mark by this epoch if it is still there, and tell whether it was by [`Settling::filled`].
    Fill(Vec<(usize, Name)>, Epoch),
    Done,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settling {
    token: u64,
    seen: Vec<Seen>,
}

/// What lies under the key of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    Known(Epoch),
    Missing,
    /// The mark of a fill that found it missing. It may never be settled.
    Pending(Name),
    /// A guard, or what this process has invalidated and the server does not know of.
    Unknown,
}

impl Settling {
    /// From what a first look has shown. The token is for marks.
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

    /// What is there once marks have been put at these places.
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

    /// Which of the marks have become the epoch.
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

    /// The epochs; `None` for those that are not to be known.
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

/// What the exhaustive check renames after each step.
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
