//! The counts of the cache which the page shows, and the rates between two of them.

use serde::Serialize;
use valkey_runtime::{Stats, TypeStats};

/// Counts since the start, of one type or of the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) absences: u64,
    pub(crate) misses: u64,
    pub(crate) loads: u64,
    pub(crate) coalesced: u64,
    pub(crate) stale: u64,
    pub(crate) failed_loads: u64,
    pub(crate) errors: u64,
}

/// The changes of a type, or of the whole store, between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub(crate) hit_ratio: Option<f64>,
    /// A second, like the others.
    pub(crate) hits: f64,
    pub(crate) misses: f64,
    pub(crate) loads: f64,
}

impl Counts {
    /// The share of the reads that the cache answered. `None` if there were no reads.
    pub(crate) fn hit_ratio(&self) -> Option<f64> {
        let answered = self.hits + self.absences;
        let reads = answered + self.misses;
        (reads > 0).then(|| answered as f64 / reads as f64)
    }

    /// The rates since `before`, which was `seconds` earlier.
    pub(crate) fn rates(&self, before: &Self, seconds: f64) -> Rates {
        let between = Self {
            hits: self.hits.saturating_sub(before.hits),
            absences: self.absences.saturating_sub(before.absences),
            misses: self.misses.saturating_sub(before.misses),
            loads: self.loads.saturating_sub(before.loads),
            ..Self::default()
        };
        Rates {
            hit_ratio: between.hit_ratio(),
            hits: between.hits as f64 / seconds,
            misses: between.misses as f64 / seconds,
            loads: between.loads as f64 / seconds,
        }
    }
}

impl From<&TypeStats> for Counts {
    fn from(stats: &TypeStats) -> Self {
        Self {
            hits: stats.hits(),
            absences: stats.absences(),
            misses: stats.misses(),
            loads: stats.loads(),
            coalesced: stats.coalesced(),
            stale: stats.stale(),
            failed_loads: stats.failed_loads(),
            errors: stats.errors_total(),
        }
    }
}

impl From<&Stats> for Counts {
    /// The errors include those of no type.
    fn from(stats: &Stats) -> Self {
        Self {
            hits: stats.hits(),
            absences: stats.absences(),
            misses: stats.misses(),
            loads: stats.loads(),
            coalesced: stats.coalesced(),
            stale: stats.stale(),
            failed_loads: stats.failed_loads(),
            errors: stats.errors_total(),
        }
    }
}
