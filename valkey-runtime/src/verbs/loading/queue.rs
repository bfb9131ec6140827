//! Waiting for a turn.

use crate::base::clock::later;
use crate::base::counters::Count;
use crate::base::warnings::Detail;
use crate::protocol::call::Step;
use crate::protocol::lease::LEASE_LIFE;
use crate::protocol::share::Share;
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::loading::driver::{Driver, Given, Turn, Turned};
use crate::verbs::loading::end::LoadEnds;
use crate::verbs::loading::run::give_back;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

impl Driver {
    /// Waits for a turn. `longest` is the caller's own limit.
    pub(crate) async fn take_turn(&mut self, longest: Option<Duration>) -> Turned {
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
        let longest = longest.map(|longest| later(since, longest));
        // If the load around this one has a turn of another type, the two may wait for each other.
        let enough = is_within.then(|| since + LEASE_LIFE);
        let overdue = self.may_any_be_overtaken().then(|| self.overtaken_at());
        of.stalled(of.loads.look_at_turns(of.meta()));
        let turned = loop {
            let mut turn = pin!(caller.turn.notified());
            turn.as_mut().enable();
            let (has, lost) = of.loads.with(|state| {
                let turns = &mut state.turns;
                if !turns.contains(id) {
                    // The turn was taken away while nobody polled this call.
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
                of.warn("a nested load runs without a turn", None, || {
                    Detail::text(format_args!(
                        "loaders of several types wait for each other; `max_loads` of this type is {}",
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

    /// Releases inherited leases: a waiting load keeps none.
    pub(crate) fn give_back_inherited(&mut self) {
        for one in 0..self.ones.len() {
            let call = &mut self.ones[one].call;
            let lease = self.of.loads.with(|state| call.queues(&mut state.flights));
            if let Some(lease) = lease {
                give_back(&self.store, &self.of, self.key(one).to_vec(), lease, 0);
            }
        }
    }

    pub(crate) fn leave_turn(&mut self) {
        if let Some(Turn::Own(id)) = self.turn.take() {
            self.caller.set_turn(None);
            self.of.loads.with(|state| state.turns.leave(id));
        }
    }

    /// The time at which a waiting caller is served a stale value.
    pub(crate) fn overtaken_at(&self) -> Instant {
        later(self.began, self.load_timeout())
    }

    /// Whether there is a stale value that may be served before the load ends.
    pub(crate) fn may_be_overtaken(&self, one: usize) -> bool {
        let may_serve = |kept| LoadEnds(self.store.inner()).may_serve(kept, self.of.meta());
        !self.load_timeout().is_zero() && self.ones[one].kept.as_ref().is_some_and(may_serve)
    }

    pub(crate) fn may_any_be_overtaken(&self) -> bool {
        (0..self.ones.len()).any(|one| !self.ones[one].done && self.may_be_overtaken(one))
    }

    /// The stale values of all keys without an answer, with their positions. `None` unless each key
    /// has one that may be served before its load ends.
    pub(crate) fn overtaking<T: CachedType>(&self) -> Option<Vec<(usize, Given<T>)>> {
        let inner = self.store.inner();
        let open = (0..self.ones.len()).filter(|one| !self.ones[*one].done);
        let stale = open.map(|one| {
            let kept = self.ones[one].kept.as_ref();
            let kept = kept.filter(|_| self.may_be_overtaken(one))?;
            let given = Given {
                value: codec::read(kept.payload()).ok()?,
                origin: kept.kept_origin(inner),
                entry: Some(kept.clone()),
            };
            Some((self.ones[one].at, given))
        });
        stale.collect()
    }

    /// Serves stale values after `load_timeout`, to all calls that have one.
    pub(crate) fn make_do(&mut self) {
        for one in 0..self.ones.len() {
            if !self.ones[one].done && self.may_be_overtaken(one) {
                self.takes_what_serves(one);
            }
        }
    }

    pub(crate) fn takes_what_serves(&mut self, one: usize) {
        self.leave(one);
        if let Some(kept) = &self.ones[one].kept {
            self.ones[one].step = Step::Done(Share::Stale(kept.bytes().clone().into()));
        }
    }

    /// Takes a call out of its flight. A lease that nobody needs is released.
    pub(crate) fn leave(&mut self, one: usize) {
        let call = &mut self.ones[one].call;
        let unneeded = self.of.loads.with(|state| call.dropped(&mut state.flights));
        if let Some(lease) = unneeded {
            give_back(&self.store, &self.of, self.key(one).to_vec(), lease, 0);
        }
    }
}
