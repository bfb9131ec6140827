//! The tag clock, and the epochs of tags.

#[cfg(any(test, feature = "testing"))]
use crate::backend::faults::Request;
use crate::backend::gateway::{Gateway, OnDrop, ask, deletes, enter};
use crate::base::error::Error;
use crate::key::tag::SPACE;
use crate::protocol::outbox::is_older;
use crate::protocol::transition::{Tick, Verb};
use std::sync::Arc;

impl Gateway {
    /// Reads the tag clock of the namespace.
    pub(crate) async fn clock(self: &Arc<Self>) -> Result<u64, Error> {
        enter!(self);
        let key = self.clock_key();
        ask!(
            self,
            [(Request::Read, &*key)],
            self.backend.clock(&key, Tick::Read)
        )
    }

    /// Raises the clock to an epoch that was seen ahead of it, unless that is absurdly far ahead of
    /// time.
    pub(crate) async fn reach(self: &Arc<Self>, floor: u64) -> Result<u64, Error> {
        self.open()?;
        let key = self.clock_key();
        ask!(
            self,
            [(Request::Store, &*key)],
            self.backend.clock(&key, Tick::Reach(floor))
        )
    }

    /// Advances the clock.
    pub(crate) async fn advance(self: &Arc<Self>) -> Result<u64, Error> {
        enter!(self);
        self.advanced().await
    }

    pub(crate) async fn advanced(&self) -> Result<u64, Error> {
        let key = self.clock_key();
        ask!(
            self,
            [(Request::Delete, &*key)],
            self.backend.clock(&key, Tick::Advance)
        )
    }

    /// Advances the clock, and then applies the verb to the epochs of some tags.
    pub(crate) async fn raise<'v>(
        self: &Arc<Self>,
        epochs: &[Vec<u8>],
        verb: impl Fn(u64) -> Verb<'v>,
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        let hold = deletes(&verb(0)).unwrap_or(0);
        let keys: Vec<_> = epochs.iter().map(Vec::as_slice).collect();
        let holds: Vec<_> = keys.iter().map(|epoch| (*epoch, hold)).collect();
        let clock = self.advance_for(&holds).await?;
        self.apply_each(&keys, &vec![verb(clock); keys.len()]).await
    }

    /// Advances the clock, before epochs follow it. If that fails, the epochs go into the outbox as
    /// deletions, each with the life of its guard in milliseconds.
    pub(crate) async fn advance_for(
        self: &Arc<Self>,
        epochs: &[(&[u8], u64)],
    ) -> Result<u64, Error> {
        enter!(self);
        let unknown = self.unless_done(epochs);
        let advanced = self.advanced().await;
        match &advanced {
            // With a wrong configuration nothing would ever be delivered.
            Err(error) if !error.is_lasting() => drop(unknown),
            _ => unknown.disarm(),
        }
        advanced
    }

    /// Puts deletions of the keys into the outbox, each with the life of its guard in milliseconds,
    /// if it is dropped without `disarm`.
    pub(crate) fn unless_done(self: &Arc<Self>, keys: &[(&[u8], u64)]) -> OnDrop<impl FnOnce()> {
        OnDrop(Some(move || {
            keys.iter().for_each(|(key, hold)| self.keep(key, *hold));
        }))
    }

    pub(crate) fn clock_key(&self) -> Vec<u8> {
        [&*self.namespace, SPACE, "clock"].concat().into_bytes()
    }

    /// Whether the key is the epoch of a tag.
    pub(crate) fn is_epoch(&self, key: &[u8]) -> bool {
        let key = key.get(self.namespace.len()..).unwrap_or_default();
        key.starts_with(SPACE.as_bytes())
    }

    /// Whether an entry with this stamp may be older than a lost invalidation of a tag.
    pub(crate) fn has_lost_tags_since(&self, stamp: u64) -> bool {
        if self.is_clear() {
            return false;
        }
        let lost = self.lost(&self.clock_key());
        lost.is_some_and(|until| is_older(stamp, self.backend.server_micros(until)))
    }
}
