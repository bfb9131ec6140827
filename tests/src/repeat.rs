//! Tests that go by real time, on a machine that may stand still.
//!
//! A lease lives for a second and is renewed each third of one; a command has half a second by
//! default. Where a thread, a process or a server has no turn for a good part of that, a lease runs
//! out or a command fails. The product is right to do so, and the test has another subject. So it
//! is run again. Its caller measures whether something stood still.

use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// Threads, processes and servers have a turn within this, or they stood still. A few of these
/// make the life of a lease.
pub const TURN: Duration = Duration::from_millis(200);
/// A machine that is that busy is of no use for tests.
const ATTEMPTS: usize = 20;

/// Runs a test until it passes, as long as something stood still in each run that failed. Each run
/// gives its outcome, and the longest that something stood still meanwhile.
///
/// # Panics
///
/// With the panic of a run in which nothing stood still, or of the twentieth.
pub fn repeat(mut run: impl FnMut() -> (thread::Result<()>, Duration)) {
    for attempt in 1.. {
        let (outcome, longest) = run();
        let Err(panic) = outcome else { return };
        eprintln!(
            "attempt {attempt} failed; the longest that something stood still was {longest:.1?}"
        );
        if longest < TURN || attempt == ATTEMPTS {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// How many runs there are of a test whose first runs fail, where something stands still for
    /// so long in each; and whether the test fails in the end.
    fn runs(failures: usize, stands_still: Duration) -> (usize, bool) {
        let mut runs = 0;
        let run = || {
            runs += 1;
            let outcome = catch_unwind(|| assert!(runs > failures, "run {runs} fails"));
            (outcome, stands_still)
        };
        let fails = catch_unwind(AssertUnwindSafe(|| repeat(run))).is_err();
        (runs, fails)
    }

    #[test]
    fn a_failure_while_something_stood_still_is_repeated() {
        assert_eq!(runs(0, TURN), (1, false));
        assert_eq!(runs(1, TURN), (2, false));
        assert_eq!(runs(ATTEMPTS - 1, TURN), (ATTEMPTS, false));
    }

    #[test]
    fn a_failure_while_nothing_stood_still_is_the_result_at_once() {
        assert_eq!(runs(1, TURN - Duration::from_millis(1)), (1, true));
    }

    #[test]
    fn a_failure_is_the_result_after_all_attempts() {
        assert_eq!(runs(ATTEMPTS, TURN), (ATTEMPTS, true));
    }
}
