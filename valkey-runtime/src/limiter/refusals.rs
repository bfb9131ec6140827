//! What was refused just now, so that a flood from one key is no flood of scripts.
//!
//! Until the time to retry a request of the same cost, or a dearer one, is certainly refused again: what is taken meanwhile only
//! makes it later. Only a reset makes it earlier, so a refusal is remembered for no longer than [`LONGEST`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rule::Verdict;

/// The longest that a reset by another process goes unseen, in microseconds.
pub(crate) const LONGEST: u64 = 1_000_000;
const SHARDS: usize = 16;
/// With these bounds it takes some MiB where all is full of long keys.
const MOST_A_SHARD: usize = 1024;
const LONGEST_KEY: usize = 256;

#[derive(Debug)]
pub(crate) struct Refusals {
    shards: [Mutex<HashMap<Box<[u8]>, Refusal>>; SHARDS],
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    verdict: Verdict,
    cost: u64,
    /// By our own clock, when the request was sent.
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

impl Default for Refusals {
    fn default() -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Refusals {
    /// The verdict on a request that is certainly refused.
    pub(crate) fn of(&self, key: &[u8], cost: u64, now: u64) -> Option<Verdict> {
        let refusal = *self.shard(key).get(key)?;
        if refusal.cost > cost || refusal.is_over(now) {
            return None;
        }
        let (verdict, age) = (refusal.verdict, refusal.age(now));
        Some(Verdict {
            reset: verdict.reset.saturating_sub(age),
            retry_after: verdict.retry_after - age,
            ..verdict
        })
    }

    /// Remembers a refusal of what was asked at that time. Where there is no room it is not remembered.
    pub(crate) fn add(&self, key: &[u8], cost: u64, verdict: Verdict, asked: u64, now: u64) {
        let refusal = Refusal {
            verdict,
            cost,
            asked,
        };
        if key.len() > LONGEST_KEY || refusal.is_over(now) {
            return;
        }
        let mut shard = self.shard(key);
        if shard.len() >= MOST_A_SHARD {
            shard.retain(|_, refusal| !refusal.is_over(now));
        }
        if shard.len() < MOST_A_SHARD {
            shard.insert(key.into(), refusal);
        }
    }

    pub(crate) fn forget(&self, key: &[u8]) {
        self.shard(key).remove(key);
    }

    /// A panic under this lock leaves nothing half done.
    fn shard(&self, key: &[u8]) -> MutexGuard<'_, HashMap<Box<[u8]>, Refusal>> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
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
    };

    #[test]
    fn a_refusal_holds_until_the_time_to_retry() {
        let refusals = Refusals::default();
        refusals.add(b"a", 2, REFUSED, 100, 200);
        let again = refusals.of(b"a", 2, 100_100).unwrap();
        assert_eq!((again.retry_after, again.reset), (500_000, 4_900_000));
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
        assert!(refusals.of(b"a", 1, LONGEST - 1).is_some());
        assert_eq!(refusals.of(b"a", 1, LONGEST), None);
    }

    #[test]
    fn their_number_is_bounded_and_those_that_are_over_make_room() {
        let refusals = Refusals::default();
        let len = || -> usize {
            let shards = refusals.shards.iter();
            shards.map(|shard| shard.lock().unwrap().len()).sum()
        };
        let fill = |from: u32, now| {
            for key in from..from + 100_000 {
                refusals.add(&key.to_be_bytes(), 1, REFUSED, now, now);
            }
        };
        fill(0, 0);
        assert_eq!(len(), SHARDS * MOST_A_SHARD);
        fill(100_000, LONGEST);
        assert_eq!(len(), SHARDS * MOST_A_SHARD);
        let remembered = (100_000..200_000u32)
            .filter(|key| refusals.of(&key.to_be_bytes(), 1, LONGEST).is_some());
        assert_eq!(remembered.count(), SHARDS * MOST_A_SHARD);
        refusals.add(&[0; LONGEST_KEY + 1], 1, REFUSED, 0, 0);
        assert_eq!(refusals.of(&[0; LONGEST_KEY + 1], 1, 0), None);
    }
}
