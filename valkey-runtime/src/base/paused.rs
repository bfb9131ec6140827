//! Whether a test has paused the time.

use std::time::{Duration, Instant};

/// The hint for an error of a real server while a test has paused tokio's time.
pub(crate) const PAUSED: &str = "tokio's clock is paused (`start_paused = true` or `tokio::time::pause`), so every \
                                 deadline for a real server is over at once: remove the pause, or use an in-process store, \
                                 `testing::memory`, whose clock the test moves";

/// Whether tokio's clock is paused. Tokio has no function for this, so this one looks whether the
/// clock moves.
pub(crate) fn is_time_paused() -> bool {
    const LONG_ENOUGH: Duration = Duration::from_micros(20);
    let (real, tokio) = (Instant::now(), tokio::time::Instant::now());
    while real.elapsed() < LONG_ENOUGH {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == tokio
}
