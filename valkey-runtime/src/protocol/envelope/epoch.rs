//! The epoch of a tag, to the byte: the clock at the tag's last invalidation.
//!
//! ```text
//! 91  hard                              cf + u64
//! 95  hard, due, soft, start, length    cf + u64 each
//! ```
//!
//! An entry with a clock below `hard` is invalidated. Below `due` it is stale. Below `soft` it
//! becomes stale after its share of the spread, which begins at `start` and lasts `length`, in
//! milliseconds of the server's time. The key of an unknown epoch holds a placeholder: a lease is
//! the mark of a load, and a guard belongs to writers.

/// The limit of a script's arithmetic: smaller numbers are exact there. In microseconds it is the
/// year 2255.
const TOO_LARGE: u64 = 1 << 53;

/// The longest time over which entries fall due, in milliseconds: a year, so that sums of times
/// can't overflow.
pub(crate) const LONGEST_SPREAD: u64 = 365 * 24 * 60 * 60 * 1000;
/// The latest start of a spread after the clock, in milliseconds: a day. The clock was advanced
/// just before the start.
const LATEST_START: u64 = 24 * 60 * 60 * 1000;

/// The epoch of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Epoch {
    pub(crate) hard: u64,
    pub(crate) soft: Option<Soft>,
}

/// An invalidation that makes entries stale. They may still serve as a fallback if their loader
/// fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Soft {
    pub(crate) due: u64,
    pub(crate) clock: u64,
    /// In milliseconds of the server's time.
    pub(crate) start: u64,
    pub(crate) length: u64,
}

/// The effect of an epoch on an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    /// The entry is fresh until then, in milliseconds of the server's time; 0 means stale.
    FreshUntil(u64),
    Dead,
}

impl Epoch {
    pub(crate) fn new(hard: u64) -> Self {
        Self { hard, soft: None }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Self { hard, soft } = self;
        let numbers = match soft {
            None => &[hard][..],
            Some(Soft {
                due,
                clock,
                start,
                length,
            }) => &[hard, due, clock, start, length],
        };
        let mut bytes = Vec::with_capacity(46);
        bytes.push(0x90 | numbers.len() as u8);
        for number in numbers {
            bytes.push(0xcf);
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, numbers) = bytes.split_first()?;
        let (numbers, []) = numbers.as_chunks::<9>() else {
            return None;
        };
        let number = |at: usize| match numbers.get(at)? {
            [0xcf, number @ ..] => {
                Some(u64::from_be_bytes(*number)).filter(|number| *number < TOO_LARGE)
            }
            _ => None,
        };
        let soft = match (count, numbers.len()) {
            (0x91, 1) => None,
            (0x95, 5) => Some(Soft {
                due: number(1)?,
                clock: number(2)?,
                start: number(3)?,
                length: number(4)?,
            }),
            _ => return None,
        };
        let hard = number(0)?;
        // Other numbers are damage: nothing writes them.
        let sound = soft.is_none_or(|soft| {
            soft.clock > hard
                && soft.clock >= soft.due
                && soft.length <= LONGEST_SPREAD
                && soft.start <= soft.clock / 1000 + LATEST_START
        });
        sound.then_some(Self { hard, soft })
    }

    /// The epoch after an invalidation at that clock.
    pub(crate) fn raised(self, clock: u64) -> Self {
        let hard = self.hard.max(clock);
        let soft = self.soft.filter(|soft| soft.clock > hard);
        Self { hard, soft }
    }

    /// The epoch after an invalidation at that clock that lets entries fall due over `length`
    /// milliseconds. Entries left by an earlier one fall due at once.
    pub(crate) fn softened(self, clock: u64, length: u64, now: u64) -> Self {
        let start = now;
        let soft = match self.soft {
            _ if clock <= self.hard => self.soft,
            Some(soft) if clock <= soft.clock => Some(Soft {
                due: if length == 0 {
                    soft.due.max(clock)
                } else {
                    soft.due
                },
                ..soft
            }),
            earlier => Some(Soft {
                due: match length {
                    0 => clock,
                    _ => earlier.map_or(0, |soft| soft.clock),
                },
                clock,
                start,
                length,
            }),
        };
        Self { soft, ..self }
    }

    /// The clock at its last invalidation. The namespace's clock is never below it.
    pub(crate) fn newest(self) -> u64 {
        self.soft.map_or(self.hard, |soft| soft.clock)
    }

    /// The effect on an entry with that clock and stamp. The random bits of its stamp decide when
    /// an entry falls due.
    pub(crate) fn judge(self, clock: u64, stamp: u64) -> Verdict {
        match self.soft {
            _ if clock < self.hard => Verdict::Dead,
            Some(soft) if clock < soft.due => Verdict::FreshUntil(0),
            Some(soft) if clock < soft.clock => {
                let share = u128::from(soft.length) * u128::from(stamp & 0xfff) / 0xfff;
                // Not more than the length.
                Verdict::FreshUntil(soft.start.saturating_add(share as u64))
            }
            _ => Verdict::Valid,
        }
    }

    /// Whether a value may be stored if its load began at that clock.
    pub(crate) fn admits(self, clock: u64) -> bool {
        self.judge(clock, 0) == Verdict::Valid
    }
}

/// The names that the model check renames after each step. It has no soft epochs.
#[cfg(test)]
impl Epoch {
    pub(crate) fn visit(&mut self, visitor: &mut impl crate::model::explore::names::Visitor) {
        visitor.clock(&mut self.hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_invalidation_leaves_nothing_that_was_loaded_before() {
        let epoch = Epoch::new(5);
        assert_eq!(epoch.judge(5, 0), Verdict::Valid);
        assert_eq!(epoch.judge(4, 0), Verdict::Dead);
        assert_eq!(epoch.raised(7).judge(6, 0), Verdict::Dead);
        assert_eq!(epoch.raised(3), epoch, "a late copy changes nothing");
    }

    #[test]
    fn numbers_that_nothing_writes_are_no_epoch() {
        let clock = 1_767_225_600_000_000;
        let soft = Soft {
            due: 7,
            clock,
            start: clock / 1000,
            length: LONGEST_SPREAD,
        };
        let is_known = |soft| {
            let epoch = Epoch { hard: 5, soft };
            Epoch::from_bytes(&epoch.to_bytes()).is_some()
        };
        assert!(is_known(None) && is_known(Some(soft)));
        let last = TOO_LARGE - 1;
        for damaged in [
            Soft { due: last, ..soft },
            Soft {
                due: clock + 1,
                ..soft
            },
            Soft {
                clock: 5,
                due: 5,
                ..soft
            },
            Soft {
                start: last,
                ..soft
            },
            Soft {
                length: LONGEST_SPREAD + 1,
                ..soft
            },
            Soft {
                length: last,
                ..soft
            },
        ] {
            assert!(!is_known(Some(damaged)), "{damaged:?}");
        }
        for hard in [TOO_LARGE, u64::MAX] {
            assert_eq!(Epoch::from_bytes(&Epoch::new(hard).to_bytes()), None);
        }
    }

    #[test]
    fn entries_fall_due_over_the_spread() {
        let epoch = Epoch::new(5).softened(8, 4095, 1000);
        assert_eq!(epoch.judge(8, 0), Verdict::Valid);
        assert_eq!(epoch.judge(7, 0), Verdict::FreshUntil(1000));
        assert_eq!(epoch.judge(7, 0xabc_007), Verdict::FreshUntil(1007));
        assert_eq!(epoch.judge(7, 0xfff), Verdict::FreshUntil(5095));
        assert_eq!(epoch.judge(4, 0), Verdict::Dead);
        assert!(!epoch.admits(7), "it was overtaken");
        assert_eq!(epoch.softened(8, 4095, 9000), epoch, "a late copy");

        let again = epoch.softened(9, 4095, 2000);
        assert_eq!(again.judge(7, 9), Verdict::FreshUntil(0), "at once");
        assert_eq!(again.judge(8, 9), Verdict::FreshUntil(2009));
        let late = epoch.softened(7, 0, 3000);
        assert_eq!(late.judge(6, 9), Verdict::FreshUntil(0));
        assert_eq!(late.judge(7, 9), Verdict::FreshUntil(1009));
        assert_eq!(epoch.softened(9, 0, 0).judge(8, 9), Verdict::FreshUntil(0));
        assert_eq!(epoch.raised(8), Epoch::new(8));
        assert_eq!(epoch.raised(6).judge(7, 0), Verdict::FreshUntil(1000));
    }

    proptest! {
        #[test]
        fn epochs_round_trip(hard in 0..TOO_LARGE - (1 << 33), soft: Option<(u32, u32, u32, u32)>) {
            let soft = soft.map(|(due, after, start, length): (u32, u32, u32, u32)| {
                let clock = hard + 1 + u64::from(after);
                // Within the bounds beyond which numbers count as damage.
                let (latest, longest) = (clock / 1000 + LATEST_START, LONGEST_SPREAD);
                let (start, length) = (latest.min(start.into()), longest.min(length.into()));
                Soft { due: clock.min(due.into()), clock, start, length }
            });
            let epoch = Epoch { hard, soft };
            prop_assert_eq!(Epoch::from_bytes(&epoch.to_bytes()), Some(epoch));
        }

        #[test]
        fn a_raised_or_softened_epoch_is_never_damaged(
            steps in prop::collection::vec((0..9u64, prop::option::of(prop_oneof![Just(0), 0..=LONGEST_SPREAD])), 1..9),
        ) {
            let now = 1_767_225_600_000;
            let mut epoch = Epoch::new(now * 1000);
            for (clock, over) in steps {
                let clock = now * 1000 + clock;
                epoch = match over {
                    None => epoch.raised(clock),
                    Some(length) => epoch.softened(clock, length, now),
                };
                prop_assert_eq!(Epoch::from_bytes(&epoch.to_bytes()), Some(epoch));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            Epoch::from_bytes(&bytes);
        }
    }
}
