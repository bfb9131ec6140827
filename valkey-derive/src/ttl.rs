//! Times to live, as written in an annotation.
//!
//! The runtime reads the same texts from environment variables (`Ttl::from_str`). The derive can't
//! call it, since the runtime depends on the derive. Both read them by humantime.

use std::fmt;
use std::time::Duration;

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

/// A hundred years. A longer time is a mistake, or means `never`.
const LONGEST: u64 = 100 * 365 * 24 * 60 * 60_000;

/// Parses `never`, a number of seconds, or numbers with units.
pub(crate) fn parse(text: &str) -> Result<Ttl, TtlMistake> {
    if text == "never" {
        return Ok(Ttl::Never);
    }
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let time = if is_number {
        Duration::from_secs(text.parse().map_err(|_| TtlMistake::TooLong)?)
    } else if text.contains(|c: char| c.is_ascii_uppercase()) {
        // humantime reads `5M` as five months.
        return Err(TtlMistake::Malformed);
    } else {
        humantime::parse_duration(text).map_err(|error| match error {
            humantime::DurationError::NumberOverflow => TtlMistake::TooLong,
            _ => TtlMistake::Malformed,
        })?
    };
    match u64::try_from(time.as_nanos().div_ceil(1_000_000)) {
        Ok(0) => Err(TtlMistake::Zero),
        Ok(millis @ 1..=LONGEST) => Ok(Ttl::Millis(millis)),
        _ => Err(TtlMistake::TooLong),
    }
}

impl fmt::Display for TtlMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TtlMistake::Malformed => {
                "not a time: write numbers with the units `d`, `h`, `m`, `s`, `ms`, as in \
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
            "", "m", "5x", "-5", "5m3", "ß", "5ß", "٣", "5M", "5m1H", "90S",
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
