//! Waiting for what can't announce itself.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything here may take before the test is given up. Generous: it
/// is reached only when something is broken, and a busy machine is not.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, asking it every few milliseconds.
///
/// Only for what can't be awaited: the state of another process.
///
/// # Panics
///
/// When it does not hold within a minute; `what` then says what was
/// waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let mut backoff = Backoff::default();
    while !condition() {
        assert!(backoff.pause(), "waited in vain: {what}");
    }
}

/// Pauses that grow from one to twenty milliseconds.
pub struct Backoff {
    started: Instant,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            next: Duration::from_millis(1),
        }
    }
}

impl Backoff {
    /// Sleeps; `false`, at once, when the deadline has passed.
    pub fn pause(&mut self) -> bool {
        if self.started.elapsed() >= DEADLINE {
            return false;
        }
        thread::sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(20));
        true
    }
}
