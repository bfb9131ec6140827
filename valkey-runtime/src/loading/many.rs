//! Loading many keys by one call: one bulk read, one bulk request for leases, one run of the loader for what is missing, one
//! bulk fill.
//!
//! Each key is a call of its own, with the steps of any other. What the call is to load itself it loads and stores first;
//! only then does it wait for keys that others load, and for all of them at once, so that two such calls never wait for
//! each other.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::select_all;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::call::{Call, Loaded as Ended, Seen, Share, Step};
use super::end::{Begun, Clock, End};
use super::flights::{FlightId, Moment};
use super::sight::Sight;
use super::{
    Key, LEASE_LIFE, LONGEST_LOAD, RENEWAL, Request, TypeFlights, give_back, millis, run_loader,
};
use crate::backend::Write;
use crate::envelope::placeholder::Lease;
use crate::stats::Count;
use crate::store::{Inner, Store};
use crate::tags::Place;
use crate::trace::{About, Ending, Told, traced};
use crate::transition::{Placing, Verb};
use crate::types::Type;
use crate::verbs::Raw;
use crate::warnings::Detail;
use crate::{Cached, IntoLoaded, codec};

/// The most keys that a loader is given at a time.
const CHUNK: usize = 1000;

/// See [`Cached::get_or_load_many`]. `load` is given positions in `keys`, which are all different, and gives positions and
/// values.
pub(crate) async fn get_or_load_many<T, E, F, Fut>(
    store: &Store,
    places: Vec<Place>,
    load: F,
) -> Result<Vec<Answer<T>>, E>
where
    T: Cached,
    F: FnMut(Vec<usize>) -> Fut,
    Fut: Future<Output = Result<Vec<(usize, T)>, E>>,
{
    let (inner, of) = (store.inner(), store.inner().types.of::<T>());
    let span = inner.span("get_or_load_many", Some(of), About::Places(&places));
    let loading = all_loaded_or_found(store, of, places, load);
    traced!(span, loading, |answers| {
        let given = given(answers);
        let told = Told::Count(given.unwrap_or(0) as u64);
        Ending::of_foreign(answers).with_rows(given).telling(told)
    })
}

/// How many values there are.
fn given<T, E>(answers: &Result<Vec<Answer<T>>, E>) -> Option<usize> {
    let answers = answers.as_ref().ok()?.iter();
    let values = answers.filter(|answer| matches!(answer, Answer::Value(..)));
    Some(values.count())
}

async fn all_loaded_or_found<T, E, F, Fut>(
    store: &Store,
    of: &Arc<Type>,
    places: Vec<Place>,
    mut load: F,
) -> Result<Vec<Answer<T>>, E>
where
    T: Cached,
    F: FnMut(Vec<usize>) -> Fut,
    Fut: Future<Output = Result<Vec<(usize, T)>, E>>,
{
    let inner = store.inner();
    let mut answers: Vec<Answer<T>> = places.iter().map(|_| Answer::Nothing).collect();
    let mut many = Many::start(store, of.clone());
    let began = inner.moments.moment();
    let sights = inner.look_many(&places, of).await;
    for (at, (place, sight)) in places.iter().zip(sights).enumerate() {
        let key = &*place.key;
        let (seen, kept) = match sight {
            Sight::Value(entry) => match codec::read(entry.payload()) {
                Ok(value) => {
                    of.counters().hit(entry.bytes().len());
                    inner.slide(key, &entry, of);
                    answers[at] = Answer::Value(value, Some(entry));
                    continue;
                }
                Err(why) => (inner.reject(key, &entry, &why, of).await, None),
            },
            Sight::Other(Seen::Absent) => {
                of.counters().count(Count::Absence);
                continue;
            }
            Sight::Kept(seen, kept) => (seen, Some(kept)),
            Sight::Other(seen) => (seen, None),
        };
        of.counters().count(Count::Miss);
        many.add(at, place, began, seen, kept);
    }
    loop {
        while let Some(asked) = many.ask().await {
            for (one, sight) in asked {
                let seen = match sight {
                    Sight::Value(entry) => match codec::read(entry.payload()) {
                        Ok(value) => {
                            let seen = Seen::Hit(entry.bytes().clone());
                            answers[many.at(one)] = Answer::Value(value, Some(entry));
                            seen
                        }
                        Err(why) => inner.reject(many.key(one), &entry, &why, of).await,
                    },
                    Sight::Kept(seen, kept) => {
                        many.ones[one].kept = Some(kept);
                        seen
                    }
                    Sight::Other(seen) => seen,
                };
                many.answered(one, seen);
            }
        }
        let to_load = many.to_load();
        for (at, chunk) in to_load.chunks(CHUNK).enumerate() {
            let not_ended = &to_load[at * CHUNK..];
            let ats: Vec<_> = chunk.iter().map(|(one, _)| many.at(*one)).collect();
            let clocks = many.clocks_of(chunk).await.into_iter();
            let begun = chunk.iter().zip(clocks);
            let begun = begun.map(|((_, lease), clock)| Begun::now(*lease, clock, inner));
            let begun: Vec<_> = begun.collect();
            let mut values: HashMap<usize, T> =
                match many.run(ats.len(), not_ended, || load(ats)).await {
                    Ok(values) => values.into_iter().collect(),
                    Err(error) => match many.serve(chunk).await {
                        Some(served) => {
                            for (at, value, kept) in served {
                                answers[at] = Answer::Value(value, Some(kept));
                            }
                            continue;
                        }
                        None => return Err(error),
                    },
                };
            let mut ends = Vec::with_capacity(chunk.len());
            for (&(one, lease), begun) in chunk.iter().zip(begun) {
                let loaded = values.remove(&many.at(one)).into_loaded();
                let (key, epochs) = (many.key(one), &many.ones[one].epochs);
                let end = inner.end_of(key, epochs, &begun, &loaded, None, None, of);
                if let Some(value) = loaded.value {
                    let entry = match &end.followers {
                        Ended::Share(Share::Value(bytes)) => Some(Raw::new(bytes.clone())),
                        Ended::Share(_) | Ended::Failed | Ended::Overtaken => None,
                    };
                    answers[many.at(one)] = Answer::Value(value, entry);
                }
                ends.push((one, lease, end));
            }
            many.end(ends).await;
        }
        if !to_load.is_empty() {
            continue;
        }
        for (one, shared) in many.take_shared() {
            let (value, entry) = match shared {
                Share::Stale(entry) => match codec::read(entry.payload()) {
                    Ok(value) => {
                        of.counters().count(Count::Stale);
                        (Some(value), entry)
                    }
                    Err(why) => {
                        inner.reject(many.key(one), &entry, &why, of).await;
                        (None, entry)
                    }
                },
                // Who shares it has read it, or loaded it: then it is the answer of that load, even if it is invalid.
                Share::Value(entry) => {
                    of.counters().count(Count::Shared);
                    (codec::decode(entry.payload()).ok(), entry)
                }
                Share::Nothing => {
                    of.counters().count(Count::Shared);
                    continue;
                }
            };
            match value {
                Some(value) => answers[many.at(one)] = Answer::Value(value, Some(entry)),
                None => many.load_alone(one),
            }
        }
        if many.is_done() {
            return Ok(answers);
        }
        many.wait().await;
    }
}

/// What there is under a key: a value, with its entry if it has one.
pub(crate) enum Answer<T> {
    Nothing,
    Value(T, Option<Raw>),
}

impl<T: Cached> Answer<T> {
    /// The value once more, for a key that was asked for twice.
    pub(crate) fn again(&self) -> Option<Option<T>> {
        match self {
            Answer::Nothing => Some(None),
            Answer::Value(_, entry) => {
                let value = codec::decode(entry.as_ref()?.payload());
                value.ok().map(Some)
            }
        }
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        match std::mem::replace(self, Answer::Nothing) {
            Answer::Nothing => None,
            Answer::Value(value, _) => Some(value),
        }
    }
}

impl Inner {
    async fn look_many(&self, places: &[Place], of: &Type) -> Vec<Sight> {
        let meta = of.meta();
        let found = match self.ttl_override(meta) {
            Ok(_) if !self.is_enabled() => {
                return places.iter().map(|_| Sight::Other(Seen::Closed)).collect();
            }
            Ok(_) => self.read_many(places, meta).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                let mut sights = Vec::with_capacity(places.len());
                for (place, found) in places.iter().zip(found) {
                    sights.push(self.sight(&place.key, Ok(found), None, of).await);
                }
                sights
            }
            Err(error) => {
                of.log_failure(error.during("get_or_load_many"), "the cache is not read");
                places.iter().map(|_| Sight::Other(Seen::Closed)).collect()
            }
        }
    }
}

/// The calls of the keys that were not hits.
struct Many<'s> {
    store: &'s Store,
    of: Arc<Type>,
    ones: Vec<One>,
    /// How long it waits for what others load; once it has begun to.
    waits_until: Option<Instant>,
}

/// The call of one key.
struct One {
    at: usize,
    /// Of the tags that follow from the key.
    epochs: Vec<Vec<u8>>,
    /// That of the tags, as it stood when the lease was asked for.
    clock: Option<u64>,
    call: Call<Key>,
    step: Step<Bytes>,
    request: Request,
    /// The value that was there when the server was last asked, and that its time is over for.
    kept: Option<Raw>,
    /// Its answer is known.
    done: bool,
}

impl<'s> Many<'s> {
    fn start(store: &'s Store, of: Arc<Type>) -> Self {
        Self {
            store,
            of,
            ones: Vec::new(),
            waits_until: None,
        }
    }

    fn with<R>(&mut self, step: impl FnOnce(&mut [One], &mut TypeFlights, Moment) -> R) -> R {
        let (ones, moments) = (&mut self.ones, &self.store.inner().moments);
        self.of
            .loads
            .with(|flights| step(ones, flights, moments.moment()))
    }

    fn add(
        &mut self,
        at: usize,
        place: &Place,
        began: Moment,
        seen: Seen<Bytes>,
        kept: Option<Raw>,
    ) {
        let call = Call::new(place.key.as_slice().into(), began);
        self.ones.push(One {
            at,
            epochs: place.epochs.clone(),
            clock: None,
            call,
            step: Step::Load(None),
            request: (0, 0),
            kept,
            done: false,
        });
        self.with(|ones, flights, now| {
            if let Some(one) = ones.last_mut() {
                one.step = one.call.got(flights, now, seen);
            }
        });
    }

    fn at(&self, one: usize) -> usize {
        self.ones[one].at
    }

    fn key(&self, one: usize) -> &[u8] {
        self.ones[one].call.key()
    }

    fn is_done(&self) -> bool {
        self.ones.iter().all(|one| one.done)
    }

    /// The calls that are not done yet and at a step like this.
    fn at_step<R>(&self, step: impl Fn(&Step<Bytes>) -> Option<R>) -> Vec<(usize, R)> {
        let open = self.ones.iter().enumerate().filter(|(_, one)| !one.done);
        open.filter_map(|(at, one)| Some((at, step(&one.step)?)))
            .collect()
    }

    /// Asks for all leases that are to be asked for; `None` if there are none.
    async fn ask(&mut self) -> Option<Vec<(usize, Sight)>> {
        let asking = self.at_step(|step| match step {
            Step::Ask { rejected } => Some(*rejected),
            _ => None,
        });
        if asking.is_empty() {
            return None;
        }
        let inner = self.store.inner();
        let verbs: Vec<_> = asking
            .iter()
            .map(|&(_, rejected)| (inner.random.next_u64(), rejected))
            .map(|(token, rejected)| {
                (
                    token,
                    Placing::Lease {
                        token,
                        life: millis(LEASE_LIFE),
                        rejected,
                    },
                )
            })
            .collect();
        self.with(|ones, flights, now| {
            for ((one, _), (token, _)) in asking.iter().zip(&verbs) {
                ones[*one].request = (now, *token);
                ones[*one].call.asking(flights, now, *token);
            }
        });
        let verbs: Vec<_> = verbs.into_iter().map(|(_, verb)| verb).collect();
        let keys: Vec<_> = asking.iter().map(|(one, _)| self.key(*one)).collect();
        let placed = inner.backend.place_many(&keys, &verbs);
        let (placed, clock) = match self.of.meta().tagged {
            false => (placed.await, None),
            true => tokio::join!(placed, inner.clock()),
        };
        let placed = match placed {
            Ok(placed) => {
                let required = asking.iter().map(|(one, _)| &*self.ones[*one].epochs);
                inner.checked_each(placed, required, self.of.meta()).await
            }
            Err(error) => Err(error),
        };
        let mut sights = Vec::with_capacity(asking.len());
        match placed {
            Ok(placed) => {
                for ((one, rejected), found) in asking.into_iter().zip(placed) {
                    self.ones[one].clock = clock;
                    let asked = Some((self.ones[one].request.1, rejected));
                    let sight = inner.sight(self.key(one), found, asked, &self.of).await;
                    sights.push((one, sight));
                }
            }
            Err(error) => {
                self.of
                    .log_failure(error.during("get_or_load_many"), "no leases are taken");
                sights.extend(
                    asking
                        .into_iter()
                        .map(|(one, _)| (one, Sight::Other(Seen::Closed))),
                );
            }
        }
        Some(sights)
    }

    /// What another process loads this call loads too, without storing it: there is only one loader to be run.
    fn answered(&mut self, one: usize, seen: Seen<Bytes>) {
        let hit = matches!(seen, Seen::Hit(_) | Seen::Absent);
        self.with(|ones, flights, now| {
            let one = &mut ones[one];
            one.step = one.call.asked(flights, now, one.request, seen, false);
            one.done = hit;
        });
    }

    /// The clocks before a load of these begins. It is read once for all that lack it.
    async fn clocks_of(&self, chunk: &[(usize, Option<Lease>)]) -> Vec<Option<u64>> {
        let clocks = chunk.iter().map(|(one, lease)| {
            let one = &self.ones[*one];
            Clock::of(*lease, one.request.1, one.clock, self.of.meta())
        });
        let clocks: Vec<_> = clocks.collect();
        let now = match clocks.contains(&Clock::ToBeRead) {
            true => self.store.inner().clock().await,
            false => None,
        };
        let clocks = clocks.into_iter().map(|clock| match clock {
            Clock::Known(clock) => clock,
            Clock::ToBeRead => now,
        });
        clocks.collect()
    }

    fn to_load(&self) -> Vec<(usize, Option<Lease>)> {
        self.at_step(|step| match step {
            Step::Load(lease) => Some(*lease),
            _ => None,
        })
    }

    /// Runs the loader, within the type's limit, while all leases are kept whose loads have not ended.
    async fn run<R, E, F, Fut>(
        &self,
        keys: usize,
        not_ended: &[(usize, Option<Lease>)],
        load: F,
    ) -> Result<R, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<R, E>>,
    {
        let mut keep = pin!(self.keep(not_ended));
        let mut work = pin!(async {
            // The semaphore is never closed.
            let _permit = self.of.loads.permits.acquire().await;
            run_loader(&self.of, keys, None, load).await
        });
        tokio::select! {
            biased;
            result = &mut work => result,
            never = &mut keep => match never {},
        }
    }

    /// The loader failed. Where all that it was to load has a value that may serve, those are the answer, with their places.
    async fn serve<T: Cached>(
        &mut self,
        chunk: &[(usize, Option<Lease>)],
    ) -> Option<Vec<(usize, T, Raw)>> {
        let inner = self.store.inner();
        self.of.counters().count(Count::FailedLoad);
        let mut served: Vec<Option<(usize, T, Raw)>> = Vec::with_capacity(chunk.len());
        let mut ends = Vec::with_capacity(chunk.len());
        for &(one, lease) in chunk {
            let (at, key) = (self.at(one), self.key(one));
            let kept = self.ones[one].kept.clone();
            let kept = kept.filter(|kept| inner.may_serve(kept, self.of.meta()));
            let read = kept.as_ref().map(|kept| codec::read(kept.payload()));
            let (value, end) = match (kept, read) {
                (Some(kept), Some(Ok(value))) => {
                    let end = End::fallen_back(&kept, lease);
                    (Some((at, value, kept)), end)
                }
                (Some(kept), Some(Err(why))) => {
                    let end = inner.unreadable(key, &kept, &why, lease, &self.of);
                    (None, end.await)
                }
                _ => (None, End::FAILED),
            };
            served.push(value);
            ends.push((one, lease, end));
        }
        self.end(ends).await;
        let served: Vec<_> = served.into_iter().collect::<Option<_>>()?;
        self.of.counters().add(Count::Stale, served.len());
        let what = "a load failed, and the values that are there are served";
        self.of.warn(what, None, || Detail {
            operation: Some("get_or_load_many"),
            ..Detail::text(format_args!("{} of them", served.len()))
        });
        Some(served)
    }

    async fn keep(&self, not_ended: &[(usize, Option<Lease>)]) -> Infallible {
        let leased = not_ended
            .iter()
            .filter_map(|&(one, lease)| Some((self.key(one), lease?)));
        let (keys, leases): (Vec<_>, Vec<_>) = leased.unzip();
        let renew = |lease| Verb::RenewLease {
            lease,
            life: millis(LEASE_LIFE),
        };
        let verbs: Vec<_> = leases.into_iter().map(renew).collect();
        let until = Instant::now() + LONGEST_LOAD;
        while !keys.is_empty() && Instant::now() < until {
            tokio::time::sleep(RENEWAL).await;
            let inner = self.store.inner();
            // One that is lost is found out by its fill.
            if let Err(error) = inner.backend.apply_each(&keys, &verbs).await {
                let error = error.during("get_or_load_many");
                self.of.log_failure(error, "leases are not renewed");
            }
        }
        std::future::pending().await
    }

    /// Which of the loads were overtaken by the invalidation of a tag. Nobody joins any of them any more.
    async fn admit(&mut self, ends: &mut [(usize, Option<Lease>, End)]) {
        if !self.of.meta().tagged {
            return;
        }
        self.with(|ones, flights, _| {
            for (one, ..) in ends.iter() {
                ones[*one].call.closing(flights);
            }
        });
        let asking = ends.iter().filter(|(_, lease, end)| end.waits(*lease));
        let bids: Vec<_> = asking
            .filter_map(|(.., end)| Some(end.tags.as_ref()?.bid()))
            .collect();
        let mut admitted = self.store.inner().admit_each(&bids).await.into_iter();
        for (_, lease, end) in ends.iter_mut() {
            if end.waits(*lease) && admitted.next() != Some(true) {
                *end = End::OVERTAKEN;
            }
        }
    }

    /// The loads have ended: what has a lease is stored or given back, key by key, and followers are told as by one.
    async fn end(&mut self, mut ends: Vec<(usize, Option<Lease>, End)>) {
        let waits: Vec<bool> = ends
            .iter()
            .map(|(_, lease, end)| end.waits(*lease))
            .collect();
        self.admit(&mut ends).await;
        self.with(|ones, flights, _| {
            for ((one, _, end), waits) in ends.iter().zip(&waits) {
                ones[*one].done = true;
                if !waits {
                    ones[*one].call.loaded(flights, end.followers.clone());
                }
            }
        });
        let held = self.carry_out(&ends).await;
        if waits.contains(&true) {
            self.with(|ones, flights, _| {
                for (((one, _, end), waits), held) in ends.iter().zip(&waits).zip(held) {
                    if *waits {
                        ones[*one].call.loaded(flights, end.told(held));
                    }
                }
            });
        }
    }

    /// What becomes of the leases, and which of them were still there.
    async fn carry_out(&self, ends: &[(usize, Option<Lease>, End)]) -> Vec<bool> {
        let inner = self.store.inner();
        let mut held = vec![false; ends.len()];
        let verbs = ends.iter().enumerate();
        let verbs = verbs.filter_map(|(at, (one, lease, end))| {
            let verb = end.verb(*lease, inner, self.of.meta())?;
            Some((at, (self.key(*one), verb)))
        });
        let (places, verbs): (Vec<_>, Vec<_>) = verbs.unzip();
        let (keys, verbs): (Vec<_>, Vec<_>) = verbs.into_iter().unzip();
        if keys.is_empty() {
            return held;
        }
        let answers = match inner.backend.apply_each(&keys, &verbs).await {
            Ok(answers) => answers,
            // The leases run out by themselves.
            Err(error) => {
                let error = error.during("get_or_load_many");
                self.of.log_failure(error, "loads are not stored");
                return held;
            }
        };
        for (((at, key), verb), answer) in places.into_iter().zip(keys).zip(&verbs).zip(answers) {
            match answer {
                Ok(true) => {
                    let counters = self.of.counters();
                    counters.add(Count::WrittenBytes, Write::Apply(*verb).size());
                    held[at] = true;
                }
                Ok(false) if matches!(verb, Verb::Fill { .. }) => {
                    self.of.counters().count(Count::RefusedFill);
                }
                Ok(false) => {}
                Err(error) => {
                    let what = "a load is not stored";
                    self.of.log_failure_at("get_or_load_many", key, error, what);
                }
            }
        }
        held
    }

    /// What others have loaded meanwhile, or what is served.
    fn take_shared(&mut self) -> Vec<(usize, Share<Raw>)> {
        let shared = self.at_step(|step| match step {
            Step::Done(share) => Some(share.clone().map(Raw::new)),
            _ => None,
        });
        shared
            .into_iter()
            .inspect(|(one, _)| self.ones[*one].done = true)
            .collect()
    }

    /// What others have is of no use.
    fn load_alone(&mut self, one: usize) {
        let one = &mut self.ones[one];
        (one.step, one.kept, one.done) = (Step::Load(None), None, false);
    }

    /// Waits until one of the flights has moved that calls wait on.
    async fn wait(&mut self) {
        let awaited = self.at_step(|step| match step {
            Step::Await(flight) => Some(*flight),
            _ => None,
        });
        let wakes: Vec<_> = self
            .of
            .loads
            .with(|flights| awaited.iter().map(|(_, id)| flights.wake(*id)).collect());
        let mut moves: Vec<Pin<Box<OwnedNotified>>> = Vec::with_capacity(wakes.len());
        for wake in wakes.into_iter().flatten() {
            let mut moved = Box::pin(wake.notified_owned());
            moved.as_mut().enable();
            moves.push(moved);
        }
        // They may have moved before we listened; a flight that is over has nothing to listen to.
        if self.look(&awaited) || moves.is_empty() {
            return;
        }
        let until = *self
            .waits_until
            .get_or_insert_with(|| Instant::now() + LONGEST_LOAD);
        match tokio::time::timeout_at(until, select_all(moves)).await {
            Ok(_) => {
                self.look(&awaited);
            }
            Err(_) => self.wait_no_longer(&awaited),
        }
    }

    /// The longest load is over: what is still waited for this call loads itself, without storing it.
    fn wait_no_longer(&mut self, awaited: &[(usize, FlightId)]) {
        let unneeded = self.with(|ones, flights, _| {
            let mut unneeded = Vec::new();
            for (one, _) in awaited {
                let one = &mut ones[*one];
                let lease = one.call.dropped(flights);
                unneeded.extend(lease.map(|lease| (lease, one.call.key().to_vec())));
                one.step = Step::Load(None);
            }
            unneeded
        });
        for (lease, key) in unneeded {
            give_back(self.store, &self.of, key, lease);
        }
    }

    /// True if something has moved.
    fn look(&mut self, awaited: &[(usize, FlightId)]) -> bool {
        self.with(|ones, flights, now| {
            let mut any = false;
            for (one, flight) in awaited {
                let one = &mut ones[*one];
                one.step = one.call.moved(flights, now);
                any |= one.step != Step::Await(*flight);
            }
            any
        })
    }
}

impl Drop for Many<'_> {
    /// The caller is gone, or is done: followers lead on, and leases that nobody needs any more are given back.
    fn drop(&mut self) {
        let unneeded = self.with(|ones, flights, _| {
            let dropped = ones
                .iter_mut()
                .map(|one| (one.call.dropped(flights), one.call.key()));
            let unneeded = dropped.filter_map(|(lease, key)| Some((lease?, key.to_vec())));
            unneeded.collect::<Vec<_>>()
        });
        for (lease, key) in unneeded {
            give_back(self.store, &self.of, key, lease);
        }
    }
}
