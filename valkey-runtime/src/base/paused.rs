//! Whether a test has stopped the time.

use std::time::{Duration, Instant};

/// What to say of a server where a test has stopped tokio's time.
pub(crate) const PAUSED: &str = "tokio's clock is paused (`start_paused = true` or `tokio::time::pause`), so each deadline of a real server is over at \
    once: leave that out, or take a store in the process, `testing::memory`, whose clock the test moves";

/// Whether tokio's clock stands still, where this is called. There is no function that says so: it is looked whether it moves.
pub(crate) fn is_time_paused() -> bool {
    const LONG_ENOUGH: Duration = Duration::from_micros(20);
    let (real, tokio) = (Instant::now(), tokio::time::Instant::now());
    while real.elapsed() < LONG_ENOUGH {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == tokio
}
