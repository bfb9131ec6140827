//! The histogram of load times.

use metrics::histogram;
use std::time::Duration;

pub(crate) const LOAD_DURATION: &str = "valkey_load_duration_seconds";

/// Records the time of a loader.
pub(crate) fn loaded(store: &str, of: &str, time: Duration) {
    histogram!(LOAD_DURATION, "store" => store.to_owned(), "type" => of.to_owned()).record(time);
}
