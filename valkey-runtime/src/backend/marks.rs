//! The moments at which keys changed, as far as this process knows: near copies are valid until
//! then.
//!
//! A near copy depends on some keys of the server: its own, and the epochs of its tags. Each change
//! of a key, by this process or reported by the server, gets the next number of a sequence, and
//! marks the key with it. A copy remembers the number at which its read was sent, and is valid
//! while none of its keys has a later mark. So a change that overtakes the answer of a read needs
//! no special care: the copy is invalid before it is made.
//!
//! The table of marks has a fixed size. Keys with the same place share a mark, which costs a copy
//! now and then, and never makes one stale. A hit takes no lock and writes nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use xxhash_rust::xxh3::xxh3_64;

/// The number of places, a power of two. They take half a MiB.
const PLACES: usize = 1 << 16;

/// The number of the last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Change(u64);

/// The place of a key in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place(u32);

pub(crate) struct Marks {
    last: AtomicU64,
    /// The last gap: any key may have changed then.
    gap: AtomicU64,
    places: Box<[AtomicU64]>,
}

/// The keys on which a copy depends.
#[derive(Debug)]
pub(crate) struct Depends {
    key: Place,
    /// The epochs of its tags, if it has any: most copies have none.
    epochs: Option<Box<[Place]>>,
}

impl Depends {
    pub(crate) fn new(marks: &Marks, key: &[u8], epochs: &[Vec<u8>]) -> Self {
        let epochs = epochs.iter().map(|epoch| marks.place_of(epoch));
        Self {
            key: marks.place_of(key),
            epochs: (epochs.len() > 0).then(|| epochs.collect()),
        }
    }
}

impl Marks {
    pub(crate) fn new() -> Self {
        Self::with_places(PLACES)
    }

    /// `places` is a power of two.
    pub(crate) fn with_places(places: usize) -> Self {
        Self {
            last: AtomicU64::new(0),
            gap: AtomicU64::new(0),
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn place_of(&self, key: &[u8]) -> Place {
        Place(xxh3_64(key) as u32 & (self.places.len() as u32 - 1))
    }

    /// The last change so far. Call it before a read is sent.
    pub(crate) fn last(&self) -> Change {
        Change(self.last.load(SeqCst))
    }

    /// A key has changed.
    pub(crate) fn changed(&self, key: &[u8]) {
        let Place(at) = self.place_of(key);
        self.places[at as usize].fetch_max(self.next(), SeqCst);
    }

    /// Any key may have changed.
    pub(crate) fn gap(&self) {
        self.gap.fetch_max(self.next(), SeqCst);
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, SeqCst) + 1
    }

    /// Whether none of a copy's keys has changed since.
    #[inline]
    pub(crate) fn unchanged(&self, since: Change, depends: &Depends) -> bool {
        let is_older = |Place(at): Place| self.places[at as usize].load(SeqCst) <= since.0;
        let epochs = depends.epochs.as_deref().unwrap_or_default();
        is_older(depends.key) && epochs.iter().copied().all(is_older)
    }

    /// Whether every change since was reported.
    pub(crate) fn without_gap(&self, since: Change) -> bool {
        self.gap.load(SeqCst) <= since.0
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marks")
            .field("last", &self.last)
            .field("gap", &self.gap)
            .finish_non_exhaustive()
    }
}

/// For the exploration of states.
#[cfg(test)]
impl Clone for Marks {
    fn clone(&self) -> Self {
        let same = |mark: &AtomicU64| AtomicU64::new(mark.load(SeqCst));
        Self {
            last: same(&self.last),
            gap: same(&self.gap),
            places: self.places.iter().map(same).collect(),
        }
    }
}

#[cfg(test)]
impl std::hash::Hash for Marks {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let all = [&self.last, &self.gap].into_iter().chain(&self.places);
        all.for_each(|mark| mark.load(SeqCst).hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a copy of the first key, under the tags after it, is valid.
    fn holds(marks: &Marks, since: Change, keys: &[&str]) -> bool {
        let epochs: Vec<_> = keys[1..]
            .iter()
            .map(|key| key.as_bytes().to_vec())
            .collect();
        let depends = Depends::new(marks, keys[0].as_bytes(), &epochs);
        marks.unchanged(since, &depends) && marks.without_gap(since)
    }

    #[test]
    fn a_copy_is_valid_until_one_of_its_keys_changes() {
        let marks = Marks::new();
        marks.changed(b"user:1");
        let read = marks.last();
        assert!(holds(&marks, read, &["user:1", "::tag:org:1"]));
        marks.changed(b"user:2");
        assert!(holds(&marks, read, &["user:1", "::tag:org:1"]));
        marks.changed(b"::tag:org:1");
        assert!(!holds(&marks, read, &["user:1", "::tag:org:1"]));
        assert!(holds(&marks, read, &["user:1"]));
    }

    #[test]
    fn a_gap_ends_all_copies_before_it() {
        let marks = Marks::new();
        let before = marks.last();
        marks.gap();
        assert!(!holds(&marks, before, &["user:1"]));
        assert!(holds(&marks, marks.last(), &["user:1"]));
        let depends = Depends::new(&marks, b"user:1", &[]);
        assert!(marks.unchanged(before, &depends));
    }

    #[test]
    fn a_change_that_overtakes_an_answer_ends_the_copy_before_it_is_made() {
        let marks = Marks::new();
        let sent = marks.last();
        marks.changed(b"user:1");
        assert!(!holds(&marks, sent, &["user:1"]));
    }
}
