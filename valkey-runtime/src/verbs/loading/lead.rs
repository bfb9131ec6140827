//! Running the loader, and handling its failures.

use crate::base::clock::later;
use crate::base::counters::Count;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::warnings::Detail;
use crate::core::caller::{Panic, Running, Within};
use crate::protocol::call::Step;
use crate::protocol::lease::{LEASE_LIFE, LONGEST_LOAD, RENEWAL, millis};
use crate::protocol::transition::Verb;
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::loading::driver::{Answers, Driver, Failed, Given, One, Turned};
use crate::verbs::loading::end::LoadEnds;
use crate::verbs::loading::end::{Begun, Clock, End};
use crate::verbs::loading::loader::{Limits, Loader, Wanted};
use crate::verbs::loading::run::run_loader;
use crate::verbs::near::NearReader;
use crate::verbs::raw::Raw;
use crate::verbs::tags::Epochs;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Span;

impl Driver {
    /// Refreshes cached values in the background, unless another caller does.
    pub(crate) async fn refresh<T: CachedType, E: Send>(
        mut self,
        cause: Span,
        load: &mut Loader<'_, T, E>,
    ) {
        let last = self.ones.iter().map(|one| one.at).max().unwrap_or(0);
        let mut answers: Answers<T> = (0..=last).map(|_| None).collect();
        let waited = match self.take_turn(Some(LONGEST_LOAD)).await {
            Turned::Come { waited } => waited,
            Turned::Overdue | Turned::Full => return,
        };
        for one in 0..self.ones.len() {
            self.step(one, |call, flights, now| call.at_turn(flights, now, waited));
        }
        self.ask(&mut answers).await;
        // A key whose lease another caller holds is loaded there.
        let leased = self.at_step(|step| matches!(step, Step::Load(Some(_))).then_some(()));
        for one in 0..self.ones.len() {
            self.ones[one].done |= !leased.contains(&(one, ()));
        }
        if !leased.is_empty() {
            self.of.counters().add(Count::Refresh, leased.len());
            // A failure is counted and logged, and no caller waits for it.
            let _ = self
                .load(&mut answers, &Limits::NONE, Some(&cause), load)
                .await;
        }
    }

    /// Runs the loader for all keys at that step, renews their leases meanwhile, and ends the loads
    /// with its result. `beside` is the span of the causing call, for a load that no call waits
    /// for: such a load is ended when it takes too long.
    pub(crate) async fn load<T: CachedType, E: Send>(
        &mut self,
        answers: &mut Answers<T>,
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
        // A value that is not claimed may already be deleted, so the loader does not get it.
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
                        self.store_each(which, begun, values, answers).await;
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
                    // It holds nothing that others need, so it continues for its own caller.
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

    pub(crate) fn claimed(&self, one: usize) -> Option<Raw> {
        let One { kept, lease, .. } = &self.ones[one];
        kept.clone().filter(|kept| kept.is_claimed_by(*lease))
    }

    /// The lease, stamp and clock of each load as it begins. The tag clock is read once for all
    /// loads that lack it.
    pub(crate) async fn begun(&mut self, which: &[usize]) -> Vec<Begun> {
        let inner = self.store.inner();
        let clocks = which.iter().map(|one| {
            let one = &self.ones[*one];
            Clock::of(one.lease, one.request.1, one.clock, self.of.meta())
        });
        let clocks: Vec<_> = clocks.collect();
        let now = match clocks.contains(&Clock::ToBeRead) {
            true => Epochs(inner).clock().await,
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

    /// The longest time that a loader may run.
    pub(crate) fn load_deadline(&self) -> Duration {
        Duration::from_millis(self.of.meta().policy.load_deadline_millis)
    }

    /// Renews the leases until the longest load is over, or until they are lost and the results
    /// can't be stored. Returns once the load has taken too long.
    pub(crate) async fn keep(&self, which: &[usize], beside: bool) {
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
            let renewed = match inner.gateway.apply_each(&keys, &verbs).await {
                Ok(renewed) => renewed,
                Err(error) => {
                    let what = "a lease could not be renewed";
                    self.of.log_failure_at("get_or_load", keys[0], error, what);
                    continue;
                }
            };
            let mut renewed = renewed.into_iter();
            leased.retain(|(key, _)| match renewed.next() {
                Some(Ok(held)) => held,
                Some(Err(error)) => {
                    let what = "a lease could not be renewed";
                    self.of.log_failure_at("get_or_load", key, error, what);
                    true
                }
                None => true,
            });
        }
        sleep_until(later(began, longest)).await;
    }

    pub(crate) fn say_if_not_kept(&self, took: Duration, longest_poll: Duration) {
        let leased = self.ones.iter().any(|one| one.lease.is_some());
        if longest_poll >= LEASE_LIFE && leased {
            self.of.counters().count(Count::StalledLoad);
            self.of
                .warn("a loader blocked its thread, so its load is not stored", None, || {
                    Detail::text(format_args!(
                        "for {longest_poll:.1?}, and its lease could not be renewed in that time: run blocking code in `spawn_blocking`"
                    ))
                });
        } else if took >= LONGEST_LOAD && leased {
            self.of.warn("a load took too long to be stored", None, || {
                Detail::text(format_args!(
                    "it took {took:.1?}, and a lease is renewed for at most {LONGEST_LOAD:?}"
                ))
            });
        }
    }

    /// Ends loads whose loader panicked. If no stale value may be served, the panic continues.
    pub(crate) async fn panicked<T: CachedType>(
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

    /// Ends loads past their deadline: they have failed for all but their own caller. True if stale
    /// values are served.
    pub(crate) async fn is_late<T: CachedType>(
        &mut self,
        which: &[usize],
        answers: &mut Answers<T>,
    ) -> bool {
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

    /// The near copy for a key about which the store could not be asked.
    fn near_stale(&self, one: usize) -> Option<Raw> {
        let near = || NearReader(self.store.inner()).stale(self.key(one), &self.of);
        self.ones[one].unasked.then(near).flatten()
    }

    pub(crate) async fn fail<T: CachedType>(
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
            let kept = self.ones[one].kept.clone();
            let kept = kept.filter(|kept| LoadEnds(inner).may_serve(kept, self.of.meta()));
            let kept = kept.or_else(|| self.near_stale(one));
            let read = kept.as_ref().map(|kept| codec::read::<T>(kept.payload()));
            let end = match (kept, read) {
                (Some(kept), Some(Ok(value))) => {
                    let end = End::fallen_back(&kept, lease);
                    served.push((one, value, kept));
                    end
                }
                (Some(kept), Some(Err(why))) => {
                    let unreadable =
                        LoadEnds(inner).unreadable(self.key(one), &kept, &why, lease, &self.of);
                    unreadable.await
                }
                _ => failed(),
            };
            ends.push((one, end));
        }
        let all = served.len() == which.len();
        if all {
            self.of
                .warn("a load failed; the cached value is served", None, || {
                    Detail {
                        operation: Some("get_or_load"),
                        key: self.of.keys().of_failure(self.key(which[0])),
                        text: String::new(),
                    }
                });
            for (one, value, kept) in served {
                let origin = match self.ones[one].unasked {
                    true => self.serves_near(&kept),
                    false => self.serves(&kept),
                };
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
}
