//! Reads that a near copy may answer.
//!
//! A read looks for a copy first. If there is none that is valid, it asks the store, and keeps the
//! answer as a copy. The rest of the runtime can't tell a copy from an answer of the store.

use std::sync::Arc;

use crate::backend::following::Noted;
use crate::base::error::{Error, Result};
use crate::core::inner::view;
use crate::core::near::{Near, NearCopy};
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::envelope;
use crate::protocol::envelope::{Head, Kind, Standing};
use crate::protocol::found::Found;
use crate::verbs::migrate::Migrator;
use crate::verbs::raw::Raw;
use crate::verbs::tags::Epochs;
use crate::verbs::tags::read::TagReader;

/// Whether an error says that the store could not be asked.
pub(crate) fn is_unasked(error: &Error) -> bool {
    error.is_transient() || error.is_refused()
}

view! {
    /// Reads entries, or their near copies.
    NearReader
}

impl<'a> NearReader<'a> {
    /// The valid copy under a key.
    #[inline]
    pub(crate) fn copy(self, near: &Near, place: &Place) -> Option<Arc<NearCopy>> {
        if place.asks_store {
            return None;
        }
        near.find(&place.key).filter(|copy| self.is_valid(copy))
    }

    /// Whether a read that begins now may return the copy.
    #[inline]
    pub(crate) fn is_valid(self, copy: &NearCopy) -> bool {
        self.gateway.is_current(copy.since, &copy.depends)
            && self.gateway.backend().is_before(copy.until())
    }

    /// The value of a copy that may be stale, for a caller that could not ask the store. `None` if
    /// its key or a tag was seen to change.
    pub(crate) fn stale(self, key: &[u8], of: &Type) -> Option<Raw> {
        let near = of.near.as_ref()?;
        let now = self.gateway.backend().clock_micros();
        let copy = near.find(key).filter(|copy| copy.serves_stale(now))?;
        let raw = Raw::new(copy.bytes().clone(), key, self.0);
        let is_value = raw.header.kind == Kind::Value
            && self.locked(&raw.header, &raw.bytes, of.meta()).is_none();
        (is_value && self.gateway.is_unchanged(copy.since, &copy.depends)).then_some(raw)
    }

    /// The same, after a read of a type whose reads also serve stale copies has failed.
    pub(crate) fn instead(self, error: &Error, key: &[u8], of: &Type) -> Option<Raw> {
        let serves = of.meta().policy.near_get_stale && is_unasked(error);
        serves.then(|| self.stale(key, of)).flatten()
    }

    /// Reads an entry, and applies its tags.
    pub(crate) async fn read(self, place: &Place, of: &Arc<Type>) -> Result<Found> {
        let Some(near) = &of.near else {
            return TagReader(self.0).read(place, of.meta()).await;
        };
        if let Some(copy) = self.copy(near, place) {
            of.counters().near_hits(1);
            return Ok(Found::Entry(copy.bytes().clone()));
        }
        let noted = self.gateway.note(&near.prefix, &near.followed);
        let found = TagReader(self.0).read(place, of.meta()).await?;
        let found = Migrator(self.0).converted(&place.key, found, of);
        if let Some(noted) = noted {
            self.keep(near, place, &found, noted, of);
        }
        Ok(found)
    }

    /// As [`read`](Self::read), for many keys: those without a copy are read together.
    pub(crate) async fn read_many(self, places: &[Place], of: &Arc<Type>) -> Result<Vec<Found>> {
        let Some(near) = &of.near else {
            return TagReader(self.0).read_many(places, of.meta()).await;
        };
        let copies = places.iter().map(|place| self.copy(near, place));
        let mut found: Vec<Option<Found>> = copies
            .map(|copy| Some(Found::Entry(copy?.bytes().clone())))
            .collect();
        let at = |found: &[Option<Found>]| -> Vec<usize> {
            let missing = |at: &usize| found[*at].is_none();
            (0..found.len()).filter(missing).collect()
        };
        let missing = at(&found);
        of.counters().near_hits(found.len() - missing.len());
        if !missing.is_empty() {
            let noted = self.gateway.note(&near.prefix, &near.followed);
            let asked: Vec<Place> = missing.iter().map(|at| places[*at].clone()).collect();
            let answers = TagReader(self.0).read_many(&asked, of.meta()).await?;
            for ((at, place), answer) in missing.into_iter().zip(&asked).zip(answers) {
                let answer = Migrator(self.0).converted(&place.key, answer, of);
                if let Some(noted) = noted {
                    self.keep(near, place, &answer, noted, of);
                }
                found[at] = Some(answer);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The decoded value of the copy of exactly this entry.
    pub(crate) fn value_of<T: Send + Sync + 'static>(
        self,
        entry: &Raw,
        place: &Place,
        of: &Type,
    ) -> Option<Arc<T>> {
        self.copy_of(entry, place, of)?.value()
    }

    /// Keeps a decoded value with the copy of exactly this entry, if there is one.
    pub(crate) fn decoded<T: Send + Sync + 'static>(
        self,
        entry: &Raw,
        place: &Place,
        value: &Arc<T>,
        of: &Type,
    ) {
        if let Some(copy) = self.copy_of(entry, place, of) {
            copy.decoded(value.clone());
        }
    }

    fn copy_of(self, entry: &Raw, place: &Place, of: &Type) -> Option<Arc<NearCopy>> {
        let copy = self.copy(of.near.as_ref()?, place)?;
        (*copy.bytes() == entry.bytes).then_some(copy)
    }

    /// Keeps an answer as a copy, if it is a fresh value or an absence of the type.
    fn keep(self, near: &Near, place: &Place, found: &Found, noted: Noted, of: &Type) {
        let Found::Entry(bytes) = found else {
            return;
        };
        let head = envelope::head(bytes);
        let Head::Known(header) = head else {
            return;
        };
        let meta = of.meta();
        let standing = envelope::standing(head, meta.version, meta.shape, || self.now_millis());
        let is_absence = header.kind == Kind::Absence && header.version == meta.version;
        if !matches!(standing, Standing::Own) && !is_absence
            || bytes.len() > self.limits.size
            || !header.is_seal_of(bytes)
            || self.locked(&header, bytes, meta).is_some()
        {
            return;
        }
        let left = header.timing.map(|timing| {
            let millis = timing.until.saturating_sub(self.now_millis());
            millis.saturating_mul(1000)
        });
        // Only an entry with a clock has tags.
        let names = header.clock.map(|_| header.tags(bytes));
        let epochs = names.into_iter().flatten();
        let epochs = epochs.map(|name| Some(Epochs(self.0).epoch_named(name?)));
        let Some(epochs) = epochs.collect::<Option<Vec<_>>>() else {
            return;
        };
        let depends = self.gateway.depends(&place.key, &epochs);
        let now = self.gateway.backend().clock_micros();
        near.keep(place, bytes, noted, depends, left, now);
    }
}
