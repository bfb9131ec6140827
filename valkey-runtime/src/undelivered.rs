//! The deletions that the server was not told of, or did not confirm: which they are, and what may not be read meanwhile.
//!
//! Plain data without I/O; [`crate::front`] asks it before each read, and delivers. There are at most [`MOST`] keys, each
//! with the newest of its deletions only. A deletion beyond that is lost, and then the key is not known any more, but its
//! type is, and when it was. An entry tells by its stamp when its load or its `set` began, in the server's time; so what
//! began well after the loss is known to be newer, and everything else of the type is not read here. It is found
//! outdated entry by entry, and replaced by loads, whatever TTLs and touches have made of its life. That ends with
//! the process, or with a purge of the type, as soon as there is one: it would take the type out of `lost`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::envelope::{self, Head, Header, Kind};

/// The most keys that are kept, and the most that are delivered at a time.
pub(crate) const MOST: usize = 10_000;
const ROUND: usize = 1000;
/// How far apart the server's time and the estimate of it may be, in microseconds, that the stamps of entries are judged by.
const MARGIN: u64 = 1_000_000;

/// A point in the order of deletions and of what does their work.
pub(crate) type Moment = u64;

#[derive(Debug, Default)]
pub(crate) struct Undelivered {
    keys: BTreeMap<Box<[u8]>, Waiting>,
    /// By what the keys of a type begin with, the latest moment that one of its deletions was lost at, holds included, in
    /// microseconds by our own clock.
    lost: HashMap<Box<[u8]>, u64>,
    moments: Moment,
    /// The last key of the last round: the next one begins after it, so that keys which can't be delivered stop no others.
    round: Box<[u8]>,
    /// Whether a task delivers.
    pub(crate) delivering: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Moment,
    hold: u64,
}

/// What became of a deletion that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    Lost,
    /// Lost, and the first of its type.
    FirstLost,
}

/// Deletions to be sent: the moment before which they were kept; keys, and for how many milliseconds a guard is to stay there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) moment: Moment,
    pub(crate) keys: Vec<(Box<[u8]>, u64)>,
}

impl Undelivered {
    /// Keeps a deletion. `type_len` is how much of the key is its type's, `now` the time by our own clock.
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
                *lost = until.max(*lost);
                Fate::Lost
            }
            None => {
                self.lost.insert(kind.into(), until);
                Fate::FirstLost
            }
        }
    }

    /// How many keys wait.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys and types there are that reads have to look out for.
    pub(crate) fn watched(&self) -> usize {
        self.keys.len() + self.lost.len()
    }

    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// The present: what begins now settles what was kept before.
    pub(crate) fn now(&self) -> Moment {
        self.moments
    }

    /// What was under the key at that moment is known to be gone.
    pub(crate) fn settle(&mut self, key: &[u8], moment: Moment) {
        if self
            .keys
            .get(key)
            .is_some_and(|waiting| waiting.since <= moment)
        {
            self.keys.remove(key);
        }
    }

    /// The next deletions to be sent, or `None` where nothing waits.
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

    /// Until when, by our own clock, entries of the key's type may be older than a deletion that was lost.
    fn lost_until(&self, key: &[u8], type_len: usize) -> Option<u64> {
        self.lost.get(&key[..type_len.min(key.len())]).copied()
    }

    /// Whether what has this stamp may be older than a deletion of that type which was lost.
    pub(crate) fn has_lost(
        &self,
        kind: &[u8],
        stamp: u64,
        server_time: impl FnOnce(u64) -> u64,
    ) -> bool {
        let lost = self.lost.get(kind);
        lost.is_some_and(|lost| stamp >> 12 <= server_time(*lost).saturating_add(MARGIN))
    }

    /// What the entry is, where it may be older than a deletion that was lost: its kind and stamp. `server_time` tells the
    /// server's time at a moment of our own clock.
    pub(crate) fn outdated(
        &self,
        key: &[u8],
        type_len: usize,
        entry: &[u8],
        server_time: impl FnOnce(u64) -> u64,
    ) -> Option<(Kind, u64)> {
        let until = server_time(self.lost_until(key, type_len)?).saturating_add(MARGIN);
        match envelope::head(entry) {
            Head::Known(Header { kind, stamp, .. }) if stamp >> 12 <= until => Some((kind, stamp)),
            _ => None,
        }
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
    fn what_began_before_a_deletion_does_not_settle_it() {
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
        let last = hour + 2007 + MARGIN;
        let outdated = |key: &[u8], micros| {
            undelivered
                .outdated(key, 5, &entry(micros), |clock| clock + hour)
                .is_some()
        };
        assert!(outdated(b"user:z", last) && !outdated(b"user:z", last + 1));
        assert!(!outdated(b"city:z", 0));
    }
}
