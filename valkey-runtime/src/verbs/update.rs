//! Guarded writes: while a row is written, no value of it is stored.
//!
//! A guard is placed at the key before the database is written, and removed after. So a load that
//! began before the write's end is not stored after it, in any process. The guard of a dead writer
//! expires. The holder renews its guard; if it is lost, [`Guard::still_held`] and
//! [`Guard::release`] report it.

use crate::observe::trace::Tracer;
use crate::schema::guarding::Guarding;
use crate::verbs::tags::Epochs;
use crate::verbs::tags::fill::TagAdmission;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::base::counters::Count;
use crate::base::error::Result;
use crate::base::error::{Error, ErrorKind};
use crate::core::meta::Meta;
use crate::core::options::UpdateOptions;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::observe::answer::{Ending, Tells};
use crate::observe::trace::{Watched, about, traced};
use crate::protocol::envelope;
use crate::protocol::envelope::placeholder;
use crate::protocol::envelope::placeholder::Name;
use crate::protocol::found::Found;
use crate::protocol::transition::{LONGEST_PLACE, Placing, Put, Verb};
use crate::verbs::Sealed;
use crate::verbs::tags::fill::Bid;
use crate::verbs::tags::invalidate::hold_of_tags;

/// The default life of a writer's place without renewal.
pub(crate) const GUARD_LIFE: Duration = Duration::from_secs(10);
/// The shortest life of a guard over tags, in milliseconds. It outlives the longest load even if
/// its writer dies just before a renewal: so no load that had begun by then is stored after it.
pub(crate) const TAG_GUARD_LIFE: u64 = 18_000;

/// A guard over one or several keys, for a write that is committed elsewhere, such as in a
/// transaction.
///
/// While it is held, no load of these keys is stored, and their entries are not read. It is renewed
/// in the background until it is released, abandoned or dropped, or its store is
/// [closed](Store::close). If it is dropped, the write may still be committed: so it stays until it
/// expires, within 10 s unless the options say otherwise.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct User { #[cached(key)] id: u64 }
/// # struct Transaction;
/// # impl Transaction { async fn commit(self) -> valkey_runtime::Result<()> { Ok(()) } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let (store, tx) = (Store::memory(), Transaction);
/// let guard = store.of::<User>().update(42).guard().await?;
/// // … write the row within `tx` …
/// if !guard.still_held().await? {
///     // The server was away for too long, or has evicted it: others may have stored the old row.
/// }
/// tx.commit().await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a guard that is dropped at once is no longer renewed, and runs out"]
pub struct Guard {
    store: Store,
    of: Arc<Type>,
    /// The keys of values, then those of the tags' epochs.
    keys: Vec<Vec<u8>>,
    /// The number of epoch keys.
    tags: usize,
    /// The tag clock before the write, if the written value may be stored and has tags.
    clock: Option<u64>,
    token: u64,
    hold: u64,
    /// The longest `hold` of the tags and of the type.
    tag_hold: u64,
    life: u64,
    /// For each key, the time at which its guard was made; `None` if it could not be placed.
    stamps: Vec<Option<u64>>,
    /// `None` if the store is closed.
    renewal: Option<AbortHandle>,
    /// Whether the write is known to be committed.
    written: bool,
    /// Whether a call has ended it, with any result.
    ended: bool,
}

impl Guard {
    /// Places guards at the keys. If one can't be placed, a strict guard fails. `stores`: the
    /// written value may be stored in place of the guard.
    pub(crate) async fn place(
        store: &Store,
        mut keys: Vec<Vec<u8>>,
        strict: bool,
        options: UpdateOptions,
        stores: bool,
        of: &Arc<Type>,
    ) -> Result<Self> {
        let (inner, meta) = (store.inner(), of.meta());
        let (mut life, hold) =
            times(&options, meta).map_err(|error| of.failed(error.during("guard")))?;
        let mut tags = Epochs(inner).tag_writer();
        let hold_of_tag = options.tags.iter().map(|tag| u64::from(tag.hold_millis));
        let tag_hold = hold_of_tag.max().unwrap_or(0).max(hold);
        tags.extend(options.tags);
        let epochs = tags.into_epochs();
        let tags = epochs.len();
        keys.extend(epochs);
        if tags > 0 {
            life = life.max(TAG_GUARD_LIFE);
        }
        let token = inner.random.next_u64();
        let borrowed: Vec<_> = keys.iter().map(|key| &**key).collect();
        let values = keys.len() - tags;
        let enter = |at| Placing::Enter {
            token,
            life,
            ours: at >= values,
        };
        let verbs: Vec<_> = (0..keys.len()).map(enter).collect();
        let placed = inner.gateway.place_many(&borrowed, &verbs).await;
        let placed =
            placed.unwrap_or_else(|error| keys.iter().map(|_| Err(error.clone())).collect());
        let mut refusal = None;
        let stamps = keys.iter().zip(placed).map(|(key, placed)| {
            match placed.and_then(|found| stamp_of(found, token)) {
                Ok(stamp) => Some(stamp),
                Err(error) => {
                    refusal.get_or_insert(of.at("guard", key, error));
                    None
                }
            }
        });
        let mut stamps: Vec<Option<u64>> = stamps.collect();
        // The advanced clock separates later loads from earlier ones.
        let clock = match tags {
            0 if meta.tagged && stores => Epochs(inner).clock().await,
            0 => None,
            _ => match inner.gateway.advance().await {
                Ok(clock) => Some(clock),
                Err(error) => {
                    stamps[keys.len() - tags..].fill(None);
                    refusal.get_or_insert(error.during("guard"));
                    None
                }
            },
        };
        let renewal = renew(store.clone(), of.clone(), keys.clone(), token, life);
        let renewal = inner.background.spawn_for_holder(renewal);
        let guard = Self {
            store: store.clone(),
            of: of.clone(),
            keys,
            tags,
            clock,
            token,
            hold,
            tag_hold,
            life,
            stamps,
            renewal,
            written: false,
            ended: false,
        };
        match refusal {
            None => Ok(guard),
            Some(error) if strict => {
                // The guards that were placed, or may have been, would otherwise prevent readers
                // from storing until they expire.
                log_unconfirmed(guard.leave(false).await, of);
                Err(of.failed(error))
            }
            Some(error) => {
                of.counters().count(Count::Unguarded);
                let error = of.failed(error);
                error.warn(
                    of.warnings(),
                    Some(of.name()),
                    "a guard could not be placed; the row is written without it",
                );
                // Kept before the row is written, so that this process does not read the old row
                // afterwards.
                guard.keep_unplaced();
                Ok(guard)
            }
        }
    }

    /// Returns whether all guards were placed. A best-effort guard need not be.
    pub fn is_placed(&self) -> bool {
        self.stamps.iter().all(Option::is_some)
    }

    /// Checks that the guard still exists on the server, and renews it. Call it just before a
    /// commit.
    ///
    /// # Errors
    /// If the server can't be queried.
    pub async fn still_held(&self) -> Result<bool> {
        traced!(self.span("still_held"), self.is_renewed(), Ending::of)
    }

    async fn is_renewed(&self) -> Result<bool> {
        let inner = self.store.inner();
        let verb = Verb::RenewGuard {
            token: self.token,
            life: self.life,
        };
        let answers = inner
            .gateway
            .apply_many(&self.keys, &verb)
            .await
            .and_then(|answers| answers.into_iter().collect());
        let held: Vec<bool> =
            answers.map_err(|error: Error| self.of.failed(error.during("still_held")))?;
        Ok(held.into_iter().all(|held| held))
    }

    /// Ends the guard after the write. True if it was held until now. If it expired or was evicted
    /// before, others may have stored the old row meanwhile; that entry is now deleted.
    ///
    /// # Errors
    /// If the server did not confirm it. The guard then expires, and the deletion of its keys is
    /// queued.
    pub async fn release(self) -> Result<bool> {
        let span = self.span("release");
        traced!(span, self.leave(true), Ending::of)
    }

    /// Ends the guard at once, because nothing was written.
    ///
    /// # Errors
    /// If the server did not confirm it. The guard then expires.
    pub async fn abandon(self) -> Result<bool> {
        let span = self.span("abandon");
        traced!(span, self.leave(false), Ending::of)
    }

    fn span(&self, operation: &'static str) -> Option<Watched> {
        let about = about(&self.keys);
        Tracer(self.store.inner()).span(operation, Some(&self.of), about)
    }

    async fn leave(mut self, written: bool) -> Result<bool> {
        self.written = written;
        let advanced = match written {
            true => self.advance().await,
            // Values loaded until now are still valid.
            false => Ok(()),
        };
        self.end();
        let left = self.apply_each(&self.leaves()).await;
        match advanced.and(left) {
            Ok(had) => Ok(had.into_iter().all(|had| had)),
            Err(error) => Err(self.of.failed(error.during("release"))),
        }
    }

    /// The write is over: values loaded until now must not be stored under the tags. If the clock
    /// can't be advanced, the tags' guards stay until they expire.
    async fn advance(&mut self) -> Result<()> {
        if self.tags == 0 {
            return Ok(());
        }
        let backend = &self.store.inner().gateway;
        let advanced = backend.advance().await.map(drop);
        if advanced.is_err() {
            let values = self.keys.len() - self.tags;
            // In case these guards are lost.
            for at in values..self.keys.len() {
                backend.keep(&self.keys[at], self.hold_at(at));
            }
            self.keys.truncate(values);
            self.stamps.truncate(values);
            self.tags = 0;
        }
        advanced
    }

    /// The milliseconds for which the guard at `keys[at]` stays after the write.
    fn hold_at(&self, at: usize) -> u64 {
        match at < self.keys.len() - self.tags {
            true => self.hold,
            false => hold_of_tags(self.tag_hold),
        }
    }

    /// The commands that take the writer out of all guards.
    fn leaves(&self) -> Vec<Verb<'static>> {
        let verbs = (0..self.keys.len()).map(|at| Verb::Leave {
            token: self.token,
            hold: if self.written { self.hold_at(at) } else { 0 },
        });
        verbs.collect()
    }

    async fn apply_each(&self, verbs: &[Verb<'_>]) -> Result<Vec<bool>> {
        let keys: Vec<_> = self.keys.iter().map(Vec::as_slice).collect();
        let answers = self.store.inner().gateway.apply_each(&keys, verbs).await;
        answers.and_then(|answers| answers.into_iter().collect())
    }

    /// Stores the written value in place of the guard, if no other writer was there meanwhile.
    /// Otherwise it is a release.
    async fn store_through(mut self, mut sealed: Sealed, version: u16) -> Result<bool> {
        self.written = true;
        let Some(&Some(stamp)) = self.stamps.first() else {
            return self.leave(true).await;
        };
        if sealed.header.clock.is_some() && !self.admits(&mut sealed).await {
            return self.leave(true).await;
        }
        // The key's guard ends even if the clock is not advanced: the value has none of these tags,
        // and the old entry must not stay.
        let advanced = self.advance().await;
        self.end();
        let mut verbs: Vec<Verb<'_>> = self.leaves();
        if let Some(first) = verbs.first_mut() {
            *first = Verb::StoreThrough {
                guard: Name {
                    token: self.token,
                    stamp,
                },
                hold: self.hold,
                put: Put {
                    versions: version.into(),
                    bytes: &sealed.bytes,
                    ttl: sealed.ttl,
                },
            };
        }
        let answers = self.apply_each(&verbs).await;
        let stored = matches!(&answers, Ok(answers) if answers.first() == Some(&true));
        if stored {
            let counters = self.of.counters();
            counters.add(Count::WrittenBytes, sealed.bytes.len());
        }
        match advanced.and(answers) {
            Ok(_) => Ok(stored),
            Err(error) => Err(self.of.failed(error.during("write_through"))),
        }
    }

    /// Whether the tags of the written value admit it. The value was made after the clock was read.
    /// A tag that is invalidated with the write forbids it.
    async fn admits(&self, sealed: &mut Sealed) -> bool {
        let invalidated = &self.keys[self.keys.len() - self.tags..];
        if sealed
            .epochs
            .iter()
            .any(|epoch| invalidated.contains(epoch))
        {
            return false;
        }
        if let Some(clock) = self.clock {
            envelope::stamp_clock(&mut sealed.bytes, sealed.header, clock);
        }
        let bid = Bid {
            epochs: &sealed.epochs,
            clock: self.clock,
            life: sealed.ttl,
        };
        TagAdmission(self.store.inner()).admits(bid).await
    }

    /// Keeps deletions of the keys without a guard.
    fn keep_unplaced(&self) {
        self.keep_if(|stamp| stamp.is_none());
    }

    fn keep_if(&self, wanted: impl Fn(&Option<u64>) -> bool) {
        for (at, key) in self.keys.iter().enumerate() {
            if wanted(&self.stamps[at]) {
                self.store.inner().gateway.keep(key, self.hold_at(at));
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.stop_renewing();
    }

    fn stop_renewing(&self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl Tells for Guard {}

impl Drop for Guard {
    /// Leaves the guard to expire, since the write may still be committed. Keys without a guard get
    /// a deletion instead. If the write is committed, but its end was dropped half-way, each key
    /// gets a deletion: its guard may have been lost meanwhile.
    fn drop(&mut self) {
        self.stop_renewing();
        if !self.ended {
            self.keep_if(|stamp| self.written || stamp.is_none());
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter();
        let shown: Vec<_> = keys
            .filter_map(|key| self.of.keys().of_failure(key))
            .collect();
        f.debug_struct("Guard")
            .field("keys", &shown)
            .field("placed", &self.is_placed())
            .finish_non_exhaustive()
    }
}

/// The life and the hold of a guard, in milliseconds.
fn times(options: &UpdateOptions, meta: &Meta) -> Result<(u64, u64)> {
    let millis = |what, time: Duration| match u64::try_from(time.as_millis()) {
        Ok(millis) if millis <= LONGEST_PLACE => Ok(millis),
        _ => Err(Error::config(format!(
            "the {what} of a guard is longer than a day: {time:?}"
        ))),
    };
    let life = millis("life", options.guard_life.unwrap_or(GUARD_LIFE))?;
    if life < 10 {
        return Err(Error::config(
            "the life of a guard is less than 10 ms: it could not be renewed in time",
        ));
    }
    let hold = options
        .hold
        .map_or(Ok(u64::from(meta.policy.hold_millis)), |hold| {
            millis("hold", hold)
        })?;
    Ok((life, hold))
}

/// The time at which the guard with this writer's place was made.
fn stamp_of(found: Found, token: u64) -> Result<u64> {
    let guard = match &found {
        Found::Entry(bytes) => placeholder::Guard::from_bytes(bytes),
        Found::Nothing | Found::Withheld | Found::Outdated(_) | Found::Misplaced(_) => None,
        Found::Foreign => {
            return Err(Error::new(
                ErrorKind::Server,
                "the key does not hold a string",
            ));
        }
    };
    guard
        .filter(|guard| guard.writers.iter().any(|writer| writer.token == token))
        .map(|guard| guard.stamp)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Server,
                "the guard was evicted as soon as it was placed",
            )
        })
}

async fn renew(store: Store, of: Arc<Type>, keys: Vec<Vec<u8>>, token: u64, life: u64) {
    let verb = Verb::RenewGuard { token, life };
    loop {
        tokio::time::sleep(Duration::from_millis(life / 3)).await;
        if let Err(error) = store.inner().gateway.apply_many(&keys, &verb).await {
            of.log_failure(error.during("guard"), "a guard could not be renewed");
        }
    }
}

/// Writes a row under a guard. `G` decides whether a guard that can't be placed is an error.
/// `is_sure`: the error means that nothing was written.
pub(crate) async fn update<G, R, E, S, F, Fut>(
    store: &Store,
    keys: Vec<Vec<u8>>,
    options: UpdateOptions,
    of: &Arc<Type>,
    through: Option<Result<Sealed>>,
    is_sure: S,
    write: F,
) -> Result<R, G::Error<E>>
where
    G: Guarding,
    S: Fn(&E) -> bool,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<R, E>>,
{
    let operation = match through {
        None => "update",
        Some(_) => "write_through",
    };
    let span = Tracer(store.inner()).span(operation, Some(of), about(&keys));
    let updating = guarded::<G, _, _, _, _, _>(store, keys, options, of, through, is_sure, write);
    traced!(span, updating, |written| Ending::of_foreign(written))
}

async fn guarded<G, R, E, S, F, Fut>(
    store: &Store,
    keys: Vec<Vec<u8>>,
    options: UpdateOptions,
    of: &Arc<Type>,
    through: Option<Result<Sealed>>,
    is_sure: S,
    write: F,
) -> Result<R, G::Error<E>>
where
    G: Guarding,
    S: Fn(&E) -> bool,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<R, E>>,
{
    let stores = matches!(through, Some(Ok(_)));
    let report = options.report.clone().unwrap_or_default();
    report.tell(false, false);
    let guard = match Guard::place(store, keys, G::STRICT, options, stores, of).await {
        Ok(guard) => Some(guard),
        Err(error) => {
            G::refused(error)?;
            None
        }
    };
    let written = write().await;
    let guarded = guard.as_ref().is_some_and(Guard::is_placed);
    report.tell(guarded, false);
    let sure = written.as_ref().err().is_some_and(is_sure);
    match guard {
        Some(guard) if written.is_ok() => {
            let confirmed = end(guard, through, of).await;
            report.tell(guarded, confirmed);
        }
        Some(guard) if sure => {
            log_unconfirmed(guard.leave(false).await, of);
        }
        // After an error the write may still be committed: the guard stays until it expires.
        Some(_) | None => {}
    }
    written.map_err(G::failed)
}

/// Ends an update whose write succeeded. Its failures are counted, and are not errors of the write.
/// True if the end is confirmed.
async fn end(guard: Guard, through: Option<Result<Sealed>>, of: &Type) -> bool {
    let store = guard.store.clone();
    let ended = match through {
        Some(Ok(_)) if !store.is_enabled() => guard.leave(true).await,
        Some(Ok(sealed)) => guard.store_through(sealed, of.meta().version).await,
        Some(Err(error)) => {
            of.log_failure(
                error.during("write_through"),
                "the written value could not be stored",
            );
            guard.leave(true).await
        }
        None => guard.leave(true).await,
    };
    log_unconfirmed(ended, of)
}

/// Logs and counts an unconfirmed end. True if it is confirmed.
fn log_unconfirmed(ended: Result<bool>, of: &Type) -> bool {
    if let Err(error) = &ended {
        of.counters().count(Count::Unconfirmed);
        error.warn(
            of.warnings(),
            Some(of.name()),
            "the server did not confirm the end of a guard; the deletion of its key is in the outbox",
        );
    }
    ended.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::panics::User;

    #[test]
    fn a_guard_lasts_from_ten_milliseconds_to_a_day_and_its_hold_no_longer() {
        const DAY: Duration = Duration::from_secs(86_400);
        const MILLI: Duration = Duration::from_millis(1);
        let times = |options: UpdateOptions| times(&options, &Meta::of::<User>());
        let of = UpdateOptions::default;
        let life = |life| {
            let guard_life = Some(life);
            times(UpdateOptions { guard_life, ..of() }).map(|(life, _)| life)
        };
        let hold = |hold| {
            let hold = Some(hold);
            times(UpdateOptions { hold, ..of() }).map(|(_, hold)| hold)
        };
        assert_eq!(times(of()).unwrap(), (10_000, 0));
        assert_eq!(life(10 * MILLI).unwrap(), 10);
        assert_eq!(
            (life(DAY).unwrap(), hold(DAY).unwrap()),
            (86_400_000, 86_400_000)
        );
        assert_eq!(
            (hold(MILLI).unwrap(), hold(Duration::ZERO).unwrap()),
            (1, 0)
        );
        for wrong in [
            life(10 * MILLI - Duration::from_nanos(1)),
            life(Duration::ZERO),
            life(DAY + MILLI),
            life(Duration::MAX),
            hold(DAY + MILLI),
            hold(Duration::MAX),
        ] {
            assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
