//! The outbox: the deletions that the server did not get or did not confirm, and the keys that may
//! not be read until it does.
//!
//! Plain data without I/O; [`crate::backend::gateway`] consults it before each read, and delivers.
//! It holds at most [`MOST`] keys, each with only the newest of its deletions. A further deletion
//! is lost: its key is forgotten, but its type and its time are kept. The stamp of an entry is the
//! server's time when its load or its `set` began. So an entry that began well after the loss is
//! known to be newer, and this process reads no other entry of the type. Such entries are found
//! outdated one by one, and replaced by loads, whatever TTLs and touches have made of their lives.
//! This ends with the process, or with a purge of the type that began after the last loss and its
//! hold. The purge removes every entry that may be older, and the leases under which such an entry
//! could still be stored. Reads that began before the end of the purge judge by the state at their
//! beginning: their results may be from before the purge.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::protocol::envelope;
use crate::protocol::envelope::{Head, Header, Kind};
use crate::protocol::scope::Scope;

/// The most keys that are kept, and the most that are delivered at a time.
pub(crate) const MOST: usize = 10_000;
const ROUND: usize = 1000;
/// The largest error of the estimated server time, in microseconds, when stamps of entries are
/// judged.
const MARGIN: u64 = 1_000_000;

/// A point in the order of deletions and of the commands that do their work.
pub(crate) type Moment = u64;

#[derive(Debug, Default)]
pub(crate) struct Undelivered {
    keys: BTreeMap<Box<[u8]>, Waiting>,
    /// By the prefix of a type's keys.
    lost: HashMap<Box<[u8]>, Lost>,
    moments: Moment,
    /// The last key of the last round. The next round begins after it, so that undeliverable keys
    /// block no others.
    round: Box<[u8]>,
    /// Whether a task delivers, and its number: another one replaces it if its runtime stands
    /// still.
    delivering: bool,
    delivery: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Moment,
    hold: u64,
}

/// The lost deletions of a type.
#[derive(Clone, Copy, Debug)]
struct Lost {
    /// The moment of the last one.
    since: Moment,
    /// The end of the last of their holds, in microseconds by our own clock.
    until: u64,
}

/// The start of a purge: in the order of deletions, and by our own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    moment: Moment,
    clock: u64,
}

/// The fate of a deletion that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    Lost,
    /// Lost, and the first one of its type.
    FirstLost,
}

/// Deletions to be sent: the moment before which they were kept, and the keys, each with the
/// milliseconds for which a guard is to stay.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) moment: Moment,
    pub(crate) keys: Vec<(Box<[u8]>, u64)>,
}

impl Undelivered {
    /// Keeps a deletion. `type_len` is the length of the type's prefix in the key, `now` the time
    /// by our own clock.
    pub(crate) fn keep(&mut self, key: &[u8], hold: u64, type_len: usize, now: u64) -> Fate {
        self.moments += 1;
        let since = self.moments;
        if let Some(waiting) = self.keys.get_mut(key) {
            let hold = waiting.hold.max(hold);
            *waiting = Waiting { since, hold };
            return Fate::Kept;
        }
        if self.keys.len() < MOST {
            self.keys.insert(key.into(), Waiting { since, hold });
            return Fate::Kept;
        }
        let until = now.saturating_add(hold.saturating_mul(1000));
        let kind = &key[..type_len.min(key.len())];
        match self.lost.get_mut(kind) {
            Some(lost) => {
                let until = until.max(lost.until);
                *lost = Lost { since, until };
                Fate::Lost
            }
            None => {
                self.lost.insert(kind.into(), Lost { since, until });
                Fate::FirstLost
            }
        }
    }

    /// The number of a new task that is to deliver, if one is needed: if no task delivers, or the
    /// current one does not go on.
    pub(crate) fn next_delivery(&mut self, goes_on: bool) -> Option<u64> {
        if self.keys.is_empty() || self.delivering && goes_on {
            return None;
        }
        self.delivering = true;
        self.delivery += 1;
        Some(self.delivery)
    }

    /// The next deletions for the task with this number. The task is over if nothing waits, or
    /// another one has replaced it. A later deletion starts another task. So the end of the task is
    /// one step with the look that found nothing.
    pub(crate) fn next_round_of(&mut self, delivery: u64) -> Option<Round> {
        if self.delivery != delivery {
            return None;
        }
        let round = self.next_round();
        self.delivering = round.is_some();
        round
    }

    /// The task with this number is over. False if another one has replaced it.
    pub(crate) fn end_delivery(&mut self, delivery: u64) -> bool {
        let its_own = self.delivery == delivery;
        if its_own {
            self.delivering = false;
        }
        its_own
    }

    /// The number of waiting keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of keys and types that reads have to check.
    pub(crate) fn watched(&self) -> usize {
        self.keys.len() + self.lost.len()
    }

    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// The present: a command that begins now settles the deletions that were kept before.
    pub(crate) fn now(&self) -> Moment {
        self.moments
    }

    /// The entry that was at the key at that moment is known to be gone.
    pub(crate) fn settle(&mut self, key: &[u8], moment: Moment) {
        if self
            .keys
            .get(key)
            .is_some_and(|waiting| waiting.since <= moment)
        {
            self.keys.remove(key);
        }
    }

    /// The present, for the start of a purge. `now` is the time by our own clock.
    pub(crate) fn purge(&self, now: u64) -> Purge {
        let moment = self.moments;
        Purge { moment, clock: now }
    }

    /// The entries in this scope are known to be gone since the purge began. Two things are not
    /// settled: deletions whose guard is still to be placed, and lost deletions with a hold that
    /// was not over by then.
    pub(crate) fn purged(&mut self, scope: &Scope, Purge { moment, clock }: Purge) {
        self.lost.retain(|kind, lost| {
            !scope.covers_all(kind) || lost.since > moment || lost.until > clock
        });
        self.keys.retain(|key, waiting| {
            !scope.covers(key) || waiting.since > moment || waiting.hold > 0
        });
    }

    /// The milliseconds for which a guard is to stay at the key, if its deletion waits.
    pub(crate) fn hold(&self, key: &[u8]) -> Option<u64> {
        self.keys.get(key).map(|waiting| waiting.hold)
    }

    /// The next deletions to be sent, or `None` if nothing waits.
    pub(crate) fn next_round(&mut self) -> Option<Round> {
        let after = (Bound::Excluded(&*self.round), Bound::Unbounded);
        let later = self.keys.range::<[u8], _>(after);
        let again = self
            .keys
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(&*self.round)));
        let keys: Vec<_> = later
            .chain(again)
            .take(ROUND)
            .map(|(key, waiting)| (key.clone(), waiting.hold))
            .collect();
        self.round = keys.last()?.0.clone();
        Some(Round {
            moment: self.moments,
            keys,
        })
    }

    /// The time, by our own clock, until which entries of the key's type may be older than a lost
    /// deletion.
    pub(crate) fn lost_until(&self, key: &[u8], type_len: usize) -> Option<u64> {
        let lost = self.lost.get(&key[..type_len.min(key.len())])?;
        Some(lost.until)
    }
}

/// Whether an entry with this stamp may be older than a lost deletion.
pub(crate) fn is_older(stamp: u64, until: u64) -> bool {
    stamp >> 12 <= until.saturating_add(MARGIN)
}

/// The kind and stamp of the entry, if it may be older than a lost deletion. `until` is the result
/// of [`Undelivered::lost_until`] in the server's time.
pub(crate) fn outdated(entry: &[u8], until: u64) -> Option<(Kind, u64)> {
    match envelope::head(entry) {
        Head::Known(Header { kind, stamp, .. }) if is_older(stamp, until) => Some((kind, stamp)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(undelivered: &mut Undelivered, key: &[u8]) -> Fate {
        undelivered.keep(key, 0, 5, 7)
    }

    fn full() -> Undelivered {
        let mut undelivered = Undelivered::default();
        for id in 0..MOST {
            let kept = keep(&mut undelivered, format!("user:{id}").as_bytes());
            assert_eq!(kept, Fate::Kept);
        }
        undelivered
    }

    fn entry(micros: u64) -> envelope::HeaderBytes {
        Header::value(1, micros << 12).to_bytes()
    }

    #[test]
    fn a_delivery_that_began_before_a_deletion_does_not_settle_it() {
        let mut undelivered = Undelivered::default();
        keep(&mut undelivered, b"user:1");
        let round = undelivered.next_round().unwrap();
        keep(&mut undelivered, b"user:1");
        undelivered.settle(b"user:1", round.moment);
        assert!(
            undelivered.holds(b"user:1"),
            "the second is not delivered yet"
        );
        let now = undelivered.now();
        undelivered.settle(b"user:1", now);
        assert!(!undelivered.holds(b"user:1"));
        assert_eq!(undelivered.next_round(), None);
    }

    #[test]
    fn a_key_is_kept_once_with_the_longest_hold() {
        let mut undelivered = Undelivered::default();
        for hold in [0, 500, 200] {
            undelivered.keep(b"user:1", hold, 5, 0);
        }
        let round = undelivered.next_round().unwrap();
        assert_eq!(round.keys, [(b"user:1"[..].into(), 500)]);
        assert_eq!(undelivered.len(), 1);
    }

    #[test]
    fn rounds_are_bounded_and_reach_every_key() {
        let mut undelivered = full();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..MOST / ROUND {
            let round = undelivered.next_round().unwrap();
            assert_eq!(round.keys.len(), ROUND);
            seen.extend(round.keys);
        }
        assert_eq!(seen.len(), MOST, "though none could be delivered");
    }

    #[test]
    fn beyond_the_bound_its_type_is_outdated_up_to_then_and_no_other() {
        let mut undelivered = full();
        assert_eq!(keep(&mut undelivered, b"user:9"), Fate::Kept, "again");
        assert_eq!(undelivered.keep(b"user:x", 2, 5, 7), Fate::FirstLost);
        assert_eq!(undelivered.keep(b"user:y", 0, 5, 8), Fate::Lost);
        assert_eq!(
            (undelivered.len(), undelivered.watched()),
            (MOST, MOST + 1),
            "bounded"
        );
        // The first was at 7 with a hold of 2 ms, and the server is an hour ahead.
        let hour = 3_600_000_000;
        let last = hour + 2007 + 1_000_000;
        let outdated = |key: &[u8], micros| {
            let until = undelivered.lost_until(key, 5);
            until.is_some_and(|until| outdated(&entry(micros), until + hour).is_some())
        };
        assert!(outdated(b"user:z", last) && !outdated(b"user:z", last + 1));
        assert!(!outdated(b"city:z", 0));
    }

    #[test]
    fn one_task_delivers_and_one_whose_place_was_taken_does_nothing_more() {
        let mut undelivered = Undelivered::default();
        assert_eq!(undelivered.next_delivery(true), None, "nothing waits");
        keep(&mut undelivered, b"user:1");
        assert_eq!(undelivered.next_delivery(true), Some(1));
        assert_eq!(undelivered.next_delivery(true), None, "it goes on");
        assert_eq!(undelivered.next_delivery(false), Some(2), "it does not");
        assert_eq!(undelivered.next_round_of(1), None);
        assert!(!undelivered.end_delivery(1));
        assert_eq!(undelivered.next_delivery(true), None, "the second goes on");
        assert!(undelivered.next_round_of(2).is_some());
        undelivered.settle(b"user:1", 1);
        assert_eq!(undelivered.next_round_of(2), None);
        assert_eq!(undelivered.next_delivery(false), None, "nothing is left");
        keep(&mut undelivered, b"user:2");
        assert_eq!(undelivered.next_delivery(true), Some(3), "it has ended");
        assert!(undelivered.end_delivery(3));
        assert_eq!(undelivered.next_delivery(true), Some(4));
    }

    fn scope(beginning: &str) -> Scope {
        Scope::new(vec![beginning.into()])
    }

    #[test]
    fn a_purge_settles_what_was_before_it_and_is_without_a_hold() {
        let mut undelivered = Undelivered::default();
        for (key, hold) in [
            ("user:1", 0),
            ("user:2", 5),
            ("user:3", 0),
            ("users:1", 0),
            ("use", 0),
        ] {
            undelivered.keep(key.as_bytes(), hold, 5, 0);
        }
        let purge = undelivered.purge(0);
        keep(&mut undelivered, b"user:3");
        keep(&mut undelivered, b"user:4");
        undelivered.purged(&scope("user:"), purge);
        let left: Vec<_> = undelivered.keys.keys().map(|key| &**key).collect();
        let expected: [&[u8]; 5] = [b"use", b"user:2", b"user:3", b"user:4", b"users:1"];
        assert_eq!(left, expected);
    }

    #[test]
    fn a_purge_ends_what_was_lost_before_it_and_its_hold() {
        let mut undelivered = full();
        undelivered.keep(b"user:x", 0, 5, 7);
        undelivered.keep(b"city:x", 2, 5, 7);
        let is_lost = |undelivered: &Undelivered, key| undelivered.lost_until(key, 5).is_some();

        let other = undelivered.purge(10_000);
        undelivered.purged(&scope("team:"), other);
        assert!(is_lost(&undelivered, b"user:"), "another type's");

        let early = undelivered.purge(10_000);
        undelivered.keep(b"user:y", 0, 5, 8);
        undelivered.purged(&scope("user:"), early);
        assert!(is_lost(&undelivered, b"user:"), "lost during the purge");
        undelivered.keys.clear();
        let purge = undelivered.purge(10_000);
        undelivered.purged(&scope("user:"), purge);
        assert!(!is_lost(&undelivered, b"user:"));

        let held = undelivered.purge(2006);
        undelivered.purged(&scope("city:"), held);
        assert!(
            is_lost(&undelivered, b"city:"),
            "loads may still read what is old"
        );
        let over = undelivered.purge(2007);
        undelivered.purged(&scope("city:"), over);
        assert!(!is_lost(&undelivered, b"city:"));
        assert_eq!(undelivered.watched(), 0);
    }
}
