//! The in-process backend: a bounded concurrent cache, with the server's semantics.
//!
//! Entries are byte strings as in the server. Expiry goes by the store's clock and is checked at each look, so a test can
//! move it; what has expired also falls to eviction. Reads take no lock of ours; what looks before it acts holds one of a
//! few locks by the key's hash, so that it is as atomic as a script.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quick_cache::sync::{self, Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::{Found, Write};
use crate::transition::{self, Change, Life, Placing, Verb};
use crate::{Clock, Error, ErrorKind};

/// What an entry is taken to cost besides its key and its bytes.
const OVERHEAD: usize = 96;
const LOCKS: usize = 64;
const SHARDS: usize = 8;

pub(crate) struct Memory {
    cache: Cache<Box<[u8]>, Entry, ByWeight>,
    locks: Box<[Mutex<()>; LOCKS]>,
    hasher: std::hash::RandomState,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Entry {
    bytes: Bytes,
    /// Microseconds since the epoch; `u64::MAX` for never.
    expires: u64,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<Box<[u8]>, Entry> for ByWeight {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        weight(key, &entry.bytes)
    }
}

fn weight(key: &[u8], bytes: &[u8]) -> u64 {
    (key.len() + bytes.len() + OVERHEAD) as u64
}

impl Memory {
    /// A store of at most `capacity` bytes.
    pub(crate) fn new(capacity: usize, clock: Arc<dyn Clock>) -> Self {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity((capacity / 512).clamp(SHARDS, 1 << 20))
            .weight_capacity(capacity as u64)
            .build()
            .expect("it fails only where an option is missing, and all are set");
        Self {
            cache: Cache::with_options(
                options,
                ByWeight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            locks: Box::new([const { Mutex::new(()) }; LOCKS]),
            hasher: std::hash::RandomState::new(),
            clock,
        }
    }

    pub(crate) fn now_micros(&self) -> u64 {
        self.clock.now_micros()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Found {
        match self.live(key) {
            Some(entry) => Found::Entry(entry.bytes),
            None => Found::Nothing,
        }
    }

    pub(crate) fn get_and_ttl(&self, key: &[u8]) -> (Found, Option<u64>) {
        match self.live(key) {
            Some(Entry {
                bytes,
                expires: u64::MAX,
            }) => (Found::Entry(bytes), None),
            Some(Entry { bytes, expires }) => {
                let left = expires.saturating_sub(self.now_micros()).div_ceil(1000);
                (Found::Entry(bytes), Some(left))
            }
            None => (Found::Nothing, None),
        }
    }

    /// See [`Keys`](super::Keys).
    pub(super) fn keys(&self) -> MemoryKeys<'_> {
        MemoryKeys {
            memory: self,
            entries: self.cache.iter(),
        }
    }

    pub(crate) fn set(&self, key: &[u8], bytes: Bytes, ttl: Option<u64>) -> Result<(), Error> {
        let _lock = self.lock(key);
        self.put(key, bytes, ttl)
    }

    pub(crate) fn apply(&self, key: &[u8], verb: &Verb<'_>) -> Result<bool, Error> {
        let _lock = self.lock(key);
        let entry = self.live(key);
        let bytes = entry.as_ref().map(|entry| &*entry.bytes);
        let (change, answer) = transition::apply(bytes, verb, self.now_micros());
        self.change(key, entry, change)?;
        Ok(answer)
    }

    pub(crate) fn write(&self, key: &[u8], write: &Write<'_>) -> Result<bool, Error> {
        match write {
            Write::Set { bytes, ttl } => {
                let bytes = Bytes::copy_from_slice(bytes);
                self.set(key, bytes, *ttl).map(|()| true)
            }
            Write::Apply(verb) => self.apply(key, verb),
        }
    }

    pub(crate) fn place(&self, key: &[u8], verb: &Placing) -> Result<Found, Error> {
        let _lock = self.lock(key);
        let entry = self.live(key);
        let bytes = entry.as_ref().map(|entry| &*entry.bytes);
        let change = transition::apply_placing(bytes, verb, self.now_micros());
        self.change(key, entry, change)?;
        Ok(self.get(key))
    }

    /// The clock of a namespace, advanced or as it is. Where there is none it is made.
    pub(crate) fn clock(&self, key: &[u8], advance: bool) -> Result<u64, Error> {
        let _lock = self.lock(key);
        let now = self.now_micros();
        let bytes = self.live(key).map(|entry| entry.bytes);
        let clock = bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse::<u64>().ok());
        let clock = match clock {
            Some(clock) if !advance => return Ok(clock),
            Some(clock) => now.max(clock + 1),
            None => now,
        };
        self.put(key, clock.to_string().into(), None)?;
        Ok(clock)
    }

    fn change(&self, key: &[u8], entry: Option<Entry>, change: Change<'_>) -> Result<(), Error> {
        match (change, entry) {
            (Change::Put { bytes, ttl }, _) => self.put(key, bytes.into_owned().into(), ttl),
            (Change::Live(life), Some(entry)) => {
                let expires = self.lives_until(life, &entry);
                self.put_until(key, entry.bytes, expires)
            }
            (Change::Replace(bytes), Some(entry)) => {
                self.put_until(key, bytes.into(), entry.expires)
            }
            (Change::Rewrite { header, life }, Some(entry)) => {
                let mut bytes = entry.bytes.to_vec();
                bytes[..header.len()].copy_from_slice(&header);
                let expires = self.lives_until(life, &entry);
                self.put_until(key, bytes.into(), expires)
            }
            (Change::Remove, _) => {
                self.cache.remove(key);
                Ok(())
            }
            (_, None) | (Change::Keep, _) => Ok(()),
        }
    }

    fn live(&self, key: &[u8]) -> Option<Entry> {
        self.cache.get(key).filter(|entry| self.is_live(entry))
    }

    fn is_live(&self, entry: &Entry) -> bool {
        entry.expires == u64::MAX || entry.expires > self.now_micros()
    }

    fn put(&self, key: &[u8], bytes: Bytes, ttl: Option<u64>) -> Result<(), Error> {
        self.put_until(key, bytes, self.expires(ttl))
    }

    fn lives_until(&self, life: Life, entry: &Entry) -> u64 {
        match life {
            Life::AsItWas => entry.expires,
            Life::AtLeast(millis) => entry.expires.max(self.expires(Some(millis))),
            Life::AtMost(millis) => entry.expires.min(self.expires(Some(millis))),
            Life::Exactly(ttl) => self.expires(ttl),
        }
    }

    /// When what is stored now expires, which lives for so many milliseconds.
    fn expires(&self, ttl: Option<u64>) -> u64 {
        ttl.map_or(u64::MAX, |ttl| {
            self.now_micros().saturating_add(ttl.saturating_mul(1000))
        })
    }

    fn put_until(&self, key: &[u8], bytes: Bytes, expires: u64) -> Result<(), Error> {
        let (weight, limit) = (weight(key, &bytes), self.cache.shard_capacity());
        if weight > limit {
            let message = format!(
                "an entry of {weight} bytes; the in-process store takes up to {limit} each"
            );
            return Err(Error::new(ErrorKind::OutOfMemory, message));
        }
        self.cache.insert(key.into(), Entry { bytes, expires });
        Ok(())
    }

    /// A panic under this lock leaves nothing half done: the cache is changed in one call.
    fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let at = self.hasher.hash_one(key) as usize % LOCKS;
        self.locks[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of the process, of which a look takes no copy: an entry has its place as long as it is there.
pub(super) struct MemoryKeys<'m> {
    memory: &'m Memory,
    entries: Entries<'m>,
}

type Entries<'m> =
    sync::Iter<'m, Key, Entry, ByWeight, DefaultHashBuilder, DefaultLifecycle<Key, Entry>>;
type Key = Box<[u8]>;

impl MemoryKeys<'_> {
    /// The keys of the next entries, that many. `None` after the last.
    pub(super) fn page(&mut self, count: usize) -> Option<Vec<Vec<u8>>> {
        let entries: Vec<_> = self.entries.by_ref().take(count.max(1)).collect();
        let live = |(key, entry): (Key, Entry)| self.memory.is_live(&entry).then(|| key.into_vec());
        (!entries.is_empty()).then(|| entries.into_iter().filter_map(live).collect())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("entries", &self.cache.len())
            .field("bytes", &self.cache.weight())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;
    use crate::transition::Put;
    use std::time::Duration;

    fn memory(capacity: usize) -> (Memory, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        (Memory::new(capacity, clock.clone()), clock)
    }

    #[test]
    fn an_entry_expires_by_the_clock() {
        let (memory, clock) = memory(1 << 20);
        memory
            .set(b"k", Bytes::from_static(b"v"), Some(1000))
            .unwrap();
        clock.advance(Duration::from_millis(999));
        assert_eq!(
            memory.get_and_ttl(b"k"),
            (Found::Entry(Bytes::from_static(b"v")), Some(1))
        );
        clock.advance(Duration::from_millis(1));
        assert_eq!(memory.get(b"k"), Found::Nothing);
    }

    #[test]
    fn memory_is_bounded() {
        let (memory, _) = memory(1 << 20);
        for n in 0..10_000u32 {
            memory
                .set(&n.to_be_bytes(), Bytes::from(vec![0; 1000]), None)
                .unwrap();
        }
        assert!(memory.cache.weight() <= 1 << 20);
        assert!(memory.cache.len() > 500);
        let error = memory
            .set(b"k", Bytes::from(vec![0; 1 << 20]), None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    }

    #[test]
    fn what_looks_before_it_acts_is_atomic() {
        let (memory, _) = memory(1 << 20);
        let stored: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let header = crate::envelope::Header::value(1, 7).to_bytes();
                        let put = Put {
                            version: 1,
                            bytes: &header,
                            ttl: None,
                        };
                        (0..1000u32)
                            .filter(|n| {
                                memory
                                    .apply(&n.to_be_bytes(), &Verb::SetIfAbsent(put, None))
                                    .unwrap()
                            })
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(stored, 1000);
    }
}
