//! Time and randomness, which tests can replace.
//!
//! Time is in microseconds since the Unix epoch, as in the server's `TIME`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The time source of a store.
///
/// It must not run backwards. The in-process store expires its entries by it. For a server, the
/// estimate of the server's time is based on it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Microseconds since the Unix epoch.
    fn now_micros(&self) -> u64;

    /// The same, and wrong by at most 20 milliseconds if that is cheaper.
    fn coarse_micros(&self) -> u64 {
        self.now_micros()
    }
}

/// The largest error of [`Clock::coarse_micros`], in microseconds. The timer of Linux ticks at
/// least each 10 milliseconds.
pub(crate) const COARSE: u64 = 20_000;

/// Whether a moment has not come yet, by a clock. Far from the moment, the coarse time is enough.
#[inline]
pub(crate) fn is_before(clock: &dyn Clock, moment: u64) -> bool {
    clock.coarse_micros().saturating_add(COARSE) < moment || clock.now_micros() < moment
}

/// The moment after a time. If an `Instant` can't express it, the moment after a day.
pub(crate) fn later(from: tokio::time::Instant, time: Duration) -> tokio::time::Instant {
    let day = Duration::from_secs(24 * 60 * 60);
    from.checked_add(time).unwrap_or(from + day)
}

/// The machine's clock, read once and then continued by the monotonic clock, so that it never runs
/// backwards.
#[derive(Debug)]
pub(crate) struct SystemClock {
    started: Instant,
    started_micros: u64,
    /// The coarse clock at the start.
    #[cfg(target_os = "linux")]
    started_coarse: u64,
}

/// The time of the kernel's last tick, in microseconds.
#[cfg(target_os = "linux")]
#[inline]
fn last_tick() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            started_micros: micros(since_epoch),
            #[cfg(target_os = "linux")]
            started_coarse: last_tick(),
        }
    }
}

impl Clock for SystemClock {
    fn now_micros(&self) -> u64 {
        self.started_micros + micros(self.started.elapsed())
    }

    #[cfg(target_os = "linux")]
    fn coarse_micros(&self) -> u64 {
        self.started_micros + last_tick().saturating_sub(self.started_coarse)
    }
}

/// Without the 128 bits of [`Duration::as_micros`]: this is on the way of every near hit.
fn micros(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(u64::from(time.subsec_micros()))
}

/// A clock that a test moves.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, ManualClock, Store};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// #[cached(ttl = "1m", jitter = "0%")]
/// struct Session {
///     #[cached(key)]
///     id: u64,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let clock = Arc::new(ManualClock::new());
/// let store = Store::builder().memory().clock(clock.clone()).connect().await?;
/// Session { id: 1 }.set(&store).await?;
/// clock.advance(Duration::from_secs(59));
/// assert!(Session::exists(&store, 1).await?);
/// clock.advance(Duration::from_secs(1));
/// assert!(!Session::exists(&store, 1).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows the beginning of 2026.
    pub fn new() -> Self {
        Self(AtomicU64::new(1_767_225_600_000_000))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(micros(by), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The source of a store's random bits: for tokens, jitter, and stamps of the same microsecond.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Returns 64 random bits. They need not be unpredictable.
    fn next_u64(&self) -> u64;
}

#[derive(Debug)]
pub(crate) struct ThreadRandom;

impl Random for ThreadRandom {
    fn next_u64(&self) -> u64 {
        fastrand::u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_time_is_near_the_exact_one() {
        let clock = SystemClock::new();
        for _ in 0..10_000 {
            let before = clock.now_micros();
            let coarse = clock.coarse_micros();
            let after = clock.now_micros();
            assert!(before <= coarse + COARSE && coarse <= after + COARSE);
        }
    }

    #[test]
    fn a_moment_is_exact_whatever_the_coarse_time_says() {
        /// Its coarse time is wrong by that much.
        #[derive(Debug)]
        struct Wrong(i64);

        impl Clock for Wrong {
            fn now_micros(&self) -> u64 {
                1_000_000
            }

            fn coarse_micros(&self) -> u64 {
                self.now_micros().saturating_add_signed(self.0)
            }
        }

        for error in [-20_000, -1, 0, 1, 20_000] {
            assert!(is_before(&Wrong(error), 1_000_001));
            assert!(!is_before(&Wrong(error), 1_000_000));
            assert!(is_before(&Wrong(error), 2_000_000));
        }
    }
}
