//! The time to live of an entry.

use std::fmt;
use std::time::Duration;

/// The time to live of an entry: unlimited, or a time from now.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::Ttl;
///
/// assert_eq!(Ttl::from(Duration::from_secs(90)).to_string(), "1m30s");
/// assert_eq!("1h30m".parse(), Ok(Ttl::After(Duration::from_secs(5400))));
/// assert_eq!("never".parse(), Ok(Ttl::Never));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// The entry does not expire. It stays until it is deleted or evicted.
    Never,
    /// The entry expires after this time. The server counts in milliseconds; a fraction is rounded
    /// up.
    After(Duration),
}

/// A longer TTL is taken for a mistake; an unlimited one is [`Ttl::Never`].
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Ttl {
    /// A TTL of this many milliseconds. Usable in constants.
    pub const fn from_millis(millis: u64) -> Self {
        Ttl::After(Duration::from_millis(millis))
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Ttl::After(Duration::ZERO)
    }

    /// The milliseconds for the server: `None` for never, an error for a TTL out of bounds.
    pub(crate) fn to_millis(self) -> Result<Option<u64>, TtlError> {
        match self {
            Ttl::Never => Ok(None),
            Ttl::After(time) if time.is_zero() => Err(TtlError::Zero),
            Ttl::After(time) if time > LONGEST => Err(TtlError::TooLong),
            Ttl::After(time) => {
                let millis = time.as_nanos().div_ceil(1_000_000);
                Ok(Some(u64::try_from(millis).map_err(|_| TtlError::TooLong)?))
            }
        }
    }
}

impl From<Duration> for Ttl {
    fn from(time: Duration) -> Self {
        Ttl::After(time)
    }
}

/// The reason why a text or a duration is not a TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TtlError {
    /// Neither a number of seconds nor numbers with units.
    #[error(
        "not a time: write seconds (`90`), or numbers with units (`1h30m`, `500ms`), or `never`"
    )]
    Malformed,
    /// Zero.
    #[error("zero: an entry that expires at once is never read; to stop caching, don't store")]
    Zero,
    /// More than a hundred years.
    #[error("longer than 100 years: write `never`")]
    TooLong,
}

impl std::str::FromStr for Ttl {
    type Err = TtlError;

    /// Reads `never`, a number of seconds, or numbers with units, such as `1h30m` or `500ms`.
    fn from_str(text: &str) -> Result<Self, TtlError> {
        if text == "never" {
            return Ok(Ttl::Never);
        }
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let time = if is_number {
            Duration::from_secs(text.parse().map_err(|_| TtlError::TooLong)?)
        } else if text.contains(|c: char| c.is_ascii_uppercase()) {
            // humantime reads `5M` as five months.
            return Err(TtlError::Malformed);
        } else {
            humantime::parse_duration(text).map_err(|error| match error {
                humantime::DurationError::NumberOverflow => TtlError::TooLong,
                _ => TtlError::Malformed,
            })?
        };
        let ttl = Ttl::After(time);
        ttl.to_millis().map(|_| ttl)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ttl::After(time) = self else {
            return f.write_str("never");
        };
        let (seconds, millis) = (time.as_secs(), time.subsec_millis());
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (u64::from(millis), "ms"),
        ];
        if parts.iter().all(|(n, _)| *n == 0) {
            return write!(f, "{time:?}");
        }
        parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let secs = |s| Ok(Ttl::After(Duration::from_secs(s)));
        assert_eq!("90".parse::<Ttl>(), secs(90));
        assert_eq!("10m".parse::<Ttl>(), secs(600));
        assert_eq!("1d2h3m4s".parse::<Ttl>(), secs(86_400 + 7200 + 180 + 4));
        assert_eq!("500ms".parse::<Ttl>(), Ok(Ttl::from_millis(500)));
        assert_eq!("never".parse::<Ttl>(), Ok(Ttl::Never));
        for bad in [
            "", "m", "5x", "-5", "5m3", "ß", "5ß", "٣", "5M", "5m1H", "90S",
        ] {
            assert_eq!(bad.parse::<Ttl>(), Err(TtlError::Malformed), "{bad:?}");
        }
        assert_eq!("0".parse::<Ttl>(), Err(TtlError::Zero));
        assert_eq!("0h0s".parse::<Ttl>(), Err(TtlError::Zero));
        for long in [
            "99999999999999999999",
            "18446744073709551615",
            "36501d",
            "18446744073709551615d",
        ] {
            assert_eq!(long.parse::<Ttl>(), Err(TtlError::TooLong), "{long:?}");
        }
    }

    #[test]
    fn a_part_of_a_millisecond_is_rounded_up() {
        assert_eq!(Ttl::After(Duration::from_nanos(1)).to_millis(), Ok(Some(1)));
        assert_eq!(
            Ttl::After(Duration::from_micros(1001)).to_millis(),
            Ok(Some(2))
        );
        assert_eq!(Ttl::After(Duration::ZERO).to_millis(), Err(TtlError::Zero));
        assert_eq!(
            Ttl::After(Duration::MAX).to_millis(),
            Err(TtlError::TooLong)
        );
    }
}
