//! What this process has invalidated, and does not read until the server knows.

use crate::backend::gateway::{Gateway, acts_on_what_is_read, deletes, lost_at, placed};
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
    /// How many deletions wait.
    pub(crate) fn undelivered(&self) -> usize {
        self.with(|undelivered| undelivered.len())
    }

    /// Has a key deleted as soon as the server takes it, and a guard left there for so many milliseconds.
    pub(crate) fn keep(self: &Arc<Self>, key: &[u8], hold: u64) {
        let (type_len, now) = (self.type_len(key), self.backend.clock_micros());
        match self.with(|undelivered| undelivered.keep(key, hold, type_len, now)) {
            Fate::Kept => self.counters.queued_deletion(),
            Fate::Lost => self.counters.lost_deletion(),
            Fate::FirstLost => {
                self.counters.lost_deletion();
                tracing::error!(
                    keys = %String::from_utf8_lossy(&key[..type_len]),
                    "more than {MOST} deletions wait for the server: what is older than this is not read here any more"
                );
            }
        }
        self.deliver();
    }

    /// Takes note of how a plain `set` went.
    pub(crate) fn note_stored(
        self: &Arc<Self>,
        key: &[u8],
        began: Option<Moment>,
        error: Option<&Error>,
    ) {
        match error {
            None => self.settle(key, began),
            Some(error) if error.is_transient() || error.is_refused() => self.keep(key, 0),
            // Refused for what it is: nothing was changed, and nothing will be.
            Some(_) => {}
        }
    }

    /// Takes note of how a verb went.
    pub(crate) fn note_applied(
        self: &Arc<Self>,
        key: &[u8],
        verb: &Verb<'_>,
        began: Option<Moment>,
        error: Option<&Error>,
    ) {
        match error {
            None if deletes(verb).is_some() => self.settle(key, began),
            None => {}
            // With such a configuration nothing will ever be delivered.
            Some(error) if error.is_lasting() => {}
            Some(_) => self.keep_if_deletes(key, verb),
        }
    }

    pub(crate) fn keep_if_deletes(self: &Arc<Self>, key: &[u8], verb: &Verb<'_>) {
        if let Some(hold) = deletes(verb) {
            self.keep(key, hold);
        }
    }

    /// The present, if there is anything that a verb which begins now could settle.
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

    /// Whether a read of the key has to be a miss, since its deletion waits.
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

    /// Which of the keys may be read; `None` for all of them.
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

    /// Which of the writes are for keys that may be read, where they look at what is there; `None` for all of them.
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

    /// Until when entries of the key's type may be older than a deletion that was lost. To be asked before the key is read:
    /// a purge may end it while the answer is under way, which is then from before the purge.
    pub(crate) fn lost(&self, key: &[u8]) -> Option<u64> {
        match self.is_clear() {
            true => None,
            false => self.with(|undelivered| undelivered.lost_until(key, self.type_len(key))),
        }
    }

    /// As [`lost`](Self::lost) of each; nothing where nothing is lost.
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

    /// What was found, unless it is for another key, or may be older than a deletion of its type that was lost, before it was
    /// asked for or since.
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
            // What is loaded under it may be as old.
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

    /// To be asked before a purge, which [`purged`](Self::purged) is told of when all is done.
    pub(crate) fn purge(&self) -> Purge {
        let now = self.backend.clock_micros();
        self.with(|undelivered| undelivered.purge(now))
    }

    /// All keys in this scope that were there when the purge began were deleted since.
    pub(crate) fn purged(&self, scope: &Scope, purge: Purge) {
        self.with(|undelivered| undelivered.purged(scope, purge));
    }

    /// For how many milliseconds each of these deletions that wait has a guard to leave; 0 where none waits.
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
