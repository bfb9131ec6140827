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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use crate::envelope::placeholder::Lease;
use crate::envelope::{Header, HeaderBytes};
use crate::loaded::Fate;
use crate::store::{Inner, Store};
use crate::transition::{Put, Verb};
use crate::verbs::{Meta, Raw};
use crate::{Cached, Error, Loaded, Ttl, codec};

use call::{Loaded as Ended, Share};
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
pub(crate) use one::{get_or_load, get_or_refresh};

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
    /// Whether it was said that some of what the type asks for can't be had.
    told: AtomicBool,
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
                    told: AtomicBool::new(false),
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

/// How a load ends: what its followers are given, and what becomes of what it holds.
struct End {
    followers: Ended<Bytes>,
    then: Then,
}

/// What is to be done at the key, if the lease is still there.
enum Then {
    /// Stored, for so many milliseconds.
    Store(Bytes, Option<u64>),
    /// What is there is given this header, and lives so long.
    Confirm(HeaderBytes, Option<u64>),
    /// There is nothing to be stored.
    Discard,
    /// It gave nothing: what is there stays.
    Release,
}

impl End {
    /// A fill or a release, where there is a lease. While the store is off, what would have been stored is deleted.
    fn verb(&self, lease: Option<Lease>, inner: &Inner, meta: &Meta) -> Option<Verb<'_>> {
        if !inner.is_enabled() && matches!(self.then, Then::Store(..) | Then::Confirm(..)) {
            return Some(Verb::Delete(None));
        }
        let lease = lease?;
        Some(match &self.then {
            Then::Store(bytes, ttl) => {
                let put = Put {
                    version: meta.version,
                    bytes,
                    ttl: *ttl,
                };
                Verb::Fill { lease, put }
            }
            Then::Confirm(header, ttl) => Verb::Confirm {
                lease,
                header: *header,
                ttl: *ttl,
            },
            Then::Discard => Verb::Discard(lease),
            Then::Release => Verb::Release {
                lease,
                pause: inner.jittered(meta.policy.retry_after_millis, meta),
            },
        })
    }

    const FAILED: Self = Self {
        followers: Ended::Failed,
        then: Then::Release,
    };

    /// The load gave nothing, and what was there is served.
    fn stale(kept: &Raw) -> Self {
        Self {
            followers: Ended::Share(Share::Stale(kept.bytes().clone())),
            then: Then::Release,
        }
    }
}

/// A load that has begun.
struct Begun {
    lease: Option<Lease>,
    /// Of what it will have loaded.
    stamp: u64,
}

impl Begun {
    /// What was loaded under a lease has the lease's stamp.
    fn now(lease: Option<Lease>, inner: &Inner) -> Self {
        let stamp = match lease {
            Some(Lease::Placed(name)) => name.stamp,
            Some(Lease::Claim { .. }) | None => inner.stamp(),
        };
        Self { lease, stamp }
    }
}

impl Inner {
    /// How a load ends that gave this. What can't be stored is logged and counted; its caller has it all the same. `kept` is
    /// what it claimed, if it did.
    fn end_of<T: Cached>(
        &self,
        key: &[u8],
        begun: &Begun,
        loaded: &Loaded<T>,
        kept: Option<&Raw>,
        ttl: Option<Ttl>,
        meta: &Meta,
    ) -> End {
        let log = |error: Error| {
            self.log_failure(error.at("get_or_load", key), "a loaded value is not stored")
        };
        let stamp = begun.stamp;
        let ttl = loaded.ttl.or(ttl);
        // Without a lease nothing can be stored; while the store is off it would be, and is deleted instead.
        let stores = loaded.fate == Fate::Stored && (begun.lease.is_some() || !self.is_enabled());
        let discarded = |followers| End {
            followers,
            then: Then::Discard,
        };
        let value = match (&loaded.value, loaded.fate, kept) {
            (Some(_), Fate::Served, Some(kept)) => return End::stale(kept),
            (Some(_), Fate::Unchanged, Some(kept)) => {
                return match self.header(stamp, ttl, meta) {
                    Ok((header, ttl)) => {
                        let header = header.to_bytes();
                        let bytes = [&header, kept.payload()].concat();
                        End {
                            followers: Ended::Share(Share::Value(bytes.into())),
                            then: Then::Confirm(header, ttl),
                        }
                    }
                    Err(error) => {
                        log(error);
                        discarded(Ended::Failed)
                    }
                };
            }
            (Some(value), ..) => value,
            (None, ..) => {
                let followers = Ended::Share(Share::Nothing);
                if !stores || meta.policy.ttl_absent_millis == 0 {
                    return discarded(followers);
                }
                let bytes = Bytes::copy_from_slice(&Header::absence(meta.version, stamp));
                let ttl = self.jittered(meta.policy.ttl_absent_millis, meta);
                let then = Then::Store(bytes, Some(ttl));
                return End { followers, then };
            }
        };
        let header = stores.then(|| self.header(stamp, ttl, meta).map_err(log));
        let stored = header.and_then(Result::ok);
        let (header, ttl) = stored.unwrap_or((Header::value(meta.version, stamp), None));
        match codec::encode(header, value, self.max_size) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                let then = match stored {
                    Some(_) => Then::Store(bytes.clone(), ttl),
                    None => Then::Discard,
                };
                let followers = Ended::Share(Share::Value(bytes));
                End { followers, then }
            }
            Err(error) => {
                log(error);
                discarded(Ended::Failed)
            }
        }
    }

    /// Whether a value may still be served where a better one is not to be had.
    fn may_serve(&self, kept: &Raw, meta: &Meta) -> bool {
        let keep = meta.policy.stale_if_error_millis;
        kept.header.timing.is_some_and(|timing| {
            // Of one that was expired by hand only its key says for how long.
            keep > 0 && (timing.until == 0 || timing.until.saturating_add(keep) > self.now_millis())
        })
    }
}

/// A request for a lease: the moment of its sending, and its token.
type Request = (Moment, u64);

/// Releases a lease in the background. Where that can't be, or not now, it is left to run out.
fn give_back(store: &Store, key: Vec<u8>, lease: Lease) {
    let background = &store.inner().background;
    let store = store.clone();
    background.spawn(async move {
        if let Err(error) = store
            .inner()
            .backend
            .apply(&key, &Verb::Release { lease, pause: 0 })
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
