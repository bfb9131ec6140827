//! Locks by lease, as pure functions: from state, request and time to the answer and the change.
//!
//! [`decide`] is the truth, and `scripts/lock.lua` is its copy. `model/asked.rs` compares the two,
//! and `model/locks.rs` explores every interleaving of a few callers. [`granted`] and [`renewed`]
//! are the caller's half: the time until which it may believe that it holds the lock.
//!
//! A state is the last fencing token, the token of the caller that released last, and the holders.
//! It outlives its holders by [`KEPT`], so that fencing tokens go on from it. A lost state does not
//! set them back either: a fencing token is no less than the server's time in microseconds.
//!
//! All numbers stay below 2^53, so that Lua's doubles hold them exactly. Other bytes are no lock,
//! and neither is a lock without a further fencing token to its next caller. They are an error and
//! not a free lock, since they may be a lock of a later release.

use std::time::Duration;

/// The longest lease, in milliseconds.
pub(crate) const LONGEST: u64 = 86_400_000;
/// The most holders at a time.
pub(crate) const MOST: u32 = 256;
/// The time for which a state outlives its last holder, in milliseconds.
pub(crate) const KEPT: u64 = 3_600_000;

const DIGITS: usize = 16;
const HEAD: usize = 1 + 2 * DIGITS;
const HOLDER: usize = 4 * DIGITS;
const EXACT: u64 = 1 << 53;

/// A request to one lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ask {
    pub(crate) act: Act,
    /// The caller's own; never 0.
    pub(crate) token: u64,
    /// In milliseconds.
    pub(crate) life: u64,
    /// The most holders at a time.
    pub(crate) permits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    /// Takes the lock if it is free. For a holder it is a renewal.
    Acquire,
    /// Prolongs the lease of a holder.
    Renew,
    Release,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// The caller holds the lock, or did until this release. With its fencing token.
    Held(u64),
    /// Others hold it. The first of their leases ends in so many microseconds.
    Busy(u64),
    /// The caller does not hold it.
    Gone,
    /// There is something else at the key.
    NoLock,
}

/// The change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    /// The state, and its life in milliseconds.
    Put(Vec<u8>, u64),
}

/// Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    token: u64,
    ends: u64,
    fence: u64,
    life: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    /// The last fencing token.
    last: u64,
    /// The token of the caller that released last. Its request may run once more.
    gone: u64,
    holders: Vec<Holder>,
}

/// The answer to the request at that time, in microseconds, and the change of the state.
pub(crate) fn decide(state: Option<&[u8]>, ask: &Ask, now: u64) -> (Answer, Then) {
    let mut state = match state.map(State::from_bytes) {
        None => State::default(),
        Some(Some(state)) => state,
        Some(None) => return (Answer::NoLock, Then::Keep),
    };
    let life = ask.life * 1000;
    let is_cut = state.pass(now);
    let own = state.holders.iter().position(|one| one.token == ask.token);
    let answer = match (ask.act, own) {
        (Act::Release, Some(own)) => {
            state.gone = ask.token;
            Answer::Held(state.holders.remove(own).fence)
        }
        (Act::Acquire | Act::Renew, Some(own)) => {
            let own = &mut state.holders[own];
            (own.ends, own.life) = (now + life, life);
            Answer::Held(own.fence)
        }
        (Act::Release | Act::Renew, None) => return (Answer::Gone, Then::Keep),
        (Act::Acquire, None) if ask.token == state.gone => return (Answer::Gone, Then::Keep),
        (Act::Acquire, None) if state.holders.len() < ask.permits as usize => {
            state.last = now.max(state.last + 1);
            if state.last >= EXACT {
                return (Answer::NoLock, Then::Keep);
            }
            state.holders.push(Holder {
                token: ask.token,
                ends: now + life,
                fence: state.last,
                life,
            });
            Answer::Held(state.last)
        }
        (Act::Acquire, None) => {
            let ends = state.holders.iter().map(|holder| holder.ends);
            let busy = Answer::Busy(ends.min().unwrap_or(now) - now);
            if !is_cut {
                return (busy, Then::Keep);
            }
            busy
        }
    };
    let ends = state.holders.iter().map(|holder| holder.ends - now);
    let left = ends.max().unwrap_or(0).div_ceil(1000);
    (answer, Then::Put(state.to_bytes(), left + KEPT))
}

impl State {
    /// Time passes: leases that are over end. A lease is never longer than it was taken for, even
    /// if the server's clock was set back: true if one was cut for that.
    fn pass(&mut self, now: u64) -> bool {
        let mut is_cut = false;
        for holder in &mut self.holders {
            if holder.ends.saturating_sub(now) > holder.life {
                holder.ends = now + holder.life;
                is_cut = true;
            }
        }
        self.holders.retain(|holder| holder.ends > now);
        is_cut
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, holders) = bytes.split_at_checked(HEAD)?;
        let (fields, rest) = head.strip_prefix(b"k")?.as_chunks::<DIGITS>();
        debug_assert!(rest.is_empty());
        let [last, gone] = fields else { return None };
        let (holders, rest) = holders.as_chunks::<HOLDER>();
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            last: number(last)?,
            gone: hexadecimal(gone)?,
            holders: holders
                .iter()
                .map(Holder::from_bytes)
                .collect::<Option<_>>()?,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("k{:016}{:016x}", self.last, self.gone);
        for Holder {
            token,
            ends,
            fence,
            life,
        } in &self.holders
        {
            text += &format!("{token:016x}{ends:016}{fence:016}{life:016}");
        }
        text.into_bytes()
    }
}

impl Holder {
    fn from_bytes(bytes: &[u8; HOLDER]) -> Option<Self> {
        let (fields, _) = bytes.as_chunks::<DIGITS>();
        let [token, ends, fence, life] = fields else {
            return None;
        };
        Some(Self {
            token: hexadecimal(token)?,
            ends: number(ends)?,
            fence: number(fence)?,
            life: number(life)?,
        })
    }
}

/// A number that is exact in Lua.
fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number < EXACT).then_some(number)
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if !digits
        .iter()
        .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The script's answer.
pub(crate) fn answered(answer: &[u8]) -> Option<Answer> {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    match answer.split_first()? {
        (b'h', fence) => number(fence).map(Answer::Held),
        (b'b', left) => number(left).map(Answer::Busy),
        (b'g', []) => Some(Answer::Gone),
        (b'?', []) => Some(Answer::NoLock),
        _ => None,
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The pause before a caller asks again: doubled up to the longest, of which a random part is left
/// out, at most half. The first pause has the number 1.
pub(crate) fn pause(attempt: u32, random: u64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    let half = doubled.min(LONGEST_PAUSE) / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random % spread)
}

/// The moment, by the caller's clock in microseconds, until which a lease holds that was granted to
/// a request sent then. It counts from the sending, since the server has counted from later on. A
/// hundredth is left out, since clocks are not equally fast.
pub(crate) fn granted(sent: u64, life: u64) -> u64 {
    sent.saturating_add(life * 990)
}

/// The same after a renewal that was granted. A lease that had ended for its caller by the time of
/// the answer stays at an end: the caller may have seen that.
pub(crate) fn renewed(until: u64, now: u64, sent: u64, life: u64) -> u64 {
    match now < until {
        true => until.max(granted(sent, life)),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_000_000;

    /// A lock and its time.
    struct Lock {
        state: Option<Vec<u8>>,
        now: u64,
        permits: u32,
    }

    impl Lock {
        fn of(permits: u32) -> Self {
            let (state, now) = (None, NOW);
            Self {
                state,
                now,
                permits,
            }
        }

        fn ask(&mut self, act: Act, token: u64) -> Answer {
            let ask = Ask {
                act,
                token,
                life: 1000,
                permits: self.permits,
            };
            let (answer, then) = decide(self.state.as_deref(), &ask, self.now);
            if let Then::Put(state, life) = then {
                assert!(life >= KEPT);
                assert_eq!(State::from_bytes(&state).unwrap().to_bytes(), state);
                self.state = Some(state);
            }
            answer
        }

        fn fence(&mut self, token: u64) -> u64 {
            match self.ask(Act::Acquire, token) {
                Answer::Held(fence) => fence,
                answer => panic!("{answer:?}"),
            }
        }
    }

    #[test]
    fn one_holds_it_until_it_releases_or_its_lease_ends() {
        let mut lock = Lock::of(1);
        let first = lock.fence(1);
        assert_eq!(lock.ask(Act::Acquire, 2), Answer::Busy(1_000_000));
        assert_eq!(lock.ask(Act::Release, 2), Answer::Gone, "not its own");
        assert_eq!(lock.ask(Act::Release, 1), Answer::Held(first));
        let second = lock.fence(2);
        lock.now += 999_999;
        assert_eq!(lock.ask(Act::Acquire, 3), Answer::Busy(1));
        assert_eq!(lock.ask(Act::Renew, 2), Answer::Held(second));
        lock.now += 1_000_000;
        assert_eq!(lock.ask(Act::Renew, 2), Answer::Gone, "its lease has ended");
        let third = lock.fence(3);
        assert!(first < second && second < third);
    }

    #[test]
    fn a_request_that_runs_twice_takes_it_once() {
        let mut lock = Lock::of(1);
        let fence = lock.fence(1);
        assert_eq!(lock.fence(1), fence);
        assert_eq!(lock.ask(Act::Release, 1), Answer::Held(fence));
        assert_eq!(lock.ask(Act::Acquire, 1), Answer::Gone, "after its release");
        assert_eq!(lock.ask(Act::Release, 1), Answer::Gone);
        assert!(lock.fence(2) > fence);
    }

    #[test]
    fn so_many_hold_it_at_a_time_and_each_has_a_fencing_token() {
        let mut lock = Lock::of(3);
        let fences = [1, 2, 3].map(|token| lock.fence(token));
        assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
        assert_eq!(lock.ask(Act::Acquire, 4), Answer::Busy(1_000_000));
        assert_eq!(lock.ask(Act::Release, 2), Answer::Held(fences[1]));
        assert!(lock.fence(4) > fences[2]);
        lock.permits = 2;
        assert_eq!(lock.ask(Act::Release, 1), Answer::Held(fences[0]));
        assert_eq!(lock.ask(Act::Acquire, 5), Answer::Busy(1_000_000));
    }

    #[test]
    fn fencing_tokens_grow_after_the_state_is_lost_and_after_a_clock_is_set_back() {
        let mut lock = Lock::of(1);
        let first = lock.fence(1);
        lock.state = None;
        lock.now += 1;
        let second = lock.fence(2);
        assert!(second > first);
        lock.now -= 3600 * 1_000_000;
        // The lease is as long as it was taken for, from the first that asks.
        assert_eq!(lock.ask(Act::Acquire, 3), Answer::Busy(1_000_000));
        lock.now += 1_000_000;
        assert!(lock.fence(3) > second);
    }

    #[test]
    fn bytes_that_are_no_lock_are_never_a_free_one() {
        let mut lock = Lock::of(1);
        lock.fence(1);
        let good = lock.state.clone().unwrap();
        let mut wrong: Vec<_> = (0..good.len()).map(|cut| good[..cut].to_vec()).collect();
        wrong.retain(|state| state.len() != HEAD);
        for at in 0..good.len() {
            let mut state = good.clone();
            state[at] = b'F';
            wrong.push(state);
        }
        wrong.push(format!("k{EXACT:016}{:016x}", 0).into_bytes());
        for state in wrong {
            lock.state = Some(state.clone());
            for act in [Act::Acquire, Act::Renew, Act::Release] {
                assert_eq!(lock.ask(act, 2), Answer::NoLock);
                assert_eq!(lock.state.as_ref(), Some(&state));
            }
        }
    }

    /// It is that of the year 2255.
    #[test]
    fn the_last_fencing_token_is_given_once() {
        let mut lock = Lock::of(1);
        lock.state = Some(format!("k{:016}{:016x}", EXACT - 2, 0).into_bytes());
        assert_eq!(lock.fence(1), EXACT - 1);
        assert_eq!(lock.ask(Act::Renew, 1), Answer::Held(EXACT - 1));
        assert_eq!(lock.ask(Act::Release, 1), Answer::Held(EXACT - 1));
        let state = lock.state.clone();
        assert_eq!(lock.ask(Act::Acquire, 2), Answer::NoLock);
        assert_eq!(lock.state, state, "it stays");
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_are_jittered() {
        let longest = [1, 2, 3, 7, 99].map(|attempt| {
            let half = pause(attempt, 0);
            let micros = u64::try_from(half.as_micros()).unwrap();
            assert_eq!(pause(attempt, micros), half);
            assert!(pause(attempt, micros - 1) < 2 * half);
            2 * half.as_micros() / 1000
        });
        assert_eq!(longest, [1, 2, 4, 50, 50]);
    }

    #[test]
    fn a_lease_that_ended_for_its_caller_stays_at_an_end() {
        let until = granted(NOW, 1000);
        assert_eq!(until, NOW + 990_000);
        assert_eq!(
            renewed(until, until - 1, NOW + 500_000, 1000),
            until + 500_000
        );
        assert_eq!(renewed(until, until, NOW + 500_000, 1000), 0);
        assert_eq!(renewed(0, NOW, NOW, 1000), 0);
    }
}
