//! Time as the runtime has it. While it is paused it goes on to the next timer whenever all tasks wait.

use std::time::Duration;

use tokio::time::Instant;
use valkey_runtime::Clock;

/// The clock of a store whose time is the runtime's.
#[derive(Debug)]
pub(crate) struct RuntimeClock {
    began: Instant,
}

/// Any time will do: the store looks only at what has passed since.
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
