//! Storing the results of loads, and informing their followers.

use crate::backend::write::Write;
use crate::base::counters::Count;
use crate::core::entry::{Origin, Source};
use crate::core::shared::Shared;
use crate::protocol::call::Loaded as Ended;
use crate::protocol::share::Share;
use crate::protocol::transition::Verb;
use crate::schema::cached_type::CachedType;
use crate::schema::loaded::Loaded;
use crate::verbs::loading::driver::{Answers, Driver, Given};
use crate::verbs::loading::end::LoadEnds;
use crate::verbs::loading::end::{Begun, End, Then};
use crate::verbs::raw::Raw;
use crate::verbs::tags::fill::TagAdmission;
use crate::verbs::ttl_left;
use std::collections::HashMap;

impl Driver {
    /// Stores the loaded values, and makes them the answers.
    pub(crate) async fn store_each<T: CachedType>(
        &mut self,
        which: Vec<usize>,
        begun: Vec<Begun>,
        values: Vec<(usize, Loaded<T>)>,
        answers: &mut Answers<T>,
    ) {
        let ttl = self.options.ttl;
        let mut values: HashMap<_, _> = values.into_iter().collect();
        let mut ends = Vec::with_capacity(which.len());
        for (one, begun) in which.into_iter().zip(begun) {
            let at = self.ones[one].at;
            let loaded = values.remove(&at).unwrap_or_else(Loaded::absent);
            let kept = self.claimed(one);
            let inner = self.store.inner();
            let (key, epochs) = (self.key(one), &self.ones[one].epochs);
            let end =
                LoadEnds(inner).end_of(key, epochs, &begun, &loaded, kept.as_ref(), ttl, &self.of);
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
            let entry = entry.map(|bytes| Raw::new(bytes.clone(), key, inner));
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

    /// Makes the loaded values the answers only: it is too late to share or store them.
    pub(crate) fn answer_each<T: CachedType>(
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

    /// The origin of a value that is served in place of a load. It is counted if it is stale: a
    /// value that was to be refreshed may still be fresh.
    pub(crate) fn serves(&self, kept: &Raw) -> Origin {
        let origin = kept.kept_origin(self.store.inner());
        if origin.source == Source::Stale {
            self.of.counters().count(Count::Stale);
        }
        origin
    }

    /// The origin of a near copy that is served because the store can't be asked.
    pub(crate) fn serves_near(&self, copy: &Raw) -> Origin {
        self.of.counters().count(Count::Stale);
        copy.origin(Source::Stale, None, self.store.inner())
    }

    /// Ends loads whose loader failed. True if every key has a stale value that may be served:
    /// these are the answers.
    pub(crate) async fn serve<T: CachedType>(
        &mut self,
        which: &[usize],
        answers: &mut Answers<T>,
    ) -> bool {
        self.fail(which, answers, || End::FAILED).await
    }

    /// Ends loads: stores each result under its lease, or releases the lease. Followers get the
    /// result before, but with tags only after. Returns for each whether something was stored.
    pub(crate) async fn end(&mut self, mut ends: Vec<(usize, End)>) -> Vec<bool> {
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

    pub(crate) fn tell(&mut self, one: usize, followers: Ended<Shared>) {
        let call = &mut self.ones[one].call;
        self.of
            .loads
            .with(|state| call.loaded(&mut state.flights, followers));
    }

    /// Finds the loads that were overtaken by the invalidation of a tag. Before, their flights are
    /// closed to callers that may have come after it.
    pub(crate) async fn admit(&mut self, ends: &mut [(usize, End)]) {
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
        let mut admitted = TagAdmission(self.store.inner())
            .admit_each(&bids)
            .await
            .into_iter();
        for (one, end) in ends.iter_mut() {
            if waits(*one, end) && admitted.next() != Some(true) {
                *end = End::OVERTAKEN;
            }
        }
    }

    /// Sends the commands that end the leases. Returns `None` for a lost lease, otherwise whether
    /// something was stored.
    pub(crate) async fn carry_out(&self, ends: &[(usize, End)]) -> Vec<Option<bool>> {
        let inner = self.store.inner();
        let mut done = vec![None; ends.len()];
        let verbs = ends.iter().enumerate().filter_map(|(at, (one, end))| {
            let of_one = &self.ones[*one];
            let verb = end.verb(of_one.lease, of_one.kept.as_ref(), inner, self.of.meta())?;
            Some((at, (self.key(*one), verb)))
        });
        let (places, verbs): (Vec<_>, Vec<_>) = verbs.unzip();
        let (keys, verbs): (Vec<_>, Vec<_>) = verbs.into_iter().unzip();
        let answers = match (&*keys, &*verbs) {
            ([], _) => return done,
            ([key], [verb]) => Ok(vec![inner.gateway.apply(key, verb).await]),
            _ => inner.gateway.apply_each(&keys, &verbs).await,
        };
        // The leases then expire by themselves.
        let what = "storing a load or releasing its lease failed";
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
