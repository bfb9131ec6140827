//! Cache-aside that can't go stale: the thin shell around [`call`] and [`flights`], which decide.
//!
//! A load is stored only if the key still holds the lease that the loader put there before it began, so that whatever was
//! deleted or written meanwhile is never overwritten by what was loaded before. `docs/consistency.md` has the races step by
//! step.

mod call;
mod flights;
mod many;
#[cfg(test)]
mod tests;

use std::any::TypeId;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::backend::Found;
use crate::envelope::placeholder::Name;
use crate::envelope::{self, Head, Header, Kind, Standing};
use crate::store::{Inner, Store};
use crate::transition::{Placing, Put, Verb};
use crate::verbs::{Entry, Meta};
use crate::{Cached, Error, codec};

use call::{Call, Loaded, Seen, Step};
use flights::{FlightId, Flights, Moment};

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
        // A panic in a step is a defect of it, and leaves at worst a flight that nobody ends.
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let result = step(&mut flights);
        let woken = flights.take_wakes();
        drop(flights);
        woken.iter().for_each(|wake| wake.notify_waiters());
        result
    }
}

/// See [`Cached::get_or_load`].
pub(crate) async fn get_or_load<T, E, F, Fut>(
    store: &Store,
    key: Vec<u8>,
    load: F,
) -> Result<Option<T>, E>
where
    T: Cached,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<Option<T>, E>>,
{
    let meta = const { &Meta::of::<T>() };
    let inner = store.inner();
    let call = Call::new(key.into_boxed_slice(), inner.loads.moment());
    let mut sight = inner.look(call.key(), meta).await;
    if let Sight::Value(entry) = &sight {
        match codec::decode(entry.payload()) {
            Ok(value) => {
                inner.counters.hit();
                return Ok(Some(value));
            }
            Err(why) => sight = Sight::Other(inner.reject(call.key(), entry, &why, meta).await),
        }
    }
    inner.counters.miss();
    let mut driver = Driver::start(
        store,
        inner.loads.of(TypeId::of::<T>(), meta),
        call,
        meta,
        sight,
    );
    loop {
        match driver.next().await {
            Next::Examine(entry) => match codec::decode(entry.payload()) {
                Ok(value) => {
                    driver.accept(entry);
                    return Ok(Some(value));
                }
                Err(why) => driver.reject(entry, &why).await,
            },
            Next::Shared(entry) => {
                inner.counters.shared();
                // It was encoded from a value of this type a moment ago. A type that can't read what it wrote is not shared.
                return match codec::decode(entry.payload()) {
                    Ok(value) => Ok(Some(value)),
                    Err(_) => load().await,
                };
            }
            Next::Nothing => {
                inner.counters.shared();
                return Ok(None);
            }
            Next::Load(lease) => {
                let loaded = driver.run(lease, load).await;
                match &loaded {
                    Ok(Some(value)) => {
                        let header = match lease {
                            Some(lease) => Header::value(meta.version, lease.stamp),
                            None => inner.header(meta),
                        };
                        driver
                            .loaded(lease, codec::encode(header, value, inner.max_size))
                            .await;
                    }
                    Ok(None) => driver.loaded_none(lease, Loaded::Nothing).await,
                    Err(_) => driver.loaded_none(lease, Loaded::Failed).await,
                }
                return loaded;
            }
        }
    }
}

/// What a look at the server shows a loading verb.
enum Sight {
    /// A value of the type's version: whether it is one, its payload has to show.
    Value(Entry),
    Other(Seen<Bytes>),
}

impl Inner {
    async fn look(&self, key: &[u8], meta: &Meta) -> Sight {
        let found = match self.ttl_override(meta) {
            Ok(_) => self.backend.get(key).await,
            Err(error) => Err(error),
        };
        self.sight(key, found, meta).await
    }

    /// A failure is logged and counted, and not told: the loader is there.
    async fn sight(&self, key: &[u8], found: Result<Found, Error>, meta: &Meta) -> Sight {
        let bytes = match found {
            Ok(Found::Entry(bytes)) => bytes,
            Ok(Found::Nothing) => return Sight::Other(Seen::Nothing),
            Ok(Found::Foreign) => {
                self.note_corrupt(
                    "get_or_load",
                    key,
                    None,
                    "another type of the server's",
                    meta,
                )
                .await;
                return Sight::Other(Seen::Closed);
            }
            Err(error) => {
                self.log_failure(error.at("get_or_load", key), "the cache is not read");
                return Sight::Other(Seen::Closed);
            }
        };
        let head = envelope::head(&bytes);
        let why = match (head, envelope::standing(head, meta.version)) {
            (_, Standing::Own) if bytes.len() <= self.max_size => {
                return Sight::Value(Entry::new(bytes));
            }
            (_, Standing::Own) => "larger than the limit",
            (_, Standing::Protected) => return Sight::Other(Seen::Closed),
            (_, Standing::Corrupt(why)) => why,
            (
                Head::Known(Header {
                    kind: Kind::Lease, ..
                }),
                _,
            ) => match Name::of_lease(&bytes) {
                Some(lease) => return Sight::Other(Seen::Lease(lease)),
                None => "a damaged lease",
            },
            (Head::Known(Header { stamp, .. }), Standing::Replaceable) => {
                return Sight::Other(Seen::Old(stamp));
            }
            (Head::Newer | Head::Corrupt(_), Standing::Replaceable) => "of no known form",
        };
        Sight::Other(self.reject(key, &Entry::new(bytes), why, meta).await)
    }

    /// An entry that is not one of the type's values.
    async fn reject(&self, key: &[u8], entry: &Entry, why: &str, meta: &Meta) -> Seen<Bytes> {
        match self
            .note_corrupt("get_or_load", key, Some(entry.bytes()), why, meta)
            .await
        {
            true => Seen::Nothing,
            false => Seen::Closed,
        }
    }
}

/// What the generic shell of a loading verb has to do, since it depends on the type.
enum Next {
    /// Decode what the server showed, then [`Driver::accept`] or [`Driver::reject`].
    Examine(Entry),
    /// Another caller loaded this.
    Shared(Entry),
    /// Another caller found nothing.
    Nothing,
    /// Load, under the lease if there is one.
    Load(Option<Name>),
}

/// A request for a lease: the moment of its sending, and its token.
type Request = (Moment, u64);

/// Does what a call's steps say.
struct Driver<'s> {
    store: &'s Store,
    loads: Arc<TypeLoads>,
    call: Call<Key>,
    meta: &'static Meta,
    step: Step<Bytes>,
    /// The request whose answer is being examined.
    request: Request,
    /// Since when the call waits for another process.
    waits_since: Option<Instant>,
}

impl<'s> Driver<'s> {
    fn start(
        store: &'s Store,
        loads: Arc<TypeLoads>,
        call: Call<Key>,
        meta: &'static Meta,
        sight: Sight,
    ) -> Self {
        let (step, request) = (Step::Load(None), (0, 0));
        let mut driver = Self {
            store,
            loads,
            call,
            meta,
            step,
            request,
            waits_since: None,
        };
        let seen = match sight {
            Sight::Value(entry) => Seen::Hit(entry.bytes().clone()),
            Sight::Other(seen) => seen,
        };
        driver.step = driver.with(|call, flights, now| call.got(flights, now, seen));
        driver
    }

    fn with<R>(&mut self, step: impl FnOnce(&mut Call<Key>, &mut TypeFlights, Moment) -> R) -> R {
        let call = &mut self.call;
        let moments = &self.store.inner().loads;
        self.loads
            .with(|flights| step(call, flights, moments.moment()))
    }

    /// Goes on until the type matters.
    async fn next(&mut self) -> Next {
        loop {
            match std::mem::replace(&mut self.step, Step::Load(None)) {
                Step::Load(lease) => return Next::Load(lease),
                Step::Done(Some(bytes)) => return Next::Shared(Entry::new(bytes)),
                Step::Done(None) => return Next::Nothing,
                Step::Await(flight) => self.step = self.wait(flight).await,
                Step::Pause { attempt } => {
                    self.pause(attempt).await;
                    self.step = self.call.look_again();
                }
                Step::Ask { rejected } => match self.ask(rejected).await {
                    Sight::Value(entry) => return Next::Examine(entry),
                    Sight::Other(seen) => self.answered(seen),
                },
            }
        }
    }

    async fn ask(&mut self, rejected: Option<u64>) -> Sight {
        let inner = self.store.inner();
        let token = inner.random.next_u64();
        let sent = self.with(|call, flights, now| {
            call.asking(flights, now, token);
            now
        });
        self.request = (sent, token);
        let verb = Placing::Lease {
            token,
            life: millis(LEASE_LIFE),
            rejected,
        };
        let found = inner.backend.place(self.call.key(), &verb).await;
        inner.sight(self.call.key(), found, self.meta).await
    }

    fn answered(&mut self, seen: Seen<Bytes>) {
        if matches!(seen, Seen::Lease(_)) {
            self.waits_since.get_or_insert_with(Instant::now);
        }
        let patient = self
            .waits_since
            .is_none_or(|since| since.elapsed() < LONGEST_LOAD);
        let request = self.request;
        self.step =
            self.with(|call, flights, now| call.asked(flights, now, request, seen, patient));
    }

    /// What the server showed is a value.
    fn accept(&mut self, entry: Entry) {
        self.answered(Seen::Hit(entry.bytes().clone()));
    }

    /// What the server showed is none.
    async fn reject(&mut self, entry: Entry, why: &str) {
        let seen = self
            .store
            .inner()
            .reject(self.call.key(), &entry, why, self.meta)
            .await;
        self.answered(seen);
    }

    async fn wait(&mut self, flight: FlightId) -> Step<Bytes> {
        let wake = self.loads.with(|flights| flights.wake(flight));
        if let Some(wake) = wake {
            let mut moves = pin!(wake.notified());
            moves.as_mut().enable();
            // It may have moved before we listened.
            let step = self.with(|call, flights, now| call.moved(flights, now));
            if step != Step::Await(flight) {
                return step;
            }
            moves.await;
        }
        self.with(|call, flights, now| call.moved(flights, now))
    }

    async fn pause(&self, attempt: u32) {
        let longest = FIRST_PAUSE
            .saturating_mul(1 << attempt.saturating_sub(1).min(10))
            .min(LONGEST_PAUSE);
        let half = longest / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        let jitter = Duration::from_micros(self.store.inner().random.next_u64() % spread);
        tokio::time::sleep(half + jitter).await;
    }

    /// Runs the loader, within the type's limit, while the lease is kept.
    async fn run<R, F, Fut>(&self, lease: Option<Name>, load: F) -> R
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = R>,
    {
        let mut keep = pin!(self.keep(lease));
        let mut work = pin!(async {
            // The semaphore is never closed.
            let _permit = self.loads.permits.acquire().await;
            self.store.inner().counters.load();
            load().await
        });
        tokio::select! {
            biased;
            result = &mut work => result,
            never = &mut keep => match never {},
        }
    }

    /// Renews the lease until the longest load is over, or it is lost: then what is loaded will not be stored.
    async fn keep(&self, lease: Option<Name>) -> Infallible {
        let inner = self.store.inner();
        if let Some(lease) = lease {
            let until = Instant::now() + LONGEST_LOAD;
            let verb = Verb::RenewLease {
                lease,
                life: millis(LEASE_LIFE),
            };
            while Instant::now() < until {
                tokio::time::sleep(RENEWAL).await;
                match inner.backend.apply(self.call.key(), &verb).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        let error = error.at("get_or_load", self.call.key());
                        inner.log_failure(error, "a lease is not renewed");
                    }
                }
            }
        }
        std::future::pending().await
    }

    /// A value was loaded: followers get it, and it is stored if its lease is still there.
    async fn loaded(&mut self, lease: Option<Name>, encoded: Result<Vec<u8>, Error>) {
        let inner = self.store.inner();
        let entry = match encoded {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => {
                inner.log_failure(
                    error.at("get_or_load", self.call.key()),
                    "a loaded value is not stored",
                );
                return self.loaded_none(lease, Loaded::Failed).await;
            }
        };
        let shared = Loaded::Value(entry.clone());
        self.with(|call, flights, _| call.loaded(flights, shared));
        let Some(lease) = lease else { return };
        let filled = match inner.ttl_of(self.meta, None) {
            Ok(ttl) => {
                let put = Put {
                    version: self.meta.version,
                    bytes: &entry,
                    ttl,
                };
                inner
                    .backend
                    .apply(self.call.key(), &Verb::Fill { lease, put })
                    .await
            }
            Err(error) => Err(error),
        };
        match filled {
            Ok(true) => {}
            Ok(false) => inner.counters.refused_fill(),
            Err(error) => {
                inner.log_failure(
                    error.at("get_or_load", self.call.key()),
                    "a loaded value is not stored",
                );
                self.release(lease).await;
            }
        }
    }

    /// There is nothing to store: followers are told, and the lease is given back.
    async fn loaded_none(&mut self, lease: Option<Name>, loaded: Loaded<Bytes>) {
        self.with(|call, flights, _| call.loaded(flights, loaded));
        if let Some(lease) = lease {
            self.release(lease).await;
        }
    }

    async fn release(&self, lease: Name) {
        release(self.store.inner(), self.call.key(), lease).await;
    }
}

async fn release(inner: &Inner, key: &[u8], lease: Name) {
    if let Err(error) = inner.backend.apply(key, &Verb::Release(lease)).await {
        inner.log_failure(error.at("get_or_load", key), "a lease is not given back");
    }
}

impl Drop for Driver<'_> {
    /// The caller is gone, by cancellation or panic, or is done. A follower leads on; a lease that nobody needs any more is
    /// given back, else it would keep others waiting until it runs out.
    fn drop(&mut self) {
        let unneeded = self.with(|call, flights, _| call.dropped(flights));
        if let Some(lease) = unneeded {
            give_back(self.store, self.call.key().to_vec(), lease);
        }
    }
}

/// Releases a lease in the background. Outside of a runtime it is left to run out.
fn give_back(store: &Store, key: Vec<u8>, lease: Name) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let store = store.clone();
        runtime.spawn(async move { release(store.inner(), &key, lease).await });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
