//! Foreign types as parts of a key: UUIDs and dates, each behind the feature of its crate.
//!
//! Dates are written as in ISO 8601. Instants are in UTC, and their time of day has no colons, so
//! that nothing needs an escape.

#[allow(unused_imports, reason = "which of these a feature needs differs")]
use crate::key::part::{KeyFrom, KeyPart, OwnKey, by_value};
#[allow(unused_imports, reason = "which of these a feature needs differs")]
use crate::key::read::{KeyReader, ReadKey, readable};
#[allow(unused_imports, reason = "which of these a feature needs differs")]
use crate::key::writer::KeyWriter;
#[allow(unused_imports, reason = "which of these a feature needs differs")]
use std::borrow::Borrow;

#[cfg(feature = "uuid")]
by_value! {
    uuid::Uuid => |key, out| out.part(key.hyphenated().encode_lower(&mut [0; 36]));
}

#[cfg(feature = "uuid")]
readable! { uuid::Uuid => |text| text.parse().ok(); }

#[cfg(feature = "chrono")]
by_value! {
    chrono::NaiveDate => |key, out| out.part(&key.to_string());
    chrono::NaiveDateTime => |key, out| out.part(&key.format("%Y-%m-%dT%H%M%S%.f").to_string());
    chrono::DateTime<chrono::Utc> => |key, out| out.part(&key.format("%Y-%m-%dT%H%M%S%.fZ").to_string());
}

#[cfg(feature = "chrono")]
readable! {
    chrono::NaiveDate => |text| text.parse().ok();
    chrono::NaiveDateTime => |text| chrono_instant(text);
    chrono::DateTime<chrono::Utc> => |text| Some(chrono_instant(text.strip_suffix('Z')?)?.and_utc());
}

#[cfg(feature = "chrono")]
fn chrono_instant(text: &str) -> Option<chrono::NaiveDateTime> {
    chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H%M%S%.f").ok()
}

#[cfg(feature = "time")]
by_value! {
    time::Date => |key, out| out.part(&key.to_string());
    time::UtcDateTime => |key, out| {
        let (h, m, s, n) = key.time().as_hms_nano();
        out.part(&instant(&key.date(), (h, m, s), n));
    };
    time::OffsetDateTime => |key, out| match key.checked_to_offset(time::UtcOffset::UTC) {
        Some(key) => {
            let (h, m, s, n) = key.time().as_hms_nano();
            out.part(&instant(&key.date(), (h, m, s), n));
        }
        None => out.part(&beyond(key)),
    };
}

#[cfg(feature = "time")]
fn instant(date: &dyn std::fmt::Display, (h, m, s): (u8, u8, u8), nanos: u32) -> String {
    match nanos {
        0 => format!("{date}T{h:02}{m:02}{s:02}Z"),
        _ => format!("{date}T{h:02}{m:02}{s:02}.{nanos:09}Z"),
    }
}

/// The text of an instant that is in range in its own offset, but a day or two out of range in UTC.
#[cfg(feature = "time")]
fn beyond(key: time::OffsetDateTime) -> String {
    let (h, m, s, n) = key.time().as_hms_nano();
    let second = i64::from(h) * 3600 + i64::from(m) * 60 + i64::from(s);
    let days = i64::from(key.date().to_julian_day()) * DAY;
    let in_utc = days + second - i64::from(key.offset().whole_seconds());
    let (day, second) = (in_utc.div_euclid(DAY), in_utc.rem_euclid(DAY));
    let day_after = |date: time::Date| day - i64::from(date.to_julian_day());
    let date = match day_after(time::Date::MAX) {
        after @ 1.. => format!("{:+}-01-{after:02}", time::Date::MAX.year() + 1),
        _ => {
            let last = 32 + day_after(time::Date::MIN);
            format!("{:+}-12-{last:02}", time::Date::MIN.year() - 1)
        }
    };
    // Each part fits, because `second` is less than a day.
    let clock = [second / 3600, second / 60 % 60, second % 60].map(|part| part as u8);
    instant(&date, (clock[0], clock[1], clock[2]), n)
}

#[cfg(feature = "time")]
const DAY: i64 = 86_400;

#[cfg(feature = "time")]
readable! {
    time::Date => |text| date(text);
    time::UtcDateTime => |text| utc(text);
    time::OffsetDateTime => |text| utc(text).map(time::OffsetDateTime::from).or_else(|| from_beyond(text));
}

/// Reads a text that [`beyond`] has written, with an offset in which the instant is in range.
#[cfg(feature = "time")]
fn from_beyond(text: &str) -> Option<time::OffsetDateTime> {
    let (written, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut parts = written.rsplitn(3, '-');
    let day: i64 = parts.next()?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let year: i32 = parts.next()?.parse().ok()?;
    let clock = time_of_day(clock)?;
    let second =
        i64::from(clock.hour()) * 3600 + i64::from(clock.minute()) * 60 + i64::from(clock.second());
    let (min, max) = (time::Date::MIN, time::Date::MAX);
    // The first or the last second in range, and how much later the instant is.
    let (date, edge, later) = match (year - max.year(), year - min.year(), month, day) {
        (1, _, 1, 1..=2) => (max, DAY - 1, (day - 1) * DAY + second + 1),
        (_, -1, 12, 30..=31) => (min, 0, (day - 32) * DAY + second),
        _ => return None,
    };
    let offset = time::UtcOffset::from_whole_seconds(i32::try_from(-later).ok()?).ok()?;
    let edge = time::Time::from_hms_nano(
        u8::try_from(edge / 3600).ok()?,
        u8::try_from(edge / 60 % 60).ok()?,
        u8::try_from(edge % 60).ok()?,
        clock.nanosecond(),
    );
    Some(date.with_time(edge.ok()?).assume_offset(offset))
}

/// The year may have a sign.
#[cfg(feature = "time")]
fn date(text: &str) -> Option<time::Date> {
    let mut parts = text.rsplitn(3, '-');
    let day = parts.next()?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let year = parts.next()?.parse().ok()?;
    time::Date::from_calendar_date(year, month.try_into().ok()?, day).ok()
}

#[cfg(feature = "time")]
fn utc(text: &str) -> Option<time::UtcDateTime> {
    let (day, clock) = text.strip_suffix('Z')?.split_once('T')?;
    Some(time::UtcDateTime::new(date(day)?, time_of_day(clock)?))
}

#[cfg(feature = "time")]
fn time_of_day(clock: &str) -> Option<time::Time> {
    let (whole, nanos) = clock.split_once('.').unwrap_or((clock, "0"));
    let two = |at: usize| whole.get(at..at + 2)?.parse::<u8>().ok();
    time::Time::from_hms_nano(two(0)?, two(2)?, two(4)?, nanos.parse().ok()?).ok()
}

#[cfg(feature = "jiff")]
readable! {
    jiff::civil::Date => |text| text.parse().ok();
    jiff::Timestamp => |text| text.parse().ok();
}

#[cfg(feature = "jiff")]
by_value! {
    jiff::civil::Date => |key, out| out.part(&key.to_string());
    jiff::Timestamp => |key, out| out.part(&key.to_string().replace(':', ""));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(dead_code, reason = "unused where no feature is on")]
    fn key<P: KeyPart>(key: P::Ref<'_>) -> String {
        let mut out = KeyWriter::new("", "t");
        P::write(key, &mut out);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[allow(dead_code, reason = "unused where no feature is on")]
    fn back<P: ReadKey>(key: P::Ref<'_>) -> Option<P::Read> {
        crate::key::read::read::<P>(&self::key::<P>(key).as_bytes()[2..])
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn a_uuid_is_written_with_hyphens() {
        let id = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(
            key::<uuid::Uuid>(id),
            "t:01234567-89ab-cdef-0123-456789abcdef"
        );
        assert_eq!(back::<uuid::Uuid>(id), Some(id));
        let upper = b"01234567-89AB-CDEF-0123-456789ABCDEF";
        assert_eq!(crate::key::read::read::<uuid::Uuid>(upper), None);
    }

    #[cfg(feature = "chrono")]
    #[test]
    fn chrono_dates() {
        let day = chrono::NaiveDate::from_ymd_opt(2026, 1, 31).unwrap();
        assert_eq!(key::<chrono::NaiveDate>(day), "t:2026-01-31");
        let noon = day.and_hms_milli_opt(12, 30, 5, 250).unwrap();
        assert_eq!(
            key::<chrono::NaiveDateTime>(noon),
            "t:2026-01-31T123005.250"
        );
        assert_eq!(
            key::<chrono::DateTime<chrono::Utc>>(noon.and_utc()),
            "t:2026-01-31T123005.250Z"
        );
        for noon in [noon, day.and_hms_opt(0, 0, 0).unwrap()] {
            assert_eq!(back::<chrono::NaiveDate>(day), Some(day));
            assert_eq!(back::<chrono::NaiveDateTime>(noon), Some(noon));
            let utc = noon.and_utc();
            assert_eq!(back::<chrono::DateTime<chrono::Utc>>(utc), Some(utc));
        }
    }

    #[cfg(feature = "time")]
    #[test]
    fn time_dates_and_one_instant_in_two_offsets() {
        let day = time::Date::from_calendar_date(2026, time::Month::January, 31).unwrap();
        assert_eq!(key::<time::Date>(day), "t:2026-01-31");
        let utc = day.with_hms(12, 30, 5).unwrap().assume_utc();
        assert_eq!(key::<time::OffsetDateTime>(utc), "t:2026-01-31T123005Z");
        let elsewhere = utc.to_offset(time::UtcOffset::from_hms(2, 0, 0).unwrap());
        assert_eq!(
            key::<time::OffsetDateTime>(elsewhere),
            key::<time::OffsetDateTime>(utc)
        );
        let before_christ = time::Date::from_calendar_date(-44, time::Month::March, 15).unwrap();
        for day in [day, before_christ] {
            assert_eq!(back::<time::Date>(day), Some(day));
            for nanos in [0, 250, 250_000_000] {
                let utc = day.with_hms_nano(12, 30, 5, nanos).unwrap().as_utc();
                assert_eq!(back::<time::UtcDateTime>(utc), Some(utc));
                let offset = time::OffsetDateTime::from(utc);
                assert_eq!(back::<time::OffsetDateTime>(offset), Some(offset));
            }
        }
    }

    #[cfg(feature = "jiff")]
    #[test]
    fn jiff_dates() {
        assert_eq!(
            key::<jiff::civil::Date>(jiff::civil::date(2026, 1, 31)),
            "t:2026-01-31"
        );
        let instant: jiff::Timestamp = "2026-01-31T12:30:05.25Z".parse().unwrap();
        assert_eq!(key::<jiff::Timestamp>(instant), "t:2026-01-31T123005.25Z");
        assert_eq!(back::<jiff::Timestamp>(instant), Some(instant));
        let day = jiff::civil::date(-44, 3, 15);
        assert_eq!(back::<jiff::civil::Date>(day), Some(day));
    }
}
