//! The statistics for the `metrics` facade, published from a snapshot, so that they cost reads
//! nothing.
//!
//! Each counter gets the increase since its last publication. So stores with the same label add up.
//! A recorder that is installed late gets everything, as long as nothing was published before.

use crate::core::load_time::LOAD_DURATION;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::base::counters::Count;
use crate::base::error::ErrorKind;
use crate::core::inner::view;
use crate::core::store::Store;
use crate::observe::stats::{Stats, TypeStats, snapshot};
use crate::protocol::breaker::BreakerState;

const REQUESTS: &str = "valkey_requests_total";
const ERRORS: &str = "valkey_errors_total";
const BREAKER: &str = "valkey_breaker_state";

/// The counters of each type that have a name of their own.
const OF_TYPES: [(&str, Count, Unit, &str); 22] = [
    (
        "valkey_near_hits_total",
        Count::NearHit,
        Unit::Count,
        "Looks at keys that a near copy answered",
    ),
    (
        "valkey_stale_total",
        Count::Stale,
        Unit::Count,
        "Stale values that were served",
    ),
    (
        "valkey_corrupt_total",
        Count::Corrupt,
        Unit::Count,
        "Corrupt entries that were found",
    ),
    (
        "valkey_undecrypted_total",
        Count::Undecrypted,
        Unit::Count,
        "Entries that were not read because of their encryption",
    ),
    (
        "valkey_loads_total",
        Count::Load,
        Unit::Count,
        "Loaders that ran",
    ),
    (
        "valkey_load_failures_total",
        Count::FailedLoad,
        Unit::Count,
        "Loaders that failed",
    ),
    (
        "valkey_refreshes_total",
        Count::Refresh,
        Unit::Count,
        "Loads that began before their value was stale",
    ),
    (
        "valkey_coalesced_loads_total",
        Count::Coalesced,
        Unit::Count,
        "Calls that took the result of another caller's load",
    ),
    (
        "valkey_waits_total",
        Count::Waited,
        Unit::Count,
        "Calls that waited for the load of another process",
    ),
    (
        "valkey_queued_loads_total",
        Count::Queued,
        Unit::Count,
        "Loads that waited for a turn",
    ),
    (
        "valkey_queue_microseconds_total",
        Count::QueueMicros,
        Unit::Microseconds,
        "Time that loads waited for their turns",
    ),
    (
        "valkey_late_loads_total",
        Count::LateLoad,
        Unit::Count,
        "Loads that passed their deadline",
    ),
    (
        "valkey_stalled_loads_total",
        Count::StalledLoad,
        Unit::Count,
        "Loads whose callers were not polled, or whose loaders blocked their threads",
    ),
    (
        "valkey_loads_beside_turns_total",
        Count::BesideTurns,
        Unit::Count,
        "Nested loads that ran without a turn",
    ),
    (
        "valkey_refused_fills_total",
        Count::RefusedFill,
        Unit::Count,
        "Loaded values that were not stored, because their lease was gone",
    ),
    (
        "valkey_unguarded_writes_total",
        Count::Unguarded,
        Unit::Count,
        "Writes whose guard could not be placed",
    ),
    (
        "valkey_unconfirmed_writes_total",
        Count::Unconfirmed,
        Unit::Count,
        "Guarded writes whose end the server did not confirm",
    ),
    (
        "valkey_migrations_total",
        Count::Migrated,
        Unit::Count,
        "Entries of an older version that were converted on a read",
    ),
    (
        "valkey_failed_migrations_total",
        Count::FailedMigration,
        Unit::Count,
        "Entries of an older version that could not be converted",
    ),
    (
        "valkey_read_bytes_total",
        Count::ReadBytes,
        Unit::Bytes,
        "Bytes of entries that were hits",
    ),
    (
        "valkey_written_bytes_total",
        Count::WrittenBytes,
        Unit::Bytes,
        "Bytes of entries that were stored",
    ),
    // The sum of the histogram as a whole number, for recorders that keep no histograms.
    (
        "valkey_load_microseconds_total",
        Count::LoadMicros,
        Unit::Microseconds,
        "Time that loaders ran",
    ),
];

const OUTCOMES: [(&str, Count); 3] = [
    ("hit", Count::Hit),
    ("miss", Count::Miss),
    ("absence", Count::Absence),
];

type Number = fn(&Stats) -> u64;

/// The counters of the store.
const OF_STORE: [(&str, Number, &str); 9] = [
    (
        "valkey_breaker_openings_total",
        Stats::breaker_openings,
        "Openings of the breaker",
    ),
    (
        "valkey_refused_commands_total",
        Stats::refused,
        "Commands not sent, because the breaker was open",
    ),
    (
        "valkey_queued_deletions_total",
        Stats::queued_deletions,
        "Deletions that were put into the outbox",
    ),
    (
        "valkey_lost_deletions_total",
        Stats::lost_deletions,
        "Deletions that did not fit into the outbox",
    ),
    (
        "valkey_refused_background_tasks_total",
        Stats::background_refused,
        "Background tasks not started",
    ),
    (
        "valkey_rate_limited_total",
        Stats::rate_limited,
        "Requests that a limit refused",
    ),
    (
        "valkey_rate_limited_locally_total",
        Stats::rate_limited_locally,
        "Requests that a limit refused without a query of the server",
    ),
    (
        "valkey_rate_limit_failures_total",
        Stats::rate_limit_failures,
        "Limit checks that failed",
    ),
    (
        "valkey_requests_without_address_total",
        Stats::requests_without_address,
        "Requests without a peer address at a limit by address",
    ),
];

type NumberOfType = fn(&TypeStats) -> u64;

/// The gauges of each type.
const GAUGES_OF_TYPES: [(&str, NumberOfType, &str); 2] = [
    (
        "valkey_loads_running",
        TypeStats::loads_running,
        "Loads that run, each with a turn",
    ),
    (
        "valkey_loads_queued",
        TypeStats::loads_queued,
        "Loads that wait for a turn",
    ),
];

/// The gauges of the store.
const GAUGES: [(&str, Number, &str); 2] = [
    (
        "valkey_undelivered_deletions",
        Stats::undelivered,
        "Undelivered deletions in the outbox",
    ),
    (
        "valkey_background_tasks",
        Stats::background_running,
        "Background tasks that run",
    ),
];

impl Store {
    /// Publishes the counts since the last publication, and the gauges, to the recorder of the
    /// `metrics` facade (feature `metrics`). Call it before each scrape, or every few seconds if
    /// metrics are pushed.
    ///
    /// ```
    /// # let store = valkey_runtime::Store::memory();
    /// // In the handler of `/metrics`, before the recorder's text is made.
    /// store.publish_metrics();
    /// ```
    ///
    /// The names are in `docs/operations/telemetry.md`. The recorder may be installed after the
    /// store was opened, because each publication goes to the one installed then. Durations of
    /// loads are the exception: they are a histogram, and recorded when a load ends.
    pub fn publish_metrics(&self) {
        describe();
        Publisher(self.inner()).publish();
    }
}

view! {
    /// Publishes the statistics of a store as metrics.
    Publisher
}

impl<'a> Publisher<'a> {
    fn publish(self) {
        let (stats, store) = (snapshot(self.0), self.types.store().to_owned());
        for of in stats.types() {
            self.publish_type(&store, of);
        }
        for (kind, number) in errors(|kind| stats.errors(kind) - of_types(&stats, kind)) {
            let more = self.published.since(ERRORS, "", kind, number);
            counter!(ERRORS, "store" => store.clone(), "type" => "", "kind" => kind)
                .increment(more);
        }
        for (name, number, _) in OF_STORE {
            let more = self.published.since(name, "", "", number(&stats));
            counter!(name, "store" => store.clone()).increment(more);
        }
        for (name, number, _) in GAUGES {
            gauge!(name, "store" => store.clone()).set(number(&stats) as f64);
        }
        for state in [
            BreakerState::Closed,
            BreakerState::Open,
            BreakerState::HalfOpen,
        ] {
            let is = f64::from(u8::from(stats.breaker() == state));
            gauge!(BREAKER, "store" => store.clone(), "state" => state.as_str()).set(is);
        }
    }

    fn publish_type(self, store: &str, of: &TypeStats) {
        let labels = || (store.to_owned(), of.name().to_owned());
        for (outcome, count) in OUTCOMES {
            let more = self
                .published
                .since(REQUESTS, of.name(), outcome, of.count(count));
            let (store, of) = labels();
            counter!(REQUESTS, "store" => store, "type" => of, "outcome" => outcome)
                .increment(more);
        }
        for (name, count, ..) in OF_TYPES {
            let more = self.published.since(name, of.name(), "", of.count(count));
            let (store, of) = labels();
            counter!(name, "store" => store, "type" => of).increment(more);
        }
        for (name, number, _) in GAUGES_OF_TYPES {
            let (store, of_type) = labels();
            gauge!(name, "store" => store, "type" => of_type).set(number(of) as f64);
        }
        for (kind, number) in errors(|kind| of.errors(kind)) {
            let more = self.published.since(ERRORS, of.name(), kind, number);
            let (store, of) = labels();
            counter!(ERRORS, "store" => store, "type" => of, "kind" => kind).increment(more);
        }
    }
}

/// The kinds with at least one error, and their numbers.
fn errors(of: impl Fn(ErrorKind) -> u64) -> impl Iterator<Item = (&'static str, u64)> {
    let all = ErrorKind::ALL.into_iter();
    all.map(move |kind| (kind.as_str(), of(kind)))
        .filter(|(_, number)| *number > 0)
}

fn of_types(stats: &Stats, kind: ErrorKind) -> u64 {
    stats.types().map(|of| of.errors(kind)).sum()
}

fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "Requested keys, by outcome");
    describe_counter!(ERRORS, Unit::Count, "Failures by kind");
    describe_histogram!(LOAD_DURATION, Unit::Seconds, "Duration of loaders");
    describe_gauge!(
        BREAKER,
        Unit::Count,
        "1 for the current state of the breaker"
    );
    for (name, _, unit, text) in OF_TYPES {
        describe_counter!(name, unit, text);
    }
    for (name, _, text) in OF_STORE {
        describe_counter!(name, Unit::Count, text);
    }
    for (name, _, text) in GAUGES_OF_TYPES {
        describe_gauge!(name, Unit::Count, text);
    }
    for (name, _, text) in GAUGES {
        describe_gauge!(name, Unit::Count, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::published::Published;

    /// Two calls publish at once, and the one with the older snapshot comes later.
    #[test]
    fn a_count_is_published_only_once() {
        let published = Published::default();
        let since = |now| published.since("hits", "user", "", now);
        assert_eq!([since(10), since(10), since(12)], [10, 0, 2]);
        assert_eq!(since(5), 0);
        assert_eq!(since(13), 1, "not what the older one lacked");
        // Each name, type and label counts separately.
        for (name, of, label) in [
            ("hits", "page", ""),
            ("hits", "user", "x"),
            ("loads", "user", ""),
        ] {
            assert_eq!(published.since(name, of, label, 7), 7);
        }
    }

    #[test]
    fn error_kinds_that_never_came_are_not_published() {
        let of = |kind| u64::from(kind == ErrorKind::Timeout) * 3;
        assert_eq!(errors(of).collect::<Vec<_>>(), [("timeout", 3)]);
        assert_eq!(errors(|_| 0).count(), 0);
    }
}
