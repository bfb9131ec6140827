//! The in-process backend: a bounded concurrent cache with the server's semantics.
//!
//! Entries are byte strings, as in the server. Expiry follows the store's clock, which a test can
//! move, and is checked at each look. Expired entries are also subject to eviction. Reads take no
//! lock of ours. A command that looks before it acts holds one of a few locks, chosen by the key's
//! hash, so it is as atomic as a script. Each change is reported to subscribers after that lock is
//! released.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use quick_cache::sync::{self, Cache};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use crate::backend::hub::Hub;
use crate::backend::question::{Question, Then};
use crate::backend::write::Write;
use crate::base::clock::{Clock, is_before};
use crate::base::error::{Error, ErrorKind};
use crate::protocol::found::Found;
use crate::protocol::transition;
use crate::protocol::transition::{Change, Life, Placing, Tick, Verb};

/// The assumed size of an entry beside its key and its bytes.
const OVERHEAD: usize = 96;
const LOCKS: usize = 64;
const SHARDS: usize = 8;

pub(crate) struct Memory {
    cache: Cache<Box<[u8]>, Entry, ByWeight, DefaultHashBuilder, TellsEvictions>,
    locks: Box<[Mutex<()>; LOCKS]>,
    hasher: std::hash::RandomState,
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
}

#[derive(Clone)]
struct Entry {
    bytes: Bytes,
    /// Microseconds since the Unix epoch; `u64::MAX` for no expiry.
    expires: u64,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<Box<[u8]>, Entry> for ByWeight {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        weight(key, &entry.bytes)
    }
}

/// Reports evictions, as a server does: a subscriber with a copy of the entry learns of no other
/// change.
#[derive(Clone)]
struct TellsEvictions(Arc<Hub>);

/// The keys that one call of the cache evicted. They are reported when it is done and holds no
/// lock.
#[derive(Default)]
struct Evicted {
    hub: Option<Arc<Hub>>,
    keys: Vec<Box<[u8]>>,
}

impl Lifecycle<Box<[u8]>, Entry> for TellsEvictions {
    type RequestState = Evicted;

    // `on_evict` is also called for replaced entries.
    fn before_evict(&self, evicted: &mut Evicted, key: &Box<[u8]>, _: &mut Entry) {
        if self.0.is_listened_to() {
            evicted.hub.get_or_insert_with(|| self.0.clone());
            evicted.keys.push(key.clone());
        }
    }
}

impl Drop for Evicted {
    fn drop(&mut self) {
        if let Some(hub) = &self.hub {
            for key in self.keys.drain(..) {
                hub.changed(|| key.into());
            }
        }
    }
}

fn weight(key: &[u8], bytes: &[u8]) -> u64 {
    (key.len() + bytes.len() + OVERHEAD) as u64
}

impl Memory {
    /// A store of at most `capacity` bytes.
    pub(crate) fn new(capacity: usize, clock: Arc<dyn Clock>, hub: Arc<Hub>) -> Self {
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
                TellsEvictions(hub.clone()),
            ),
            locks: Box::new([const { Mutex::new(()) }; LOCKS]),
            hasher: std::hash::RandomState::new(),
            clock,
            hub,
        }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn now_micros(&self) -> u64 {
        self.clock.now_micros()
    }

    pub(crate) fn is_before(&self, moment: u64) -> bool {
        is_before(&*self.clock, moment)
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

    /// See [`Keys`](crate::backend::keys::Keys).
    pub(crate) fn keys(&self) -> MemoryKeys<'_> {
        MemoryKeys {
            memory: self,
            entries: self.cache.iter(),
        }
    }

    pub(crate) fn set(&self, key: &[u8], bytes: Bytes, ttl: Option<u64>) -> Result<(), Error> {
        {
            let _lock = self.lock(key);
            self.put(key, bytes, ttl)?;
        }
        self.tell(key);
        Ok(())
    }

    pub(crate) fn apply(&self, key: &[u8], verb: &Verb<'_>) -> Result<bool, Error> {
        let (changed, answer) = {
            let _lock = self.lock(key);
            let entry = self.live(key);
            let bytes = entry.as_ref().map(|entry| &*entry.bytes);
            let (change, answer) = transition::apply(bytes, verb, self.now_micros());
            (self.change(key, entry, change)?, answer)
        };
        if changed {
            self.tell(key);
        }
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
        let (changed, left) = {
            let _lock = self.lock(key);
            let entry = self.live(key);
            let bytes = entry.as_ref().map(|entry| &*entry.bytes);
            let change = transition::apply_placing(bytes, verb, self.now_micros());
            (self.change(key, entry, change)?, self.get(key))
        };
        if changed {
            self.tell(key);
        }
        Ok(left)
    }

    /// Performs the tick on a namespace's tag clock and returns the clock. Creates a missing clock.
    /// No copy depends on it, so the change is not reported.
    pub(crate) fn clock(&self, key: &[u8], tick: Tick) -> Result<u64, Error> {
        let _lock = self.lock(key);
        let before = self.live(key).map(|entry| entry.bytes);
        let clock = transition::clock(before.as_deref(), tick, self.now_micros());
        let after = Bytes::from(clock.to_string());
        if before.as_ref() != Some(&after) {
            self.put(key, after, None)?;
        }
        Ok(clock)
    }

    /// Decides a question. No copy depends on the state, so a change is not reported.
    pub(crate) fn decide<Q: Question>(&self, key: &[u8], question: &Q) -> Result<Q::Answer, Error> {
        let _lock = self.lock(key);
        let entry = self.live(key);
        let state = entry.as_ref().map(|entry| &*entry.bytes);
        let (answer, then) = question.decide(state, self.now_micros());
        match then {
            Then::Keep => {}
            Then::Remove => drop(self.cache.remove(key)),
            Then::Put(state, life) => {
                let before = entry.unwrap_or(Entry {
                    bytes: Bytes::new(),
                    expires: u64::MAX,
                });
                self.put_until(key, state, self.lives_until(life, &before))?;
            }
        }
        Ok(answer)
    }

    fn tell(&self, key: &[u8]) {
        self.hub.changed(|| Bytes::copy_from_slice(key));
    }

    /// True if there was something to change.
    fn change(&self, key: &[u8], entry: Option<Entry>, change: Change<'_>) -> Result<bool, Error> {
        match (change, entry) {
            (Change::Put { bytes, ttl }, _) => self.put(key, bytes.into_owned().into(), ttl)?,
            (Change::Live(life), Some(entry)) => {
                let expires = self.lives_until(life, &entry);
                self.put_until(key, entry.bytes, expires)?;
            }
            (Change::Replace(bytes), Some(entry)) => {
                self.put_until(key, bytes.into(), entry.expires)?;
            }
            (Change::Rewrite { header, life }, Some(entry)) => {
                let mut bytes = entry.bytes.to_vec();
                bytes[..header.len()].copy_from_slice(&header);
                let expires = self.lives_until(life, &entry);
                self.put_until(key, bytes.into(), expires)?;
            }
            (Change::Remove, Some(_)) => drop(self.cache.remove(key)),
            // A write removes an expired entry, and this is reported: no other deletion would be.
            (_, None) => return Ok(self.hub.is_listened_to() && self.cache.remove(key).is_some()),
            (Change::Keep, Some(_)) => return Ok(false),
        }
        Ok(true)
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
            Life::Renewed { below, to } => match entry.expires < self.expires(Some(below)) {
                true => self.expires(Some(to)),
                false => entry.expires,
            },
        }
    }

    /// The expiry of an entry that is stored now and lives for `ttl` milliseconds.
    fn expires(&self, ttl: Option<u64>) -> u64 {
        ttl.map_or(u64::MAX, |ttl| {
            self.now_micros().saturating_add(ttl.saturating_mul(1000))
        })
    }

    fn put_until(&self, key: &[u8], bytes: Bytes, expires: u64) -> Result<(), Error> {
        let (weight, limit) = (weight(key, &bytes), self.cache.shard_capacity());
        if weight > limit {
            let message = format!(
                "the entry takes {weight} bytes; the in-process store accepts at most {limit} for one entry"
            );
            return Err(Error::new(ErrorKind::OutOfMemory, message));
        }
        self.cache.insert(key.into(), Entry { bytes, expires });
        Ok(())
    }

    /// A panic under this lock leaves nothing half done: the cache is changed in one call.
    fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let at = self.hasher.hash_one(key) as usize % LOCKS;
        crate::base::lock::lock(&self.locks[at])
    }
}

/// The keys of this process, which are not copied for a scan: an entry keeps its place as long as
/// it exists.
pub(crate) struct MemoryKeys<'m> {
    memory: &'m Memory,
    entries: Entries<'m>,
}

type Entries<'m> = sync::Iter<'m, Key, Entry, ByWeight, DefaultHashBuilder, TellsEvictions>;
type Key = Box<[u8]>;

impl MemoryKeys<'_> {
    /// The live keys among the next `count` entries. `None` after the last.
    pub(crate) fn page(&mut self, count: usize) -> Option<Vec<Vec<u8>>> {
        let entries: Vec<_> = self.entries.by_ref().take(count.max(1)).collect();
        let live = |(key, entry): (Key, Entry)| self.memory.is_live(&entry).then(|| key.into_vec());
        (!entries.is_empty()).then(|| entries.into_iter().filter_map(live).collect())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.hub.end();
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
    use crate::base::clock::ManualClock;
    use crate::protocol::transition::Put;
    use crate::schema::invalidation::Invalidation;
    use std::collections::HashSet;
    use std::time::Duration;

    fn memory(capacity: usize) -> (Memory, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        (Memory::new(capacity, clock.clone(), Hub::new("")), clock)
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
    fn a_life_is_made_longer_or_shorter_only_as_is_said() {
        let (memory, clock) = memory(1 << 20);
        let left = |before: Option<u64>, life| {
            let expires = memory.expires(before);
            let bytes = Bytes::new();
            match memory.lives_until(life, &Entry { bytes, expires }) {
                u64::MAX => None,
                expires => Some((expires - clock.now_micros()) / 1000),
            }
        };
        let renewed = Life::Renewed {
            below: 100,
            to: 300,
        };
        for (before, life, after) in [
            (Some(100), Life::AsItWas, Some(100)),
            (None, Life::AsItWas, None),
            (Some(100), Life::AtLeast(99), Some(100)),
            (Some(100), Life::AtLeast(101), Some(101)),
            (None, Life::AtLeast(101), None),
            (Some(100), Life::AtMost(99), Some(99)),
            (Some(100), Life::AtMost(101), Some(100)),
            (None, Life::AtMost(101), Some(101)),
            (Some(100), Life::Exactly(Some(1)), Some(1)),
            (Some(100), Life::Exactly(None), None),
            (Some(100), renewed, Some(100)),
            (Some(99), renewed, Some(300)),
            (None, renewed, None),
        ] {
            assert_eq!(left(before, life), after, "{before:?} {life:?}");
        }
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

    fn told(buffer: &crate::backend::buffer::Buffer) -> Vec<Vec<u8>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut keys = Vec::new();
        while let std::task::Poll::Ready(Some(Invalidation::Key(key))) = buffer.poll(&mut context) {
            keys.push(key.as_bytes().to_vec());
        }
        keys
    }

    #[test]
    fn each_evicted_key_is_reported() {
        let (memory, _) = memory(1 << 20);
        let buffer = memory.hub.subscribe();
        let mut gone = HashSet::new();
        for n in 0..4_000u32 {
            let key = format!("user:{n}").into_bytes();
            memory.set(&key, Bytes::from(vec![0; 1000]), None).unwrap();
            let mut keys = told(&buffer);
            assert_eq!(keys.pop(), Some(key), "it is stored after others go");
            gone.extend(keys);
        }
        assert!(gone.len() > 2000, "{}", gone.len());
        for n in 0..4_000u32 {
            let key = format!("user:{n}").into_bytes();
            assert_eq!(memory.get(&key) == Found::Nothing, gone.contains(&key));
        }
    }

    #[test]
    fn a_replaced_key_is_reported_once() {
        let (memory, _) = memory(1 << 20);
        let buffer = memory.hub.subscribe();
        for _ in 0..3 {
            let bytes = Bytes::from_static(b"v");
            memory.set(b"user:1", bytes, None).unwrap();
            assert_eq!(told(&buffer), [b"user:1"]);
        }
    }

    /// This holds whether or not the verb has anything to do.
    #[test]
    fn an_expired_key_is_reported_when_it_is_written_to() {
        let (memory, clock) = memory(1 << 20);
        let buffer = memory.hub.subscribe();
        let bytes = Bytes::from_static(b"v");
        memory.set(b"user:1", bytes, Some(1000)).unwrap();
        assert_eq!(told(&buffer).len(), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(memory.get(b"user:1"), Found::Nothing);
        assert!(!memory.apply(b"user:1", &Verb::Delete(None)).unwrap());
        assert_eq!(told(&buffer), [b"user:1"]);
        assert!(!memory.apply(b"user:1", &Verb::Delete(None)).unwrap());
        assert!(told(&buffer).is_empty(), "it is gone");
    }

    #[test]
    fn set_if_absent_is_atomic() {
        let (memory, _) = memory(1 << 20);
        let stored: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let header = crate::protocol::envelope::Header::value(1, 7).to_bytes();
                        let put = Put {
                            versions: 1.into(),
                            bytes: &header,
                            ttl: None,
                        };
                        (0..1000u32)
                            .filter(|n| {
                                memory
                                    .apply(
                                        &n.to_be_bytes(),
                                        &Verb::SetIfAbsent(put, None, u64::MAX),
                                    )
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
