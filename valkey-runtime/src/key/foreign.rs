//! Foreign types as parts of a key: UUIDs and dates, each behind the feature of its crate.
//!
//! Dates are written as ISO 8601 writes them; instants in UTC, with a time of day without colons, so that nothing of
//! them needs an escape.

#[allow(unused_imports, reason = "which of these a feature needs differs")]
use super::{Borrow, KeyFrom, KeyPart, KeyWriter, OwnKey, by_value};

#[cfg(feature = "uuid")]
by_value! {
    uuid::Uuid => |key, out| out.part(key.hyphenated().encode_lower(&mut [0; 36]));
}

#[cfg(feature = "chrono")]
by_value! {
    chrono::NaiveDate => |key, out| out.part(&key.to_string());
    chrono::NaiveDateTime => |key, out| out.part(&key.format("%Y-%m-%dT%H%M%S%.f").to_string());
    chrono::DateTime<chrono::Utc> => |key, out| out.part(&key.format("%Y-%m-%dT%H%M%S%.fZ").to_string());
}

#[cfg(feature = "time")]
by_value! {
    time::Date => |key, out| out.part(&key.to_string());
    time::UtcDateTime => |key, out| {
        let (h, m, s, n) = key.time().as_hms_nano();
        out.part(&instant(&key.date(), (h, m, s), n));
    };
    time::OffsetDateTime => |key, out| {
        let key = key.to_offset(time::UtcOffset::UTC);
        let (h, m, s, n) = key.time().as_hms_nano();
        out.part(&instant(&key.date(), (h, m, s), n));
    };
}

#[cfg(feature = "time")]
fn instant(date: &dyn std::fmt::Display, (h, m, s): (u8, u8, u8), nanos: u32) -> String {
    match nanos {
        0 => format!("{date}T{h:02}{m:02}{s:02}Z"),
        _ => format!("{date}T{h:02}{m:02}{s:02}.{nanos:09}Z"),
    }
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

    #[cfg(feature = "uuid")]
    #[test]
    fn a_uuid_is_written_with_hyphens() {
        let id = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(
            key::<uuid::Uuid>(id),
            "t:01234567-89ab-cdef-0123-456789abcdef"
        );
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
    }
}
