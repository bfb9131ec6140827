//! Counters, as a pure function: from state, request and time to the count and the change.
//!
//! This function is the truth, and `scripts/count.lua` is its copy. `model/asked.rs` compares the
//! two. A state is a decimal number of 64 bits with a sign, as the server's own `INCRBY` reads and
//! writes it. Other bytes are no counter, and are never changed.
//!
//! A window needs no state of its own: the key expires when its window ends.

use crate::protocol::transition::Life;

/// A request to one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) act: Act,
    pub(crate) lasts: Lasts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Add(i64),
    Look,
    /// Removes the counter. The count is that before.
    Reset,
}

/// The end of a counter. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    Forever,
    /// So long after its first addition.
    AfterFirst(u64),
    /// So long after its last addition.
    AfterLast(u64),
    /// Until the end of the window of the server's clock in which it is.
    Window(u64),
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Is(i64),
    /// The sum does not fit, so nothing was added.
    Overflow,
    /// There is something else at the key.
    NoCounter,
}

/// The change of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Remove,
    Put(i64, Life),
}

/// The answer to the request at that time, in microseconds, and the change of the state.
pub(crate) fn decide(state: Option<&[u8]>, ask: &Ask, now: u64) -> (Count, Then) {
    let before = match state {
        None => None,
        Some(state) => match number(state) {
            Some(number) => Some(number),
            None => return (Count::NoCounter, Then::Keep),
        },
    };
    let count = before.unwrap_or(0);
    match ask.act {
        Act::Look => (Count::Is(count), Then::Keep),
        Act::Reset if before.is_none() => (Count::Is(0), Then::Keep),
        Act::Reset => (Count::Is(count), Then::Remove),
        Act::Add(amount) => match count.checked_add(amount) {
            None => (Count::Overflow, Then::Keep),
            Some(sum) => {
                let life = ask.lasts.life(before.is_none(), now);
                (Count::Is(sum), Then::Put(sum, life))
            }
        },
    }
}

impl Lasts {
    /// The life of the key after an addition. An existing counter is cut down to what the rule
    /// gives, in case it is of another rule.
    fn life(self, is_first: bool, now: u64) -> Life {
        let at_most = |millis| match is_first {
            true => Life::Exactly(Some(millis)),
            false => Life::AtMost(millis),
        };
        match self {
            Lasts::Forever => Life::Exactly(None),
            Lasts::AfterLast(millis) => Life::Exactly(Some(millis)),
            Lasts::AfterFirst(millis) => at_most(millis),
            Lasts::Window(millis) => at_most(millis - now / 1000 % millis),
        }
    }

    /// Its name and its milliseconds for the script.
    pub(crate) fn parameters(self) -> (&'static str, u64) {
        match self {
            Lasts::Forever => ("forever", 0),
            Lasts::AfterFirst(millis) => ("first", millis),
            Lasts::AfterLast(millis) => ("last", millis),
            Lasts::Window(millis) => ("window", millis),
        }
    }
}

/// The number in a state: exactly as it is written, without leading zeros.
fn number(state: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(state).ok()?;
    let number: i64 = text.parse().ok()?;
    (itoa::Buffer::new().format(number) == text).then_some(number)
}

/// The count in the script's answer.
pub(crate) fn answered(answer: &[u8]) -> Option<Count> {
    match answer.split_first()? {
        (b'=', count) => number(count).map(Count::Is),
        (b'^', []) => Some(Count::Overflow),
        (b'?', []) => Some(Count::NoCounter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_123_456;

    fn ask(act: Act) -> Ask {
        let lasts = Lasts::Forever;
        Ask { act, lasts }
    }

    #[test]
    fn a_sum_that_does_not_fit_changes_nothing() {
        for (state, amount) in [
            ("9223372036854775807", 1),
            ("1", i64::MAX),
            ("-9223372036854775808", -1),
            ("-1", i64::MIN),
        ] {
            let decided = decide(Some(state.as_bytes()), &ask(Act::Add(amount)), NOW);
            assert_eq!(decided, (Count::Overflow, Then::Keep), "{state} {amount}");
        }
        let (count, _) = decide(Some(b"-1"), &ask(Act::Add(i64::MAX)), NOW);
        assert_eq!(count, Count::Is(i64::MAX - 1));
    }

    #[test]
    fn only_a_number_as_the_server_writes_it_is_a_counter() {
        for state in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "9223372036854775808",
        ] {
            for act in [Act::Add(1), Act::Look, Act::Reset] {
                let decided = decide(Some(state.as_bytes()), &ask(act), NOW);
                assert_eq!(decided, (Count::NoCounter, Then::Keep), "{state:?}");
            }
        }
        for number in [0, 7, -7, i64::MAX, i64::MIN] {
            let state = number.to_string();
            let (count, _) = decide(Some(state.as_bytes()), &ask(Act::Look), NOW);
            assert_eq!(count, Count::Is(number));
        }
    }

    #[test]
    fn a_window_ends_with_the_clocks_own() {
        let hour = 3_600_000;
        let life = |lasts: Lasts, is_first| lasts.life(is_first, NOW);
        assert_eq!(
            life(Lasts::Window(hour), true),
            Life::Exactly(Some(hour - 123))
        );
        assert_eq!(life(Lasts::Window(hour), false), Life::AtMost(hour - 123));
        let last = NOW / 1000 * 1000 - 123_000 + hour * 1000 - 1;
        assert_eq!(Lasts::Window(hour).life(true, last), Life::Exactly(Some(1)));
        assert_eq!(
            Lasts::Window(hour).life(true, last + 1),
            Life::Exactly(Some(hour))
        );
    }
}
