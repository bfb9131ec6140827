//! Counters of a store since it was opened, by type and in total.

use crate::base::counters::{COUNTS, Count, KINDS, TypeCounters, read_all};
pub(crate) mod display;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::error::ErrorKind;
use crate::core::inner::Inner;
use crate::core::loads::TypeLoads;
use crate::protocol::breaker::BreakerState;

impl TypeCounters {
    fn snapshot(&self, name: &str, loads: &TypeLoads) -> TypeStats {
        TypeStats {
            name: name.to_owned(),
            counts: self.read_counts(),
            longest_load: self.longest_load.load(Relaxed),
            longest_queue: self.longest_queue.load(Relaxed),
            loads_running: loads.running() as u64,
            loads_queued: loads.queued() as u64,
            errors: read_all(&self.errors),
        }
    }
}

/// A snapshot of all counters.
pub(crate) fn snapshot(inner: &Inner) -> Stats {
    let counters = &inner.counters;
    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let types = inner.types.iter();
    let (types, total) = summed(types.map(|of| of.counters().snapshot(of.name(), &of.loads)));
    Stats {
        types,
        total,
        queued_deletions: read(&counters.queued_deletions),
        lost_deletions: read(&counters.lost_deletions),
        breaker: inner.gateway.backend().breaker(),
        breaker_openings: read(&counters.breaker_openings),
        refused: read(&counters.refused),
        rate_limited: read(&counters.rate_limited),
        rate_limited_locally: read(&counters.rate_limited_locally),
        rate_limit_failures: read(&counters.rate_limit_failures),
        requests_without_address: read(&counters.requests_without_address),
        undelivered: inner.gateway.undelivered() as u64,
        background_running: inner.background.running() as u64,
        background_refused: read(&counters.background_refused),
        errors: read_all(&counters.errors),
    }
}

/// One row for each name, in the order of the names; and the sum of all.
fn summed(each: impl Iterator<Item = TypeStats>) -> (Vec<TypeStats>, TypeStats) {
    let mut each: Vec<_> = each.collect();
    each.sort_by(|one, other| one.name.cmp(&other.name));
    let mut total = TypeStats::none();
    let mut rows: Vec<TypeStats> = Vec::with_capacity(each.len());
    for one in each {
        total.add(&one);
        match rows.last_mut() {
            Some(last) if last.name == one.name => last.add(&one),
            _ => rows.push(one),
        }
    }
    (rows, total)
}

/// Counters of a type since the store was opened: a row of [`Stats`].
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
/// # #[cached(prefix = "user")]
/// # struct User { #[cached(key)] id: u64 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// User::get_or_load(&store, 1, async || Ok::<_, ()>(User { id: 1 })).await.unwrap();
/// User::get(&store, 1).await?;
/// let stats = store.stats();
/// let users = stats.types().find(|of| of.name() == "user").unwrap();
/// assert_eq!((users.requests(), users.hits(), users.loads()), (2, 1, 1));
/// assert_eq!(users.hit_ratio(), Some(0.5));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeStats {
    name: String,
    counts: [u64; COUNTS],
    /// In microseconds.
    longest_load: u64,
    longest_queue: u64,
    loads_running: u64,
    loads_queued: u64,
    errors: [u64; KINDS],
}

impl TypeStats {
    fn none() -> Self {
        Self {
            name: String::new(),
            counts: [0; COUNTS],
            longest_load: 0,
            longest_queue: 0,
            loads_running: 0,
            loads_queued: 0,
            errors: [0; KINDS],
        }
    }

    fn add(&mut self, other: &Self) {
        add_each(&mut self.counts, &other.counts);
        add_each(&mut self.errors, &other.errors);
        self.longest_load = self.longest_load.max(other.longest_load);
        self.longest_queue = self.longest_queue.max(other.longest_queue);
        self.loads_running += other.loads_running;
        self.loads_queued += other.loads_queued;
    }

    pub(crate) fn count(&self, what: Count) -> u64 {
        self.counts[what as usize]
    }

    /// The type's prefix. Look-ups by alias have a row of their own: `user by email`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keys that reads and loading calls asked for: [hits](Self::hits), [misses](Self::misses) and
    /// [absences](Self::absences). In a bulk verb, each key counts.
    pub fn requests(&self) -> u64 {
        self.hits() + self.misses() + self.absences()
    }

    /// The share of requests that the cache answered: hits and absences. `None` if there were no
    /// requests.
    pub fn hit_ratio(&self) -> Option<f64> {
        let requests = self.requests();
        (requests > 0).then(|| (self.hits() + self.absences()) as f64 / requests as f64)
    }

    /// Values that reads returned.
    pub fn hits(&self) -> u64 {
        self.count(Count::Hit)
    }

    /// Looks at keys that a near copy answered. They are included in [`hits`](Self::hits) and
    /// [`absences`](Self::absences).
    pub fn near_hits(&self) -> u64 {
        self.count(Count::NearHit)
    }

    /// Keys for which a read returned no value: it was missing, of another version, no longer
    /// fresh, or corrupt under `on_corrupt = "miss"`.
    pub fn misses(&self) -> u64 {
        self.count(Count::Miss)
    }

    /// Loading verbs that found a negative cache entry.
    pub fn absences(&self) -> u64 {
        self.count(Count::Absence)
    }

    /// Loading calls that returned a stale value: because its load failed or took too long, in the
    /// pause after that, or because its loader asked for it.
    pub fn stale(&self) -> u64 {
        self.count(Count::Stale)
    }

    /// Entries that were corrupt, or whose values were invalid.
    pub fn corrupt(&self) -> u64 {
        self.count(Count::Corrupt)
    }

    /// Entries that were not read because of their encryption: under a key that the store does not
    /// have, or in plain text though the type is encrypted. Each was a miss, and was not removed.
    pub fn undecrypted(&self) -> u64 {
        self.count(Count::Undecrypted)
    }

    /// Loaders that ran. In a bulk load, each thousand keys count as one.
    pub fn loads(&self) -> u64 {
        self.count(Count::Load)
    }

    /// Loads whose loader failed, or was stopped because it took too long.
    pub fn failed_loads(&self) -> u64 {
        self.count(Count::FailedLoad)
    }

    /// The total time of the loaders that have ended, in any way.
    pub fn load_time(&self) -> Duration {
        Duration::from_micros(self.count(Count::LoadMicros))
    }

    /// The longest time of one loader.
    pub fn longest_load(&self) -> Duration {
        Duration::from_micros(self.longest_load)
    }

    /// Loads that began in the background, before their value was stale. They are included in
    /// [`loads`](Self::loads).
    pub fn refreshes(&self) -> u64 {
        self.count(Count::Refresh)
    }

    /// Calls that took the result of another caller's load in this process.
    pub fn coalesced(&self) -> u64 {
        self.count(Count::Coalesced)
    }

    /// Calls that waited for the load of another process.
    pub fn waited(&self) -> u64 {
        self.count(Count::Waited)
    }

    /// Loads that are running now, each with a turn: at most `max_loads`.
    pub fn loads_running(&self) -> u64 {
        self.loads_running
    }

    /// Loads that are waiting for a turn now: the length of the queue.
    pub fn loads_queued(&self) -> u64 {
        self.loads_queued
    }

    /// Loads that had to wait for a turn.
    pub fn queued_loads(&self) -> u64 {
        self.count(Count::Queued)
    }

    /// The total time that loads waited for a turn.
    pub fn queue_time(&self) -> Duration {
        Duration::from_micros(self.count(Count::QueueMicros))
    }

    /// The longest time that one load waited for a turn.
    pub fn longest_queue(&self) -> Duration {
        Duration::from_micros(self.longest_queue)
    }

    /// Loads that ran for longer than `load_deadline`. They are included in
    /// [`failed_loads`](Self::failed_loads).
    pub fn late_loads(&self) -> u64 {
        self.count(Count::LateLoad)
    }

    /// Loads that lost their turn or their followers, because their callers were not polled or
    /// blocked their threads.
    pub fn stalled_loads(&self) -> u64 {
        self.count(Count::StalledLoad)
    }

    /// Loads that ran without a turn: as part of another type's load, they had waited a second for
    /// one.
    pub fn loads_beside_turns(&self) -> u64 {
        self.count(Count::BesideTurns)
    }

    /// Loaded values that were not stored, because their key was deleted or written during the
    /// load.
    pub fn refused_fills(&self) -> u64 {
        self.count(Count::RefusedFill)
    }

    /// Rows that were written without a guard: the server did not answer or did not place it, and
    /// the write ran anyway. Until the outbox has delivered the deletion, other processes may get
    /// the old row. (Only for updates that are not `strict`.)
    pub fn unguarded_writes(&self) -> u64 {
        self.count(Count::Unguarded)
    }

    /// Guarded updates whose end the server did not confirm. The deletion of their keys is in the
    /// outbox; their guards run out.
    pub fn unconfirmed_writes(&self) -> u64 {
        self.count(Count::Unconfirmed)
    }

    /// Entries of an older version that were converted on a read (`migrate_from`).
    pub fn migrations(&self) -> u64 {
        self.count(Count::Migrated)
    }

    /// Entries of an older version that could not be converted, and were misses.
    pub fn failed_migrations(&self) -> u64 {
        self.count(Count::FailedMigration)
    }

    /// The bytes of the entries that were hits.
    pub fn read_bytes(&self) -> u64 {
        self.count(Count::ReadBytes)
    }

    /// The bytes of the entries that were stored.
    pub fn written_bytes(&self) -> u64 {
        self.count(Count::WrittenBytes)
    }

    /// Failures of this kind, whether returned to the caller or only logged.
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize]
    }

    /// Failures of any kind.
    pub fn errors_total(&self) -> u64 {
        self.errors.iter().sum()
    }
}

fn add_each<const N: usize>(sums: &mut [u64; N], others: &[u64; N]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
}

/// Counters of a store since it was opened, as a snapshot. Counters that exist [by
/// type](Self::types) are sums over all types here.
///
/// Printed, it is a table, for example for a log line once a minute:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, ErrorKind, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
/// # #[cached(prefix = "user")]
/// # struct User { #[cached(key)] id: u64 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::memory();
/// User { id: 1 }.set(&store).await?;
/// User::get(&store, 1).await?;
/// User::get(&store, 2).await?;
/// let stats = store.stats();
/// assert_eq!((stats.hits(), stats.misses()), (1, 1));
/// assert_eq!(stats.errors(ErrorKind::Timeout), 0);
/// assert_eq!(
///     stats.to_string(),
///     "\
/// type  requests     hits    stale    loads   failed     mean  longest
/// user         2   50.0 %        0        0        0        -        -
/// total        2   50.0 %        0        0        0        -        -
/// breaker closed; no errors"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    types: Vec<TypeStats>,
    total: TypeStats,
    queued_deletions: u64,
    lost_deletions: u64,
    breaker: BreakerState,
    breaker_openings: u64,
    refused: u64,
    rate_limited: u64,
    rate_limited_locally: u64,
    rate_limit_failures: u64,
    requests_without_address: u64,
    undelivered: u64,
    background_running: u64,
    background_refused: u64,
    /// Errors that belong to no type.
    errors: [u64; KINDS],
}

impl Stats {
    /// The types that the store was used with, by name. Types with the same prefix share a row.
    pub fn types(&self) -> impl Iterator<Item = &TypeStats> {
        self.types.iter()
    }

    /// See [`TypeStats::requests`].
    pub fn requests(&self) -> u64 {
        self.total.requests()
    }

    /// See [`TypeStats::hit_ratio`].
    pub fn hit_ratio(&self) -> Option<f64> {
        self.total.hit_ratio()
    }

    /// See [`TypeStats::hits`].
    pub fn hits(&self) -> u64 {
        self.total.hits()
    }

    /// See [`TypeStats::near_hits`].
    pub fn near_hits(&self) -> u64 {
        self.total.near_hits()
    }

    /// See [`TypeStats::misses`].
    pub fn misses(&self) -> u64 {
        self.total.misses()
    }

    /// See [`TypeStats::absences`].
    pub fn absences(&self) -> u64 {
        self.total.absences()
    }

    /// See [`TypeStats::stale`].
    pub fn stale(&self) -> u64 {
        self.total.stale()
    }

    /// See [`TypeStats::corrupt`].
    pub fn corrupt(&self) -> u64 {
        self.total.corrupt()
    }

    /// See [`TypeStats::undecrypted`].
    pub fn undecrypted(&self) -> u64 {
        self.total.undecrypted()
    }

    /// See [`TypeStats::loads`].
    pub fn loads(&self) -> u64 {
        self.total.loads()
    }

    /// See [`TypeStats::failed_loads`].
    pub fn failed_loads(&self) -> u64 {
        self.total.failed_loads()
    }

    /// See [`TypeStats::load_time`].
    pub fn load_time(&self) -> Duration {
        self.total.load_time()
    }

    /// See [`TypeStats::longest_load`].
    pub fn longest_load(&self) -> Duration {
        self.total.longest_load()
    }

    /// See [`TypeStats::refreshes`].
    pub fn refreshes(&self) -> u64 {
        self.total.refreshes()
    }

    /// See [`TypeStats::coalesced`].
    pub fn coalesced(&self) -> u64 {
        self.total.coalesced()
    }

    /// See [`TypeStats::waited`].
    pub fn waited(&self) -> u64 {
        self.total.waited()
    }

    /// See [`TypeStats::loads_running`].
    pub fn loads_running(&self) -> u64 {
        self.total.loads_running()
    }

    /// See [`TypeStats::loads_queued`].
    pub fn loads_queued(&self) -> u64 {
        self.total.loads_queued()
    }

    /// See [`TypeStats::queued_loads`].
    pub fn queued_loads(&self) -> u64 {
        self.total.queued_loads()
    }

    /// See [`TypeStats::queue_time`].
    pub fn queue_time(&self) -> Duration {
        self.total.queue_time()
    }

    /// See [`TypeStats::longest_queue`].
    pub fn longest_queue(&self) -> Duration {
        self.total.longest_queue()
    }

    /// See [`TypeStats::late_loads`].
    pub fn late_loads(&self) -> u64 {
        self.total.late_loads()
    }

    /// See [`TypeStats::stalled_loads`].
    pub fn stalled_loads(&self) -> u64 {
        self.total.stalled_loads()
    }

    /// See [`TypeStats::loads_beside_turns`].
    pub fn loads_beside_turns(&self) -> u64 {
        self.total.loads_beside_turns()
    }

    /// See [`TypeStats::refused_fills`].
    pub fn refused_fills(&self) -> u64 {
        self.total.refused_fills()
    }

    /// See [`TypeStats::unguarded_writes`].
    pub fn unguarded_writes(&self) -> u64 {
        self.total.unguarded_writes()
    }

    /// See [`TypeStats::migrations`].
    pub fn migrations(&self) -> u64 {
        self.total.migrations()
    }

    /// See [`TypeStats::failed_migrations`].
    pub fn failed_migrations(&self) -> u64 {
        self.total.failed_migrations()
    }

    /// See [`TypeStats::unconfirmed_writes`].
    pub fn unconfirmed_writes(&self) -> u64 {
        self.total.unconfirmed_writes()
    }

    /// See [`TypeStats::read_bytes`].
    pub fn read_bytes(&self) -> u64 {
        self.total.read_bytes()
    }

    /// See [`TypeStats::written_bytes`].
    pub fn written_bytes(&self) -> u64 {
        self.total.written_bytes()
    }

    /// Deletions that were not confirmed, and were put into the outbox.
    pub fn queued_deletions(&self) -> u64 {
        self.queued_deletions
    }

    /// Deletions that did not fit into the outbox, because 10 000 were waiting already. This store
    /// does not read older entries of their types any more; other processes do until their TTL.
    pub fn lost_deletions(&self) -> u64 {
        self.lost_deletions
    }

    /// The number of deletions in the outbox:
    /// [`Store::undelivered`](crate::core::store::Store::undelivered). A gauge.
    pub fn undelivered(&self) -> u64 {
        self.undelivered
    }

    /// The state of the circuit breaker: [`Store::breaker`](crate::core::store::Store::breaker).
    pub fn breaker(&self) -> BreakerState {
        self.breaker
    }

    /// How often the [breaker](crate::protocol::breaker::BreakerState) opened, because the server
    /// seemed to be down.
    pub fn breaker_openings(&self) -> u64 {
        self.breaker_openings
    }

    /// Commands that were not sent, because the breaker was open. Each is also counted as an error,
    /// of the kind that opened the breaker.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Requests that a [limit](crate::limit::RateLimiter) refused, including those refused without
    /// asking the server. A request that is refused because its limit is unknown does not count
    /// here, but as a [failure](Self::rate_limit_failures).
    pub fn rate_limited(&self) -> u64 {
        self.rate_limited
    }

    /// The part of [`rate_limited`](Self::rate_limited) that was refused without asking the server,
    /// because it had just refused the same key.
    pub fn rate_limited_locally(&self) -> u64 {
        self.rate_limited_locally
    }

    /// How often a limit was unknown, because the store did not answer. The request was then let
    /// through or refused, as the limiter is configured.
    pub fn rate_limit_failures(&self) -> u64 {
        self.rate_limit_failures
    }

    /// Requests without an address, at an `http::RateLimitLayer` (feature `tower`) with a limit by
    /// address. They were refused, let through or counted together, as `http::WithoutAddress` says.
    /// A well configured service has none.
    pub fn requests_without_address(&self) -> u64 {
        self.requests_without_address
    }

    /// Background tasks that are running now: loads beside their callers, deliveries, releases of
    /// leases, extensions of lives by hits, renewals of guards, and a connection attempt. A gauge.
    pub fn background_running(&self) -> u64 {
        self.background_running
    }

    /// Background tasks that were not started, because 256 loads or 256 dispensable tasks were
    /// running already, or because the store was [closed](crate::core::store::Store::close).
    pub fn background_refused(&self) -> u64 {
        self.background_refused
    }

    /// Failures of this kind, whether returned to the caller or only logged.
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.total.errors(kind) + self.errors[kind as usize]
    }

    /// Failures of any kind.
    pub fn errors_total(&self) -> u64 {
        self.total.errors_total() + self.errors.iter().sum::<u64>()
    }
}
