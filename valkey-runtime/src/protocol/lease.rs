//! The times of leases and loads.

use std::time::Duration;

/// How long a lease lives that is not renewed, and how often it is.
pub(crate) const LEASE_LIFE: Duration = Duration::from_secs(1);

pub(crate) const RENEWAL: Duration = Duration::from_millis(300);

/// A load that takes longer goes on, but is not stored; one beside its caller is ended. So long others wait for it.
pub(crate) const LONGEST_LOAD: Duration = Duration::from_secs(10);

/// The pause between two looks at another process's lease: doubled up to the longest, and jittered.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(1);

pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
