//! An estimate of the server's time, so that a stamp needs no round trip.
//!
//! The server's time is queried at each connection, and again when an answer is too old. In
//! between, the store's clock counts on. The estimate never runs backwards, even if a later answer
//! shows that it was ahead.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::base::clock::{Clock, is_before};

/// The age of an answer after which the server's time is queried again, in microseconds.
const FRESH: u64 = 60_000_000;

pub(crate) struct ServerTime {
    clock: Arc<dyn Clock>,
    /// The server's time minus the clock's.
    offset: AtomicI64,
    /// The clock's time at the last query; 0 if there was none.
    asked: AtomicU64,
    /// The latest time that was returned.
    latest: AtomicU64,
}

impl ServerTime {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            offset: AtomicI64::new(0),
            asked: AtomicU64::new(0),
            latest: AtomicU64::new(0),
        }
    }

    /// The estimate of the server's time. Before the first answer it is the clock's time.
    pub(crate) fn now_micros(&self) -> u64 {
        let estimate = self.at(self.clock.now_micros());
        self.latest
            .fetch_max(estimate, Ordering::Relaxed)
            .max(estimate)
    }

    /// Whether a moment of the clock has not come yet.
    pub(crate) fn is_before(&self, moment: u64) -> bool {
        is_before(&*self.clock, moment)
    }

    /// The server's time at a moment of the clock, by the present estimate.
    pub(crate) fn at(&self, clock_micros: u64) -> u64 {
        clock_micros.saturating_add_signed(self.offset.load(Ordering::Relaxed))
    }

    /// True once each time that an answer has become too old: the caller then sends a query.
    pub(crate) fn is_due(&self) -> bool {
        let (now, asked) = (self.clock.now_micros(), self.asked.load(Ordering::Relaxed));
        now.saturating_sub(asked) > FRESH
            && self
                .asked
                .compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The clock's time at which a query is sent.
    pub(crate) fn sent(&self) -> u64 {
        self.clock.now_micros()
    }

    /// Takes the answer to a query that was sent at `sent`. The server is assumed to have answered
    /// half-way.
    pub(crate) fn learn(&self, sent: u64, server_micros: u64) {
        let now = self.clock.now_micros();
        let middle = sent + now.saturating_sub(sent) / 2;
        self.offset.store(
            server_micros.wrapping_sub(middle).cast_signed(),
            Ordering::Relaxed,
        );
        self.asked.store(now, Ordering::Relaxed);
    }
}

impl fmt::Debug for ServerTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTime")
            .field("offset_micros", &self.offset)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use std::time::Duration;

    fn time() -> (ServerTime, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        (ServerTime::new(clock.clone()), clock)
    }

    #[test]
    fn an_answer_counts_for_the_middle_of_its_round_trip() {
        let (time, clock) = time();
        let sent = time.sent();
        clock.advance(Duration::from_micros(200));
        time.learn(sent, 5_000);
        assert_eq!(time.now_micros(), 5_100);
        clock.advance(Duration::from_micros(50));
        assert_eq!(time.now_micros(), 5_150);
    }

    #[test]
    fn it_never_runs_backwards() {
        let (time, clock) = time();
        time.learn(time.sent(), 9_000);
        assert_eq!(time.now_micros(), 9_000);
        time.learn(time.sent(), 8_000);
        assert_eq!(time.now_micros(), 9_000);
        clock.advance(Duration::from_micros(1_500));
        assert_eq!(time.now_micros(), 9_500);
    }

    #[test]
    fn the_server_is_asked_again_once_an_answer_is_old() {
        let (time, clock) = time();
        time.learn(time.sent(), 9_000);
        assert!(!time.is_due());
        clock.advance(Duration::from_secs(61));
        assert!(time.is_due());
        assert!(!time.is_due(), "one caller asks, not all");
    }
}
