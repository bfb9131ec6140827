//! Times to live, as written in an annotation.
//!
//! The grammar and the limits are those of `Ttl::from_str` in the runtime, which reads the same
//! texts from environment variables. The derive can't call it, since the runtime depends on the
//! derive.

use std::fmt;

/// The time to live of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    Never,
    Millis(u64),
}

/// The TTL of an annotation without one.
impl Default for Ttl {
    fn default() -> Self {
        Ttl::Millis(5 * 60_000)
    }
}

/// The reason why a text is not a TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TtlMistake {
    Malformed,
    Zero,
    TooLong,
}

/// The units in milliseconds, in the order in which they are written.
const UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60_000),
    ("h", 60 * 60_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A hundred years. A longer time is a mistake, or means `never`.
const LONGEST: u64 = 100 * 365 * 24 * 60 * 60_000;

/// Parses `never`, a number of seconds, or numbers with units in falling order.
pub(crate) fn parse(text: &str) -> Result<Ttl, TtlMistake> {
    if text == "never" {
        return Ok(Ttl::Never);
    }
    let millis = match leading_number(text)? {
        (seconds, "") => scaled(seconds, 1000)?,
        _ => with_units(text)?,
    };
    match millis {
        0 => Err(TtlMistake::Zero),
        1..=LONGEST => Ok(Ttl::Millis(millis)),
        _ => Err(TtlMistake::TooLong),
    }
}

fn with_units(text: &str) -> Result<u64, TtlMistake> {
    let (mut rest, mut units, mut millis) = (text, &UNITS[..], 0u64);
    while !rest.is_empty() {
        let (number, tail) = leading_number(rest)?;
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len()),
        );
        let at = units.iter().position(|(name, _)| *name == unit);
        let at = at.ok_or(TtlMistake::Malformed)?;
        let part = scaled(number, units[at].1)?;
        millis = millis.checked_add(part).ok_or(TtlMistake::TooLong)?;
        (rest, units) = (tail, &units[at + 1..]);
    }
    Ok(millis)
}

fn leading_number(text: &str) -> Result<(u64, &str), TtlMistake> {
    let (digits, tail) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    match digits.parse() {
        Ok(number) => Ok((number, tail)),
        Err(_) if digits.is_empty() => Err(TtlMistake::Malformed),
        Err(_) => Err(TtlMistake::TooLong),
    }
}

fn scaled(number: u64, factor: u64) -> Result<u64, TtlMistake> {
    number.checked_mul(factor).ok_or(TtlMistake::TooLong)
}

impl fmt::Display for TtlMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TtlMistake::Malformed => {
                "not a time: write numbers with the units `d`, `h`, `m`, `s`, `ms` in falling order, as in \
                 `ttl = \"1h30m\"`, or `ttl = \"never\"`"
            }
            TtlMistake::Zero => {
                "a TTL of zero: an entry that expires at once is never read; write a time, as in `ttl = \"5m\"`, or \
                 `ttl = \"never\"` for entries that don't expire"
            }
            TtlMistake::TooLong => "longer than 100 years: write `ttl = \"never\"`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same texts as in the runtime's test.
    #[test]
    fn texts_mean_what_they_mean_to_the_runtime() {
        let secs = |secs: u64| Ok(Ttl::Millis(secs * 1000));
        assert_eq!(parse("90"), secs(90));
        assert_eq!(parse("10m"), secs(600));
        assert_eq!(parse("1h30m"), secs(5400));
        assert_eq!(parse("1d2h3m4s"), secs(86_400 + 7200 + 180 + 4));
        assert_eq!(parse("500ms"), Ok(Ttl::Millis(500)));
        assert_eq!(parse("never"), Ok(Ttl::Never));
        assert_eq!(parse("36500d"), Ok(Ttl::Millis(LONGEST)));
        for bad in [
            "", " 5m", "5 m", "m", "5x", "-5", "1.5h", "5m1h", "5m5m", "5m3", "ß", "5ß", "٣",
        ] {
            assert_eq!(parse(bad), Err(TtlMistake::Malformed), "{bad:?}");
        }
        assert_eq!(parse("0"), Err(TtlMistake::Zero));
        assert_eq!(parse("0h0s"), Err(TtlMistake::Zero));
        for long in [
            "99999999999999999999",
            "18446744073709551615",
            "36501d",
            "36500d1ms",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(long), Err(TtlMistake::TooLong), "{long:?}");
        }
    }
}
