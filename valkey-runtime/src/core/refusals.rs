//! The recent refusals of rate limits, so that a flood of requests for one key is no flood of
//! scripts.
//!
//! Until the time to retry, a request of the same or a higher cost is certainly refused again:
//! requests that are allowed meanwhile only delay that time. Only a reset brings it forward, so a
//! refusal is remembered for no longer than [`LONGEST`].

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use quick_cache::sync::Cache;

use crate::protocol::rate::Verdict;

/// The longest time for which a reset by another process is not noticed, in microseconds.
pub(crate) const LONGEST: u64 = 1_000_000;
const MOST: usize = 16_384;

/// Without any refusal yet, there is nothing to look at, and no lock.
#[derive(Debug, Default)]
pub(crate) struct Refusals(OnceLock<Remembered>);

/// Keyed by 128 bits of hash with secret seeds: so a key takes the same space, whatever its length.
#[derive(Debug)]
struct Remembered {
    refusals: Cache<u128, Refusal>,
    hashers: [RandomState; 2],
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    verdict: Verdict,
    cost: u64,
    /// The time by this process's clock when the request was sent.
    asked: u64,
}

impl Refusal {
    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.asked)
    }

    fn is_over(&self, now: u64) -> bool {
        self.age(now) >= self.verdict.retry_after.min(LONGEST)
    }
}

impl Remembered {
    fn new() -> Self {
        Self {
            refusals: Cache::new(MOST),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    fn name(&self, key: &[u8]) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(key));
        u128::from(high) << 64 | u128::from(low)
    }
}

impl Refusals {
    /// The verdict on a request that is certainly refused.
    pub(crate) fn of(&self, key: &[u8], cost: u64, now: u64) -> Option<Verdict> {
        let remembered = self.0.get()?;
        let refusal = remembered.refusals.get(&remembered.name(key))?;
        if refusal.cost > cost || refusal.is_over(now) {
            return None;
        }
        let (verdict, age) = (refusal.verdict, refusal.age(now));
        Some(Verdict {
            reset: verdict.reset.saturating_sub(age),
            retry_after: verdict.retry_after - age,
            more_after: verdict.more_after.saturating_sub(age),
            ..verdict
        })
    }

    /// Remembers a refusal of a request that was sent at `asked`. If there is no room, another
    /// refusal is dropped.
    pub(crate) fn add(&self, key: &[u8], cost: u64, verdict: Verdict, asked: u64, now: u64) {
        let refusal = Refusal {
            verdict,
            cost,
            asked,
        };
        if !refusal.is_over(now) {
            let remembered = self.0.get_or_init(Remembered::new);
            let name = remembered.name(key);
            remembered.refusals.insert(name, refusal);
        }
    }

    pub(crate) fn forget(&self, key: &[u8]) {
        if let Some(remembered) = self.0.get() {
            remembered.refusals.remove(&remembered.name(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Verdict = Verdict {
        allowed: false,
        remaining: 0,
        reset: 5_000_000,
        retry_after: 600_000,
        more_after: 300_000,
    };

    #[test]
    fn a_refusal_holds_until_the_time_to_retry() {
        let refusals = Refusals::default();
        assert_eq!(refusals.of(b"a", 2, 100), None);
        refusals.add(b"a", 2, REFUSED, 100, 200);
        let again = refusals.of(b"a", 2, 100_100).unwrap();
        assert_eq!((again.retry_after, again.reset), (500_000, 4_900_000));
        assert_eq!(again.more_after, 200_000);
        assert!(refusals.of(b"a", 3, 100_100).is_some());
        assert_eq!(refusals.of(b"a", 1, 100_100), None, "it may be allowed");
        assert_eq!(refusals.of(b"b", 2, 100_100), None);
        assert!(refusals.of(b"a", 2, 600_099).is_some());
        assert_eq!(refusals.of(b"a", 2, 600_100), None);
        refusals.forget(b"a");
        assert_eq!(refusals.of(b"a", 2, 200), None);
    }

    #[test]
    fn it_holds_for_a_second_at_most() {
        let refusals = Refusals::default();
        let long = Verdict {
            retry_after: 9_000_000,
            ..REFUSED
        };
        refusals.add(b"a", 1, long, 0, 0);
        assert!(refusals.of(b"a", 1, 999_999).is_some());
        assert_eq!(refusals.of(b"a", 1, 1_000_000), None);
        // A refusal whose answer came after its time is not remembered.
        refusals.add(b"b", 1, long, 0, 1_000_000);
        assert_eq!(refusals.of(b"b", 1, 0), None);
    }

    #[test]
    fn their_number_is_bounded() {
        let refusals = Refusals::default();
        let remembered = |keys: std::ops::Range<u32>| {
            let is = |key: &u32| refusals.of(&key.to_be_bytes(), 1, 0).is_some();
            keys.filter(is).count()
        };
        for key in 0..2 * MOST as u32 {
            refusals.add(&key.to_be_bytes(), 1, REFUSED, 0, 0);
        }
        let all = remembered(0..2 * MOST as u32);
        assert!((MOST / 2..=MOST).contains(&all), "{all}");
        // Each refusal is remembered when it was just added.
        let last = remembered(2 * MOST as u32 - 1..2 * MOST as u32);
        assert_eq!(last, 1);
    }
}
