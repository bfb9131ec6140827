//! Counters, the source of statistics and metrics.

use crate::base::error::ErrorKind;
use std::array;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The counts of each type.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Hit,
    NearHit,
    Miss,
    Absence,
    Stale,
    Corrupt,
    Undecrypted,
    Load,
    FailedLoad,
    Refresh,
    Coalesced,
    Waited,
    Queued,
    QueueMicros,
    LateLoad,
    StalledLoad,
    BesideTurns,
    RefusedFill,
    Unguarded,
    Unconfirmed,
    ReadBytes,
    WrittenBytes,
    Migrated,
    FailedMigration,
    LoadMicros,
}

pub(crate) const COUNTS: usize = Count::LoadMicros as usize + 1;

pub(crate) const KINDS: usize = ErrorKind::ALL.len();

/// The counters of a type, with relaxed ordering: each is exact, but several of them read together
/// are not of one moment.
#[derive(Debug, Default)]
pub(crate) struct TypeCounters {
    counts: [AtomicU64; COUNTS],
    pub(crate) longest_load: AtomicU64,
    pub(crate) longest_queue: AtomicU64,
    pub(crate) errors: [AtomicU64; KINDS],
    shared_hits: Striped,
}

/// A counter for what takes less time than a contended count: one cell for each few threads.
#[derive(Debug, Default)]
struct Striped([Cell; CELLS]);

const CELLS: usize = 8;

/// A counter in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

impl Striped {
    fn count(&self) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Relaxed) % CELLS;
        }
        // A thread that ends, and counts in the destructor of another local, uses any cell.
        let at = MINE.try_with(|at| *at).unwrap_or(0);
        self.0[at].0.fetch_add(1, Relaxed);
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Relaxed)).sum()
    }
}

impl TypeCounters {
    pub(crate) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: Count, number: usize) {
        self.counts[what as usize].fetch_add(number as u64, Relaxed);
    }

    /// A reader got a value from an entry of this many bytes.
    pub(crate) fn hit(&self, bytes: usize) {
        self.count(Count::Hit);
        self.add(Count::ReadBytes, bytes);
    }

    /// A near copy answered a look at a key.
    pub(crate) fn near_hits(&self, number: usize) {
        self.add(Count::NearHit, number);
    }

    /// The decoded value of a near copy was returned: a hit, and a near hit.
    pub(crate) fn shared_hit(&self) {
        self.shared_hits.count();
    }

    /// All counts, by [`Count`].
    pub(crate) fn read_counts(&self) -> [u64; COUNTS] {
        let mut counts = read_all(&self.counts);
        let shared = self.shared_hits.sum();
        counts[Count::Hit as usize] += shared;
        counts[Count::NearHit as usize] += shared;
        counts
    }

    /// A load has ended after this time.
    pub(crate) fn loaded(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[Count::LoadMicros as usize].fetch_add(micros, Relaxed);
        self.longest_load.fetch_max(micros, Relaxed);
    }

    /// A load has waited this long for its turn.
    pub(crate) fn queued(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[Count::QueueMicros as usize].fetch_add(micros, Relaxed);
        self.longest_queue.fetch_max(micros, Relaxed);
    }

    pub(crate) fn error(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Relaxed);
    }
}

pub(crate) fn read_all<const N: usize>(counters: &[AtomicU64; N]) -> [u64; N] {
    array::from_fn(|at| counters[at].load(Relaxed))
}

/// The counters that belong to no type.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) queued_deletions: AtomicU64,
    pub(crate) lost_deletions: AtomicU64,
    pub(crate) breaker_openings: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) rate_limited: AtomicU64,
    pub(crate) rate_limited_locally: AtomicU64,
    pub(crate) rate_limit_failures: AtomicU64,
    pub(crate) requests_without_address: AtomicU64,
    pub(crate) background_refused: AtomicU64,
    pub(crate) errors: [AtomicU64; KINDS],
}

impl Counters {
    pub(crate) fn queued_deletion(&self) {
        self.queued_deletions.fetch_add(1, Relaxed);
    }

    pub(crate) fn lost_deletion(&self) {
        self.lost_deletions.fetch_add(1, Relaxed);
    }

    pub(crate) fn breaker_opened(&self) {
        self.breaker_openings.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn rate_limited(&self) {
        self.rate_limited.fetch_add(1, Relaxed);
    }

    pub(crate) fn rate_limited_locally(&self) {
        self.rate_limited_locally.fetch_add(1, Relaxed);
    }

    pub(crate) fn rate_limit_failure(&self) {
        self.rate_limit_failures.fetch_add(1, Relaxed);
    }

    #[cfg_attr(not(feature = "http"), expect(dead_code))]
    pub(crate) fn request_without_address(&self) {
        self.requests_without_address.fetch_add(1, Relaxed);
    }

    pub(crate) fn background_refused(&self) {
        self.background_refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn error(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Relaxed);
    }

    /// The number of background tasks that were not started.
    #[cfg(test)]
    pub(crate) fn background_refusals(&self) -> u64 {
        self.background_refused.load(Relaxed)
    }
}
