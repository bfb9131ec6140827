//! Plain counters: what a store did since it was opened.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ErrorKind;
use crate::background::Background;

/// The counters of a store. Relaxed: each is exact, a snapshot of several is not one moment's.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    corrupt: AtomicU64,
    absences: AtomicU64,
    loads: AtomicU64,
    shared: AtomicU64,
    refused_fills: AtomicU64,
    failed_loads: AtomicU64,
    refreshes: AtomicU64,
    stale: AtomicU64,
    queued_deletions: AtomicU64,
    lost_deletions: AtomicU64,
    breaker_openings: AtomicU64,
    refused: AtomicU64,
    rate_limited: AtomicU64,
    rate_limited_locally: AtomicU64,
    rate_limit_failures: AtomicU64,
    background_refused: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
}

impl Counters {
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn corrupt(&self) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn absence(&self) {
        self.absences.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn load(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn shared(&self) {
        self.shared.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused_fill(&self) {
        self.refused_fills.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed_load(&self) {
        self.failed_loads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refresh(&self) {
        self.refreshes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn queued_deletion(&self) {
        self.queued_deletions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost_deletion(&self) {
        self.lost_deletions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn breaker_opened(&self) {
        self.breaker_openings.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rate_limited(&self) {
        self.rate_limited.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rate_limited_locally(&self) {
        self.rate_limited_locally.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rate_limit_failure(&self) {
        self.rate_limit_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn background_refused(&self) {
        self.background_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn error(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, background: &Background) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            corrupt: read(&self.corrupt),
            absences: read(&self.absences),
            loads: read(&self.loads),
            shared: read(&self.shared),
            refused_fills: read(&self.refused_fills),
            failed_loads: read(&self.failed_loads),
            refreshes: read(&self.refreshes),
            stale: read(&self.stale),
            queued_deletions: read(&self.queued_deletions),
            lost_deletions: read(&self.lost_deletions),
            breaker_openings: read(&self.breaker_openings),
            refused: read(&self.refused),
            rate_limited: read(&self.rate_limited),
            rate_limited_locally: read(&self.rate_limited_locally),
            rate_limit_failures: read(&self.rate_limit_failures),
            background_running: background.running() as u64,
            background_refused: read(&self.background_refused),
            errors: std::array::from_fn(|at| read(&self.errors[at])),
        }
    }
}

/// What a store did since it was opened: a snapshot of its counters.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, ErrorKind, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
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
/// assert_eq!(stats.to_string(), "1 hit, 1 miss (50.0 % hits), 0 corrupt, 0 errors");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    hits: u64,
    misses: u64,
    corrupt: u64,
    absences: u64,
    loads: u64,
    shared: u64,
    refused_fills: u64,
    failed_loads: u64,
    refreshes: u64,
    stale: u64,
    queued_deletions: u64,
    lost_deletions: u64,
    breaker_openings: u64,
    refused: u64,
    rate_limited: u64,
    rate_limited_locally: u64,
    rate_limit_failures: u64,
    background_running: u64,
    background_refused: u64,
    errors: [u64; ErrorKind::ALL.len()],
}

impl Stats {
    /// Values that a read gave.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Keys for which a read gave none: nothing there, another version, no longer fresh, or corrupt under
    /// `on_corrupt = "miss"`.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// Entries that were found corrupt, or their values invalid.
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Loading verbs that found the knowledge that there is no value.
    pub fn absences(&self) -> u64 {
        self.absences
    }

    /// Loaders that were run.
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// Calls that took what another caller's load gave.
    pub fn shared(&self) -> u64 {
        self.shared
    }

    /// Loaded values that were not stored, since their key was deleted or written while they were loaded.
    pub fn refused_fills(&self) -> u64 {
        self.refused_fills
    }

    /// Loads whose loader failed, or was stopped since it took too long.
    pub fn failed_loads(&self) -> u64 {
        self.failed_loads
    }

    /// Loads that began beside their callers, before the value's time was over. They are among the [`loads`](Self::loads).
    pub fn refreshes(&self) -> u64 {
        self.refreshes
    }

    /// Loading calls that were given a value after its time: since its load failed or took too long, in the pause after that, or
    /// as its loader wanted it.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Deletions that could not be delivered and were kept to be delivered later.
    pub fn queued_deletions(&self) -> u64 {
        self.queued_deletions
    }

    /// Deletions that could not even be kept, since 10 000 waited already. This store does not read entries of their types
    /// any more that are older; other processes do until their TTL.
    pub fn lost_deletions(&self) -> u64 {
        self.lost_deletions
    }

    /// How often the [breaker](crate::BreakerState) opened: the server was taken to be down.
    pub fn breaker_openings(&self) -> u64 {
        self.breaker_openings
    }

    /// Commands that were not sent, since the breaker was open. Each is an error, too, of the kind of what opened it.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Requests that a [limit](crate::RateLimiter) refused, those that were not asked of the server included. What is refused
    /// because the limit is not known is no such request, and among the [failures](Self::rate_limit_failures).
    pub fn rate_limited(&self) -> u64 {
        self.rate_limited
    }

    /// Those of them that were refused without asking the server, since it had refused the same key just before.
    pub fn rate_limited_locally(&self) -> u64 {
        self.rate_limited_locally
    }

    /// How often a limit was not known, since the store gave no answer, and a request was let through or refused as the limiter
    /// was told to.
    pub fn rate_limit_failures(&self) -> u64 {
        self.rate_limit_failures
    }

    /// Background tasks that run at the moment: loads that go on beside their callers, deliveries, leases on their way back,
    /// lives that hits extend, renewals of guards, and a connection being made. A gauge, where everything else here is a counter.
    pub fn background_running(&self) -> u64 {
        self.background_running
    }

    /// Background tasks that were not started, since 256 loads ran already, or 256 of those that can be done without, or since
    /// the store was [closed](crate::Store::close).
    pub fn background_refused(&self) -> u64 {
        self.background_refused
    }

    /// Failures of this kind, whether told to the caller or only logged.
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize]
    }

    /// Failures of whatever kind.
    pub fn errors_total(&self) -> u64 {
        self.errors.iter().sum()
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            hits,
            misses,
            corrupt,
            loads,
            errors,
            ..
        } = self;
        let plural =
            |n: u64, one: &'static str, many: &'static str| if n == 1 { one } else { many };
        write!(
            f,
            "{hits} {}, {misses} {}",
            plural(*hits, "hit", "hits"),
            plural(*misses, "miss", "misses")
        )?;
        if hits + misses > 0 {
            write!(
                f,
                " ({:.1} % hits)",
                *hits as f64 * 100.0 / (hits + misses) as f64
            )?;
        }
        if *loads > 0 {
            write!(f, ", {loads} {}", plural(*loads, "load", "loads"))?;
        }
        let total = self.errors_total();
        write!(
            f,
            ", {corrupt} corrupt, {total} {}",
            plural(total, "error", "errors")
        )?;
        for (kind, n) in ErrorKind::ALL
            .into_iter()
            .zip(errors)
            .filter(|(_, n)| **n > 0)
        {
            write!(f, "; {kind}: {n}")?;
        }
        Ok(())
    }
}
