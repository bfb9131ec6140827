//! Loading one key.

use std::any::TypeId;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::call::{Call, Seen, Step};
use super::flights::{FlightId, Moment};
use super::sight::Sight;
use super::{
    End, FIRST_PAUSE, Key, LEASE_LIFE, LONGEST_LOAD, LONGEST_PAUSE, RENEWAL, Request, TypeFlights,
    TypeLoads, give_back, millis,
};
use crate::entry::{Origin, Source};
use crate::envelope::placeholder::Name;
use crate::options::{LoadMode, LoadOptions};
use crate::store::{Inner, Store};
use crate::transition::{Placing, Rejected, Verb};
use crate::verbs::{Meta, Raw, ttl_left};
use crate::{Cached, IntoLoaded, Ttl, codec};

/// How long a caller waits for its turn to load, and what it is told then.
pub(crate) type Queue<E> = Option<(Duration, fn() -> E)>;

/// See [`Cached::get_or_load_with`]. `with_ttl`: the origin is to say how long the value will still live.
pub(crate) async fn get_or_load<T, L, E, F, Fut>(
    store: &Store,
    key: Vec<u8>,
    options: LoadOptions,
    queue: Queue<E>,
    with_ttl: bool,
    load: F,
) -> Result<Option<(T, Origin)>, E>
where
    T: Cached,
    L: IntoLoaded<T>,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<L, E>>,
{
    let meta = const { &Meta::of::<T>() };
    let inner = store.inner();
    let call = Call::new(key.into_boxed_slice(), inner.loads.moment());
    let loads = || inner.loads.of(TypeId::of::<T>(), meta);
    match options.mode {
        LoadMode::Bypass => return inner.load_beside(meta, load).await,
        LoadMode::Fresh => {
            let fresh = async {
                let mut driver = Driver::fresh(store, loads(), call, meta).await;
                driver.load(options.ttl, queue, load).await
            };
            return Box::pin(fresh).await;
        }
        LoadMode::Normal | LoadMode::OnlyIfCached => {}
    }
    let (mut sight, left) = match with_ttl {
        true => inner.look_with_ttl(call.key(), meta).await,
        false => (inner.look(call.key(), meta).await, None),
    };
    if let Sight::Value(raw) = &sight {
        match codec::decode(raw.payload()) {
            Ok(value) => {
                inner.counters.hit();
                return Ok(Some((value, raw.origin(Source::Server, left))));
            }
            Err(why) => sight = Sight::Other(inner.reject(call.key(), raw, &why, meta).await),
        }
    }
    if matches!(sight, Sight::Other(Seen::Absent)) {
        inner.counters.absence();
        return Ok(None);
    }
    inner.counters.miss();
    if options.mode == LoadMode::OnlyIfCached {
        return Ok(None);
    }
    // Boxed, so that the future of a hit is small: a load costs more than an allocation.
    let driver = Driver::start(store, loads(), call, meta, sight);
    Box::pin(driver.go_on(options.ttl, queue, load)).await
}

impl Inner {
    /// Loads, and leaves everything else alone.
    async fn load_beside<T, L, E, F, Fut>(
        &self,
        meta: &Meta,
        load: F,
    ) -> Result<Option<(T, Origin)>, E>
    where
        L: IntoLoaded<T>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        self.counters.load();
        let loaded = load().await?.into_loaded();
        let origin = Origin {
            source: Source::Loaded,
            stamp: self.header(meta).stamp,
            expires: None,
        };
        Ok(loaded.value.map(|value| (value, origin)))
    }
}

/// What the generic shell of a loading verb has to do, since it depends on the type.
enum Next {
    /// Decode what the server showed, then [`Driver::accept`] or [`Driver::reject`].
    Examine(Raw),
    /// Another caller loaded this.
    Shared(Raw),
    /// Another caller found nothing.
    Nothing,
    /// [`Driver::load`].
    Load,
}

/// Does what a call's steps say.
struct Driver<'s> {
    store: &'s Store,
    loads: Arc<TypeLoads>,
    call: Call<Key>,
    meta: &'static Meta,
    step: Step<Bytes>,
    /// What the caller loads under, if anything.
    lease: Option<Name>,
    /// The request whose answer is being examined.
    request: Request,
    /// Since when the call waits for what others load.
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
        let mut driver = Self::outside(store, loads, call, meta);
        let seen = match sight {
            Sight::Value(entry) => Seen::Hit(entry.bytes().clone()),
            Sight::Other(seen) => seen,
        };
        driver.step = driver.with(|call, flights, now| call.got(flights, now, seen));
        driver
    }

    /// For a caller who takes nothing that is there: it takes the lease, whoever has it, and shares with nobody.
    async fn fresh(
        store: &'s Store,
        loads: Arc<TypeLoads>,
        call: Call<Key>,
        meta: &'static Meta,
    ) -> Self {
        let mut driver = Self::outside(store, loads, call, meta);
        let inner = store.inner();
        if inner.is_enabled() {
            let token = inner.random.next_u64();
            let rejected = Rejected::Any {
                version: meta.version,
            };
            let verb = Placing::Lease {
                token,
                life: millis(LEASE_LIFE),
                rejected,
            };
            let found = inner.backend.place(driver.call.key(), &verb).await;
            if let Sight::Other(Seen::Lease(lease)) =
                inner.sight(driver.call.key(), found, meta).await
            {
                driver.lease = Some(lease).filter(|lease| lease.token == token);
            }
        }
        driver
    }

    fn outside(
        store: &'s Store,
        loads: Arc<TypeLoads>,
        call: Call<Key>,
        meta: &'static Meta,
    ) -> Self {
        let (step, lease, request, waits_since) = (Step::Load(None), None, (0, 0), None);
        Self {
            store,
            loads,
            call,
            meta,
            step,
            lease,
            request,
            waits_since,
        }
    }

    fn with<R>(&mut self, step: impl FnOnce(&mut Call<Key>, &mut TypeFlights, Moment) -> R) -> R {
        let call = &mut self.call;
        let moments = &self.store.inner().loads;
        self.loads
            .with(|flights| step(call, flights, moments.moment()))
    }

    /// Goes on until there is an answer.
    async fn go_on<T, L, E, F, Fut>(
        mut self,
        ttl: Option<Ttl>,
        queue: Queue<E>,
        load: F,
    ) -> Result<Option<(T, Origin)>, E>
    where
        T: Cached,
        L: IntoLoaded<T>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        let inner = self.store.inner();
        loop {
            match self.next().await {
                Next::Examine(raw) => match codec::decode(raw.payload()) {
                    Ok(value) => {
                        let origin = raw.origin(Source::Server, None);
                        self.accept(raw);
                        return Ok(Some((value, origin)));
                    }
                    Err(why) => self.reject(raw, &why).await,
                },
                Next::Shared(raw) => {
                    inner.counters.shared();
                    // It was encoded from a value of this type a moment ago. A type that can't read what it wrote is not
                    // shared.
                    return match codec::decode(raw.payload()) {
                        Ok(value) => Ok(Some((value, raw.origin(Source::Joined, None)))),
                        Err(_) => inner.load_beside(self.meta, load).await,
                    };
                }
                Next::Nothing => {
                    inner.counters.shared();
                    return Ok(None);
                }
                Next::Load => return self.load(ttl, queue, load).await,
            }
        }
    }

    /// Goes on until the type matters.
    async fn next(&mut self) -> Next {
        loop {
            match std::mem::replace(&mut self.step, Step::Load(None)) {
                Step::Load(lease) => {
                    self.lease = lease;
                    return Next::Load;
                }
                Step::Done(Some(bytes)) => return Next::Shared(Raw::new(bytes)),
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
            rejected: rejected.map_or(Rejected::None, Rejected::Stamp),
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
    fn accept(&mut self, entry: Raw) {
        self.answered(Seen::Hit(entry.bytes().clone()));
    }

    /// What the server showed is none.
    async fn reject(&mut self, entry: Raw, why: &str) {
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
            let since = *self.waits_since.get_or_insert_with(Instant::now);
            if tokio::time::timeout_at(since + LONGEST_LOAD, moves)
                .await
                .is_err()
            {
                return self.wait_no_longer();
            }
        }
        self.with(|call, flights, now| call.moved(flights, now))
    }

    /// The longest load is over: this call loads itself, without storing it.
    fn wait_no_longer(&mut self) -> Step<Bytes> {
        let unneeded = self.with(|call, flights, _| call.dropped(flights));
        if let Some(lease) = unneeded {
            give_back(self.store, self.call.key().to_vec(), lease);
        }
        Step::Load(None)
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

    /// Runs the loader, within the type's limit and while the lease is kept, and ends the load by what it gave.
    async fn load<T, L, E, F, Fut>(
        &mut self,
        ttl: Option<Ttl>,
        queue: Queue<E>,
        load: F,
    ) -> Result<Option<(T, Origin)>, E>
    where
        T: Cached,
        L: IntoLoaded<T>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        let loaded = {
            let mut keep = pin!(self.keep());
            let mut work = pin!(async {
                let turn = self.loads.permits.acquire();
                // The semaphore is never closed.
                let _permit = match queue {
                    None => turn.await,
                    Some((longest, full)) => tokio::time::timeout(longest, turn)
                        .await
                        .map_err(|_| full())?,
                };
                self.store.inner().counters.load();
                load().await
            });
            tokio::select! {
                biased;
                loaded = &mut work => loaded,
                never = &mut keep => match never {},
            }
        };
        let loaded = match loaded {
            Ok(loaded) => loaded.into_loaded(),
            Err(error) => {
                self.end(End::FAILED).await;
                return Err(error);
            }
        };
        let inner = self.store.inner();
        let stamp = self
            .lease
            .map_or_else(|| inner.header(self.meta).stamp, |lease| lease.stamp);
        let end = inner.end_of(self.call.key(), self.lease, stamp, &loaded, ttl, self.meta);
        let kept = end.store.as_ref().map(|(_, ttl)| ttl_left(*ttl));
        let stored = self.end(end).await;
        let origin = Origin {
            source: Source::Loaded,
            stamp,
            expires: kept.filter(|_| stored),
        };
        Ok(loaded.value.map(|value| (value, origin)))
    }

    /// Renews the lease until the longest load is over, or it is lost: then what is loaded will not be stored.
    async fn keep(&self) -> Infallible {
        let inner = self.store.inner();
        if let Some(lease) = self.lease {
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

    /// Followers are told. What is to be stored is, if the lease is still there; else the lease is given back. True if
    /// something was stored.
    async fn end(&mut self, end: End) -> bool {
        self.with(|call, flights, _| call.loaded(flights, end.followers.clone()));
        let (inner, key) = (self.store.inner(), self.call.key());
        let Some(verb) = end.verb(self.lease, inner, self.meta) else {
            return false;
        };
        let fills = matches!(verb, Verb::Fill { .. });
        match inner.backend.apply(key, &verb).await {
            Ok(true) => return fills,
            Ok(false) if fills => inner.counters.refused_fill(),
            Ok(false) => {}
            // The lease runs out by itself.
            Err(error) => inner.log_failure(
                error.at("get_or_load", key),
                "a load is not stored, nor its lease given back",
            ),
        }
        false
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
