//! Cache-aside that can't go stale: the thin shell around [`call`] and [`flights`], which decide.
//!
//! A load is stored only if the key still holds the lease that the loader put there before it began, so that whatever was
//! deleted or written meanwhile is never overwritten by what was loaded before. `docs/consistency.md` has the races step by
//! step.

mod call;
#[cfg(test)]
mod check;
mod flights;
mod many;
mod one;
#[cfg(test)]
pub(crate) mod schedule;
mod sight;
#[cfg(test)]
pub(crate) mod tests;

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use crate::envelope::Header;
use crate::envelope::placeholder::Name;
use crate::store::{Inner, Store};
use crate::transition::{Put, Verb};
use crate::verbs::Meta;
use crate::{Cached, Error, Loaded, Ttl, codec};

use call::Loaded as Ended;
use flights::{Flights, Moment};

/// How long a lease lives that is not renewed, and how often it is.
const LEASE_LIFE: Duration = Duration::from_secs(1);
const RENEWAL: Duration = Duration::from_millis(300);
/// A load that takes longer goes on, but is not stored; and so long others wait for it.
const LONGEST_LOAD: Duration = Duration::from_secs(10);
/// The pause between two looks at another process's lease: doubled up to the longest, and jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

type Key = Box<[u8]>;
type TypeFlights = Flights<Key, Bytes, Arc<Notify>>;

pub(crate) use many::get_or_load_many;
pub(crate) use one::get_or_load;

/// The loads of a store, type by type.
#[derive(Default)]
pub(crate) struct Loads {
    moments: AtomicU64,
    types: RwLock<HashMap<TypeId, Arc<TypeLoads>>>,
}

/// The loads of a type on a store.
struct TypeLoads {
    flights: Mutex<TypeFlights>,
    /// One a load that runs.
    permits: Semaphore,
}

impl Loads {
    fn moment(&self) -> Moment {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    fn of(&self, of: TypeId, meta: &Meta) -> Arc<TypeLoads> {
        // A panic under this lock leaves the map whole.
        let known = self
            .types
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&of)
            .cloned();
        known.unwrap_or_else(|| {
            let mut types = self.types.write().unwrap_or_else(PoisonError::into_inner);
            let fresh = || {
                let permits = Semaphore::new(usize::from(meta.policy.max_loads));
                Arc::new(TypeLoads {
                    flights: Mutex::new(Flights::new()),
                    permits,
                })
            };
            types.entry(of).or_insert_with(fresh).clone()
        })
    }

    /// Whether nothing is under way: what a test asks at its end.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        let types = self.types.read().unwrap();
        types
            .values()
            .all(|loads| loads.with(|flights| flights.is_empty()))
    }
}

impl TypeLoads {
    /// Runs a step on the flights, and wakes who waits on those that it moved.
    fn with<R>(&self, step: impl FnOnce(&mut TypeFlights) -> R) -> R {
        #[cfg(test)]
        schedule::switch();
        // A panic in a step is a defect of it, and leaves at worst a flight that nobody ends.
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let result = step(&mut flights);
        let woken = flights.take_wakes();
        drop(flights);
        woken.iter().for_each(|wake| wake.notify_waiters());
        result
    }
}

/// How a load ends: what its followers are given, and what is stored, for so many milliseconds, if its lease is still there.
struct End {
    followers: Ended<Bytes>,
    store: Option<(Bytes, Option<u64>)>,
}

impl End {
    /// What is to be done at the key: a fill or a release, where there is a lease. While the store is off, what would have
    /// been stored is deleted.
    fn verb(&self, lease: Option<Name>, inner: &Inner, meta: &Meta) -> Option<Verb<'_>> {
        match (&self.store, lease) {
            (Some(_), _) if !inner.is_enabled() => Some(Verb::Delete(None)),
            (Some((bytes, ttl)), Some(lease)) => {
                let put = Put {
                    version: meta.version,
                    bytes,
                    ttl: *ttl,
                };
                Some(Verb::Fill { lease, put })
            }
            (None, Some(lease)) => Some(Verb::Release(lease)),
            (_, None) => None,
        }
    }

    const FAILED: Self = Self {
        followers: Ended::Failed,
        store: None,
    };
}

impl Inner {
    /// How a load ends that gave this. What can't be stored is logged and counted; its caller has it all the same.
    fn end_of<T: Cached>(
        &self,
        key: &[u8],
        lease: Option<Name>,
        stamp: u64,
        loaded: &Loaded<T>,
        ttl: Option<Ttl>,
        meta: &Meta,
    ) -> End {
        // Without a lease nothing can be stored; while the store is off it would be, and is deleted instead.
        let keep = loaded.store && (lease.is_some() || !self.is_enabled());
        let Some(value) = &loaded.value else {
            let kept = keep && meta.policy.ttl_absent_millis > 0;
            let bytes = Header::absence(meta.version, stamp);
            let ttl = Some(self.jittered(meta.policy.ttl_absent_millis, meta));
            return End {
                followers: Ended::Nothing,
                store: kept.then(|| (Bytes::copy_from_slice(&bytes), ttl)),
            };
        };
        let log = |error: Error| {
            self.log_failure(error.at("get_or_load", key), "a loaded value is not stored")
        };
        match codec::encode(Header::value(meta.version, stamp), value, self.max_size) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                let ttl = || self.ttl_of(meta, loaded.ttl.or(ttl)).map_err(log).ok();
                End {
                    followers: Ended::Value(bytes.clone()),
                    store: keep.then(ttl).flatten().map(|ttl| (bytes, ttl)),
                }
            }
            Err(error) => {
                log(error);
                End::FAILED
            }
        }
    }
}

/// A request for a lease: the moment of its sending, and its token.
type Request = (Moment, u64);

/// Releases a lease in the background. Where that can't be, or not now, it is left to run out.
fn give_back(store: &Store, key: Vec<u8>, lease: Name) {
    let background = &store.inner().background;
    let store = store.clone();
    background.spawn(async move {
        if let Err(error) = store
            .inner()
            .backend
            .apply(&key, &Verb::Release(lease))
            .await
        {
            store
                .inner()
                .log_failure(error.at("get_or_load", &key), "a lease is not given back");
        }
    });
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
