//! The shapes of foreign types, each behind the feature of its crate.
//!
//! A type with a form of its own has a name here. It changes with the form, if ever a release of
//! its crate changes that.

use crate::schema::shape::Shape;
use crate::schema::shape::fingerprint::Fingerprint;

#[allow(
    unused_macros,
    reason = "some features need only the other implementations"
)]
macro_rules! named {
    ($($of:ty = $name:literal,)+) => { $(
        impl Shape for $of {
            const FINGERPRINT: Fingerprint = Fingerprint::plain($name);
        }
    )+ };
}

#[cfg(feature = "uuid")]
named! {
    uuid::Uuid = "uuid::Uuid",
}

#[cfg(feature = "chrono")]
named! {
    chrono::NaiveDate = "chrono::NaiveDate",
    chrono::NaiveTime = "chrono::NaiveTime",
    chrono::NaiveDateTime = "chrono::NaiveDateTime",
    chrono::TimeDelta = "chrono::TimeDelta",
    chrono::Weekday = "chrono::Weekday",
    chrono::Month = "chrono::Month",
}

#[cfg(feature = "chrono")]
impl<Tz: chrono::TimeZone> Shape for chrono::DateTime<Tz> {
    const FINGERPRINT: Fingerprint = Fingerprint::plain("chrono::DateTime");
}

#[cfg(feature = "time")]
named! {
    time::Date = "time::Date",
    time::Time = "time::Time",
    time::PlainDateTime = "time::PlainDateTime",
    time::UtcDateTime = "time::UtcDateTime",
    time::OffsetDateTime = "time::OffsetDateTime",
    time::UtcOffset = "time::UtcOffset",
    time::SignedDuration = "time::SignedDuration",
    time::Timestamp = "time::Timestamp",
    time::Weekday = "time::Weekday",
    time::Month = "time::Month",
}

#[cfg(feature = "jiff")]
named! {
    jiff::civil::Date = "jiff::civil::Date",
    jiff::civil::Time = "jiff::civil::Time",
    jiff::civil::DateTime = "jiff::civil::DateTime",
    jiff::civil::ISOWeekDate = "jiff::civil::ISOWeekDate",
    jiff::Timestamp = "jiff::Timestamp",
    jiff::ZonedDateTime = "jiff::ZonedDateTime",
    jiff::Span = "jiff::Span",
    jiff::SignedDuration = "jiff::SignedDuration",
}

#[cfg(feature = "rust_decimal")]
named! {
    rust_decimal::Decimal = "rust_decimal::Decimal",
}

#[cfg(feature = "url")]
named! {
    url::Url = "url::Url",
}

#[cfg(feature = "bytes")]
named! {
    bytes::Bytes = "bytes",
    bytes::BytesMut = "bytes",
}

#[cfg(feature = "serde_json")]
named! {
    serde_json::Value = "serde_json::Value",
    serde_json::Number = "serde_json::Number",
    serde_json::Map<String, serde_json::Value> = "serde_json::Map",
}

#[cfg(feature = "smallvec")]
impl<A: smallvec::Array> Shape for smallvec::SmallVec<A>
where
    A::Item: Shape,
{
    const FINGERPRINT: Fingerprint = Fingerprint::seq(<A::Item>::FINGERPRINT);
    const CUT: Fingerprint = Fingerprint::seq(<A::Item>::CUT);
}

#[cfg(feature = "compact_str")]
impl Shape for compact_str::CompactString {
    const FINGERPRINT: Fingerprint = str::FINGERPRINT;
}
