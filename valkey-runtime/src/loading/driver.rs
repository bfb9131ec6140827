//! One call of a loading verb at work: it does what the call's [`Step`]s say, with the server, its timers and the loader.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tracing::Span;

use super::call::{Call, Loaded as Ended, Seen, Share, Step};
use super::end::{Begun, Clock, End, Then};
use super::flights::{FlightId, Moment};
use super::sight::Sight;
use super::{
    FIRST_PAUSE, Key, LEASE_LIFE, LONGEST_LOAD, LONGEST_PAUSE, RENEWAL, Request, TypeFlights,
    give_back, millis, run_loader,
};
use crate::backend::Write;
use crate::codec::{self, Refusal};
use crate::entry::{Origin, Source};
use crate::envelope::placeholder::Lease;
use crate::stats::Count;
use crate::store::Store;
use crate::transition::{Placing, Rejected, Verb};
use crate::types::Type;
use crate::verbs::{Raw, ttl_left};
use crate::warnings::Detail;
use crate::{Cached, IntoLoaded, Ttl};

/// How long a caller waits for its turn to load, and what it is told then.
pub(crate) type Queue<E> = Option<(Duration, fn() -> E)>;

/// What the generic shell of a loading verb has to do, since it depends on the type.
enum Next {
    /// Decode what the server showed, then [`Driver::accept`] or [`Driver::reject`].
    Examine(Raw),
    /// Another caller found this, or loaded it.
    Shared(Share<Raw>),
    /// [`Driver::load`].
    Load,
}

/// What a call comes to that does not load at once.
pub(super) enum Ready<T> {
    Answer(Option<(T, Origin)>),
    Load,
}

/// Does what a call's steps say.
pub(super) struct Driver {
    store: Store,
    pub(super) of: Arc<Type>,
    call: Call<Key>,
    step: Step<Bytes>,
    /// Of the tags that follow from the key.
    epochs: Vec<Vec<u8>>,
    /// That of the tags, as it stood before the load.
    clock: Option<u64>,
    /// What the caller loads under, if anything.
    lease: Option<Lease>,
    /// The value that was there when the server was last asked, and that its time is over for, or will be soon.
    kept: Option<Raw>,
    /// The request whose answer is being examined.
    request: Request,
    /// Since when the call waits for what others load.
    waits_since: Option<Instant>,
}

impl Driver {
    pub(super) fn start(
        store: &Store,
        of: &Arc<Type>,
        call: Call<Key>,
        epochs: Vec<Vec<u8>>,
        sight: Sight,
    ) -> Self {
        let mut driver = Self::outside(store, of, call, epochs);
        let seen = driver.note(sight);
        driver.step = driver.with(|call, flights, now| call.got(flights, now, seen));
        driver
    }

    /// For a caller who takes nothing that is there: it takes the lease, whoever has it, and shares with nobody.
    pub(super) async fn fresh(
        store: &Store,
        of: &Arc<Type>,
        call: Call<Key>,
        epochs: Vec<Vec<u8>>,
    ) -> Self {
        let mut driver = Self::outside(store, of, call, epochs);
        let inner = store.inner();
        if inner.is_enabled() {
            let token = inner.random.next_u64();
            let rejected = Rejected::Any {
                version: of.meta().version,
            };
            let sight = driver.place(token, rejected).await;
            if let Sight::Other(Seen::Lease(lease)) = sight {
                driver.lease = Some(lease).filter(|lease| lease.is_of(token));
            }
        }
        driver
    }

    /// For a caller who has its value. `None` where a load of the key is under way.
    pub(super) fn refreshing(
        store: &Store,
        of: &Arc<Type>,
        call: Call<Key>,
        epochs: Vec<Vec<u8>>,
        raw: &Raw,
    ) -> Option<Self> {
        let mut driver = Self::outside(store, of, call, epochs);
        let stamp = raw.header.stamp;
        driver.step = driver.with(|call, flights, _| call.refreshes(flights, stamp))?;
        Some(driver)
    }

    fn outside(store: &Store, of: &Arc<Type>, call: Call<Key>, epochs: Vec<Vec<u8>>) -> Self {
        Self {
            store: store.clone(),
            of: of.clone(),
            call,
            step: Step::Load(None),
            epochs,
            clock: None,
            lease: None,
            kept: None,
            request: (0, 0),
            waits_since: None,
        }
    }

    fn with<R>(&mut self, step: impl FnOnce(&mut Call<Key>, &mut TypeFlights, Moment) -> R) -> R {
        let call = &mut self.call;
        let moments = &self.store.inner().moments;
        self.of
            .loads
            .with(|flights| step(call, flights, moments.moment()))
    }

    /// Keeps hold of a value that may have to serve.
    fn note(&mut self, sight: Sight) -> Seen<Bytes> {
        match sight {
            Sight::Value(raw) => Seen::Hit(raw.bytes().clone()),
            Sight::Kept(seen, raw) => {
                self.kept = Some(raw);
                seen
            }
            Sight::Other(seen) => seen,
        }
    }

    /// Goes on until there is an answer, or the caller is to load.
    pub(super) async fn until_load<T: Cached>(&mut self) -> Ready<T> {
        loop {
            match self.next().await {
                Next::Examine(raw) => match codec::read(raw.payload()) {
                    Ok(value) => {
                        let origin = raw.origin(Source::Server, None, self.store.inner());
                        self.accept(raw);
                        return Ready::Answer(Some((value, origin)));
                    }
                    Err(why) => self.reject(raw, &why).await,
                },
                Next::Shared(share) => {
                    let inner = self.store.inner();
                    let (raw, source, value) = match share {
                        // Who shares it has read it, or loaded it: then it is the answer of that load, even if it is invalid.
                        Share::Value(raw) => {
                            self.of.counters().count(Count::Shared);
                            let value = codec::decode(raw.payload()).ok();
                            (raw, Source::Joined, value)
                        }
                        Share::Stale(raw) => match codec::read(raw.payload()) {
                            Ok(value) => {
                                self.of.counters().count(Count::Stale);
                                (raw, Source::Stale, Some(value))
                            }
                            Err(why) => {
                                let key = self.call.key();
                                inner.reject(key, &raw, &why, &self.of).await;
                                (raw, Source::Stale, None)
                            }
                        },
                        Share::Nothing => {
                            self.of.counters().count(Count::Shared);
                            return Ready::Answer(None);
                        }
                    };
                    // A type that can't read what it wrote is not shared.
                    return match value {
                        Some(value) => {
                            Ready::Answer(Some((value, raw.origin(source, None, inner))))
                        }
                        None => {
                            self.kept = None;
                            Ready::Load
                        }
                    };
                }
                Next::Load => return Ready::Load,
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
                Step::Done(share) => return Next::Shared(share.map(Raw::new)),
                Step::Await(flight) => self.step = self.wait(flight).await,
                Step::Pause { .. } if self.is_overdue() => self.step = self.wait_no_longer(),
                Step::Pause { attempt } => {
                    if attempt == 1 {
                        self.of.counters().count(Count::Waited);
                    }
                    self.pause(attempt).await;
                    self.step = self.call.look_again();
                }
                Step::Ask { rejected } => match self.ask(rejected).await {
                    Sight::Value(entry) => return Next::Examine(entry),
                    sight => {
                        let seen = self.note(sight);
                        self.answered(seen);
                    }
                },
            }
        }
    }

    /// Loads beside the way of any caller, if nobody else does. `cause` is the span of the call that it follows from.
    pub(super) async fn refresh<T, L, E, F, Fut>(mut self, cause: Span, load: F)
    where
        T: Cached,
        L: IntoLoaded<T>,
        F: FnOnce(Option<Raw>) -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        let Step::Ask { rejected } = self.step else {
            return;
        };
        let seen = match self.ask(rejected).await {
            // Others take it as read.
            Sight::Value(raw) => match codec::read::<T>(raw.payload()) {
                Ok(_) => Seen::Hit(raw.bytes().clone()),
                Err(why) => {
                    let (inner, key) = (self.store.inner(), self.call.key());
                    inner.reject(key, &raw, &why, &self.of).await
                }
            },
            sight => self.note(sight),
        };
        self.answered(seen);
        if let Step::Load(Some(lease)) = self.step {
            self.lease = Some(lease);
            self.of.counters().count(Count::Refresh);
            // How it failed is nobody's concern; that it did is counted.
            let _ = self.load_in_time::<T, _, _, _, _>(&cause, load).await;
        }
    }

    /// Loads beside its caller: what takes longer than the longest load would not be stored, and is ended. `None` if it was.
    /// `cause` is the span of the call that it follows from.
    pub(super) async fn load_in_time<T, L, E, F, Fut>(
        &mut self,
        cause: &Span,
        load: F,
    ) -> Option<Result<Option<(T, Origin)>, E>>
    where
        T: Cached,
        L: IntoLoaded<T>,
        F: FnOnce(Option<Raw>) -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        match timeout(
            LONGEST_LOAD,
            self.load_beside(None, None, Some(cause), load),
        )
        .await
        {
            Ok(loaded) => Some(loaded),
            Err(_) => {
                self.falls_back::<T>().await;
                None
            }
        }
    }

    /// How long the type lets callers wait where there is a value that may serve.
    pub(super) fn load_timeout(&self) -> Duration {
        Duration::from_millis(self.of.meta().policy.load_timeout_millis)
    }

    /// Whether there is a value to be served before the load is over.
    pub(super) fn may_be_overtaken(&self) -> bool {
        let may_serve = |kept| self.store.inner().may_serve(kept, self.of.meta());
        !self.load_timeout().is_zero() && self.kept.as_ref().is_some_and(may_serve)
    }

    /// That value.
    pub(super) fn overtaking<T: Cached>(&self) -> Option<(T, Raw)> {
        let kept = self.kept.as_ref().filter(|_| self.may_be_overtaken())?;
        Some((codec::read(kept.payload()).ok()?, kept.clone()))
    }

    /// Whether the caller has waited for others for as long as its type lets it.
    fn is_overdue(&self) -> bool {
        let waited = self.waits_since.map(|since| since.elapsed());
        self.may_be_overtaken() && waited >= Some(self.load_timeout())
    }

    async fn ask(&mut self, rejected: Rejected) -> Sight {
        let token = self.store.inner().random.next_u64();
        let sent = self.with(|call, flights, now| {
            call.asking(flights, now, token);
            now
        });
        self.request = (sent, token);
        self.place(token, rejected).await
    }

    /// Asks for a lease; and for the clock, which is to be known before the load begins, in the same round trip.
    async fn place(&mut self, token: u64, rejected: Rejected) -> Sight {
        let verb = Placing::Lease {
            token,
            life: millis(LEASE_LIFE),
            rejected,
        };
        let (inner, key) = (self.store.inner(), self.call.key());
        let found = inner.backend.place(key, &verb);
        let found = match self.of.meta().tagged {
            false => found.await,
            true => {
                let (found, clock) = tokio::join!(found, inner.clock());
                self.clock = clock;
                found
            }
        };
        let found = match found {
            Ok(found) => inner.checked(found, &self.epochs, self.of.meta()).await,
            Err(error) => Err(error),
        };
        let asked = Some((token, rejected));
        inner.sight(key, found, asked, &self.of).await
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
    async fn reject(&mut self, entry: Raw, why: &Refusal) {
        let seen = self
            .store
            .inner()
            .reject(self.call.key(), &entry, why, &self.of)
            .await;
        self.answered(seen);
    }

    async fn wait(&mut self, flight: FlightId) -> Step<Bytes> {
        let wake = self.of.loads.with(|flights| flights.wake(flight));
        if let Some(wake) = wake {
            let mut moves = pin!(wake.notified());
            moves.as_mut().enable();
            // It may have moved before we listened.
            let step = self.with(|call, flights, now| call.moved(flights, now));
            if step != Step::Await(flight) {
                return step;
            }
            let since = *self.waits_since.get_or_insert_with(Instant::now);
            let longest = match self.may_be_overtaken() {
                true => self.load_timeout().min(LONGEST_LOAD),
                false => LONGEST_LOAD,
            };
            if tokio::time::timeout_at(since + longest, moves)
                .await
                .is_err()
            {
                return self.wait_no_longer();
            }
        }
        self.with(|call, flights, now| call.moved(flights, now))
    }

    /// The call has waited too long: it takes the value that may serve, or else loads itself, without storing it.
    fn wait_no_longer(&mut self) -> Step<Bytes> {
        let unneeded = self.with(|call, flights, _| call.dropped(flights));
        if let Some(lease) = unneeded {
            give_back(&self.store, &self.of, self.call.key().to_vec(), lease);
        }
        match &self.kept {
            Some(kept) if self.may_be_overtaken() => Step::Done(Share::Stale(kept.bytes().clone())),
            _ => Step::Load(None),
        }
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
    pub(super) async fn load<T, L, E, F, Fut>(
        &mut self,
        ttl: Option<Ttl>,
        queue: Queue<E>,
        load: F,
    ) -> Result<Option<(T, Origin)>, E>
    where
        T: Cached,
        L: IntoLoaded<T>,
        F: FnOnce(Option<Raw>) -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        self.load_beside(ttl, queue, None, load).await
    }

    /// The same; `beside` a call with that span, or within one.
    async fn load_beside<T, L, E, F, Fut>(
        &mut self,
        ttl: Option<Ttl>,
        queue: Queue<E>,
        beside: Option<&Span>,
        load: F,
    ) -> Result<Option<(T, Origin)>, E>
    where
        T: Cached,
        L: IntoLoaded<T>,
        F: FnOnce(Option<Raw>) -> Fut,
        Fut: Future<Output = Result<L, E>>,
    {
        // What it has not claimed may be gone.
        let claimed = self.kept.clone();
        let claimed = claimed.filter(|kept| kept.is_claimed_by(self.lease));
        self.clock = match Clock::of(self.lease, self.request.1, self.clock, self.of.meta()) {
            Clock::Known(clock) => clock,
            Clock::ToBeRead => self.store.inner().clock().await,
        };
        let begun = Begun::now(self.lease, self.clock, self.store.inner());
        let loaded = {
            let mut keep = pin!(self.keep());
            let mut work = pin!(async {
                let turn = self.of.loads.permits.acquire();
                // The semaphore is never closed.
                let _permit = match queue {
                    None => turn.await,
                    Some((longest, full)) => timeout(longest, turn).await.map_err(|_| full())?,
                };
                run_loader(&self.of, 1, beside, || load(claimed.clone())).await
            });
            tokio::select! {
                biased;
                loaded = &mut work => loaded,
                never = &mut keep => match never {},
            }
        };
        let loaded = match loaded {
            Ok(loaded) => loaded.into_loaded(),
            Err(error) => return self.falls_back().await.map(Some).ok_or(error),
        };
        let (key, inner) = (self.call.key(), self.store.inner());
        let kept = claimed.as_ref();
        let end = inner.end_of(key, &self.epochs, &begun, &loaded, kept, ttl, &self.of);
        let left = match &end.then {
            Then::Store(_, ttl) | Then::Confirm(_, ttl) => Some(ttl_left(*ttl)),
            Then::Discard | Then::Release | Then::GiveBack => None,
        };
        let origin = match &end.followers {
            Ended::Share(Share::Value(bytes)) if left.is_some() => {
                Raw::new(bytes.clone()).origin(Source::Loaded, left, inner)
            }
            Ended::Share(Share::Stale(bytes)) => self.serves(&Raw::new(bytes.clone())),
            Ended::Share(_) | Ended::Failed | Ended::Overtaken => Origin {
                source: Source::Loaded,
                stamp: begun.stamp,
                expires: None,
            },
        };
        let stored = self.end(end).await;
        let expires = origin.expires.filter(|_| stored);
        Ok(loaded
            .value
            .map(|value| (value, Origin { expires, ..origin })))
    }

    /// What was there is the answer. It is counted if its time is over: one that was to be refreshed may still be fresh.
    fn serves(&self, kept: &Raw) -> Origin {
        let inner = self.store.inner();
        let timing = kept.header.timing;
        if timing.is_none_or(|timing| !timing.is_fresh(inner.now_millis())) {
            self.of.counters().count(Count::Stale);
        }
        kept.origin(Source::Stale, None, inner)
    }

    /// The loader failed, or was stopped since it took too long. Where there is a value that may serve that is the answer.
    pub(super) async fn falls_back<T: Cached>(&mut self) -> Option<(T, Origin)> {
        let inner = self.store.inner();
        self.of.counters().count(Count::FailedLoad);
        let may_serve = |kept: &Raw| inner.may_serve(kept, self.of.meta());
        let kept = self.kept.take().filter(may_serve);
        let Some(kept) = kept else {
            self.end(End::FAILED).await;
            return None;
        };
        let value = match codec::read(kept.payload()) {
            Ok(value) => value,
            Err(why) => {
                let (key, lease) = (self.call.key(), self.lease);
                let end = inner.unreadable(key, &kept, &why, lease, &self.of);
                let end = end.await;
                self.end(end).await;
                return None;
            }
        };
        let origin = self.serves(&kept);
        let what = "a load failed, and the value that is there is served";
        self.of.warn(what, None, || Detail {
            operation: Some("get_or_load"),
            key: self.of.keys().of_failure(self.call.key()),
            text: String::new(),
        });
        self.end(End::fallen_back(&kept, self.lease)).await;
        Some((value, origin))
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
                        let (of, key) = (&self.of, self.call.key());
                        of.log_failure_at("get_or_load", key, error, "a lease is not renewed");
                    }
                }
            }
        }
        std::future::pending().await
    }

    /// Whether a load was overtaken by the invalidation of a tag. Nobody joins it any more who might have come after that.
    async fn admit(&mut self, end: End) -> End {
        let Some(tags) = end.tags.as_ref().filter(|_| self.lease.is_some()) else {
            return end;
        };
        self.with(|call, flights, _| call.closing(flights));
        match self.store.inner().admits(tags.bid()).await {
            true => end,
            false => End::OVERTAKEN,
        }
    }

    /// What is to be stored is, if the lease is still there; else the lease is given back. Followers are told before; where there
    /// are tags only once that is done. True if something was stored.
    async fn end(&mut self, end: End) -> bool {
        let waits = end.waits(self.lease);
        let end = self.admit(end).await;
        if !waits {
            self.tell(end.followers.clone());
        }
        let done = self.carry_out(&end).await;
        if waits {
            self.tell(end.told(done.is_some()));
        }
        done.is_some_and(|fills| fills)
    }

    fn tell(&mut self, followers: Ended<Bytes>) {
        self.with(|call, flights, _| call.loaded(flights, followers));
    }

    /// What becomes of the lease. `None` if it was not there any more; else whether something was stored.
    async fn carry_out(&self, end: &End) -> Option<bool> {
        let (inner, key) = (self.store.inner(), self.call.key());
        let verb = end.verb(self.lease, inner, self.of.meta())?;
        let fills = matches!(verb, Verb::Fill { .. } | Verb::Confirm { .. });
        match inner.backend.apply(key, &verb).await {
            Ok(true) => {
                let counters = self.of.counters();
                counters.add(Count::WrittenBytes, Write::Apply(verb).size());
                return Some(fills);
            }
            Ok(false) if fills => self.of.counters().count(Count::RefusedFill),
            Ok(false) => {}
            // The lease runs out by itself.
            Err(error) => {
                let what = "a load is not stored, nor its lease given back";
                self.of.log_failure_at("get_or_load", key, error, what);
            }
        }
        None
    }
}

impl Drop for Driver {
    /// The caller is gone, by cancellation or panic, or is done. A follower leads on; a lease that nobody needs any more is
    /// given back, else it would keep others waiting until it runs out.
    fn drop(&mut self) {
        let unneeded = self.with(|call, flights, _| call.dropped(flights));
        if let Some(lease) = unneeded {
            give_back(&self.store, &self.of, self.call.key().to_vec(), lease);
        }
    }
}
