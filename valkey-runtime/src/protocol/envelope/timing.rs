//! The freshness and the claim of a timed value, which outlives its freshness.
//!
//! ```text
//! freshness  cf + u64  until when, in milliseconds of the server's time; 0 for not any more
//! claim      cf + u64  40 bits: until when it holds, in hundredths of a second; 24 bits: the claimer's token
//! ```
//!
//! A claim is made and renewed in place. Its name is its token and the stamp of the entry. Each
//! event that ends a claim gives the entry another stamp, or removes it. So a request that runs
//! twice finds no claim that it could mistake for its own. A claim with token 0 is a pause: it
//! belongs to nobody, and delays the next attempt to load.

use crate::base::ttl::Ttl;

/// The longest time for which a loader's claim or lease holds from now, in milliseconds: the
/// longest load plus the life of a lease that is not renewed. A claim for longer is damaged.
pub(crate) const LONGEST_CLAIM: u64 = 11_000;
/// The same for a pause: a day, as in `Policy::retry_after_millis`.
const LONGEST_PAUSE: u64 = 86_400_000;

/// Fresh without a limit, as far as the entry itself says.
pub(crate) const FOR_EVER: u64 = u64::MAX;

/// The freshness and the claim of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Timing {
    /// In milliseconds of the server's time.
    pub(crate) until: u64,
    pub(crate) claim: Claim,
}

/// The claimer of an entry, and the time until which nobody else may claim it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Claim(u64);

impl Timing {
    pub(crate) fn fresh_until(until: u64) -> Self {
        Self {
            until,
            claim: Claim::NONE,
        }
    }

    /// The remaining freshness. `now` is in milliseconds.
    pub(crate) fn left(self, now: u64) -> Ttl {
        match self.until {
            FOR_EVER => Ttl::Never,
            until => Ttl::from_millis(until.saturating_sub(now)),
        }
    }

    /// `now` is in milliseconds.
    pub(crate) fn is_fresh(self, now: u64) -> bool {
        self.until > now
    }
}

impl Claim {
    pub(crate) const NONE: Self = Self(0);

    /// A claim that holds for `life` milliseconds from now, rounded up to the next hundredth of a
    /// second.
    pub(crate) fn new(token: u32, now: u64, life: u64) -> Self {
        Self((now + life).div_ceil(10) << 24 | u64::from(token))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// Whether it still holds. A claim with an absurdly late end does not. `now` is in
    /// milliseconds.
    pub(crate) fn is_live(self, now: u64) -> bool {
        let longest = match self.token() {
            0 => LONGEST_PAUSE,
            _ => LONGEST_CLAIM,
        };
        // Its end was rounded up by less than a hundredth of a second.
        (1..longest + 10).contains(&((self.0 >> 24) * 10).saturating_sub(now))
    }

    /// 24 bits; 0 if it belongs to nobody.
    pub(crate) fn token(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }
}

/// The token of a claim that is made for the request with `token`.
pub(crate) fn claim_token(token: u64) -> u32 {
    ((token & 0xff_ffff) as u32).max(1)
}

/// The next stamp: the same time, with the random bits incremented.
pub(crate) fn next_stamp(stamp: u64) -> u64 {
    stamp & !0xfff | stamp.wrapping_add(1) & 0xfff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_for_its_life_and_no_longer_than_a_hundredth_more() {
        let claim = Claim::new(7, 1_000_003, 500);
        assert_eq!(claim.token(), 7);
        assert!(claim.is_live(1_000_503));
        assert!(!claim.is_live(1_000_513));
        assert!(!Claim::NONE.is_live(0));
    }

    #[test]
    fn a_claim_with_an_absurd_end_holds_for_nobody() {
        let now = 1_767_225_600_003;
        assert!(Claim::new(7, now, LONGEST_CLAIM).is_live(now));
        assert!(!Claim::new(7, now, LONGEST_CLAIM + 10).is_live(now));
        assert!(Claim::new(0, now, LONGEST_PAUSE).is_live(now));
        assert!(!Claim::new(0, now, LONGEST_PAUSE + 10).is_live(now));
        for token in [0, 7] {
            assert!(!Claim::from_bits(!0xff_ffff | token).is_live(now));
        }
    }

    #[test]
    fn a_claim_lasts_as_long_as_any_load() {
        use crate::protocol::lease::{LEASE_LIFE, LONGEST_LOAD, millis};
        assert_eq!(LONGEST_CLAIM, millis(LONGEST_LOAD + LEASE_LIFE));
    }

    #[test]
    fn no_claimer_has_the_token_of_a_pause() {
        assert_eq!(claim_token(5 << 24), 1);
        assert_eq!(claim_token(5 << 24 | 9), 9);
    }

    #[test]
    fn the_next_stamp_is_of_the_same_time() {
        assert_eq!(next_stamp(0xabc_def), 0xabc_df0 & !0xfff | 0xdf0);
        assert_eq!(next_stamp(0xabc_fff), 0xabc_000);
        assert_eq!(next_stamp(u64::MAX), !0xfff);
    }
}
