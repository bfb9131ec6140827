//! A sample: what was counted until a moment.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use valkey_runtime::{CachedType, Store};

use super::counts::{Counts, Rates};
use crate::orgs::{Org, Page};
use crate::telemetry::{BOUNDS, Telemetry};
use crate::users::User;

/// The types that have a row before they are used.
const TYPES: [&str; 3] = [User::PREFIX, Org::PREFIX, Page::PREFIX];

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// In milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) store: Counts,
    pub(crate) types: BTreeMap<String, Counts>,
    latencies: [u64; BOUNDS.len() + 1],
    pub(crate) refused: u64,
}

/// A point of each chart: what happened between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Point {
    /// The time of the later one.
    pub(crate) at: u64,
    seconds: f64,
    #[serde(flatten)]
    pub(crate) rates: Rates,
    /// Requests a second, as the refused ones.
    allowed: f64,
    refused: f64,
    /// Half of the requests took less than this, in milliseconds. `None` if there were no requests.
    median: Option<f64>,
    p99: Option<f64>,
}

impl Sample {
    pub(crate) fn take(store: &Store, telemetry: &Telemetry, at: SystemTime) -> Self {
        let stats = store.stats();
        let mut types = BTreeMap::from(TYPES.map(|name| (name.to_owned(), Counts::default())));
        types.extend(stats.types().map(|of| (of.name().to_owned(), of.into())));
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at: at.as_millis() as u64,
            store: (&stats).into(),
            types,
            latencies: telemetry.latencies(),
            refused: telemetry.refused(),
        }
    }

    pub(crate) fn allowed(&self) -> u64 {
        let requests = self.latencies.iter().sum::<u64>();
        requests.saturating_sub(self.refused)
    }

    /// How many seconds later than `before` this is.
    pub(crate) fn seconds(&self, before: &Self) -> f64 {
        self.at.saturating_sub(before.at) as f64 / 1000.0
    }

    pub(crate) fn since(&self, before: &Self) -> Point {
        let seconds = self.seconds(before);
        let mut latencies = self.latencies;
        for (count, before) in latencies.iter_mut().zip(before.latencies) {
            *count = count.saturating_sub(before);
        }
        Point {
            at: self.at,
            seconds,
            rates: self.store.rates(&before.store, seconds),
            allowed: self.allowed().saturating_sub(before.allowed()) as f64 / seconds,
            refused: self.refused.saturating_sub(before.refused) as f64 / seconds,
            median: quantile(50, &latencies),
            p99: quantile(99, &latencies),
        }
    }
}

/// The bound, in milliseconds, that so many percent of the requests stayed under. It is twice the
/// last one where they did not stay under any.
fn quantile(percent: u64, latencies: &[u64; BOUNDS.len() + 1]) -> Option<f64> {
    let wanted = (latencies.iter().sum::<u64>() * percent).div_ceil(100);
    let mut seen = 0;
    let at = latencies.iter().position(|count| {
        seen += count;
        wanted > 0 && seen >= wanted
    })?;
    Some(BOUNDS.get(at).map_or(2.0 * slowest(), millis))
}

/// The last bound, in milliseconds.
pub(crate) fn slowest() -> f64 {
    millis(&BOUNDS[BOUNDS.len() - 1])
}

fn millis(micros: &u64) -> f64 {
    *micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_that_so_many_stayed_under() {
        let mut latencies = [0; BOUNDS.len() + 1];
        assert_eq!(quantile(50, &latencies), None);
        latencies[1] = 50;
        latencies[3] = 49;
        latencies[BOUNDS.len()] = 1;
        let of = |percent| quantile(percent, &latencies);
        assert_eq!(of(50), Some(0.128));
        assert_eq!(of(51), Some(0.512));
        assert_eq!(of(99), Some(0.512));
        assert_eq!(of(100), Some(4194.304));
    }
}
