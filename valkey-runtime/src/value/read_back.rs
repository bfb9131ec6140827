//! The rule by which values are decoded before they are stored.

use std::sync::atomic::{AtomicU32, Ordering};

/// Whether values of a type are read back before they are stored: the first one, and some after an
/// entry was found corrupt.
#[derive(Debug)]
pub(crate) struct ReadBack {
    left: AtomicU32,
}

/// The number of values that are read back after an entry was found corrupt.
const AFTER_CORRUPT: u32 = 100;

impl Default for ReadBack {
    fn default() -> Self {
        let left = AtomicU32::new(1);
        Self { left }
    }
}

impl ReadBack {
    pub(crate) fn found_corrupt(&self) {
        self.left.store(AFTER_CORRUPT, Ordering::Relaxed);
    }

    pub(crate) fn is_due(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn was_read(&self) {
        // It does not matter which of several concurrent calls counts down.
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
    }
}
