//! The calls and answers in their order, and the check whether any answer breaks a promise of
//! `docs/guides/consistency.md`.
//!
//! A *register* is a row of the simulated database, whose version only grows. Each event that
//! promises that nothing older is given from now on raises a *floor*, which holds a register, a
//! version and the moment from which it counts. A read that began later than that moment and was
//! given a lower version is a violation. Moments are ticks of one counter, so nothing here goes by
//! the time of the machine, but for near reads.
//!
//! A *near read* may be answered by a copy in its process. For it, a floor that another process has
//! raised counts only once [`NEAR`] has passed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The `near` time of the types, and a millisecond for the rounding of clocks.
pub(crate) const NEAR: Duration = Duration::from_millis(1001);

/// A thing that has a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Register {
    /// A row under a key of its own.
    Account(u64),
    /// All that is under a tag.
    Shelf(u64),
    /// A value that is in the store alone.
    Note(u64),
    /// A value that is in the store alone, and that all change.
    Tally(u64),
}

/// Which process a read was made by: a store, by its number.
pub(crate) type Process = usize;

/// Why nothing older is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A guarded row was committed, and its guard was there until the end (promise 1).
    Commit,
    /// The end of a guarded write was confirmed (promise 2).
    End,
    /// `del` has returned `Ok`, after the row was written (promise 3).
    Deletion,
    /// A tag was invalidated, after its rows were written.
    Tag,
    /// A `set` was confirmed, of a register with one writer.
    Set,
    /// A change of what was read was made.
    Change,
    /// The end was not confirmed, or `del` failed: this process reads nothing older all the same.
    Kept,
    /// The kept deletions are delivered.
    Delivered,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) register: Register,
    pub(crate) version: u64,
    /// From after this tick on.
    pub(crate) since: u64,
    /// For reads of this process alone.
    pub(crate) only: Option<Process>,
    /// The process that raised it, and when.
    pub(crate) by: Process,
    pub(crate) at: Instant,
    pub(crate) why: Why,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) register: Register,
    pub(crate) process: Process,
    pub(crate) verb: &'static str,
    /// Whether a copy may have answered.
    pub(crate) near: bool,
    pub(crate) at: Instant,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) given: u64,
    /// Whether the version was changed to the next one.
    pub(crate) changed: bool,
}

/// A read that was given something older than was promised when it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Violation {
    pub(crate) read: Read,
    pub(crate) floor: Floor,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, floor } = self;
        write!(
            f,
            "{:?}: `{}` of process {} began at {} and ended at {} with version {}; at {} version {} was the least ({:?}{})",
            read.register,
            read.verb,
            read.process,
            read.began,
            read.ended,
            read.given,
            floor.since,
            floor.version,
            floor.why,
            if floor.only.is_some() {
                ", of this process"
            } else {
                ""
            },
        )
    }
}

#[derive(Default)]
pub(crate) struct History {
    tick: AtomicU64,
    reads: Mutex<Vec<Read>>,
    floors: Mutex<Vec<Floor>>,
}

impl History {
    /// A moment that is later than all before it.
    pub(crate) fn tick(&self) -> u64 {
        self.tick.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn read(&self, read: Read) {
        lock(&self.reads).push(read);
    }

    /// From a moment that was drawn before.
    pub(crate) fn floor(&self, floor: Floor) {
        lock(&self.floors).push(floor);
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (lock(&self.reads).len(), lock(&self.floors).len())
    }

    /// All reads that break a promise.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        // For each register and process the floors by their moment, each at least as high as those
        // before it.
        type Steps = BTreeMap<u64, Floor>;
        let mut steps: BTreeMap<(Register, Option<Process>), Steps> = BTreeMap::new();
        let mut floors = lock(&self.floors).clone();
        floors.sort_by_key(|floor| floor.since);
        for floor in floors {
            let steps = steps.entry((floor.register, floor.only)).or_default();
            let highest = steps.last_key_value().map_or(0, |(_, floor)| floor.version);
            if floor.version > highest {
                steps.insert(floor.since, floor);
            }
        }
        let counts = |read: &Read, floor: &Floor| {
            !read.near || floor.by == read.process || floor.at + NEAR < read.at
        };
        let least = |read: &Read, only: Option<Process>| {
            let steps = steps.get(&(read.register, only))?;
            let mut before = steps.range(..read.began).rev().map(|(_, floor)| *floor);
            before.find(|floor| counts(read, floor))
        };
        let mut violations = Vec::new();
        // Of two that change one version to the next, one change is lost.
        let mut changes: BTreeMap<(Register, u64), Floor> = BTreeMap::new();
        for read in lock(&self.reads).iter().filter(|read| read.changed) {
            let made = Floor {
                register: read.register,
                version: read.given + 1,
                since: read.ended,
                only: None,
                by: read.process,
                at: read.at,
                why: Why::Change,
            };
            if let Some(floor) = changes.insert((read.register, read.given), made) {
                violations.push(Violation { read: *read, floor });
            }
        }
        for read in lock(&self.reads).iter() {
            for only in [None, Some(read.process)] {
                if let Some(floor) = least(read, only)
                    && read.given < floor.version
                {
                    violations.push(Violation { read: *read, floor });
                }
            }
        }
        violations
    }
}

impl History {
    /// How much older than the floors of other processes the near reads were, in ascending order:
    /// the time since the first floor above what each was given.
    pub(crate) fn staleness(&self) -> Vec<Duration> {
        let mut floors: BTreeMap<Register, Vec<Floor>> = BTreeMap::new();
        for floor in lock(&self.floors)
            .iter()
            .filter(|floor| floor.only.is_none())
        {
            floors.entry(floor.register).or_default().push(*floor);
        }
        let reads = lock(&self.reads);
        let near = reads.iter().filter(|read| read.near);
        let mut all: Vec<_> = near
            .map(|read| {
                let of_register = floors.get(&read.register).into_iter().flatten();
                let above = of_register
                    .filter(|floor| floor.version > read.given && floor.since < read.began);
                let first = above.map(|floor| floor.at).min();
                first.map_or(Duration::ZERO, |at| read.at.saturating_duration_since(at))
            })
            .collect();
        all.sort_unstable();
        all
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Register = Register::Account(1);

    /// At each moment a floor or a read.
    fn history(events: &[(Option<u64>, Option<Process>, u64)]) -> Vec<(u64, u64)> {
        let history = History::default();
        for (floor, process, read) in events {
            let now = history.tick();
            match floor {
                Some(version) => history.floor(Floor {
                    register: ROW,
                    version: *version,
                    since: now,
                    only: *process,
                    by: process.unwrap_or(0),
                    at: Instant::now(),
                    why: Why::End,
                }),
                None => history.read(Read {
                    register: ROW,
                    process: process.unwrap_or(0),
                    verb: "get",
                    near: false,
                    at: Instant::now(),
                    began: now,
                    ended: history.tick(),
                    given: *read,
                    changed: false,
                }),
            }
        }
        let violations = history.violations();
        let of = |violation: &Violation| (violation.read.given, violation.floor.version);
        violations.iter().map(of).collect()
    }

    #[test]
    fn a_read_is_compared_with_the_highest_floor_from_before_it_began() {
        let read = |version| (None, None, version);
        let floor = |version| (Some(version), None, 0);
        assert_eq!(history(&[read(1), floor(2), read(2), read(3)]), []);
        assert_eq!(
            history(&[floor(2), read(1), floor(3), read(2)]),
            [(1, 2), (2, 3)]
        );
        assert_eq!(history(&[floor(3), floor(2), read(2)]), [(2, 3)]);
        assert_eq!(history(&[read(1), floor(2)]), []);
    }

    #[test]
    fn a_floor_of_one_process_is_no_others() {
        let kept = (Some(2), Some(1), 0);
        assert_eq!(history(&[kept, (None, Some(0), 1)]), []);
        assert_eq!(history(&[kept, (None, Some(1), 1)]), [(1, 2)]);
    }

    #[test]
    fn a_read_that_began_before_the_floor_may_end_after_it() {
        let history = History::default();
        let began = history.tick();
        let since = history.tick();
        history.floor(Floor {
            register: ROW,
            version: 2,
            since,
            only: None,
            by: 0,
            at: Instant::now(),
            why: Why::Commit,
        });
        history.read(Read {
            register: ROW,
            process: 0,
            verb: "get_or_load",
            near: false,
            at: Instant::now(),
            began,
            ended: history.tick(),
            given: 1,
            changed: false,
        });
        assert!(history.violations().is_empty());
    }

    #[test]
    fn two_changes_of_one_version_are_one_too_few() {
        let changes = |versions: &[u64]| {
            let history = History::default();
            for given in versions {
                history.read(Read {
                    register: ROW,
                    process: 0,
                    verb: "modify",
                    near: false,
                    at: Instant::now(),
                    began: 1,
                    ended: history.tick(),
                    given: *given,
                    changed: true,
                });
            }
            history.violations().len()
        };
        assert_eq!(changes(&[1, 2, 3]), 0);
        assert_eq!(changes(&[1, 2, 2, 3]), 1);
    }

    #[test]
    fn a_near_read_may_be_older_than_what_another_process_did_a_moment_ago() {
        let start = Instant::now();
        let read_after = |by, wait: Duration| {
            let history = History::default();
            history.floor(Floor {
                register: ROW,
                version: 2,
                since: history.tick(),
                only: None,
                by,
                at: start,
                why: Why::End,
            });
            history.read(Read {
                register: ROW,
                process: 0,
                verb: "get",
                near: true,
                at: start + wait,
                began: history.tick(),
                ended: history.tick(),
                given: 1,
                changed: false,
            });
            (history.violations().len(), history.staleness())
        };
        let later = NEAR + Duration::from_micros(1);
        assert_eq!(read_after(1, NEAR), (0, vec![NEAR]));
        assert_eq!(read_after(1, later), (1, vec![later]));
        assert_eq!(read_after(0, Duration::ZERO), (1, vec![Duration::ZERO]));
    }
}
