//! The runtime's time, and random numbers that are the same in each run. Paused time advances to
//! the next timer whenever all tasks wait. So a run takes no longer than its work, and always has
//! the same result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use valkey_runtime::{Clock, Random};

/// The clock of a store whose time is the runtime's.
#[derive(Debug)]
pub(crate) struct RuntimeClock {
    began: Instant,
}

/// Any start will do: the store uses only differences of times.
const BEGINNING: Duration = Duration::from_secs(1_767_225_600);

impl RuntimeClock {
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        Self { began }
    }
}

impl Clock for RuntimeClock {
    fn now_micros(&self) -> u64 {
        let now = BEGINNING + self.began.elapsed();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }
}

/// The random numbers of a store.
#[derive(Debug, Default)]
pub(crate) struct Numbers(AtomicU64);

impl Random for Numbers {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}
