//! Loading calls at work: the driver does what the [`Step`]s of its calls say, with the server, its
//! timers and the loader.
//!
//! A call may load one key or many; each key is a [`Call`] of its own. What the calls are to load
//! themselves they load and store first, by one run of the loader for at most [`CHUNK`] keys. Only
//! then do they wait for keys that others load, and for all of them at once, so that two such
//! drivers never wait for each other.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::counters::Count;
use crate::base::error::Result;
use crate::core::caller::{Caller, Observed, Within};
use crate::core::entry::Origin;
use crate::core::loads::{Key, TypeFlights};
use crate::core::options::LoadOptions;
use crate::core::shared::Shared;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::call::{Call, Seen, Step};
use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::flights::{FlightId, Moment};
use crate::protocol::lease::{LEASE_LIFE, millis};
use crate::protocol::transition::{Placing, Rejected};
use crate::protocol::turns::TurnId;
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::loading::loader::Limits;
use crate::verbs::loading::run::{Request, give_back};
use crate::verbs::loading::sight::Sight;
use crate::verbs::raw::Raw;

/// The most keys that a loader is given at a time.
pub(crate) const CHUNK: usize = 1000;

/// What a call gives of a key, by its place: the value, and what is known of its entry.
pub(crate) type Answers<T> = Vec<Option<Given<T>>>;

pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
    /// What is there, or was stored.
    pub(crate) entry: Option<Raw>,
}

impl<T: CachedType> Given<T> {
    /// The value once more, for a key that was asked for twice.
    pub(crate) fn again(&self) -> Option<T> {
        self.value.__try_clone().or_else(|| {
            let entry = self.entry.as_ref()?;
            codec::decode(entry.payload()).ok()
        })
    }
}

/// What the calls come to.
pub(crate) enum Ready {
    /// All answers are there.
    Done,
    /// [`Driver::load`].
    Load,
}

/// How a load ends that gives no answers.
pub(crate) enum Failed<E> {
    Loader(E),
    /// It was ended, since it took too long.
    Late,
}

/// What came of waiting for a turn.
pub(crate) enum Turned {
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
pub(crate) enum Turn {
    Own(TurnId),
    /// Its load is part of one that has a turn, or waited for long enough for that.
    Within,
}

/// Does what its calls' steps say.
pub(crate) struct Driver {
    pub(crate) store: Store,
    pub(crate) of: Arc<Type>,
    pub(crate) caller: Arc<Caller>,
    pub(crate) within: Option<Arc<Within>>,
    pub(crate) ones: Vec<One>,
    pub(crate) turn: Option<Turn>,
    /// For how long it waited for its turn.
    pub(crate) queued: Duration,
    pub(crate) began: Instant,
    pub(crate) options: LoadOptions,
    /// A loader runs.
    pub(crate) loading: bool,
}

/// The call of one key.
pub(crate) struct One {
    /// Its place among the keys of the call.
    pub(crate) at: usize,
    pub(crate) call: Call<Key>,
    pub(crate) step: Step<Shared>,
    /// Of the tags that follow from the key.
    pub(crate) epochs: Vec<Vec<u8>>,
    /// That of the tags, as it stood when the lease was asked for.
    pub(crate) clock: Option<u64>,
    /// What it loads under, if anything.
    pub(crate) lease: Option<Lease>,
    /// The value that was there when the server was last asked, and that its time is over for, or
    /// will be soon.
    pub(crate) kept: Option<Raw>,
    /// The request whose answer is being examined.
    pub(crate) request: Request,
    /// The lease of another process that it waits for, and since when.
    pub(crate) waits: Option<(Lease, Instant)>,
    /// When it looks again.
    pub(crate) looks: Option<Instant>,
    /// Who leads the flight that it follows, as it was seen; and since when its loader was seen to
    /// run.
    pub(crate) leader: Option<(FlightId, Observed, Option<Instant>)>,
    /// The flight that others know it leads.
    led: Option<FlightId>,
    /// It takes nothing that is cached.
    pub(crate) fresh: bool,
    /// Its answer is known.
    pub(crate) done: bool,
}

impl Driver {
    pub(crate) fn new(store: &Store, of: &Arc<Type>, options: LoadOptions) -> Self {
        Self {
            store: store.clone(),
            of: of.clone(),
            caller: Arc::default(),
            within: Within::current(),
            ones: Vec::new(),
            turn: None,
            queued: Duration::ZERO,
            began: Instant::now(),
            options,
            loading: false,
        }
    }

    pub(crate) fn is_needed(&self) -> bool {
        !self.ones.is_empty()
    }

    pub(crate) fn caller(&self) -> Arc<Caller> {
        self.caller.clone()
    }

    /// A key, and what a first look has shown of it.
    pub(crate) fn add(&mut self, at: usize, place: Place, began: Moment, sight: Sight) {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(at, call, place);
        let seen = self.note(one, sight);
        self.step(one, |call, flights, _| call.got(flights, seen));
    }

    /// A key that takes nothing that is there: the call takes the lease, whoever has it, and shares
    /// with nobody.
    pub(crate) fn add_fresh(&mut self, at: usize, place: Place, began: Moment) {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(at, call, place);
        self.ones[one].fresh = true;
        self.step(one, |call, _, _| call.goes_alone());
    }

    /// A key whose value the caller has, and that is to be loaded again, unless a load of it is
    /// under way.
    pub(crate) fn add_refresh(&mut self, at: usize, place: Place, began: Moment, raw: &Raw) {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(at, call, place);
        let stamp = raw.header.stamp;
        let mut leads = false;
        self.step(one, |call, flights, _| {
            let step = call.refreshes(flights, stamp);
            leads = step.is_some();
            step.unwrap_or(Step::Turn)
        });
        if !leads {
            self.ones.pop();
        }
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
            fresh: false,
            done: false,
        });
        self.ones.len() - 1
    }

    /// Has a call make a step. Others learn who leads.
    pub(crate) fn step(
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

    pub(crate) fn key(&self, one: usize) -> &[u8] {
        self.ones[one].call.key()
    }

    /// The calls that are not done yet and at a step like this.
    pub(crate) fn at_step<R>(&self, step: impl Fn(&Step<Shared>) -> Option<R>) -> Vec<(usize, R)> {
        let open = self.ones.iter().enumerate().filter(|(_, one)| !one.done);
        open.filter_map(|(at, one)| Some((at, step(&one.step)?)))
            .collect()
    }

    /// Keeps hold of a value that may have to serve.
    pub(crate) fn note(&mut self, one: usize, sight: Sight) -> Seen<Shared> {
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
    pub(crate) async fn until_load<T: CachedType, E>(
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
    async fn begin<T: CachedType>(
        &mut self,
        wanting: &[(usize, ())],
        waited: bool,
        answers: &mut Answers<T>,
    ) {
        let chunk = &wanting[..wanting.len().min(CHUNK)];
        let (fresh, chunk): (Vec<_>, Vec<_>) =
            chunk.iter().partition(|(one, ())| self.ones[*one].fresh);
        if !fresh.is_empty() {
            self.take_leases(&fresh).await;
        }
        for (one, ()) in &chunk {
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

    /// How long the type lets callers wait where there is a value that may serve.
    pub(crate) fn load_timeout(&self) -> Duration {
        Duration::from_millis(self.of.meta().policy.load_timeout_millis)
    }
}

impl Drop for Driver {
    /// The caller is gone, by cancellation or panic, or is done. Followers lead on; leases that
    /// nobody needs any more are given back, else they would keep others waiting until they run
    /// out.
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

pub(crate) fn lease(token: u64, rejected: Rejected) -> Placing {
    Placing::Lease {
        token,
        life: millis(LEASE_LIFE),
        rejected,
    }
}
