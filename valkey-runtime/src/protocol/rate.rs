//! The algorithms of rate limits, as pure functions: from state, time and cost to decision and new
//! state.
//!
//! These functions are the truth, and `scripts/limit.lua` is their copy. The script makes the same
//! new state, and answers with the time and the state before. From these the client computes the
//! decision by the functions here. `model/differential.rs` compares the two.
//!
//! All numbers are integers. All products and sums stay below 2^53, so that Lua's doubles hold them
//! exactly; the bounds here ensure that. A state has 49 bytes: a letter for the algorithm, and
//! three numbers of 16 decimal digits. Other bytes, a state of another algorithm, and a state more
//! than ten seconds ahead of time count as no state.

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use crate::base::error::Error;

/// The largest quota, burst and cost.
pub(crate) const MOST: u32 = 1_000_000;
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// The most steps of a window: `MOST` times this number is still exact, and so is twice that.
const STEPS: u64 = 1_000_000_000;
const EXACT: u64 = 1 << 52;

/// The farthest that a state may be ahead of time, in microseconds, because a server's clock may be
/// set back. A state farther ahead is damaged, and would refuse requests until its time has come.
const AHEAD: u64 = 10_000_000;

const DIGITS: usize = 16;
pub(crate) const STATE: usize = 1 + 3 * DIGITS;

/// A limit, in the numbers that the algorithms use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// GCRA, as the continuous-state leaky bucket: `drain` leaves in a microsecond, and a request
    /// of cost 1 adds `unit`.
    Gcra {
        drain: u64,
        unit: u64,
        capacity: u64,
    },
    Fixed(Window),
    Sliding(Window),
}

/// A window of `steps` steps of `step` microseconds. A fixed window is a single step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    quota: u64,
    step: u64,
    steps: u64,
}

/// A request to a limit for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) rule: Rule,
    pub(crate) act: Act,
    pub(crate) cost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Counts, if it is allowed.
    Take,
    Look,
    Reset,
}

/// The decision. Times are in microseconds, counted from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// The cost that may still be taken at once, after this.
    pub(crate) remaining: u64,
    /// The time until the state is as if nothing had been taken.
    pub(crate) reset: u64,
    /// The time until the same request may be allowed; 0 if it is.
    pub(crate) retry_after: u64,
    /// The time until more than `remaining` may be taken at once; 0 if that is the whole limit.
    pub(crate) more_after: u64,
}

/// The change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Remove,
    /// The state, and its life in milliseconds.
    Put([u8; STATE], u64),
}

impl Rule {
    pub(crate) fn gcra(quota: u32, period: Duration, burst: u32) -> Result<Self, Error> {
        let period = checked(quota, period)?;
        within("the burst", burst)?;
        let (quota, burst) = (u64::from(quota), u64::from(burst));
        let common = gcd(period, quota);
        let (mut drain, mut unit) = (quota / common, period / common);
        if burst.saturating_mul(unit) > EXACT {
            // A whole number of microseconds for each request: longer by a four-thousandth at most,
            // because the period is over an hour.
            (drain, unit) = (1, period.div_ceil(quota));
        }
        let capacity = burst.saturating_mul(unit);
        if capacity > EXACT {
            return Err(Error::config(
                "the burst takes longer than a century to refill; take a smaller one",
            ));
        }
        Ok(Rule::Gcra {
            drain,
            unit,
            capacity,
        })
    }

    pub(crate) fn fixed(quota: u32, period: Duration) -> Result<Self, Error> {
        let period = checked(quota, period)?;
        Ok(Rule::Fixed(Window {
            quota: quota.into(),
            step: period,
            steps: 1,
        }))
    }

    pub(crate) fn sliding(quota: u32, period: Duration) -> Result<Self, Error> {
        let period = checked(quota, period)?;
        // Windows are aligned to the clock, so the steps should divide the period. Whole seconds
        // can be divided; another period is extended by at most a billionth.
        let least = period.div_ceil(STEPS);
        let even = (least..=2 * least).find(|step| period % step == 0);
        let step = even.unwrap_or(least);
        Ok(Rule::Sliding(Window {
            quota: quota.into(),
            step,
            steps: period.div_ceil(step),
        }))
    }

    /// The most that may be taken at once.
    pub(crate) fn limit(&self) -> u64 {
        match self {
            Rule::Gcra { unit, capacity, .. } => capacity / unit,
            Rule::Fixed(window) | Rule::Sliding(window) => window.quota,
        }
    }

    /// The letter of its states, and its numbers for the script.
    pub(crate) fn parameters(&self) -> (char, [u64; 3]) {
        match *self {
            Rule::Gcra {
                drain,
                unit,
                capacity,
            } => ('g', [drain, unit, capacity]),
            Rule::Fixed(Window { quota, step, steps }) => ('f', [quota, step, steps]),
            Rule::Sliding(Window { quota, step, steps }) => ('s', [quota, step, steps]),
        }
    }
}

/// The period in microseconds.
fn checked(quota: u32, period: Duration) -> Result<u64, Error> {
    within("the quota", quota)?;
    if !(SHORTEST..=LONGEST).contains(&period) {
        let message = format!("the period is {period:?}; it must be from 1 ms to 366 days");
        return Err(Error::config(message));
    }
    Ok(u64::try_from(period.as_micros()).unwrap_or(u64::MAX))
}

pub(crate) fn within(what: &str, number: u32) -> Result<(), Error> {
    match (1..=MOST).contains(&number) {
        true => Ok(()),
        false => Err(Error::config(format!(
            "{what} is {number}; it must be from 1 to {MOST}"
        ))),
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The decision on the request at that time, in microseconds, and the change of the state.
pub(crate) fn decide(state: Option<&[u8]>, ask: &Ask, now: u64) -> (Verdict, Then) {
    let state = match ask.act {
        Act::Reset => None,
        _ => state,
    };
    let (letter, _) = ask.rule.parameters();
    let numbers = state.and_then(|state| numbers(state, letter));
    let numbers = numbers.filter(|[when, ..]| *when <= now.saturating_add(AHEAD));
    let numbers = numbers.unwrap_or_default();
    let (verdict, left, life) = match ask.rule {
        Rule::Gcra {
            drain,
            unit,
            capacity,
        } => gcra(numbers, ask, now, [drain, unit, capacity]),
        Rule::Fixed(window) => windows(numbers, ask, now, window, false),
        Rule::Sliding(window) => windows(numbers, ask, now, window, true),
    };
    let then = match ask.act {
        Act::Take if verdict.allowed => Then::Put(state_of(letter, left), life.div_ceil(1000)),
        Act::Take | Act::Look => Then::Keep,
        Act::Reset => Then::Remove,
    };
    (verdict, then)
}

/// State: the time of the last change, the level then, 0.
fn gcra(
    [last, level, _]: [u64; 3],
    ask: &Ask,
    now: u64,
    [drain, unit, capacity]: [u64; 3],
) -> (Verdict, [u64; 3], u64) {
    // A server's clock that was set back drains nothing, once.
    let drained = now.saturating_sub(last).saturating_mul(drain);
    let level = level.min(capacity).saturating_sub(drained);
    let filled = level + ask.cost * unit;
    let allowed = filled <= capacity;
    let after = match ask.act {
        Act::Take if allowed => filled,
        _ => level,
    };
    let remaining = (capacity - after) / unit;
    let more = after + (remaining + 1) * unit;
    let verdict = Verdict {
        allowed,
        remaining,
        reset: after.div_ceil(drain),
        retry_after: filled.saturating_sub(capacity).div_ceil(drain),
        more_after: if after == 0 {
            0
        } else {
            (more - capacity).div_ceil(drain)
        },
    };
    (verdict, [now, filled, 0], filled.div_ceil(drain))
}

/// State: the start of the window, the cost taken in it, and the cost taken in the one before.
fn windows(
    [began, count, before]: [u64; 3],
    ask: &Ask,
    now: u64,
    window: Window,
    sliding: bool,
) -> (Verdict, [u64; 3], u64) {
    let Window { quota, step, steps } = window;
    let period = step * steps;
    let start = now - now % period;
    let (count, before) = match began {
        // This window, or a later one if the server's clock was set back a little.
        _ if began >= start => (count, before),
        _ if began + period == start => (0, count),
        _ => (0, 0),
    };
    let (count, before) = (count.min(quota), before.min(quota));
    let before = if sliding { before } else { 0 };
    let end = start + period;
    let left = (end - now).div_ceil(step);
    let used = |count: u64| before * left + count * steps;
    let allowed = used(count + ask.cost) <= quota * steps;
    let after = match ask.act {
        Act::Take if allowed => count + ask.cost,
        _ => count,
    };
    let reset = match (after, before) {
        (0, 0) => 0,
        (1.., _) if sliding => end + period - now,
        _ => end - now,
    };
    // The time until `cost` is allowed after `count` was taken.
    let until = |count: u64, cost: u64| match quota.checked_sub(count + cost) {
        _ if used(count + cost) <= quota * steps => 0,
        // Once the weight of the window before has fallen far enough.
        Some(room) => end - room * steps / before * step - now,
        // The weight of this window's cost has to fall in the next one.
        None if sliding => {
            let weight = (quota.saturating_sub(cost) * steps)
                .checked_div(count)
                .map_or(steps, |weight| weight.min(steps));
            end + (steps - weight) * step - now
        }
        None => end - now,
    };
    let remaining = (quota * steps).saturating_sub(used(after)) / steps;
    let verdict = Verdict {
        allowed,
        remaining,
        reset,
        retry_after: until(count, ask.cost),
        more_after: if remaining < quota {
            until(after, remaining + 1)
        } else {
            0
        },
    };
    let life = if sliding { end + period } else { end } - now;
    (verdict, [start, count + ask.cost, before], life)
}

fn numbers(state: &[u8], letter: char) -> Option<[u64; 3]> {
    let digits = state.strip_prefix(&[letter as u8])?;
    if digits.len() != 3 * DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |at: usize| {
        let digits = &digits[at * DIGITS..][..DIGITS];
        let digits = digits.iter().map(|digit| u64::from(digit - b'0'));
        digits.fold(0, |number, digit| number * 10 + digit)
    };
    Some([number(0), number(1), number(2)])
}

fn state_of(letter: char, numbers: [u64; 3]) -> [u8; STATE] {
    let mut state = [b'0'; STATE];
    state[0] = letter as u8;
    for (number, digits) in numbers.into_iter().zip(state[1..].chunks_mut(DIGITS)) {
        let mut number = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    state
}

/// The time and the earlier state in the script's answer.
pub(crate) fn answered(answer: &[u8]) -> Option<(u64, &[u8])> {
    let (now, state) = answer.split_at_checked(DIGITS)?;
    let now = std::str::from_utf8(now).ok()?.parse().ok()?;
    Some((now, state))
}
