//! Requests to the store: looks, leases, and the examination of their answers.

use crate::core::entry::Source;
use crate::core::shared::Shared;
use crate::key::tag::Place;
use crate::protocol::call::{Seen, Step};
use crate::protocol::lease::LONGEST_LOAD;
use crate::protocol::transition::{Placing, Rejected};
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::loading::driver::{Answers, Driver, Given, lease};
use crate::verbs::loading::sight::Looker;
use crate::verbs::loading::sight::Sight;
use crate::verbs::tags::Epochs;
use crate::verbs::tags::read::TagReader;
use tokio::time::Instant;

impl Driver {
    /// Looks again at all keys whose step is a look.
    pub(crate) async fn look<T: CachedType>(&mut self, answers: &mut Answers<T>) {
        let looking = self.at_step(|step| matches!(step, Step::Look).then_some(()));
        if looking.is_empty() {
            return;
        }
        let store = self.store.clone();
        let (inner, sent) = (store.inner(), store.inner().moments.moment());
        let places = looking.iter().map(|(one, ())| Place {
            key: self.key(*one).to_vec(),
            epochs: self.ones[*one].epochs.clone(),
            // Another process may have stored a value meanwhile.
            asks_store: true,
        });
        let places: Vec<_> = places.collect();
        let sights = Looker(inner).look_many(&places, &self.of).await;
        for ((one, ()), sight) in looking.into_iter().zip(sights) {
            let seen = self.examine(one, sight, answers).await;
            let found = matches!(seen, Seen::Hit(_) | Seen::Absent);
            let patient = self.is_patient(one, &seen);
            let absent = matches!(seen, Seen::Absent);
            self.step(one, |call, flights, _| {
                call.looked(flights, sent, seen, patient)
            });
            self.ones[one].done = found;
            self.reject_absence(one, absent);
        }
    }

    /// Requests all leases that are due, and in the same round trip the tag clock, which must be
    /// known before a load begins. False if no lease is due.
    pub(crate) async fn ask<T: CachedType>(&mut self, answers: &mut Answers<T>) -> bool {
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
            let absent = matches!(seen, Seen::Absent);
            self.step(one, |call, flights, now| {
                call.asked(flights, now, request, seen, patient)
            });
            self.ones[one].done = found;
            self.reject_absence(one, absent);
        }
        true
    }

    /// A call whose loader always returns a value does not accept a "not found" of others: it loads
    /// alone, and replaces it.
    pub(crate) fn reject_absence(&mut self, one: usize, absent: bool) {
        if absent && self.options.needs_value {
            self.ones[one].done = false;
            self.ones[one].fresh = true;
            self.step(one, |call, _, _| call.goes_alone());
        }
    }

    /// Takes the leases of calls that ignore cached values.
    pub(crate) async fn take_leases(&mut self, chunk: &[(usize, ())]) {
        if !self.store.inner().is_enabled() {
            chunk
                .iter()
                .for_each(|(one, ())| self.ones[*one].step = Step::Load(None));
            return;
        }
        let rejected = Rejected::Any {
            version: self.of.meta().version,
            newer_wins: self.store.inner().newer_wins,
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

    /// Sends lease requests, and returns their results.
    pub(crate) async fn place(
        &mut self,
        asking: &[(usize, Rejected)],
        verbs: &[Placing],
    ) -> Vec<Sight> {
        let inner = self.store.inner();
        let meta = self.of.meta();
        let keys: Vec<_> = asking.iter().map(|(one, _)| self.key(*one)).collect();
        let placed = async {
            match (&*keys, verbs) {
                ([key], [verb]) => Ok(vec![inner.gateway.place(key, verb).await]),
                _ => inner.gateway.place_many(&keys, verbs).await,
            }
        };
        let (placed, clock) = match meta.tagged {
            false => (placed.await, None),
            true => tokio::join!(placed, Epochs(inner).clock()),
        };
        let placed = match placed {
            Ok(placed) => {
                let required = asking.iter().map(|(one, _)| &*self.ones[*one].epochs);
                TagReader(inner).checked_each(placed, required, meta).await
            }
            Err(error) => Err(error),
        };
        let mut sights = Vec::with_capacity(asking.len());
        match placed {
            Ok(placed) => {
                for ((one, rejected), found) in asking.iter().zip(placed) {
                    let asked = Some((self.ones[*one].request.1, *rejected));
                    let sight = Looker(inner)
                        .sight(self.key(*one), found, asked, &self.of)
                        .await;
                    sights.push(sight);
                }
            }
            Err(error) => {
                let (of, key) = (&self.of, keys.first().copied().unwrap_or_default());
                of.log_failure_at("get_or_load", key, error, "a lease could not be requested");
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

    /// Decodes the value, if one was found.
    pub(crate) async fn examine<T: CachedType>(
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
                    origin: raw.origin(Source::Cached, None, inner),
                    entry: Some(raw),
                });
                seen
            }
            Err(why) => {
                Looker(inner)
                    .reject(self.key(one), &raw, &why, &self.of)
                    .await
            }
        }
    }

    /// Whether the call may wait for the lease of another. The wait for each lease has a limit of
    /// its own.
    pub(crate) fn is_patient(&mut self, one: usize, seen: &Seen<Shared>) -> bool {
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
}
