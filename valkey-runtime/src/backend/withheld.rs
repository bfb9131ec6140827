//! The keys that this process has invalidated, and does not read until the server has confirmed it.

use crate::backend::gateway::{
    Gateway, acts_on_what_is_read, deletes, is_of_only_copy, lost_at, placed,
};
use crate::backend::write::Write;
use crate::base::error::Error;
use crate::base::lock::lock;
use crate::protocol::envelope::Kind;
use crate::protocol::found::Found;
use crate::protocol::outbox::{Fate, MOST, Moment, Purge, Undelivered, outdated};
use crate::protocol::scope::Scope;
use crate::protocol::transition::Verb;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Gateway {
    /// The number of deletions in the outbox.
    pub(crate) fn undelivered(&self) -> usize {
        self.with(|undelivered| undelivered.len())
    }

    /// Puts the deletion of a key into the outbox. `hold` is the life of the guard that it leaves,
    /// in milliseconds.
    pub(crate) fn keep(self: &Arc<Self>, key: &[u8], hold: u64) {
        self.backend.hub().wrote(key);
        let (type_len, now) = (self.type_len(key), self.backend.clock_micros());
        match self.with(|undelivered| undelivered.keep(key, hold, type_len, now)) {
            Fate::Kept => self.counters.queued_deletion(),
            Fate::Lost => self.counters.lost_deletion(),
            Fate::FirstLost => {
                self.counters.lost_deletion();
                tracing::error!(
                    keys = %String::from_utf8_lossy(&key[..type_len]),
                    "the outbox is full ({MOST} deletions): this process no longer reads older entries under these keys"
                );
            }
        }
        self.deliver();
    }

    /// Records the outcome of a plain `set`.
    pub(crate) fn note_stored(
        self: &Arc<Self>,
        key: &[u8],
        began: Option<Moment>,
        error: Option<&Error>,
    ) {
        match error {
            None => self.settle(key, began),
            Some(error) if error.is_transient() || error.is_refused() => self.keep(key, 0),
            // The command itself was rejected: it changed nothing, and never will.
            Some(_) => {}
        }
    }

    /// Records the outcome of a verb.
    pub(crate) fn note_applied(
        self: &Arc<Self>,
        key: &[u8],
        verb: &Verb<'_>,
        began: Option<Moment>,
        error: Option<&Error>,
    ) {
        match error {
            None if deletes(verb).is_some() || is_of_only_copy(verb) => self.settle(key, began),
            None => {}
            // With a wrong configuration nothing would ever be delivered.
            Some(error) if error.is_lasting() => {}
            Some(_) => self.keep_if_deletes(key, verb),
        }
    }

    pub(crate) fn keep_if_deletes(self: &Arc<Self>, key: &[u8], verb: &Verb<'_>) {
        if let Some(hold) = deletes(verb) {
            self.keep(key, hold);
        }
    }

    /// The present moment, if a verb that begins now could settle anything.
    pub(crate) fn now(&self) -> Option<Moment> {
        (!self.is_clear()).then(|| self.with(|undelivered| undelivered.now()))
    }

    pub(crate) fn settle(&self, key: &[u8], began: Option<Moment>) {
        if let Some(began) = began {
            self.with(|undelivered| undelivered.settle(key, began));
        }
    }

    pub(crate) fn is_clear(&self) -> bool {
        self.watched.load(Ordering::Relaxed) == 0
    }

    /// Whether a read of the key must be a miss, because its deletion is undelivered.
    pub(crate) fn withholds(self: &Arc<Self>, key: &[u8]) -> bool {
        if self.is_clear() {
            return false;
        }
        let withheld = self.with(|undelivered| undelivered.holds(key));
        if withheld {
            self.deliver();
        }
        withheld
    }

    /// For each key, whether it may be read; `None` if all may.
    pub(crate) fn not_withheld<K: AsRef<[u8]>>(self: &Arc<Self>, keys: &[K]) -> Option<Vec<bool>> {
        if self.is_clear() {
            return None;
        }
        let open: Vec<_> = self.with(|undelivered| {
            keys.iter()
                .map(|key| !undelivered.holds(key.as_ref()))
                .collect()
        });
        let withheld = open.iter().any(|open| !open);
        withheld.then(|| {
            self.deliver();
            open
        })
    }

    /// For each write, whether it may be sent. A write that acts on an existing value may only go
    /// to a key that may be read. `None` if all may be sent.
    pub(crate) fn not_hidden(
        self: &Arc<Self>,
        keys: &[&[u8]],
        writes: &[Write<'_>],
    ) -> Option<Vec<bool>> {
        let mut open = self.not_withheld(keys)?;
        for (open, write) in open.iter_mut().zip(writes) {
            *open |= !matches!(write, Write::Apply(verb) if acts_on_what_is_read(verb));
        }
        Some(open)
    }

    /// The time until which entries of the key's type may be older than a lost deletion. Call it
    /// before the read: a purge may end the loss during the read, whose answer is then from before
    /// the purge.
    pub(crate) fn lost(&self, key: &[u8]) -> Option<u64> {
        match self.is_clear() {
            true => None,
            false => self.with(|undelivered| undelivered.lost_until(key, self.type_len(key))),
        }
    }

    /// The result of [`lost`](Self::lost) for each key; empty if nothing is lost.
    pub(crate) fn lost_of<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Option<u64>> {
        if self.is_clear() {
            return Vec::new();
        }
        let lost = |undelivered: &mut Undelivered| {
            let keys = keys.iter().map(AsRef::as_ref);
            keys.map(|key| undelivered.lost_until(key, self.type_len(key)))
                .collect()
        };
        self.with(lost)
    }

    /// The entry that was found, unless it belongs to another key, or may be older than a lost
    /// deletion of its type. The deletion may have been lost before the read or since.
    pub(crate) fn judged(&self, key: &[u8], before: Option<u64>, found: Found) -> Found {
        let found = placed(key, found);
        let Found::Entry(bytes) = &found else {
            return found;
        };
        let Some(until) = before.max(self.lost(key)) else {
            return found;
        };
        match outdated(bytes, self.backend.server_micros(until)) {
            Some((Kind::Value | Kind::Absence, stamp)) => Found::Outdated(stamp),
            // A value that is loaded under it may be just as old.
            Some((Kind::Lease, _)) => Found::Withheld,
            Some((Kind::Guard, _)) | None => found,
        }
    }

    pub(crate) fn all_judged<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        lost: &[Option<u64>],
        found: Vec<Found>,
    ) -> Vec<Found> {
        let found = keys.iter().zip(found);
        if lost.is_empty() && self.is_clear() {
            return found
                .map(|(key, found)| placed(key.as_ref(), found))
                .collect();
        }
        let found = found.enumerate();
        let judge = |(at, (key, found)): (usize, (&K, _))| {
            self.judged(key.as_ref(), lost_at(lost, at), found)
        };
        found.map(judge).collect()
    }

    /// Call it before a purge, and pass the result to [`purged`](Self::purged) after the purge.
    pub(crate) fn purge(&self) -> Purge {
        let now = self.backend.clock_micros();
        self.with(|undelivered| undelivered.purge(now))
    }

    /// Records that all keys in this scope that existed when the purge began were deleted since.
    pub(crate) fn purged(&self, scope: &Scope, purge: Purge) {
        self.with(|undelivered| undelivered.purged(scope, purge));
    }

    /// For each key, the life in milliseconds of the guard that its undelivered deletion leaves; 0
    /// if there is no such deletion.
    pub(crate) fn holds_of(&self, keys: &[Vec<u8>]) -> Vec<u64> {
        if self.is_clear() {
            return vec![0; keys.len()];
        }
        self.with(|undelivered| {
            let holds = keys.iter().map(|key| undelivered.hold(key).unwrap_or(0));
            holds.collect()
        })
    }

    pub(crate) fn with<R>(&self, step: impl FnOnce(&mut Undelivered) -> R) -> R {
        let mut undelivered = lock(&self.undelivered);
        let result = step(&mut undelivered);
        self.watched.store(undelivered.watched(), Ordering::Relaxed);
        result
    }
}
