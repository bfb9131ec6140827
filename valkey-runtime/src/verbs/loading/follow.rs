//! Waiting for the load of another caller or process.

use crate::base::clock::later;
use crate::base::counters::Count;
use crate::core::caller::Caller;
use crate::core::entry::{Origin, Source};
use crate::core::shared::Shared;
use crate::protocol::call::Step;
use crate::protocol::flights::FlightId;
use crate::protocol::lease::{LEASE_LIFE, pause};
use crate::protocol::share::Share;
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::loading::driver::{Answers, Driver, Given};
use crate::verbs::loading::sight::Looker;
use crate::verbs::raw::Raw;
use futures_util::future::{FutureExt, select_all};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

impl Driver {
    /// Takes values that others have loaded meanwhile, and stale values that are served.
    pub(crate) async fn take_shared<T: CachedType>(&mut self, answers: &mut Answers<T>) {
        let shared = self.at_step(|step| match step {
            Step::Done(share) => Some(share.clone()),
            _ => None,
        });
        for (one, share) in shared {
            let given = match share {
                // The sharing call has read or loaded the value: so it is the answer of that load,
                // even if it is invalid.
                Share::Value(shared) => self.given(one, &shared),
                Share::Stale(shared) => self.given_stale(one, &shared).await,
                Share::Nothing if self.options.needs_value => {
                    self.reject_absence(one, true);
                    continue;
                }
                Share::Nothing => {
                    self.of.counters().count(Count::Coalesced);
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

    pub(crate) fn given<T: CachedType>(&self, one: usize, shared: &Shared) -> Option<Given<T>> {
        let inner = self.store.inner();
        let given = match shared {
            Shared::Bytes(bytes) => {
                let raw = Raw::new(bytes.clone(), self.key(one), inner);
                Given {
                    value: codec::decode(raw.payload()).ok()?,
                    origin: raw.origin(Source::Coalesced, None, inner),
                    entry: Some(raw),
                }
            }
            Shared::Value(value, stamp) => Given {
                value: value.downcast_ref::<T>()?.__try_clone()?,
                origin: Origin {
                    source: Source::Coalesced,
                    stamp: *stamp,
                    expires: None,
                },
                entry: None,
            },
        };
        self.of.counters().count(Count::Coalesced);
        Some(given)
    }

    pub(crate) async fn given_stale<T: CachedType>(
        &self,
        one: usize,
        shared: &Shared,
    ) -> Option<Given<T>> {
        let inner = self.store.inner();
        let raw = Raw::new(shared.bytes()?.clone(), self.key(one), inner);
        match codec::read(raw.payload()) {
            Ok(value) => {
                let origin = self.serves(&raw);
                let entry = Some(raw);
                Some(Given {
                    value,
                    origin,
                    entry,
                })
            }
            Err(why) => {
                Looker(inner)
                    .reject(self.key(one), &raw, &why, &self.of)
                    .await;
                None
            }
        }
    }

    /// Waits until an awaited flight moves, or until the next look at another process's load. False
    /// if a call has waited for another's turn for longer than its caller's limit.
    pub(crate) async fn wait(&mut self, longest: Option<Duration>) -> bool {
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
                    // It may have moved before we listened. A finished flight has no signal to
                    // listen to.
                    self.step(one, |call, flights, _| call.moved(flights));
                    if self.ones[one].step != Step::Await(flight) {
                        return true;
                    }
                }
                _ => {}
            }
        }
        let queued_until = longest.map(|longest| later(self.began, longest));
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

    /// Whether a call follows a flight whose loader is not running yet.
    pub(crate) fn waits_in_the_queue(&self) -> bool {
        let awaited = self.at_step(|step| match step {
            Step::Await(flight) => Some(*flight),
            _ => None,
        });
        self.of.loads.with(|state| {
            let mut awaited = awaited.iter();
            awaited.any(|(_, flight)| !state.flights.loads(*flight))
        })
    }

    /// Observes the leader of the flight that a call follows. If the call is part of that leader's
    /// load, it would wait for itself: it then goes alone, and the answer is false.
    pub(crate) fn watch(
        &mut self,
        one: usize,
        flight: FlightId,
        leader: Option<Arc<Caller>>,
    ) -> bool {
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

    /// Deposes a leader that nobody polls, or whose load is past its deadline: it loses its
    /// flight's followers.
    pub(crate) fn depose_if_it_stands_still(&mut self, one: usize, flight: FlightId) {
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

    /// The time of a call's next look at the load of another process.
    pub(crate) fn looks_at(&mut self, one: usize, attempt: u32) -> Instant {
        if let Some(at) = self.ones[one].looks {
            return at;
        }
        if attempt == 1 {
            self.of.counters().count(Count::Waited);
        }
        let at = Instant::now() + pause(attempt, self.store.inner().random.next_u64());
        self.ones[one].looks = Some(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Random;
    use crate::core::options::LoadOptions;
    use crate::core::store::Store;
    use crate::model::panics::User;

    #[derive(Debug)]
    struct Always(u64);

    impl Random for Always {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    /// Processes that wait for one load do not all look at the same moment.
    #[tokio::test(start_paused = true)]
    async fn the_time_of_the_next_look_is_random() {
        for random in [0, 4_321] {
            let store = Store::builder().memory().random(Arc::new(Always(random)));
            let store = store.connect().await.unwrap();
            let inner = store.inner();
            let mut driver = Driver::new(&store, inner.types.of::<User>(), LoadOptions::new());
            driver.add_fresh(0, b"user:1".to_vec().into(), inner.moments.moment());
            let at = driver.looks_at(0, 6);
            assert_eq!(at, Instant::now() + pause(6, random));
            assert_eq!(driver.looks_at(0, 7), at, "it stays until it has come");
        }
        assert_ne!(pause(6, 0), pause(6, 4_321));
    }
}
