//! Loading calls at work: the driver does what the [`Step`]s of its calls say, with the server, its timers and the loader.
//!
//! A call may load one key or many; each key is a [`Call`] of its own. What the calls are to load themselves they load and store
//! first, by one run of the loader for at most [`CHUNK`] keys. Only then do they wait for keys that others load, and for
//! all of them at once, so that two such drivers never wait for each other.

use std::collections::HashMap;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, select_all};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::Span;

use super::call::{Call, Loaded as Ended, Seen, Share, Step};
use super::caller::{Caller, Observed, Panic, Running, Within};
use super::end::{Begun, Clock, End, Then};
use super::flights::{FlightId, Moment};
use super::shared::Shared;
use super::sight::Sight;
use super::turns::TurnId;
use super::{
    FIRST_PAUSE, Key, LEASE_LIFE, LONGEST_LOAD, LONGEST_PAUSE, RENEWAL, Request, TypeFlights,
    give_back, millis, run_loader,
};
use crate::backend::Write;
use crate::codec;
use crate::entry::{Origin, Source};
use crate::envelope::placeholder::Lease;
use crate::stats::Count;
use crate::store::Store;
use crate::tags::Place;
use crate::transition::{Placing, Rejected, Verb};
use crate::types::Type;
use crate::verbs::{Raw, ttl_left};
use crate::warnings::Detail;
use crate::{Cached, ErrorKind, Loaded, Result, Ttl};

/// The most keys that a loader is given at a time.
const CHUNK: usize = 1000;

/// A key that a loader is to load, by its place among those of its call; and the value that it is to refresh, if there is
/// one.
pub(crate) struct Wanted {
    pub(super) at: usize,
    pub(super) kept: Option<Raw>,
}

/// A loader: it gives what it finds, each with its place. The type of its future ends here, so that what is around it grows no
/// further with it.
pub(crate) type Loader<'l, T, E> = Box<dyn FnMut(Vec<Wanted>) -> Loading<'l, T, E> + Send + 'l>;

pub(crate) type Loading<'l, T, E> =
    Pin<Box<dyn Future<Output = Result<Vec<(usize, Loaded<T>)>, E>> + Send + 'l>>;

/// A loader that runs once, for the one key of its call.
pub(super) fn once<'l, T, L, E, F, Fut>(load: F) -> Loader<'l, T, E>
where
    T: Cached,
    L: crate::IntoLoaded<T>,
    F: FnOnce(Option<Raw>) -> Fut + Send + 'l,
    Fut: Future<Output = Result<L, E>> + Send + 'l,
{
    let mut load = Some(load);
    Box::new(move |wanted| {
        // A key is done once it was loaded, so no driver runs the loader of one key twice.
        let once = load.take().zip(wanted.into_iter().next());
        Box::pin(async move {
            let Some((load, Wanted { at, kept })) = once else {
                unreachable!("the one key of a call is loaded once");
            };
            Ok(vec![(at, load(kept).await?.into_loaded())])
        })
    })
}

/// A loader of many keys, by their places.
pub(crate) fn many<'l, T, E, F, Fut>(mut load: F) -> Loader<'l, T, E>
where
    T: Cached,
    F: FnMut(Vec<usize>) -> Fut + Send + 'l,
    Fut: Future<Output = Result<Vec<(usize, T)>, E>> + Send + 'l,
{
    Box::new(move |wanted| {
        let loading = load(wanted.into_iter().map(|wanted| wanted.at).collect());
        Box::pin(async move {
            let loaded = loading.await?.into_iter();
            Ok(loaded
                .map(|(at, value)| (at, Loaded::value(value)))
                .collect())
        })
    })
}

/// What the callers of a verb have their limits end in. Without an error of that kind a call goes on.
pub(crate) struct Limits<E> {
    /// For how long the turn may let it wait.
    pub(crate) queue: Option<(Duration, fn() -> E)>,
    /// The type's `load_deadline` is over.
    pub(crate) late: Option<fn() -> E>,
}

impl<E> Clone for Limits<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Limits<E> {}

impl<E> Limits<E> {
    pub(crate) const NONE: Self = Self {
        queue: None,
        late: None,
    };
}

/// What a call gives of a key, by its place: the value, and what is known of its entry.
pub(crate) type Answers<T> = Vec<Option<Given<T>>>;

pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
    /// What is there, or was stored.
    pub(crate) entry: Option<Raw>,
}

impl<T: Cached> Given<T> {
    /// The value once more, for a key that was asked for twice.
    pub(crate) fn again(&self) -> Option<T> {
        self.value.__try_clone().or_else(|| {
            let entry = self.entry.as_ref()?;
            codec::decode(entry.payload()).ok()
        })
    }
}

/// What the calls come to.
pub(super) enum Ready {
    /// All answers are there.
    Done,
    /// [`Driver::load`].
    Load,
}

/// How a load ends that gives no answers.
pub(super) enum Failed<E> {
    Loader(E),
    /// It was ended, since it took too long.
    Late,
}

/// What came of waiting for a turn.
enum Turned {
    Come {
        waited: bool,
    },
    /// It waited for as long as the type lets callers wait who have a value that may serve.
    Overdue,
    /// It waited for as long as its caller lets it.
    Full,
}

/// A turn that a driver asked for.
#[derive(Clone, Copy)]
enum Turn {
    Own(TurnId),
    /// Its load is part of one that has a turn, or waited for long enough for that.
    Within,
}

/// Does what its calls' steps say.
pub(super) struct Driver {
    store: Store,
    pub(super) of: Arc<Type>,
    caller: Arc<Caller>,
    within: Option<Arc<Within>>,
    ones: Vec<One>,
    turn: Option<Turn>,
    /// For how long it waited for its turn.
    queued: Duration,
    began: Instant,
    /// Takes nothing that is there.
    fresh: bool,
    /// A loader runs.
    loading: bool,
}

/// The call of one key.
struct One {
    /// Its place among the keys of the call.
    at: usize,
    call: Call<Key>,
    step: Step<Shared>,
    /// Of the tags that follow from the key.
    epochs: Vec<Vec<u8>>,
    /// That of the tags, as it stood when the lease was asked for.
    clock: Option<u64>,
    /// What it loads under, if anything.
    lease: Option<Lease>,
    /// The value that was there when the server was last asked, and that its time is over for, or will be soon.
    kept: Option<Raw>,
    /// The request whose answer is being examined.
    request: Request,
    /// The lease of another process that it waits for, and since when.
    waits: Option<(Lease, Instant)>,
    /// When it looks again.
    looks: Option<Instant>,
    /// Who leads the flight that it follows, as it was seen; and since when its loader was seen to run.
    leader: Option<(FlightId, Observed, Option<Instant>)>,
    /// The flight that others know it leads.
    led: Option<FlightId>,
    /// Its answer is known.
    done: bool,
}

impl Driver {
    pub(super) fn new(store: &Store, of: &Arc<Type>, fresh: bool) -> Self {
        Self {
            store: store.clone(),
            of: of.clone(),
            caller: Arc::default(),
            within: Within::current(),
            ones: Vec::new(),
            turn: None,
            queued: Duration::ZERO,
            began: Instant::now(),
            fresh,
            loading: false,
        }
    }

    pub(super) fn is_needed(&self) -> bool {
        !self.ones.is_empty()
    }

    pub(super) fn caller(&self) -> Arc<Caller> {
        self.caller.clone()
    }

    /// A key, and what a first look has shown of it.
    pub(super) fn add(&mut self, at: usize, place: Place, began: Moment, sight: Sight) {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(at, call, place);
        let seen = self.note(one, sight);
        self.step(one, |call, flights, _| call.got(flights, seen));
    }

    /// A key that takes nothing that is there: the call takes the lease, whoever has it, and shares with nobody.
    pub(super) fn add_fresh(&mut self, at: usize, place: Place, began: Moment) {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(at, call, place);
        self.step(one, |call, _, _| call.goes_alone());
    }

    /// A key whose value the caller has, and would have the next one of. False where a load of the key is under way.
    pub(super) fn add_refresh(&mut self, place: Place, began: Moment, raw: &Raw) -> bool {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(0, call, place);
        let stamp = raw.header.stamp;
        let mut leads = false;
        self.step(one, |call, flights, _| {
            let step = call.refreshes(flights, stamp);
            leads = step.is_some();
            step.unwrap_or(Step::Turn)
        });
        leads
    }

    fn push(&mut self, at: usize, call: Call<Key>, place: Place) -> usize {
        self.ones.push(One {
            at,
            call,
            step: Step::Turn,
            epochs: place.epochs,
            clock: None,
            lease: None,
            kept: None,
            request: (0, 0),
            waits: None,
            looks: None,
            leader: None,
            led: None,
            done: false,
        });
        self.ones.len() - 1
    }

    /// Has a call make a step. Others learn who leads.
    fn step(
        &mut self,
        one: usize,
        step: impl FnOnce(&mut Call<Key>, &mut TypeFlights, Moment) -> Step<Shared>,
    ) {
        let (one, caller) = (&mut self.ones[one], &self.caller);
        let moments = &self.store.inner().moments;
        self.of.loads.with(|state| {
            one.step = step(&mut one.call, &mut state.flights, moments.moment());
            if let Some(id) = one.call.leads()
                && one.led != Some(id)
                && let Some(signal) = state.flights.wake(id)
            {
                signal.lead_by(caller);
                caller.leads();
                one.led = Some(id);
            }
        });
    }

    fn key(&self, one: usize) -> &[u8] {
        self.ones[one].call.key()
    }

    /// The calls that are not done yet and at a step like this.
    fn at_step<R>(&self, step: impl Fn(&Step<Shared>) -> Option<R>) -> Vec<(usize, R)> {
        let open = self.ones.iter().enumerate().filter(|(_, one)| !one.done);
        open.filter_map(|(at, one)| Some((at, step(&one.step)?)))
            .collect()
    }

    /// Keeps hold of a value that may have to serve.
    fn note(&mut self, one: usize, sight: Sight) -> Seen<Shared> {
        match sight {
            Sight::Value(raw) => Seen::Hit(raw.bytes().clone().into()),
            Sight::Kept(seen, raw) => {
                self.ones[one].kept = Some(raw);
                seen
            }
            Sight::Other(seen) => seen,
        }
    }

    /// Goes on until all answers are there, or the loader is to run.
    pub(super) async fn until_load<T: Cached, E>(
        &mut self,
        answers: &mut Answers<T>,
        limits: &Limits<E>,
    ) -> Result<Ready, E> {
        let longest = limits.queue.as_ref().map(|(longest, _)| *longest);
        let full = || limits.queue.as_ref().map(|(_, full)| full());
        loop {
            self.look(answers).await;
            let wanting = self.at_step(|step| matches!(step, Step::Turn).then_some(()));
            if !wanting.is_empty() {
                match self.take_turn(longest).await {
                    Turned::Come { waited } => {
                        self.begin(&wanting, waited, answers).await;
                        if self.has_to_load() {
                            return Ok(Ready::Load);
                        }
                        self.leave_turn();
                    }
                    Turned::Overdue => self.make_do(),
                    Turned::Full => {
                        if let Some(error) = full() {
                            return Err(error);
                        }
                    }
                }
                continue;
            }
            self.take_shared(answers).await;
            let open = self.ones.iter().any(|one| !one.done);
            if !open {
                return Ok(Ready::Done);
            }
            let settled = |step: &Step<Shared>| {
                (!matches!(step, Step::Await(_) | Step::Pause { .. })).then_some(())
            };
            if self.at_step(settled).is_empty()
                && !self.wait(longest).await
                && let Some(error) = full()
            {
                return Err(error);
            }
        }
    }

    /// The turn has come: asks for what is to be known before the loader runs.
    async fn begin<T: Cached>(
        &mut self,
        wanting: &[(usize, ())],
        waited: bool,
        answers: &mut Answers<T>,
    ) {
        let chunk = &wanting[..wanting.len().min(CHUNK)];
        if self.fresh {
            return self.take_leases(chunk).await;
        }
        for (one, ()) in chunk {
            self.step(*one, |call, flights, now| {
                call.at_turn(flights, now, waited)
            });
        }
        while self.ask(answers).await {}
        self.look(answers).await;
    }

    fn has_to_load(&self) -> bool {
        !self
            .at_step(|step| matches!(step, Step::Load(_)).then_some(()))
            .is_empty()
    }

    /// Looks once more at the keys that are to be looked at.
    async fn look<T: Cached>(&mut self, answers: &mut Answers<T>) {
        let looking = self.at_step(|step| matches!(step, Step::Look).then_some(()));
        if looking.is_empty() {
            return;
        }
        let store = self.store.clone();
        let (inner, sent) = (store.inner(), store.inner().moments.moment());
        let places = looking.iter().map(|(one, ())| Place {
            key: self.key(*one).to_vec(),
            epochs: self.ones[*one].epochs.clone(),
        });
        let places: Vec<_> = places.collect();
        let sights = inner.look_each(&places, &self.of).await;
        for ((one, ()), sight) in looking.into_iter().zip(sights) {
            let seen = self.examine(one, sight, answers).await;
            let found = matches!(seen, Seen::Hit(_) | Seen::Absent);
            let patient = self.is_patient(one, &seen);
            self.step(one, |call, flights, _| {
                call.looked(flights, sent, seen, patient)
            });
            self.ones[one].done = found;
        }
    }

    /// Asks for all leases that are to be asked for; and for the clock of the tags, which is to be known before a load begins, in
    /// the same round trip. False if there are none.
    async fn ask<T: Cached>(&mut self, answers: &mut Answers<T>) -> bool {
        let asking = self.at_step(|step| match step {
            Step::Ask { rejected } => Some(*rejected),
            _ => None,
        });
        if asking.is_empty() {
            return false;
        }
        let store = self.store.clone();
        let inner = store.inner();
        let mut verbs = Vec::with_capacity(asking.len());
        for &(one, rejected) in &asking {
            let token = inner.random.next_u64();
            verbs.push(lease(token, rejected));
            let mut sent = 0;
            self.of.loads.with(|state| {
                sent = inner.moments.moment();
                self.ones[one].call.asking(&mut state.flights, sent, token);
            });
            self.ones[one].request = (sent, token);
        }
        let sights = self.place(&asking, &verbs).await;
        for ((one, _), sight) in asking.into_iter().zip(sights) {
            let seen = self.examine(one, sight, answers).await;
            let found = matches!(seen, Seen::Hit(_) | Seen::Absent);
            let patient = self.is_patient(one, &seen);
            let request = self.ones[one].request;
            self.step(one, |call, flights, now| {
                call.asked(flights, now, request, seen, patient)
            });
            self.ones[one].done = found;
        }
        true
    }

    /// Takes the leases of a call that takes nothing that is there.
    async fn take_leases(&mut self, chunk: &[(usize, ())]) {
        if !self.store.inner().is_enabled() {
            chunk
                .iter()
                .for_each(|(one, ())| self.ones[*one].step = Step::Load(None));
            return;
        }
        let rejected = Rejected::Any {
            version: self.of.meta().version,
        };
        let asking: Vec<_> = chunk.iter().map(|(one, ())| (*one, rejected)).collect();
        let mut verbs = Vec::with_capacity(asking.len());
        for (one, _) in &asking {
            let token = self.store.inner().random.next_u64();
            self.ones[*one].request = (0, token);
            verbs.push(lease(token, rejected));
        }
        let sights = self.place(&asking, &verbs).await;
        for ((one, _), sight) in asking.into_iter().zip(sights) {
            let token = self.ones[one].request.1;
            let lease = match sight {
                Sight::Other(Seen::Lease(lease)) => Some(lease).filter(|lease| lease.is_of(token)),
                _ => None,
            };
            self.ones[one].step = Step::Load(lease);
        }
    }

    /// Sends requests for leases, and gives what they show.
    async fn place(&mut self, asking: &[(usize, Rejected)], verbs: &[Placing]) -> Vec<Sight> {
        let inner = self.store.inner();
        let meta = self.of.meta();
        let keys: Vec<_> = asking.iter().map(|(one, _)| self.key(*one)).collect();
        let placed = async {
            match (&*keys, verbs) {
                ([key], [verb]) => Ok(vec![inner.backend.place(key, verb).await]),
                _ => inner.backend.place_many(&keys, verbs).await,
            }
        };
        let (placed, clock) = match meta.tagged {
            false => (placed.await, None),
            true => tokio::join!(placed, inner.clock()),
        };
        let placed = match placed {
            Ok(placed) => {
                let required = asking.iter().map(|(one, _)| &*self.ones[*one].epochs);
                inner.checked_each(placed, required, meta).await
            }
            Err(error) => Err(error),
        };
        let mut sights = Vec::with_capacity(asking.len());
        match placed {
            Ok(placed) => {
                for ((one, rejected), found) in asking.iter().zip(placed) {
                    let asked = Some((self.ones[*one].request.1, *rejected));
                    let sight = inner.sight(self.key(*one), found, asked, &self.of).await;
                    sights.push(sight);
                }
            }
            Err(error) => {
                let (of, key) = (&self.of, keys.first().copied().unwrap_or_default());
                of.log_failure_at("get_or_load", key, error, "no lease is taken");
                sights.extend(asking.iter().map(|_| Sight::Other(Seen::Closed)));
            }
        }
        if clock.is_some() {
            asking
                .iter()
                .for_each(|(one, _)| self.ones[*one].clock = clock);
        }
        sights
    }

    /// Reads the value that is there, if one is.
    async fn examine<T: Cached>(
        &mut self,
        one: usize,
        sight: Sight,
        answers: &mut Answers<T>,
    ) -> Seen<Shared> {
        let raw = match sight {
            Sight::Value(raw) => raw,
            sight => return self.note(one, sight),
        };
        let inner = self.store.inner();
        match codec::read(raw.payload()) {
            Ok(value) => {
                let seen = Seen::Hit(raw.bytes().clone().into());
                answers[self.ones[one].at] = Some(Given {
                    value,
                    origin: raw.origin(Source::Server, None, inner),
                    entry: Some(raw),
                });
                seen
            }
            Err(why) => inner.reject(self.key(one), &raw, &why, &self.of).await,
        }
    }

    /// Whether the call may wait for the lease that it is shown. Each lease has a time of its own.
    fn is_patient(&mut self, one: usize, seen: &Seen<Shared>) -> bool {
        let one = &mut self.ones[one];
        let Seen::Lease(lease) = seen else {
            return true;
        };
        let since = match one.waits {
            Some((known, since)) if known == *lease => since,
            _ => Instant::now(),
        };
        one.waits = Some((*lease, since));
        since.elapsed() < LONGEST_LOAD
    }

    // Turns.

    /// Waits for a turn. `longest` is the caller's own limit.
    async fn take_turn(&mut self, longest: Option<Duration>) -> Turned {
        let come = Turned::Come { waited: false };
        if self.turn.is_some() {
            return come;
        }
        let of = Arc::as_ptr(&self.of) as usize;
        let within = self.within.as_ref();
        if within.is_some_and(|within| within.is_of(of)) {
            self.turn = Some(Turn::Within);
            return come;
        }
        let is_within = within.is_some();
        let store = self.store.clone();
        let moments = &store.inner().moments;
        let (mut id, has) = self.of.loads.with(|state| {
            let id = moments.moment();
            (id, state.turns.enter(id, self.caller.clone()))
        });
        self.turn = Some(Turn::Own(id));
        self.caller.set_turn(Some(id));
        self.caller.leads();
        if has {
            return come;
        }
        self.of.counters().count(Count::Queued);
        self.give_back_inherited();
        let (of, caller, since) = (self.of.clone(), self.caller.clone(), Instant::now());
        let longest = longest.map(|longest| since + longest);
        // Where the load that it is part of has a turn of another type, those may wait for each other.
        let enough = is_within.then(|| since + LEASE_LIFE);
        let overdue = self
            .may_any_be_overtaken()
            .then(|| self.began + self.load_timeout());
        of.stalled(of.loads.look_at_turns(of.meta()));
        let turned = loop {
            let mut turn = pin!(caller.turn.notified());
            turn.as_mut().enable();
            let (has, lost) = of.loads.with(|state| {
                let turns = &mut state.turns;
                if !turns.contains(id) {
                    // It was taken away while nobody polled this call.
                    let again = moments.moment();
                    return (turns.enter(again, caller.clone()), Some(again));
                }
                (turns.has(id), None)
            });
            if let Some(again) = lost {
                id = again;
                self.turn = Some(Turn::Own(id));
                caller.set_turn(Some(id));
            }
            if has {
                break Turned::Come { waited: true };
            }
            let limits = [longest, enough, overdue].into_iter().flatten();
            let until = limits.fold(Instant::now() + LEASE_LIFE, Instant::min);
            if timeout_at(until, turn).await.is_ok() {
                continue;
            }
            let is_over = |limit: Option<Instant>| limit.is_some_and(|at| at <= Instant::now());
            if is_over(overdue) {
                break Turned::Overdue;
            }
            if is_over(longest) {
                break Turned::Full;
            }
            if is_over(enough) {
                self.leave_turn();
                self.turn = Some(Turn::Within);
                of.counters().count(Count::BesideTurns);
                of.warn("a load within another runs without a turn", None, || {
                    Detail::text(format_args!(
                        "loaders of several types wait for each other; `max_loads` of this one is {}",
                        of.meta().policy.max_loads
                    ))
                });
                break Turned::Come { waited: true };
            }
            of.warn("loads wait for a turn", None, || {
                Detail::text(format_args!(
                    "{} wait, one of them for {:.1?}; `max_loads` is {}: raise it, or make the loader faster",
                    of.loads.queued(),
                    since.elapsed(),
                    of.meta().policy.max_loads
                ))
            });
            of.stalled(of.loads.look_at_turns(of.meta()));
        };
        self.queued = since.elapsed();
        of.counters().queued(self.queued);
        if !matches!(turned, Turned::Come { .. }) {
            self.leave_turn();
        }
        turned
    }

    /// No lease is kept for a load that waits.
    fn give_back_inherited(&mut self) {
        for one in 0..self.ones.len() {
            let call = &mut self.ones[one].call;
            let lease = self.of.loads.with(|state| call.queues(&mut state.flights));
            if let Some(lease) = lease {
                give_back(&self.store, &self.of, self.key(one).to_vec(), lease, 0);
            }
        }
    }

    fn leave_turn(&mut self) {
        if let Some(Turn::Own(id)) = self.turn.take() {
            self.caller.set_turn(None);
            self.of.loads.with(|state| state.turns.leave(id));
        }
    }

    /// How long the type lets callers wait where there is a value that may serve.
    pub(super) fn load_timeout(&self) -> Duration {
        Duration::from_millis(self.of.meta().policy.load_timeout_millis)
    }

    /// Until when a caller waits who has a value that may serve.
    pub(super) fn overtaken_at(&self) -> Instant {
        self.began + self.load_timeout()
    }

    /// Whether there is a value to be served before the load is over.
    fn may_be_overtaken(&self, one: usize) -> bool {
        let may_serve = |kept| self.store.inner().may_serve(kept, self.of.meta());
        !self.load_timeout().is_zero() && self.ones[one].kept.as_ref().is_some_and(may_serve)
    }

    pub(super) fn may_any_be_overtaken(&self) -> bool {
        (0..self.ones.len()).any(|one| !self.ones[one].done && self.may_be_overtaken(one))
    }

    /// The value of the first key that may serve before its load is over.
    pub(super) fn overtaking<T: Cached>(&self) -> Option<(T, Raw)> {
        let kept = self.ones.first()?.kept.as_ref();
        let kept = kept.filter(|_| self.may_be_overtaken(0))?;
        Some((codec::read(kept.payload()).ok()?, kept.clone()))
    }

    /// The calls have waited for as long as their type lets those who have a value that may serve.
    fn make_do(&mut self) {
        for one in 0..self.ones.len() {
            if !self.ones[one].done && self.may_be_overtaken(one) {
                self.takes_what_serves(one);
            }
        }
    }

    fn takes_what_serves(&mut self, one: usize) {
        self.leave(one);
        if let Some(kept) = &self.ones[one].kept {
            self.ones[one].step = Step::Done(Share::Stale(kept.bytes().clone().into()));
        }
    }

    /// A call goes its own way. A lease that nobody needs any more is given back.
    fn leave(&mut self, one: usize) {
        let call = &mut self.ones[one].call;
        let unneeded = self.of.loads.with(|state| call.dropped(&mut state.flights));
        if let Some(lease) = unneeded {
            give_back(&self.store, &self.of, self.key(one).to_vec(), lease, 0);
        }
    }

    // What others load.

    /// What others have loaded meanwhile, or what is served.
    async fn take_shared<T: Cached>(&mut self, answers: &mut Answers<T>) {
        let shared = self.at_step(|step| match step {
            Step::Done(share) => Some(share.clone()),
            _ => None,
        });
        for (one, share) in shared {
            let given = match share {
                // Who shares it has read it, or loaded it: then it is the answer of that load, even if it is invalid.
                Share::Value(shared) => self.given(&shared),
                Share::Stale(shared) => self.given_stale(one, &shared).await,
                Share::Nothing => {
                    self.of.counters().count(Count::Shared);
                    self.ones[one].done = true;
                    continue;
                }
            };
            if given.is_some() {
                answers[self.ones[one].at] = given;
                self.ones[one].done = true;
            } else {
                self.ones[one].kept = None;
                self.step(one, |call, _, _| call.goes_alone());
            }
        }
    }

    fn given<T: Cached>(&self, shared: &Shared) -> Option<Given<T>> {
        let inner = self.store.inner();
        let given = match shared {
            Shared::Bytes(bytes) => {
                let raw = Raw::new(bytes.clone(), inner.limits);
                Given {
                    value: codec::decode(raw.payload()).ok()?,
                    origin: raw.origin(Source::Joined, None, inner),
                    entry: Some(raw),
                }
            }
            Shared::Value(value, stamp) => Given {
                value: value.downcast_ref::<T>()?.__try_clone()?,
                origin: Origin {
                    source: Source::Joined,
                    stamp: *stamp,
                    expires: None,
                },
                entry: None,
            },
        };
        self.of.counters().count(Count::Shared);
        Some(given)
    }

    async fn given_stale<T: Cached>(&self, one: usize, shared: &Shared) -> Option<Given<T>> {
        let inner = self.store.inner();
        let raw = Raw::new(shared.bytes()?.clone(), inner.limits);
        match codec::read(raw.payload()) {
            Ok(value) => {
                self.of.counters().count(Count::Stale);
                let origin = raw.origin(Source::Stale, None, inner);
                let entry = Some(raw);
                Some(Given {
                    value,
                    origin,
                    entry,
                })
            }
            Err(why) => {
                inner.reject(self.key(one), &raw, &why, &self.of).await;
                None
            }
        }
    }

    /// Waits until one of the flights has moved that calls wait on, or it is time to look at another process's load again. False
    /// if a call waited longer for another's turn than its caller lets it.
    async fn wait(&mut self, longest: Option<Duration>) -> bool {
        let mut moves = Vec::new();
        let mut until = Instant::now() + LEASE_LIFE;
        for one in 0..self.ones.len() {
            if self.ones[one].done {
                continue;
            }
            if !self.load_timeout().is_zero() && self.may_be_overtaken(one) {
                until = until.min(self.overtaken_at());
            }
            match self.ones[one].step {
                Step::Pause { attempt } => until = until.min(self.looks_at(one, attempt)),
                Step::Await(flight) => {
                    let signal = self.of.loads.with(|state| state.flights.wake(flight));
                    if let Some(signal) = signal {
                        let mut moved = Box::pin(signal.moved.clone().notified_owned());
                        moved.as_mut().enable();
                        if !self.watch(one, flight, signal.leader()) {
                            return true;
                        }
                        moves.push(moved);
                    }
                    // It may have moved before we listened; a flight that is over has nothing to listen to.
                    self.step(one, |call, flights, _| call.moved(flights));
                    if self.ones[one].step != Step::Await(flight) {
                        return true;
                    }
                }
                _ => {}
            }
        }
        let queued_until = longest.map(|longest| self.began + longest);
        let until = queued_until
            .filter(|_| self.waits_in_the_queue())
            .map_or(until, |limit| until.min(limit));
        let any_moves = async {
            match moves.is_empty() {
                true => std::future::pending().await,
                false => select_all(moves).map(|_| ()).await,
            }
        };
        let timed_out = timeout_at(until, any_moves).await.is_err();
        let now = Instant::now();
        for one in 0..self.ones.len() {
            if self.ones[one].done {
                continue;
            }
            if self.overtaken_at() <= now && self.may_be_overtaken(one) {
                self.takes_what_serves(one);
                continue;
            }
            match self.ones[one].step {
                Step::Pause { .. } if self.ones[one].looks.is_some_and(|at| at <= now) => {
                    self.ones[one].looks = None;
                    self.step(one, |call, _, _| call.look_again());
                }
                Step::Await(flight) => {
                    if timed_out {
                        self.depose_if_it_stands_still(one, flight);
                    }
                    self.step(one, |call, flights, _| call.moved(flights));
                }
                _ => {}
            }
        }
        queued_until.is_none_or(|limit| now < limit) || !self.waits_in_the_queue()
    }

    /// Whether a call follows a flight whose loader does not run yet.
    fn waits_in_the_queue(&self) -> bool {
        let awaited = self.at_step(|step| match step {
            Step::Await(flight) => Some(*flight),
            _ => None,
        });
        self.of.loads.with(|state| {
            let mut awaited = awaited.iter();
            awaited.any(|(_, flight)| !state.flights.loads(*flight))
        })
    }

    /// Looks at who leads the flight that a call follows. False if the call is part of what that loads: it would wait for itself,
    /// so it goes alone.
    fn watch(&mut self, one: usize, flight: FlightId, leader: Option<Arc<Caller>>) -> bool {
        let Some(leader) = leader else {
            return true;
        };
        if let Some(within) = &self.within
            && within.is_by(&leader)
        {
            self.leave(one);
            self.step(one, |call, _, _| call.goes_alone());
            return false;
        }
        let loads = self.of.loads.with(|state| state.flights.loads(flight));
        let now = Instant::now();
        let known = self.ones[one].leader.take();
        let known = known.filter(|(id, seen, _)| *id == flight && seen.is_of(&leader));
        let (seen, since) = match known {
            Some((_, seen, since)) => (seen, since),
            None => (leader.seen(), None),
        };
        let since = if loads { since.or(Some(now)) } else { None };
        self.ones[one].leader = Some((flight, seen, since));
        true
    }

    /// A leader that nobody polls, or whose load has not ended by its deadline, has the followers of its flight no more.
    fn depose_if_it_stands_still(&mut self, one: usize, flight: FlightId) {
        let longest = self.load_deadline() + LEASE_LIFE;
        let Some((id, seen, since)) = &mut self.ones[one].leader else {
            return;
        };
        let is_late = since.is_some_and(|since| since.elapsed() >= longest);
        if *id != flight || !(seen.stands_still(longest) || is_late) {
            return;
        }
        let turn = seen.turn_id();
        let deposed = self.of.loads.with(|state| {
            let contains = state.flights.contains(flight);
            state.flights.depose(flight);
            if let Some(turn) = turn {
                state.turns.leave(turn);
            }
            contains
        });
        self.of.stalled(usize::from(deposed));
    }

    /// When a call looks again at what another process loads.
    fn looks_at(&mut self, one: usize, attempt: u32) -> Instant {
        if let Some(at) = self.ones[one].looks {
            return at;
        }
        if attempt == 1 {
            self.of.counters().count(Count::Waited);
        }
        let longest = FIRST_PAUSE
            .saturating_mul(1 << attempt.saturating_sub(1).min(10))
            .min(LONGEST_PAUSE);
        let half = longest / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        let jitter = Duration::from_micros(self.store.inner().random.next_u64() % spread);
        let at = Instant::now() + half + jitter;
        self.ones[one].looks = Some(at);
        at
    }

    // Loads.

    /// Loads what the caller has, and is to be refreshed, unless another does.
    pub(super) async fn refresh<T: Cached, E: Send>(
        mut self,
        cause: Span,
        load: &mut Loader<'_, T, E>,
    ) {
        let mut answers = vec![None];
        let waited = match self.take_turn(Some(LONGEST_LOAD)).await {
            Turned::Come { waited } => waited,
            Turned::Overdue | Turned::Full => return,
        };
        self.step(0, |call, flights, now| call.at_turn(flights, now, waited));
        self.ask(&mut answers).await;
        if let Step::Load(Some(_)) = self.ones[0].step {
            self.of.counters().count(Count::Refresh);
            // How it failed is nobody's concern; that it did is counted.
            let _ = self
                .load(&mut answers, None, &Limits::NONE, Some(&cause), load)
                .await;
        }
    }

    /// Runs the loader for what is to be loaded, while the leases are kept, and ends the loads by what it gave. `beside` is the
    /// span of the call that a load follows from which nobody waits for: it is ended when it takes too long.
    pub(super) async fn load<T: Cached, E: Send>(
        &mut self,
        answers: &mut Answers<T>,
        ttl: Option<Ttl>,
        limits: &Limits<E>,
        beside: Option<&Span>,
        load: &mut Loader<'_, T, E>,
    ) -> Result<(), Failed<E>> {
        let which = self.at_step(|step| match step {
            Step::Load(lease) => Some(*lease),
            _ => None,
        });
        for (one, lease) in &which {
            self.ones[*one].lease = *lease;
        }
        let which: Vec<_> = which.into_iter().map(|(one, _)| one).collect();
        let begun = self.begun(&which).await;
        // What it has not claimed may be gone.
        let wanted = which.iter().map(|one| Wanted {
            at: self.ones[*one].at,
            kept: self.claimed(*one),
        });
        let within = Within::new(
            &self.caller,
            Arc::as_ptr(&self.of) as usize,
            self.within.clone(),
        );
        let running = Running::new(within, load(wanted.collect()));
        let of = self.of.clone();
        let work = run_loader(&of, which.len(), beside, self.queued, running);
        let mut work = pin!(work);
        self.loading = true;
        let started = Instant::now();
        let ended = {
            let mut late = pin!(self.keep(&which, beside.is_some()));
            tokio::select! {
                biased;
                ended = &mut work => Some(ended),
                () = &mut late => None,
            }
        };
        let outcome = match ended {
            Some((outcome, longest_poll)) => {
                self.say_if_not_kept(started.elapsed(), longest_poll);
                match outcome {
                    Ok(Ok(values)) => {
                        self.store_each(which, begun, values, ttl, answers).await;
                        Ok(())
                    }
                    Ok(Err(error)) => match self.serve(&which, answers).await {
                        true => Ok(()),
                        false => Err(Failed::Loader(error)),
                    },
                    Err(panic) => {
                        self.panicked(&which, answers, panic).await;
                        Ok(())
                    }
                }
            }
            None => {
                let served = self.is_late(&which, answers).await;
                match (served, limits.late) {
                    (true, _) => Ok(()),
                    (false, _) if beside.is_some() => Err(Failed::Late),
                    (false, Some(late)) => Err(Failed::Loader(late())),
                    // It has nothing that others need: it goes on for its own caller.
                    (false, None) => match work.await.0 {
                        Ok(Ok(values)) => {
                            self.answer_each(&which, &begun, values, answers);
                            Ok(())
                        }
                        Ok(Err(error)) => Err(Failed::Loader(error)),
                        Err(panic) => resume_unwind(panic),
                    },
                }
            }
        };
        self.loading = false;
        self.leave_turn();
        outcome
    }

    fn claimed(&self, one: usize) -> Option<Raw> {
        let One { kept, lease, .. } = &self.ones[one];
        kept.clone().filter(|kept| kept.is_claimed_by(*lease))
    }

    /// What is known of each load as it begins. The clock of the tags is read once for all that lack it.
    async fn begun(&mut self, which: &[usize]) -> Vec<Begun> {
        let inner = self.store.inner();
        let clocks = which.iter().map(|one| {
            let one = &self.ones[*one];
            Clock::of(one.lease, one.request.1, one.clock, self.of.meta())
        });
        let clocks: Vec<_> = clocks.collect();
        let now = match clocks.contains(&Clock::ToBeRead) {
            true => inner.clock().await,
            false => None,
        };
        let begun = which.iter().zip(clocks).map(|(one, clock)| {
            let clock = match clock {
                Clock::Known(clock) => clock,
                Clock::ToBeRead => now,
            };
            Begun::now(self.ones[*one].lease, clock, inner)
        });
        begun.collect()
    }

    /// How long a loader may run.
    fn load_deadline(&self) -> Duration {
        Duration::from_millis(self.of.meta().policy.load_deadline_millis)
    }

    /// Renews the leases until the longest load is over, or they are lost: then what is loaded will not be stored. Returns once
    /// the load has taken too long.
    async fn keep(&self, which: &[usize], beside: bool) {
        let inner = self.store.inner();
        let began = Instant::now();
        let longest = match beside {
            true => self.load_deadline().min(LONGEST_LOAD),
            false => self.load_deadline(),
        };
        let until = began + longest.min(LONGEST_LOAD);
        let life = millis(LEASE_LIFE);
        let leased = which.iter().filter_map(|one| {
            let lease = self.ones[*one].lease?;
            Some((self.key(*one), Verb::RenewLease { lease, life }))
        });
        let mut leased: Vec<_> = leased.collect();
        while !leased.is_empty() && Instant::now() + RENEWAL < until {
            sleep(RENEWAL).await;
            let (keys, verbs): (Vec<_>, Vec<_>) = leased.iter().cloned().unzip();
            let renewed = match inner.backend.apply_each(&keys, &verbs).await {
                Ok(renewed) => renewed,
                Err(error) => {
                    let what = "a lease is not renewed";
                    self.of.log_failure_at("get_or_load", keys[0], error, what);
                    continue;
                }
            };
            let mut renewed = renewed.into_iter();
            leased.retain(|(key, _)| match renewed.next() {
                Some(Ok(held)) => held,
                Some(Err(error)) => {
                    let what = "a lease is not renewed";
                    self.of.log_failure_at("get_or_load", key, error, what);
                    true
                }
                None => true,
            });
        }
        sleep_until(began + longest).await;
    }

    fn say_if_not_kept(&self, took: Duration, longest_poll: Duration) {
        let leased = self.ones.iter().any(|one| one.lease.is_some());
        if longest_poll >= LEASE_LIFE && leased {
            self.of.counters().count(Count::StalledLoad);
            self.of
                .warn("a loader blocked its thread, so its load is not stored", None, || {
                    Detail::text(format_args!(
                        "for {longest_poll:.1?}, while its lease could not be renewed: run what blocks in `spawn_blocking`"
                    ))
                });
        } else if took >= LONGEST_LOAD && leased {
            self.of.warn("a load took too long to be stored", None, || {
                Detail::text(format_args!(
                    "it took {took:.1?}, and its lease is renewed for {LONGEST_LOAD:?}"
                ))
            });
        }
    }

    /// Stores what was loaded, and gives it.
    async fn store_each<T: Cached>(
        &mut self,
        which: Vec<usize>,
        begun: Vec<Begun>,
        values: Vec<(usize, Loaded<T>)>,
        ttl: Option<Ttl>,
        answers: &mut Answers<T>,
    ) {
        let mut values: HashMap<_, _> = values.into_iter().collect();
        let mut ends = Vec::with_capacity(which.len());
        for (one, begun) in which.into_iter().zip(begun) {
            let at = self.ones[one].at;
            let loaded = values.remove(&at).unwrap_or_else(Loaded::absent);
            let kept = self.claimed(one);
            let inner = self.store.inner();
            let (key, epochs) = (self.key(one), &self.ones[one].epochs);
            let end = inner.end_of(key, epochs, &begun, &loaded, kept.as_ref(), ttl, &self.of);
            let left = match &end.then {
                Then::Store(_, ttl) | Then::Confirm(_, ttl) => Some(ttl_left(*ttl)),
                Then::Discard | Then::Release | Then::GiveBack => None,
            };
            let entry = match &end.followers {
                Ended::Share(Share::Value(shared) | Share::Stale(shared)) => shared.bytes(),
                Ended::Share(Share::Nothing)
                | Ended::Early(_)
                | Ended::Failed
                | Ended::Overtaken => None,
            };
            let entry = entry.map(|bytes| Raw::new(bytes.clone(), inner.limits));
            let origin = match (&end.followers, &entry) {
                (Ended::Share(Share::Value(_)), Some(raw)) if left.is_some() => {
                    raw.origin(Source::Loaded, left, inner)
                }
                (Ended::Share(Share::Stale(_)), Some(raw)) => self.serves(raw),
                _ => Origin {
                    source: Source::Loaded,
                    stamp: begun.stamp,
                    expires: None,
                },
            };
            answers[at] = loaded.value.map(|value| Given {
                value,
                origin,
                entry,
            });
            ends.push((one, end));
        }
        let ones: Vec<_> = ends.iter().map(|(one, _)| *one).collect();
        let stored = self.end(ends).await;
        for (one, stored) in ones.into_iter().zip(stored) {
            if let Some(given) = &mut answers[self.ones[one].at]
                && !stored
            {
                given.origin.expires = None;
            }
        }
    }

    /// Gives what was loaded too late to be shared or stored.
    fn answer_each<T: Cached>(
        &mut self,
        which: &[usize],
        begun: &[Begun],
        values: Vec<(usize, Loaded<T>)>,
        answers: &mut Answers<T>,
    ) {
        let mut values: HashMap<_, _> = values.into_iter().collect();
        for (one, begun) in which.iter().zip(begun) {
            let at = self.ones[*one].at;
            let value = values.remove(&at).and_then(|loaded| loaded.value);
            answers[at] = value.map(|value| Given {
                value,
                origin: Origin {
                    source: Source::Loaded,
                    stamp: begun.stamp,
                    expires: None,
                },
                entry: None,
            });
        }
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

    /// The loader has panicked. The load has failed; where no value may serve, the panic goes on.
    async fn panicked<T: Cached>(
        &mut self,
        which: &[usize],
        answers: &mut Answers<T>,
        panic: Panic,
    ) {
        self.of.warn("a loader panicked", None, || Detail {
            operation: Some("get_or_load"),
            key: self.of.keys().of_failure(self.key(which[0])),
            text: String::new(),
        });
        if !self.fail(which, answers, || End::LATE).await {
            self.loading = false;
            self.leave_turn();
            resume_unwind(panic);
        }
    }

    /// The load has taken too long, and is a failed one to everybody but its own caller. True if values serve that were there.
    async fn is_late<T: Cached>(&mut self, which: &[usize], answers: &mut Answers<T>) -> bool {
        self.of.counters().count(Count::LateLoad);
        self.of.warn(
            "a load passed its deadline",
            Some(ErrorKind::Timeout),
            || Detail {
                operation: Some("get_or_load"),
                key: self.of.keys().of_failure(self.key(which[0])),
                text: format!(
                    "it ran for longer than {:?}: see `load_deadline`",
                    self.load_deadline()
                ),
            },
        );
        let served = self.fail(which, answers, || End::LATE).await;
        self.leave_turn();
        served
    }

    /// The loader failed. True if all that it was to load has a value that may serve: those are the answers.
    async fn serve<T: Cached>(&mut self, which: &[usize], answers: &mut Answers<T>) -> bool {
        self.fail(which, answers, || End::FAILED).await
    }

    async fn fail<T: Cached>(
        &mut self,
        which: &[usize],
        answers: &mut Answers<T>,
        failed: fn() -> End,
    ) -> bool {
        self.of.counters().count(Count::FailedLoad);
        let mut served = Vec::with_capacity(which.len());
        let mut ends = Vec::with_capacity(which.len());
        for &one in which {
            let inner = self.store.inner();
            let lease = self.ones[one].lease;
            let kept = self.ones[one].kept.take();
            let kept = kept.filter(|kept| inner.may_serve(kept, self.of.meta()));
            let read = kept.as_ref().map(|kept| codec::read::<T>(kept.payload()));
            let end = match (kept, read) {
                (Some(kept), Some(Ok(value))) => {
                    let end = End::fallen_back(&kept, lease);
                    served.push((one, value, kept));
                    end
                }
                (Some(kept), Some(Err(why))) => {
                    let unreadable = inner.unreadable(self.key(one), &kept, &why, lease, &self.of);
                    unreadable.await
                }
                _ => failed(),
            };
            ends.push((one, end));
        }
        let all = served.len() == which.len();
        if all {
            self.of.warn(
                "a load failed, and the value that is there is served",
                None,
                || Detail {
                    operation: Some("get_or_load"),
                    key: self.of.keys().of_failure(self.key(which[0])),
                    text: String::new(),
                },
            );
            for (one, value, kept) in served {
                let origin = self.serves(&kept);
                answers[self.ones[one].at] = Some(Given {
                    value,
                    origin,
                    entry: Some(kept),
                });
            }
        }
        self.end(ends).await;
        all
    }

    // Ends.

    /// The loads have ended: what has a lease is stored or given back. Followers are told before; where there are tags only once
    /// that is done. Says of each whether something was stored.
    async fn end(&mut self, mut ends: Vec<(usize, End)>) -> Vec<bool> {
        let waits = ends
            .iter()
            .map(|(one, end)| end.waits(self.ones[*one].lease));
        let waits: Vec<bool> = waits.collect();
        self.admit(&mut ends).await;
        for ((one, end), waits) in ends.iter().zip(&waits) {
            self.ones[*one].done = true;
            if !waits {
                self.tell(*one, end.followers.clone());
            }
        }
        let done = self.carry_out(&ends).await;
        for (((one, end), waits), done) in ends.iter().zip(&waits).zip(&done) {
            if *waits {
                self.tell(*one, end.told(done.is_some()));
            }
        }
        done.into_iter().map(|done| done == Some(true)).collect()
    }

    fn tell(&mut self, one: usize, followers: Ended<Shared>) {
        let call = &mut self.ones[one].call;
        self.of
            .loads
            .with(|state| call.loaded(&mut state.flights, followers));
    }

    /// Which of the loads were overtaken by the invalidation of a tag. Nobody joins any of them any more who might have come after
    /// that.
    async fn admit(&mut self, ends: &mut [(usize, End)]) {
        if !self.of.meta().tagged {
            return;
        }
        self.of.loads.with(|state| {
            for (one, _) in ends.iter() {
                self.ones[*one].call.closing(&mut state.flights);
            }
        });
        let waits = |one: usize, end: &End| end.waits(self.ones[one].lease);
        let asking = ends.iter().filter(|(one, end)| waits(*one, end));
        let bids: Vec<_> = asking
            .filter_map(|(_, end)| Some(end.tags.as_ref()?.bid()))
            .collect();
        if bids.is_empty() {
            return;
        }
        let mut admitted = self.store.inner().admit_each(&bids).await.into_iter();
        for (one, end) in ends.iter_mut() {
            if waits(*one, end) && admitted.next() != Some(true) {
                *end = End::OVERTAKEN;
            }
        }
    }

    /// What becomes of the leases. `None` of one that was not there any more; else whether something was stored.
    async fn carry_out(&self, ends: &[(usize, End)]) -> Vec<Option<bool>> {
        let inner = self.store.inner();
        let mut done = vec![None; ends.len()];
        let verbs = ends.iter().enumerate().filter_map(|(at, (one, end))| {
            let verb = end.verb(self.ones[*one].lease, inner, self.of.meta())?;
            Some((at, (self.key(*one), verb)))
        });
        let (places, verbs): (Vec<_>, Vec<_>) = verbs.unzip();
        let (keys, verbs): (Vec<_>, Vec<_>) = verbs.into_iter().unzip();
        let answers = match (&*keys, &*verbs) {
            ([], _) => return done,
            ([key], [verb]) => Ok(vec![inner.backend.apply(key, verb).await]),
            _ => inner.backend.apply_each(&keys, &verbs).await,
        };
        // The leases run out by themselves.
        let what = "a load is not stored, nor its lease given back";
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                self.of.log_failure_at("get_or_load", keys[0], error, what);
                return done;
            }
        };
        for (((at, key), verb), answer) in places.into_iter().zip(keys).zip(&verbs).zip(answers) {
            let fills = matches!(verb, Verb::Fill { .. } | Verb::Confirm { .. });
            match answer {
                Ok(true) => {
                    let counters = self.of.counters();
                    counters.add(Count::WrittenBytes, Write::Apply(*verb).size());
                    done[at] = Some(fills);
                }
                Ok(false) if fills => self.of.counters().count(Count::RefusedFill),
                Ok(false) => {}
                Err(error) => self.of.log_failure_at("get_or_load", key, error, what),
            }
        }
        done
    }
}

impl Drop for Driver {
    /// The caller is gone, by cancellation or panic, or is done. Followers lead on; leases that nobody needs any more are given
    /// back, else they would keep others waiting until they run out.
    fn drop(&mut self) {
        self.leave_turn();
        // What a type does to its values may panic too.
        let failed = self.loading && std::thread::panicking();
        let pause = match failed {
            true => {
                self.of.counters().count(Count::FailedLoad);
                let meta = self.of.meta();
                let inner = self.store.inner();
                inner.jittered(meta.policy.retry_after_millis, meta)
            }
            false => 0,
        };
        let unneeded = self.of.loads.with(|state| {
            let dropped = self.ones.iter_mut().map(|one| {
                let lease = one.call.dropped(&mut state.flights);
                (lease, one.call.key())
            });
            let unneeded = dropped.filter_map(|(lease, key)| Some((lease?, key.to_vec())));
            unneeded.collect::<Vec<_>>()
        });
        for (lease, key) in unneeded {
            give_back(&self.store, &self.of, key, lease, pause);
        }
    }
}

fn lease(token: u64, rejected: Rejected) -> Placing {
    Placing::Lease {
        token,
        life: millis(LEASE_LIFE),
        rejected,
    }
}
