//! The driver: it carries out the [`Step`]s of loading calls, with the server, timers and the
//! loader.
//!
//! A driver has one or many keys, each with a [`Call`] of its own. It first loads and stores the
//! keys that are its own to load, by one run of the loader for at most [`CHUNK`] keys. Only then
//! does it wait for keys that others load, and for all of them at once. So two drivers never wait
//! for each other.

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
use crate::verbs::lifetimes::Lifetimes;
use crate::verbs::loading::loader::Limits;
use crate::verbs::loading::run::{Request, give_back};
use crate::verbs::loading::sight::Sight;
use crate::verbs::raw::Raw;

/// The most keys in one run of a loader.
pub(crate) const CHUNK: usize = 1000;

/// The answers of a call, by the positions of its keys: each value with its origin and entry.
pub(crate) type Answers<T> = Vec<Option<Given<T>>>;

pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
    /// The cached or stored entry.
    pub(crate) entry: Option<Raw>,
}

impl<T: CachedType> Given<T> {
    /// A second copy of the value, for a key that was requested twice.
    pub(crate) fn again(&self) -> Option<T> {
        self.value.__try_clone().or_else(|| {
            let entry = self.entry.as_ref()?;
            codec::decode(entry.payload()).ok()
        })
    }
}

/// The next action of a driver's owner.
pub(crate) enum Ready {
    /// All answers are complete.
    Done,
    /// Call [`Driver::load`].
    Load,
}

/// The failure of a load without answers.
pub(crate) enum Failed<E> {
    Loader(E),
    /// It was ended, because it took too long.
    Late,
}

/// The result of waiting for a turn.
pub(crate) enum Turned {
    Come {
        waited: bool,
    },
    /// The wait has reached `load_timeout`, and a stale value may be served.
    Overdue,
    /// The wait has reached the caller's limit.
    Full,
}

/// The turn that a driver has, or waits for.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    Own(TurnId),
    /// None of its own: its load is part of one that has a turn, or it has waited long enough for
    /// one.
    Within,
}

/// Carries out the steps of its calls.
pub(crate) struct Driver {
    pub(crate) store: Store,
    pub(crate) of: Arc<Type>,
    pub(crate) caller: Arc<Caller>,
    pub(crate) within: Option<Arc<Within>>,
    pub(crate) ones: Vec<One>,
    pub(crate) turn: Option<Turn>,
    /// The time spent in the queue for a turn.
    pub(crate) queued: Duration,
    pub(crate) began: Instant,
    pub(crate) options: LoadOptions,
    /// A loader is running.
    pub(crate) loading: bool,
}

/// The call of one key.
pub(crate) struct One {
    /// Its position among the keys of the call.
    pub(crate) at: usize,
    pub(crate) call: Call<Key>,
    pub(crate) step: Step<Shared>,
    /// Of the tags that follow from the key.
    pub(crate) epochs: Vec<Vec<u8>>,
    /// The tag clock when the lease was requested.
    pub(crate) clock: Option<u64>,
    /// The lease under which it loads, if any.
    pub(crate) lease: Option<Lease>,
    /// The value at the last look at the server, if it is stale or soon will be.
    pub(crate) kept: Option<Raw>,
    /// The store could not be asked at the last look.
    pub(crate) unasked: bool,
    /// The request whose answer is being examined.
    pub(crate) request: Request,
    /// The lease of another process that it waits for, and the start of the wait.
    pub(crate) waits: Option<(Lease, Instant)>,
    /// The time of its next look.
    pub(crate) looks: Option<Instant>,
    /// The leader of the flight that it follows, as last observed, and when its loader was first
    /// seen running.
    pub(crate) leader: Option<(FlightId, Observed, Option<Instant>)>,
    /// The flight for which it is announced as the leader.
    led: Option<FlightId>,
    /// It ignores cached values.
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

    /// Adds a key with the result of its first look.
    pub(crate) fn add(&mut self, at: usize, place: Place, began: Moment, sight: Sight) {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(at, call, place);
        let seen = self.note(one, sight);
        self.step(one, |call, flights, _| call.got(flights, seen));
    }

    /// Adds a key that ignores a cached value. Its call takes the lease from any holder, and shares
    /// its load with nobody.
    pub(crate) fn add_fresh(&mut self, at: usize, place: Place, began: Moment) {
        let call = Call::new(place.key.as_slice().into(), began);
        let one = self.push(at, call, place);
        self.ones[one].fresh = true;
        self.step(one, |call, _, _| call.goes_alone());
    }

    /// Adds a key with a cached value that is to be refreshed, unless a load of it is under way.
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
            unasked: false,
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

    /// Moves a call to its next step, and announces the leader of its flight.
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

    /// The unfinished calls at the steps that `step` selects.
    pub(crate) fn at_step<R>(&self, step: impl Fn(&Step<Shared>) -> Option<R>) -> Vec<(usize, R)> {
        let open = self.ones.iter().enumerate().filter(|(_, one)| !one.done);
        open.filter_map(|(at, one)| Some((at, step(&one.step)?)))
            .collect()
    }

    /// Keeps a value that may have to be served.
    pub(crate) fn note(&mut self, one: usize, sight: Sight) -> Seen<Shared> {
        self.ones[one].unasked = matches!(sight, Sight::Unasked);
        match sight {
            Sight::Unasked => Seen::Closed,
            Sight::Value(raw) => Seen::Hit(raw.bytes().clone().into()),
            Sight::Kept(seen, raw) => {
                self.ones[one].kept = Some(raw);
                seen
            }
            Sight::Other(seen) => seen,
        }
    }

    /// Continues until all answers are complete, or the loader must run.
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

    /// Begins a turn: requests leases and clock before the loader runs.
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

    /// The type's soft timeout, after which a stale value is served.
    pub(crate) fn load_timeout(&self) -> Duration {
        Duration::from_millis(self.of.meta().policy.load_timeout_millis)
    }
}

impl Drop for Driver {
    /// The caller was cancelled, panicked, or is done. Its followers take over the load. Leases
    /// that nobody needs are released: otherwise others would wait for them until they expire.
    fn drop(&mut self) {
        self.leave_turn();
        // The type's own code may panic too, not only the loader.
        let failed = self.loading && std::thread::panicking();
        if failed {
            self.of.counters().count(Count::FailedLoad);
        }
        let (inner, meta) = (self.store.inner(), self.of.meta());
        let pause = |kept: Option<&Raw>| match failed {
            true => Lifetimes(inner).pause(kept, meta),
            false => 0,
        };
        let unneeded = self.of.loads.with(|state| {
            let dropped = self.ones.iter_mut().map(|one| {
                let lease = one.call.dropped(&mut state.flights);
                (lease, &*one)
            });
            let unneeded = dropped.filter_map(|(lease, one)| {
                Some((lease?, one.call.key().to_vec(), pause(one.kept.as_ref())))
            });
            unneeded.collect::<Vec<_>>()
        });
        for (lease, key, pause) in unneeded {
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
