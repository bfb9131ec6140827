//! The backend as the verbs see it. A process does not read what it has invalidated, whether or not
//! the server knows.
//!
//! Every request to a backend goes through here. Some requests leave a key in doubt: a failed
//! deletion, an unconfirmed end of a guard, a `set` with an unknown outcome, or any of these
//! dropped half-way. Their keys go into the outbox as deletions. One task delivers them in bounded
//! rounds when the server is back. They are always delivered as deletions: a late deletion is
//! harmless, a late store is not. Until then, a read of such a key sends nothing and returns
//! [`Found::Withheld`]: a miss, under which nothing is stored. While the outbox is empty, which it
//! nearly always is, this costs one look at a number.
//!
//! Long because it has one method for each request of a backend.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use crate::backend;
use crate::backend::Backend;
#[cfg(any(test, feature = "testing"))]
use crate::backend::faults::{Faults, Request};
use crate::backend::following::Following;
use crate::backend::invalidations::Invalidations;
use crate::backend::keys::Keys;
use crate::backend::question::Question;
use crate::backend::write::Write;
use crate::base::clock::Random;
use crate::base::counters::Counters;
use crate::base::error::Error;
#[cfg(any(test, feature = "testing"))]
use crate::base::error::ErrorKind;
#[cfg(any(test, feature = "testing"))]
use crate::base::paused::PAUSED;
#[cfg(any(test, feature = "testing"))]
use crate::base::paused::is_time_paused;
use crate::base::runtime;
use crate::base::tasks::{Background, Pulse, with_beats};
use crate::protocol::breaker::BreakerState;
use crate::protocol::envelope::seal;
use crate::protocol::found::Found;
use crate::protocol::outbox::Undelivered;
use crate::protocol::scope::Scope;
use crate::protocol::transition::{Placing, Read, Verb};

/// The longest wait for the end of a store without deadlines of its own.
const LONGEST_END: Duration = Duration::from_secs(1);
/// The longest wait of a request for the deliveries that it has started.
pub(crate) const LONGEST_HELP: Duration = Duration::from_millis(200);

/// Sends a request to the backend. With the test kit, a fault may strike it; `$requests` describes
/// the request. The in-process store then also lets other tasks run first, as a round trip to a
/// server would.
#[cfg(any(test, feature = "testing"))]
macro_rules! ask {
    ($front:expr, $requests:expr, $answer:expr) => {{
        if $front.yields() {
            tokio::task::yield_now().await;
        }
        let answer = match $front.faults.next(&$front.namespace, || $requests) {
            None => $answer.await,
            Some(fault) => Box::pin(fault.around($answer)).await,
        };
        $front.explained(answer)
    }};
}

#[cfg(not(any(test, feature = "testing")))]
macro_rules! ask {
    ($front:expr, $requests:expr, $answer:expr) => {
        $answer.await
    };
}

/// The beginning of each request. Fails once the store is closed. If deletions wait and their
/// delivery has stopped, because its runtime ended or stands still, this caller takes it over.
macro_rules! enter {
    ($front:expr) => {
        $front.open()?;
        if let Some(claim) = $front.claim() {
            Box::pin($front.see_to_delivery(claim)).await;
        }
    };
}
pub(crate) use {ask, enter};

#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) me: Weak<Gateway>,
    pub(crate) backend: Backend,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) faults: Faults,
    /// The text with which all keys begin: empty, or ending in `:`.
    pub(crate) namespace: Box<str>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) background: Background,
    pub(crate) undelivered: Mutex<Undelivered>,
    /// [`Undelivered::watched`], readable without the lock. Relaxed is enough: a caller that has
    /// learned of a kept deletion by any means sees the number that was stored with it.
    pub(crate) watched: AtomicUsize,
    /// Whether the task that delivers is alive.
    pub(crate) pulse: Pulse,
    /// Notified after each round of deliveries.
    pub(crate) rounds: watch::Sender<()>,
    /// Since the first read whose answer may become a near copy.
    pub(crate) following: OnceLock<Following>,
}

impl Gateway {
    pub(crate) fn new(
        backend: Backend,
        namespace: &str,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
        background: Background,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            backend,
            #[cfg(any(test, feature = "testing"))]
            faults: Faults::new(),
            namespace: namespace.into(),
            random,
            counters,
            background,
            undelivered: Mutex::default(),
            watched: AtomicUsize::new(0),
            pulse: Pulse::default(),
            rounds: watch::Sender::new(()),
            following: OnceLock::new(),
        })
    }

    /// The backend itself, for requests without keys.
    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// See [`Store::faults`](crate::core::store::Store::faults).
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether a request to the in-process store lets other tasks run first.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn yields(&self) -> bool {
        matches!(self.backend, Backend::Memory(_)) && self.faults.are_to_yield()
    }

    /// Adds the reason to an error, if a test has paused the time.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn explained<A>(&self, answer: Result<A, Error>) -> Result<A, Error> {
        answer.map_err(|error| match self.backend {
            Backend::Server(_) if error.kind() == ErrorKind::Timeout && is_time_paused() => {
                error.context(PAUSED)
            }
            _ => error,
        })
    }

    /// See [`Store::breaker`](crate::core::store::Store::breaker).
    pub(crate) fn breaker(&self) -> BreakerState {
        #[cfg(any(test, feature = "testing"))]
        if self.faults.is_down() {
            return BreakerState::Open;
        }
        self.backend.breaker()
    }

    /// Checks that the server answers.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        enter!(self);
        ask!(self, [(Request::Read, &[][..])], self.backend.ping())
    }

    /// Returns once the breaker admits requests, or the store is closed for good. The future keeps
    /// nothing alive.
    fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let closed = self.backend.closed();
        #[cfg(any(test, feature = "testing"))]
        let closed = {
            let up = self.faults.up();
            async move {
                up.await;
                closed.await;
            }
        };
        closed
    }

    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    /// Fails once the store is closed.
    pub(crate) fn open(&self) -> Result<(), Error> {
        match self.background.is_closed() {
            false => Ok(()),
            true => Err(Error::closed()),
        }
    }

    /// See [`Store::close`](crate::core::store::Store::close).
    pub(crate) async fn close(&self) {
        // Work that is not done by then is given up, for example a task in a runtime that stands
        // still.
        let limit = self.backend.operation_timeout().unwrap_or(LONGEST_END);
        if self.open().is_ok() {
            let last = async {
                self.background.end_loads().await;
                tokio::join!(self.deliver_once(), self.background.settled())
            };
            within(limit, last).await;
            // Before the tasks end: one of them may connect, and callers that wait for it get an
            // error.
            self.backend.close();
        }
        let first = self.background.cancel();
        within(limit, self.background.ended()).await;
        let undelivered = self.undelivered();
        if first && undelivered > 0 {
            tracing::warn!(
                undelivered,
                "the store was closed with undelivered deletions: other processes may read old entries until their TTL"
            );
        }
    }

    /// See [`Store::invalidations`](crate::core::store::Store::invalidations).
    pub(crate) async fn subscribe(&self) -> Result<Invalidations, Error> {
        enter!(self);
        let (buffer, interest) = ask!(self, [(Request::Read, &[][..])], self.backend.subscribe())?;
        Ok(Invalidations::new(
            self.backend.hub().clone(),
            buffer,
            interest,
        ))
    }

    pub(crate) fn now_micros(&self) -> u64 {
        self.backend.now_micros()
    }

    pub(crate) async fn get(self: &Arc<Self>, key: &[u8]) -> Result<Found, Error> {
        enter!(self);
        if self.withholds(key) {
            return Ok(Found::Withheld);
        }
        let lost = self.lost(key);
        let found = ask!(self, [(Request::Read, key)], self.backend.get(key))?;
        Ok(self.judged(key, lost, found))
    }

    /// Reads a key, and others in order, in one request: a caller needs them together.
    pub(crate) async fn get_with(
        self: &Arc<Self>,
        key: &[u8],
        others: &[Vec<u8>],
    ) -> Result<(Found, Vec<Found>), Error> {
        enter!(self);
        let (lost, lost_beside) = (self.lost(key), self.lost_of(others));
        let (found, beside) = ask!(
            self,
            Request::Read.each(others).chain([(Request::Read, key)]),
            self.backend.get_with(key, others)
        )?;
        let was_clear = lost.is_none() && lost_beside.iter().all(Option::is_none);
        if was_clear && self.is_clear() {
            return Ok((placed(key, found), beside));
        }
        let known = |key: &[u8], lost, found| match self.withholds(key) {
            true => Found::Withheld,
            false => self.judged(key, lost, found),
        };
        let beside = others.iter().zip(beside).enumerate();
        let beside = beside.map(|(at, (key, found))| known(key, lost_at(&lost_beside, at), found));
        Ok((known(key, lost, found), beside.collect()))
    }

    pub(crate) async fn get_many(self: &Arc<Self>, keys: &[&[u8]]) -> Result<Vec<Found>, Error> {
        enter!(self);
        let lost = self.lost_of(keys);
        let Some(asked) = self.not_withheld(keys) else {
            let found = ask!(self, Request::Read.each(keys), self.backend.get_many(keys))?;
            return Ok(self.all_judged(keys, &lost, found));
        };
        let open: Vec<_> = pick(keys, &asked).copied().collect();
        let found = ask!(
            self,
            Request::Read.each(&open),
            self.backend.get_many(&open)
        )?;
        let found = spread(&asked, found, || Found::Withheld);
        Ok(self.all_judged(keys, &lost, found))
    }

    pub(crate) async fn heads(self: &Arc<Self>, keys: &[Vec<u8>]) -> Result<Vec<Found>, Error> {
        enter!(self);
        let lost = self.lost_of(keys);
        let Some(asked) = self.not_withheld(keys) else {
            let found = ask!(self, Request::Read.each(keys), self.backend.heads(keys))?;
            return Ok(self.all_judged(keys, &lost, found));
        };
        let open: Vec<_> = pick(keys, &asked).cloned().collect();
        let found = ask!(self, Request::Read.each(&open), self.backend.heads(&open))?;
        let found = spread(&asked, found, || Found::Withheld);
        Ok(self.all_judged(keys, &lost, found))
    }

    pub(crate) async fn head(self: &Arc<Self>, key: &[u8]) -> Result<Found, Error> {
        enter!(self);
        if self.withholds(key) {
            return Ok(Found::Withheld);
        }
        let lost = self.lost(key);
        let found = ask!(self, [(Request::Read, key)], self.backend.head(key))?;
        Ok(self.judged(key, lost, found))
    }

    pub(crate) async fn get_and_ttl(
        self: &Arc<Self>,
        key: &[u8],
    ) -> Result<(Found, Option<u64>), Error> {
        enter!(self);
        if self.withholds(key) {
            return Ok((Found::Withheld, None));
        }
        let lost = self.lost(key);
        let (found, ttl) = ask!(self, [(Request::Read, key)], self.backend.get_and_ttl(key))?;
        Ok((self.judged(key, lost, found), ttl))
    }

    pub(crate) async fn head_and_ttl(
        self: &Arc<Self>,
        key: &[u8],
    ) -> Result<(Found, Option<u64>), Error> {
        enter!(self);
        if self.withholds(key) {
            return Ok((Found::Withheld, None));
        }
        let lost = self.lost(key);
        let (found, ttl) = ask!(self, [(Request::Read, key)], self.backend.head_and_ttl(key))?;
        Ok((self.judged(key, lost, found), ttl))
    }

    pub(crate) async fn set(
        self: &Arc<Self>,
        key: &[u8],
        bytes: Vec<u8>,
        ttl: Option<u64>,
    ) -> Result<(), Error> {
        enter!(self);
        let began = self.now();
        let unknown = OnDrop(Some(|| self.keep(key, 0)));
        let stored = ask!(
            self,
            [(Request::Store, key)],
            self.backend.set(key, bytes, ttl)
        );
        unknown.disarm();
        self.note_stored(key, began, stored.as_ref().err());
        stored
    }

    pub(crate) async fn apply(
        self: &Arc<Self>,
        key: &[u8],
        verb: &Verb<'_>,
    ) -> Result<bool, Error> {
        enter!(self);
        if acts_on_what_is_read(verb) && self.withholds(key) {
            return Ok(false);
        }
        let began = self.now();
        let unknown = OnDrop(Some(|| self.keep_if_deletes(key, verb)));
        let answer = ask!(
            self,
            [(Request::of_verb(verb), key)],
            self.backend.apply(key, verb)
        );
        unknown.disarm();
        self.note_applied(key, verb, began, answer.as_ref().err());
        answer
    }

    /// Applies one verb to all keys.
    pub(crate) async fn apply_many(
        self: &Arc<Self>,
        keys: &[Vec<u8>],
        verb: &Verb<'_>,
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        self.write_each(&keys, &vec![Write::Apply(*verb); keys.len()])
            .await
    }

    /// Applies one verb to each key.
    pub(crate) async fn apply_each(
        self: &Arc<Self>,
        keys: &[&[u8]],
        verbs: &[Verb<'_>],
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        let writes: Vec<_> = verbs.iter().copied().map(Write::Apply).collect();
        self.write_each(keys, &writes).await
    }

    /// See [`Backend::write_each`].
    pub(crate) async fn write_each(
        self: &Arc<Self>,
        keys: &[&[u8]],
        writes: &[Write<'_>],
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        enter!(self);
        let Some(asked) = self.not_hidden(keys, writes) else {
            return self.write_open(keys, writes).await;
        };
        let open: Vec<_> = pick(keys, &asked).copied().collect();
        let writes: Vec<_> = pick(writes, &asked).copied().collect();
        let answers = self.write_open(&open, &writes).await;
        let answers = answers.unwrap_or_else(|error| vec![Err(error); open.len()]);
        Ok(spread(&asked, answers, || Ok(false)))
    }

    async fn write_open(
        self: &Arc<Self>,
        keys: &[&[u8]],
        writes: &[Write<'_>],
    ) -> Result<Vec<Result<bool, Error>>, Error> {
        let began = self.now();
        let each = || keys.iter().zip(writes);
        let unknown = OnDrop(Some(|| {
            each().for_each(|(key, write)| match write {
                Write::Set { .. } => self.keep(key, 0),
                Write::Apply(verb) => self.keep_if_deletes(key, verb),
            });
        }));
        let answers = ask!(
            self,
            each().map(|(key, write)| (Request::of(write), *key)),
            self.backend.write_each(keys, writes)
        );
        unknown.disarm();
        for (at, (key, write)) in each().enumerate() {
            let error = error_at(&answers, at);
            match write {
                Write::Set { .. } => self.note_stored(key, began, error),
                Write::Apply(verb) => self.note_applied(key, verb, began, error),
            }
        }
        answers
    }

    pub(crate) async fn place(
        self: &Arc<Self>,
        key: &[u8],
        verb: &Placing,
    ) -> Result<Found, Error> {
        enter!(self);
        if !reads(verb) {
            return ask!(
                self,
                [(Request::of_placing(verb), key)],
                self.backend.place(key, verb)
            );
        }
        if self.withholds(key) {
            return Ok(Found::Withheld);
        }
        let lost = self.lost(key);
        let found = ask!(
            self,
            [(Request::of_placing(verb), key)],
            self.backend.place(key, verb)
        )?;
        Ok(self.judged(key, lost, found))
    }

    pub(crate) async fn place_many(
        self: &Arc<Self>,
        keys: &[&[u8]],
        verbs: &[Placing],
    ) -> Result<Vec<Result<Found, Error>>, Error> {
        enter!(self);
        if !verbs.iter().all(reads) {
            return ask!(
                self,
                placings(keys, verbs),
                self.backend.place_many(keys, verbs)
            );
        }
        let lost = self.lost_of(keys);
        let judged = |found: Vec<Result<Found, Error>>| {
            let found = found.into_iter().enumerate();
            let judge = |(at, found)| self.judged(keys[at], lost_at(&lost, at), found);
            let judged = found.map(|(at, found)| found.map(|found| judge((at, found))));
            judged.collect::<Vec<_>>()
        };
        let Some(asked) = self.not_withheld(keys) else {
            let found = ask!(
                self,
                placings(keys, verbs),
                self.backend.place_many(keys, verbs)
            )?;
            return Ok(judged(found));
        };
        let open: Vec<_> = pick(keys, &asked).copied().collect();
        let verbs: Vec<_> = pick(verbs, &asked).copied().collect();
        let found = ask!(
            self,
            placings(&open, &verbs),
            self.backend.place_many(&open, &verbs)
        )?;
        Ok(judged(spread(&asked, found, || Ok(Found::Withheld))))
    }

    /// Decides a question. It never goes into the outbox: a late count would count for another
    /// time.
    pub(crate) async fn decide<Q: Question>(
        &self,
        key: &[u8],
        question: &Q,
    ) -> Result<Q::Answer, Error> {
        enter!(self);
        ask!(
            self,
            [(Q::REQUEST, key)],
            self.backend.decide(key, question)
        )
    }

    /// Decides a question for each key.
    pub(crate) async fn decide_each<Q: Question>(
        &self,
        keys: &[&[u8]],
        questions: &[Q],
    ) -> Result<Vec<Result<Q::Answer, Error>>, Error> {
        enter!(self);
        ask!(
            self,
            Q::REQUEST.each(keys),
            self.backend.decide_each(keys, questions)
        )
    }

    /// Scans the keys in this scope, over all nodes.
    pub(crate) fn keys(&self, scope: Scope, page: usize) -> Keys<'_> {
        self.backend.keys(scope, page)
    }

    /// The next page; `None` after the last.
    pub(crate) async fn page(&self, keys: &mut Keys<'_>) -> Result<Option<Vec<Vec<u8>>>, Error> {
        ask!(self, [(Request::Read, &[][..])], keys.next())
    }

    /// The length of the part of a key that all keys of its type share: namespace, prefix and
    /// colon.
    pub(crate) fn type_len(&self, key: &[u8]) -> usize {
        let parts = key.get(self.namespace.len()..).unwrap_or_default();
        let prefix = parts.iter().position(|byte| *byte == b':');
        prefix.map_or(key.len(), |colon| self.namespace.len() + colon + 1)
    }
}

/// Runs some work for at most `limit`. Outside of a runtime with timers, polls it once.
async fn within(limit: Duration, work: impl Future) {
    match runtime::has_timers() {
        true => drop(tokio::time::timeout(limit, work).await),
        false => drop(work.now_or_never()),
    }
}

/// Delivers until nothing is left, another task takes over, or the store is dropped.
pub(crate) async fn deliver(front: Weak<Gateway>, number: u64, mut give_back: GiveBack) {
    let mut failures = 0;
    loop {
        let Some(closed) = front.upgrade().map(|front| front.closed()) else {
            return;
        };
        closed.await;
        let Some(strong) = front.upgrade() else {
            return;
        };
        let next = strong.with(|undelivered| undelivered.next_round_of(number));
        let Some(round) = next else {
            give_back.0 = None;
            return;
        };
        let sent = match runtime::has_timers() {
            true => {
                let beat = || strong.pulse.beat(strong.backend.clock_micros());
                with_beats(strong.send(round), beat).await
            }
            false => strong.send(round).await,
        };
        failures = match sent {
            true => 0,
            false => failures + 1,
        };
        strong.rounds.send_replace(());
        if failures > 0 {
            if !runtime::has_timers() {
                // A request from another runtime takes over.
                return;
            }
            let pause = backend::pause(failures, strong.random.next_u64());
            strong.pulse.rest(strong.backend.clock_micros(), pause);
            drop(strong);
            tokio::time::sleep(pause).await;
        }
    }
}

/// Records that no task delivers any more, if the task ends with its runtime or never began.
pub(crate) struct GiveBack(pub(crate) Option<Weak<Gateway>>, pub(crate) u64);

impl Drop for GiveBack {
    fn drop(&mut self) {
        if let Some(front) = self.0.take().as_ref().and_then(Weak::upgrade)
            && front.with(|undelivered| undelivered.end_delivery(self.1))
        {
            front.pulse.stop();
        }
    }
}

/// The entry that was found, unless it belongs to another key.
pub(crate) fn placed(key: &[u8], found: Found) -> Found {
    match found {
        Found::Entry(bytes) if seal::is_misplaced(&bytes, key) => Found::Misplaced(bytes),
        found => found,
    }
}

/// If the verb leaves nothing old under a key: the time in milliseconds for which it leaves a
/// guard.
pub(crate) fn deletes(verb: &Verb<'_>) -> Option<u64> {
    match verb {
        Verb::Delete(hold) => Some(hold.map_or(0, |hold| hold.life)),
        Verb::MarkStale { .. } | Verb::Raise(_) => Some(0),
        Verb::Leave { hold, .. } | Verb::StoreThrough { hold, .. } => Some(*hold),
        _ => None,
    }
}

/// Whether the verb leaves nothing under the key that an earlier deletion could still be meant for,
/// and is not delivered later itself: the store has the only copy of the value.
pub(crate) fn is_of_only_copy(verb: &Verb<'_>) -> bool {
    matches!(verb, Verb::SetOnlyCopy { .. } | Verb::DeleteOnlyCopy)
}

/// Whether the verb acts on an existing value. If a read must find none, the verb must not find one
/// either.
pub(crate) fn acts_on_what_is_read(verb: &Verb<'_>) -> bool {
    match verb {
        Verb::Touch(_) | Verb::SetIfPresent(..) | Verb::Migrate { .. } => true,
        Verb::Swap(swap) => matches!(swap.read, Read::Value(_)),
        _ => false,
    }
}

/// Calls a function when it is dropped, unless it is disarmed: for a verb whose caller went away.
pub(crate) struct OnDrop<F: FnOnce()>(pub(crate) Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

/// Whether the answer counts as a read.
fn reads(verb: &Placing) -> bool {
    matches!(verb, Placing::Lease { .. } | Placing::Extend { .. })
}

#[cfg(any(test, feature = "testing"))]
fn placings<'k>(
    keys: &'k [&'k [u8]],
    verbs: &'k [Placing],
) -> impl Iterator<Item = (Request, &'k [u8])> {
    let placings = keys.iter().zip(verbs);
    placings.map(|(key, verb)| (Request::of_placing(verb), *key))
}

/// The error of one answer of many, or the error of all.
pub(crate) fn error_at<A>(
    answers: &Result<Vec<Result<A, Error>>, Error>,
    at: usize,
) -> Option<&Error> {
    match answers {
        Ok(answers) => answers.get(at)?.as_ref().err(),
        Err(error) => Some(error),
    }
}

/// The answer of [`Gateway::lost_of`] for one key of many.
pub(crate) fn lost_at(lost: &[Option<u64>], at: usize) -> Option<u64> {
    lost.get(at).copied().flatten()
}

fn pick<'a, T>(items: &'a [T], which: &'a [bool]) -> impl Iterator<Item = &'a T> {
    let picked = items.iter().zip(which).filter(|(_, picked)| **picked);
    picked.map(|(item, _)| item)
}

/// Puts the answers at the positions of the requests, and `others` at all other positions.
fn spread<T>(asked: &[bool], found: Vec<T>, others: impl Fn() -> T) -> Vec<T> {
    let mut found = found.into_iter();
    let places = asked.iter().map(|asked| {
        let answer = if *asked { found.next() } else { None };
        answer.unwrap_or_else(&others)
    });
    places.collect()
}

#[cfg(test)]
mod tests {
    use crate::protocol::outbox::MOST;
    use crate::protocol::transition::Hold;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::core::store::Store;
    use crate::protocol::envelope::Header;
    use crate::protocol::envelope::placeholder::Name;
    use crate::protocol::transition::{Raise, Rejected};
    use bytes::Bytes;

    const KEY: &[u8] = b"user:1";

    fn front(store: &Store) -> &Arc<Gateway> {
        &store.inner().gateway
    }

    /// The hold of a kept deletion of the key, which is then forgotten.
    fn kept(front: &Arc<Gateway>, key: &[u8]) -> Option<u64> {
        front.with(|undelivered| {
            let hold = undelivered.hold(key);
            let now = undelivered.now();
            undelivered.settle(key, now);
            hold
        })
    }

    fn every_error() -> impl Iterator<Item = Error> {
        let kinds = ErrorKind::ALL.into_iter();
        kinds.flat_map(|kind| [Error::new(kind, "x"), Error::new(kind, "x").refused()])
    }

    /// A rejected command has changed nothing. After any other error, the command may have been
    /// carried out. Or the breaker refused it after a failure of any kind, and then it was to
    /// replace the entry.
    #[tokio::test]
    async fn a_set_that_may_have_changed_something_or_was_not_sent_leaves_a_deletion() {
        let store = Store::memory();
        let front = front(&store);
        for error in every_error() {
            front.note_stored(KEY, None, Some(&error));
            let unknown = matches!(
                error.kind(),
                ErrorKind::Connection
                    | ErrorKind::Timeout
                    | ErrorKind::Loading
                    | ErrorKind::ReadOnly
                    | ErrorKind::OutOfMemory
                    | ErrorKind::Unavailable
            );
            let expected = (unknown || error.is_refused()).then_some(0);
            assert_eq!(kept(front, KEY), expected, "{error}");
        }
        front.keep(KEY, 0);
        front.note_stored(KEY, front.now(), None);
        assert_eq!(kept(front, KEY), None, "it was replaced");
    }

    #[tokio::test]
    async fn whatever_invalidates_and_fails_leaves_a_deletion_with_its_hold() {
        let store = Store::memory();
        let front = front(&store);
        let (token, stamp, ours) = (7, 7, false);
        let hold = Hold {
            token,
            life: 300,
            ours,
        };
        let name = Name { token, stamp };
        let (lease, put) = (
            crate::protocol::envelope::placeholder::Lease::Placed(name),
            crate::protocol::transition::Put {
                versions: 1.into(),
                bytes: b"x",
                ttl: None,
            },
        );
        let raise = Raise {
            clock: 1,
            over: None,
        };
        let through = Verb::StoreThrough {
            guard: name,
            hold: 200,
            put,
        };
        for (verb, hold) in [
            (Verb::Delete(None), Some(0)),
            (Verb::Delete(Some(hold)), Some(300)),
            (Verb::MarkStale { keep: 100 }, Some(0)),
            (Verb::Raise(raise), Some(0)),
            (Verb::Leave { token, hold: 0 }, Some(0)),
            (Verb::Leave { token, hold: 100 }, Some(100)),
            (through, Some(200)),
            (Verb::SetIfAbsent(put, None, u64::MAX), None),
            (Verb::SetIfPresent(put, None), None),
            (Verb::Fill { lease, put }, None),
            (Verb::Discard(lease), None),
            (Verb::RenewLease { lease, life: 9 }, None),
            (Verb::RenewGuard { token, life: 9 }, None),
        ] {
            for error in every_error() {
                front.note_applied(KEY, &verb, None, Some(&error));
                let hold = hold.filter(|_| error.kind() != ErrorKind::Config);
                assert_eq!(kept(front, KEY), hold, "{verb:?}: {error}");
            }
            front.keep(KEY, 0);
            front.note_applied(KEY, &verb, front.now(), None);
            assert_eq!(kept(front, KEY).is_none(), hold.is_some(), "{verb:?}");
        }
    }

    /// Nothing is delivered later for data of which the store has the only copy.
    #[tokio::test]
    async fn what_writes_an_only_copy_leaves_no_deletion_and_settles_one() {
        let store = Store::memory();
        let front = front(&store);
        let put = crate::protocol::transition::Put {
            versions: 1.into(),
            bytes: b"x",
            ttl: None,
        };
        for verb in [
            Verb::SetOnlyCopy { put, absent: false },
            Verb::SetOnlyCopy { put, absent: true },
            Verb::DeleteOnlyCopy,
        ] {
            for error in every_error() {
                front.note_applied(KEY, &verb, None, Some(&error));
                assert_eq!(kept(front, KEY), None, "{verb:?}: {error}");
            }
            front.keep(KEY, 0);
            front.note_applied(KEY, &verb, front.now(), None);
            assert_eq!(kept(front, KEY), None, "{verb:?}");
            let request = Request::of_verb(&verb);
            dropped_half_way(front, request, front.apply(KEY, &verb));
            assert_eq!(kept(front, KEY), None, "{verb:?}");
        }
    }

    /// Polls a call once, holds its request there, and drops the call.
    fn dropped_half_way<T>(front: &Gateway, request: Request, call: impl Future<Output = T>) {
        let held = front.faults.hold_next(request);
        let mut call = pin!(call);
        let mut context = Context::from_waker(Waker::noop());
        let polled = call.as_mut().poll(&mut context);
        assert!(matches!(polled, Poll::Pending));
        held.release();
    }

    #[tokio::test]
    async fn a_dropped_request_leaves_a_deletion_if_it_could_have_changed_the_entry() {
        let store = Store::memory();
        let front = front(&store);
        let put = crate::protocol::transition::Put {
            versions: 1.into(),
            bytes: b"x",
            ttl: None,
        };
        dropped_half_way(front, Request::Store, front.set(KEY, b"x".to_vec(), None));
        assert_eq!(kept(front, KEY), Some(0));
        let delete = Verb::Delete(None);
        dropped_half_way(front, Request::Delete, front.apply(KEY, &delete));
        assert_eq!(kept(front, KEY), Some(0));
        let (token, hold) = (7, 100);
        let leave = Verb::Leave { token, hold };
        let keys = [KEY.to_vec()];
        dropped_half_way(front, Request::Guard, front.apply_many(&keys, &leave));
        assert_eq!(kept(front, KEY), Some(100));
        let (bytes, ttl) = (&b"x"[..], None);
        let set = [Write::Set { bytes, ttl }];
        dropped_half_way(front, Request::Store, front.write_each(&[KEY], &set));
        assert_eq!(kept(front, KEY), Some(0));
        let if_absent = Verb::SetIfAbsent(put, None, u64::MAX);
        dropped_half_way(front, Request::Store, front.apply(KEY, &if_absent));
        assert_eq!(kept(front, KEY), None);
        let epoch = &b"::tag:a"[..];
        let epochs = [(epoch, 9)];
        let advancing = front.advance_for(&epochs);
        dropped_half_way(front, Request::Delete, advancing);
        assert_eq!(kept(front, epoch), Some(9));
        assert_eq!(front.undelivered(), 0);
    }

    /// Until delivery, the server may have the old entry: it is not read, and nothing is stored in
    /// its place.
    #[tokio::test]
    async fn an_entry_that_waits_for_its_deletion_is_hidden_from_all_reads() {
        let store = Store::memory();
        let front = front(&store);
        let value = Header::value(1, 7).of(b"user:2").to_bytes().to_vec();
        for key in [KEY, b"user:2"] {
            front.backend.set(key, value.clone(), None).await.unwrap();
        }
        let failing = crate::backend::faults::Fault::error(ErrorKind::Timeout).at("user:1");
        front.faults.fail_all(failing.clone().on(Request::Delete));
        front.keep(KEY, 0);
        let (keys, both) = ([KEY.to_vec(), b"user:2".to_vec()], [KEY, b"user:2"]);
        let entry = Found::Entry(value.clone().into());
        let expected = [Found::Withheld, entry.clone()];

        // No request is even sent: it would fail.
        front.faults.fail_all(failing.clone().on(Request::Read));
        front.faults.fail_all(failing.clone().on(Request::Lease));
        front.faults.fail_all(failing.on(Request::Store));
        assert_eq!(front.get(KEY).await.unwrap(), Found::Withheld);
        assert_eq!(front.head(KEY).await.unwrap(), Found::Withheld);
        let withheld = (Found::Withheld, None);
        assert_eq!(front.get_and_ttl(KEY).await.unwrap(), withheld);
        assert_eq!(front.head_and_ttl(KEY).await.unwrap(), withheld);
        assert_eq!(front.get_many(&both).await.unwrap(), expected);
        assert_eq!(front.heads(&keys).await.unwrap().len(), 2);
        assert_eq!(front.heads(&keys).await.unwrap()[0], Found::Withheld);
        let lease = Placing::Lease {
            token: 7,
            life: 9,
            rejected: Rejected::None,
        };
        assert_eq!(front.place(KEY, &lease).await.unwrap(), Found::Withheld);
        let placed = front.place_many(&both, &[lease; 2]).await.unwrap();
        let placed: Vec<_> = placed.into_iter().map(Result::unwrap).collect();
        assert_eq!(placed, expected);
        let put = crate::protocol::transition::Put {
            versions: 1.into(),
            bytes: &value,
            ttl: None,
        };
        let touch = crate::protocol::transition::Touch {
            versions: 1.into(),
            shape: 0,
            key: crate::protocol::envelope::seal::of_key(b"user:2"),
            ttl: None,
            keep: 0,
            max_age: None,
            seen: None,
        };
        for verb in [Verb::Touch(touch), Verb::SetIfPresent(put, None)] {
            assert!(!front.apply(KEY, &verb).await.unwrap(), "{verb:?}");
            let answers = front.apply_many(&keys, &verb).await.unwrap();
            let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
            assert_eq!(answers, [false, true], "{verb:?}");
        }

        // Verbs that do not depend on the existing value are sent.
        front
            .backend
            .set(b"user:2", value.clone(), None)
            .await
            .unwrap();
        front.faults.recover();
        front
            .faults
            .fail_all(crate::backend::faults::Fault::error(ErrorKind::Timeout).on(Request::Delete));
        let (found, beside) = front.get_with(b"user:2", &keys[..1]).await.unwrap();
        assert_eq!((found, beside), (entry, vec![Found::Withheld]));
        let enter = Placing::Enter {
            token: 7,
            life: 9000,
            ours: false,
        };
        assert!(matches!(
            front.place(KEY, &enter).await,
            Ok(Found::Entry(_))
        ));
        front.set(KEY, b"y".to_vec(), None).await.unwrap();
        assert_eq!(front.undelivered(), 0, "it was replaced");
    }

    /// Epochs are delivered after the clock is advanced. Otherwise a load from before could be
    /// stored after.
    #[tokio::test]
    async fn epochs_are_deleted_only_once_the_clock_is_advanced() {
        let store = Store::memory();
        let front = front(&store);
        let epoch = b"::tag:a";
        let before = front.clock().await.unwrap();
        let clock = crate::backend::faults::Fault::error(ErrorKind::Timeout).at("::clock");
        front.faults.fail_all(clock.on(Request::Delete));
        front.keep(epoch, 0);
        front.keep(KEY, 0);
        while front.undelivered() > 1 {
            tokio::task::yield_now().await;
        }
        assert!(front.with(|undelivered| undelivered.holds(epoch)));
        assert_eq!(front.clock().await.unwrap(), before);
        front.faults.recover();
        while front.undelivered() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(front.clock().await.unwrap() > before);
    }

    #[tokio::test]
    async fn an_epoch_whose_clock_is_not_advanced_is_kept_with_its_hold() {
        let store = Store::memory();
        let front = front(&store);
        let epoch = b"::tag:a".to_vec();
        let hold = |_| {
            Verb::Delete(Some(Hold {
                token: 7,
                life: 9,
                ours: true,
            }))
        };
        for at in ["::clock", "::tag:a"] {
            let fault = crate::backend::faults::Fault::error(ErrorKind::Timeout).at(at);
            front.faults.fail_next(fault.on(Request::Delete));
            let raised = front.raise(std::slice::from_ref(&epoch), hold).await;
            let failed = raised.and_then(|each| each.into_iter().collect::<Result<Vec<_>, _>>());
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Timeout, "{at}");
            assert_eq!(kept(front, &epoch), Some(9), "{at}");
        }
        front
            .raise(std::slice::from_ref(&epoch), hold)
            .await
            .unwrap();
        assert_eq!(kept(front, &epoch), None);
    }

    /// A purge ends the loss while a read is under way: the answer of that read is from before the
    /// purge.
    #[tokio::test]
    async fn a_read_that_began_after_a_loss_goes_by_it_to_its_end() {
        let store = Store::memory();
        let front = front(&store);
        let old = Header::value(1, front.now_micros() << 12).of(KEY);
        let old = Bytes::copy_from_slice(&old.to_bytes());
        let keys = [KEY.to_vec()];
        let borrowed = [KEY];
        let lease = Placing::Lease {
            token: 7,
            life: 9,
            rejected: Rejected::None,
        };
        for read in 0..9 {
            front.backend.set(KEY, old.to_vec(), None).await.unwrap();
            front.with(|undelivered| {
                for at in 0..=MOST {
                    undelivered.keep(format!("user:-{at}").as_bytes(), 0, 5, front.now_micros());
                }
            });
            let request = if read < 7 {
                Request::Read
            } else {
                Request::Lease
            };
            let held = front.faults.hold_next(request);
            let reading = async {
                match read {
                    0 => front.get(KEY).await.unwrap(),
                    1 => front.get_with(KEY, &[]).await.unwrap().0,
                    2 => front.get_with(b"x", &keys).await.unwrap().1.remove(0),
                    3 => front.get_many(&borrowed).await.unwrap().remove(0),
                    4 => front.heads(&keys).await.unwrap().remove(0),
                    5 => front.head(KEY).await.unwrap(),
                    6 => front.get_and_ttl(KEY).await.unwrap().0,
                    7 => front.place(KEY, &lease).await.unwrap(),
                    _ => {
                        let placed = front.place_many(&borrowed, &[lease]).await.unwrap();
                        placed.into_iter().next().unwrap().unwrap()
                    }
                }
            };
            let purging = async {
                held.reached().await;
                let purge = front.purge();
                front.with(|undelivered| {
                    assert!(undelivered.lost_until(KEY, 5).is_some(), "{read}");
                    let now = undelivered.now();
                    for at in 0..MOST {
                        undelivered.settle(format!("user:-{at}").as_bytes(), now);
                    }
                });
                front.purged(&Scope::new(vec![b"user:".to_vec()]), purge);
                assert!(front.is_clear(), "{read}");
                held.release();
            };
            let (found, ()) = tokio::join!(reading, purging);
            assert!(matches!(found, Found::Outdated(_)), "{read}: {found:?}");
            let after = front.get(KEY).await.unwrap();
            assert_eq!(after, Found::Entry(old.clone()), "{read}");
        }
    }
}
