//! Waiting for events that send no notification.

use std::thread;
use std::time::{Duration, Instant};

/// The longest wait of the kit before a test fails. It is long, so that only a defect reaches it,
/// and not a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How long the kit's stores wait for the answer to a command.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks `condition` every few milliseconds until it holds. Use it only for conditions that can't
/// be awaited, such as the state of another process.
///
/// # Panics
///
/// If the condition does not hold within a minute, with `what` in the message.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let mut backoff = Backoff::default();
    while !condition() {
        assert!(backoff.pause(), "timed out while waiting: {what}");
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
    /// Sleeps. Returns `false` at once if the deadline has passed.
    pub fn pause(&mut self) -> bool {
        if self.started.elapsed() >= DEADLINE {
            return false;
        }
        thread::sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(20));
        true
    }
}
