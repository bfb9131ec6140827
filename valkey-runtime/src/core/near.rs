//! The near cache of a type: copies of its entries in this process.
//!
//! A copy is the entry as it was read. [`Cached::get_shared`](crate::Cached::get_shared) also keeps
//! the decoded value with it. A copy is never changed and never removed when it becomes invalid:
//! whether it is valid is decided at each look ([`Marks`](crate::backend::marks::Marks)), and the
//! next read of its key replaces it. So a change costs the same, however many copies it ends.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

use crate::backend::following::{Followed, Noted};
use crate::backend::marks::{Change, Depends};
use crate::key::tag::Place;
use crate::schema::cached_type::CachedType;
use crate::schema::policy::Policy;

/// The assumed size of a copy beside its key, its entry and its value, in bytes.
const OVERHEAD: usize = 224;
/// The assumed size of an entry, by which the cache chooses the sizes of its tables.
const USUAL: u64 = 1024;

/// A value of the type, whichever it is.
type AnyValue = Arc<dyn Any + Send + Sync>;

pub(crate) struct Near {
    copies: Cache<Box<[u8]>, Arc<NearCopy>, ByWeight>,
    /// In microseconds.
    life: u64,
    stale_life: u64,
    /// The beginning of the type's keys, after the namespace.
    pub(crate) prefix: Box<str>,
    pub(crate) followed: Followed,
}

/// A copy of an entry. A near hit reads these fields alone, which are in one or two cache lines.
pub(crate) struct NearCopy {
    pub(crate) since: Change,
    pub(crate) depends: Depends,
    /// The end of its use, by the process's clock, in microseconds.
    until: u64,
    value: OnceLock<AnyValue>,
    entry: Box<CopiedEntry>,
}

struct CopiedEntry {
    /// The place of the read that made it.
    place: Place,
    bytes: Bytes,
    /// The end of its use while the store can't be asked.
    stale_until: u64,
}

#[derive(Clone)]
struct ByWeight {
    /// The size of a value, without what it points to.
    value: usize,
}

impl Weighter<Box<[u8]>, Arc<NearCopy>> for ByWeight {
    fn weight(&self, key: &Box<[u8]>, copy: &Arc<NearCopy>) -> u64 {
        // What a value points to is about as large as its entry.
        (2 * key.len() + 2 * copy.bytes().len() + self.value + OVERHEAD) as u64
    }
}

impl Near {
    /// `None` for a type without a near cache.
    pub(crate) fn of<T: CachedType>() -> Option<Self> {
        let prefix = match T::ALIAS_OF {
            None => [T::PREFIX, ":"].concat(),
            Some((prefix, field)) => [":", prefix, ":", field, ":"].concat(),
        };
        Self::new(&T::POLICY, prefix.into(), size_of::<T>())
    }

    /// The type's values have `value` bytes.
    fn new(policy: &Policy, prefix: Box<str>, value: usize) -> Option<Self> {
        if policy.near_millis == 0 {
            return None;
        }
        let most = policy.near_max_bytes;
        let items = (most / USUAL).clamp(64, 1 << 20);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items as usize)
            .weight_capacity(most)
            .build()
            .expect("it fails only where an option is missing, and all are set");
        Some(Self {
            copies: Cache::with_options(
                options,
                ByWeight { value },
                Default::default(),
                Default::default(),
            ),
            life: policy.near_millis.saturating_mul(1000),
            stale_life: policy.near_stale_millis.saturating_mul(1000),
            prefix,
            followed: Followed::new(),
        })
    }

    /// The copy under a key, whether it is still valid or not.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<NearCopy>> {
        self.copies.get(key)
    }

    /// Keeps a copy of an entry that lives for at most `left` microseconds from now on.
    pub(crate) fn keep(
        &self,
        place: &Place,
        bytes: &Bytes,
        noted: Noted,
        depends: Depends,
        left: Option<u64>,
        now: u64,
    ) {
        let until = noted.sent.saturating_add(self.life);
        let until = left.map_or(until, |left| until.min(now.saturating_add(left)));
        let entry = CopiedEntry {
            place: Place {
                asks_store: false,
                ..place.clone()
            },
            // A copy of its own: a slice would keep the whole receive buffer.
            bytes: Bytes::copy_from_slice(bytes),
            stale_until: noted.sent.saturating_add(self.stale_life),
        };
        let copy = NearCopy {
            since: noted.since,
            depends,
            until,
            value: OnceLock::new(),
            entry: Box::new(entry),
        };
        self.copies
            .insert(place.key.as_slice().into(), Arc::new(copy));
    }
}

impl NearCopy {
    pub(crate) fn place(&self) -> &Place {
        &self.entry.place
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.entry.bytes
    }

    /// The end of its use, by the process's clock. The gateway knows whether it is current.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Whether it may serve at this time while the store can't be asked.
    pub(crate) fn serves_stale(&self, now: u64) -> bool {
        now < self.entry.stale_until
    }

    /// The decoded value, if it was decoded before.
    pub(crate) fn value<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.value.get()?.clone().downcast().ok()
    }

    /// Keeps the decoded value of the copy.
    pub(crate) fn decoded<T: Send + Sync + 'static>(&self, value: Arc<T>) {
        // Another caller may have decoded it at the same time. Both values are the same.
        let _ = self.value.set(value);
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near")
            .field("copies", &self.copies.len())
            .field("bytes", &self.copies.weight())
            .finish()
    }
}
