//! The times of leases and loads.

use std::time::Duration;

/// The life of a lease that is not renewed, and the interval of its renewals.
pub(crate) const LEASE_LIFE: Duration = Duration::from_secs(1);

pub(crate) const RENEWAL: Duration = Duration::from_millis(300);

/// A longer load continues but is not stored; one without its caller is ended. Others wait this
/// long for a load.
pub(crate) const LONGEST_LOAD: Duration = Duration::from_secs(10);

/// The pause between two looks at another process's lease: doubled up to the longest, and jittered.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(1);

pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
