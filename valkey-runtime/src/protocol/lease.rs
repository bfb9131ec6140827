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

/// The pause before a look at another process's lease, of which a random part is left out, at most
/// half. The first look has the number 1.
pub(crate) fn pause(attempt: u32, random: u64) -> Duration {
    let longest = FIRST_PAUSE
        .saturating_mul(1 << attempt.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE);
    let half = longest / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random % spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_looks_grow_up_to_the_longest_and_are_jittered() {
        let mut longest = Vec::new();
        for attempt in 1..=8 {
            let half = pause(attempt, 0);
            let micros = u64::try_from(half.as_micros()).unwrap();
            let most = pause(attempt, micros - 1);
            assert_eq!(most, 2 * half - Duration::from_micros(1), "{attempt}");
            assert_eq!(pause(attempt, micros), half, "{attempt}");
            longest.push(2 * micros / 1000);
        }
        assert_eq!(longest, [1, 2, 4, 8, 16, 20, 20, 20]);
        assert_eq!(pause(0, 0), FIRST_PAUSE / 2);
        assert_eq!(pause(u32::MAX, 0), LONGEST_PAUSE / 2);
    }
}
