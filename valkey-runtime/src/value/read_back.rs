//! The rule by which values are decoded before they are stored: the first one of a type, one in N
//! after it, and a hundred after a failure.
//!
//! A value that is not read back costs a load and a store of a number that only this type uses.
//! Calls at the same time may count as one: the rule is a sample, and not a promise about each
//! value.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The default of [`Builder::read_back_every`](crate::config::Builder::read_back_every).
pub(crate) const EVERY: u32 = 256;
/// The number of values that are read back after an entry was found corrupt, or a value was
/// refused.
const AFTER_FAILURE: u32 = 100;
/// In [`ReadBack::next`]: no further value is due.
const NEVER: u32 = u32::MAX;

/// The values of a type that are read back before they are stored.
#[derive(Debug)]
pub(crate) struct ReadBack {
    /// One in so many values; 0: only the first one.
    every: u32,
    /// The number of values before the next one that is due.
    next: AtomicU32,
    /// The number of values that are due after a failure.
    after_failure: AtomicU32,
}

impl ReadBack {
    pub(crate) fn every(every: u32) -> Self {
        Self {
            every,
            next: AtomicU32::new(0),
            after_failure: AtomicU32::new(0),
        }
    }

    /// An entry of the type was found corrupt, or a value of it was refused.
    pub(crate) fn failed(&self) {
        self.after_failure.store(AFTER_FAILURE, Relaxed);
    }

    /// Whether the next value is to be read back. Counts it if not.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let next = self.next.load(Relaxed);
        if next == 0 || self.after_failure.load(Relaxed) > 0 {
            return true;
        }
        if next != NEVER {
            self.next.store(next - 1, Relaxed);
        }
        false
    }

    /// A value that was due came back.
    pub(crate) fn was_read(&self) {
        let left = self.after_failure.load(Relaxed);
        self.after_failure.store(left.saturating_sub(1), Relaxed);
        let next = self.every.checked_sub(1).unwrap_or(NEVER);
        self.next.store(next, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of the next values is read back, as `x` and `-`.
    fn next(read_back: &ReadBack, values: usize) -> String {
        let mut shown = String::new();
        for _ in 0..values {
            let due = read_back.is_due();
            shown.push(if due { 'x' } else { '-' });
            if due {
                read_back.was_read();
            }
        }
        shown
    }

    #[test]
    fn the_first_and_one_in_n_are_due() {
        for (every, due) in [
            (0, "x---------"),
            (1, "xxxxxxxxxx"),
            (2, "x-x-x-x-x-"),
            (4, "x---x---x-"),
            (u32::MAX, "x---------"),
        ] {
            assert_eq!(next(&ReadBack::every(every), 10), due, "{every}");
        }
        let read_back = ReadBack::every(EVERY);
        let due = next(&read_back, 10 * EVERY as usize);
        assert_eq!(due.matches('x').count(), 10);
    }

    #[test]
    fn a_value_that_does_not_come_back_does_not_count() {
        let read_back = ReadBack::every(0);
        assert!(read_back.is_due() && read_back.is_due());
        assert_eq!(next(&read_back, 3), "x--");
    }

    #[test]
    fn a_hundred_are_due_after_a_failure() {
        for every in [0, 1000] {
            let read_back = ReadBack::every(every);
            next(&read_back, 10);
            read_back.failed();
            assert_eq!(next(&read_back, 100), "x".repeat(100));
            assert_eq!(next(&read_back, 100), "-".repeat(100));
        }
    }
}
