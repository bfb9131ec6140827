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
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            started_micros: micros(since_epoch),
        }
    }
}

impl Clock for SystemClock {
    fn now_micros(&self) -> u64 {
        self.started_micros + micros(self.started.elapsed())
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
