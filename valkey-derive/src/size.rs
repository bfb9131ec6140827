//! Sizes in bytes, as written in an annotation.

use std::fmt;

/// The units, from the smallest to the largest: each is 1024 times the one before it.
const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];

/// The reason why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SizeMistake {
    Malformed,
    /// Not one of the units, but this may be meant: `64MiB`.
    Unit(String),
    TooLarge,
}

/// Parses a number of bytes, or a number with a unit.
pub(crate) fn parse(text: &str) -> Result<u64, SizeMistake> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    if number.is_empty() {
        return Err(SizeMistake::Malformed);
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let factor = match UNITS.iter().position(|known| *known == unit) {
        Some(at) => 1024u64.pow(at as u32 + 1),
        None if unit.is_empty() => 1,
        None => {
            return Err(match meant(unit) {
                Some(meant) => SizeMistake::Unit(format!("{number}{meant}")),
                None => SizeMistake::Malformed,
            });
        }
    };
    let number = number.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or(SizeMistake::TooLarge)
}

/// The unit that `MB`, `mb`, `M` or `mib` stand for.
fn meant(unit: &str) -> Option<&'static str> {
    let unit = unit.to_ascii_lowercase();
    if unit == "b" {
        return Some("");
    }
    UNITS.into_iter().find(|known| {
        let known = known.to_ascii_lowercase();
        let letter = &known[..1];
        unit == known || unit == letter || unit == format!("{letter}b")
    })
}

impl fmt::Display for SizeMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeMistake::Malformed => f.write_str(
                "not a size: write a number with the unit `KiB`, `MiB` or `GiB`, or a number of bytes, as in \
                 `max_bytes = \"64MiB\"`, which is also the default",
            ),
            SizeMistake::Unit(meant) => write!(
                f,
                "not a size: the units are `KiB`, `MiB` and `GiB`; did you mean `max_bytes = \"{meant}\"`?"
            ),
            SizeMistake::TooLarge => f.write_str(
                "more bytes than a memory has: write a smaller size, as in `max_bytes = \"64MiB\"`, which is also the \
                 default",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_binary_unit_or_without_any() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1KiB", 1 << 10),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("3GiB", 3 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in [
            "", "MiB", "1.5MiB", "-1", "64  MiB", "64MiB ", "64x", "٣", "64TiB",
        ] {
            assert_eq!(parse(bad), Err(SizeMistake::Malformed), "{bad}");
        }
        for (text, meant) in [
            ("64MB", "64MiB"),
            ("64 mb", "64MiB"),
            ("1k", "1KiB"),
            ("2gib", "2GiB"),
            ("4096B", "4096"),
        ] {
            assert_eq!(
                parse(text),
                Err(SizeMistake::Unit(meant.to_owned())),
                "{text}"
            );
        }
        for large in ["18446744073709551616", "17179869184GiB"] {
            assert_eq!(parse(large), Err(SizeMistake::TooLarge), "{large}");
        }
    }
}
