//! Every type of key, at its limits and in between. Nothing panics, and a value stored under a key
//! is found, scanned and deleted under the same key.

use std::fmt::Debug;
use std::marker::PhantomData;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::{Deserialize, Serialize};

use crate::base::ttl::Ttl;
use crate::core::store::Store;
use crate::key::part::{HashTag, KeyPart};
use crate::key::read::ReadKey;
use crate::limit::RateLimiter;
use crate::schema::guarding::BestEffort;
use crate::{Cached, CachedType};

/// A value under a key of any type.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Under<K>(u32, PhantomData<K>);

impl<K: KeyPart + Send + Sync> CachedType for Under<K> {
    const PREFIX: &'static str = "under";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 1;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = K;
    type Key<'k> = K::Ref<'k>;
}

/// Stores, finds, scans and deletes under each of these keys.
fn hold<K>(keys: impl Strategy<Value = K>)
where
    K: KeyPart + ReadKey<Read = K> + Send + Sync + Debug + PartialEq,
{
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.build().unwrap();
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&keys, |key| {
        runtime.block_on(async {
            let store = Store::memory();
            let value = Under::<K>(7, PhantomData);
            value.set_at(&store, key.key_ref()).await.unwrap();
            let found = Under::<K>::get(&store, key.key_ref()).await.unwrap();
            prop_assert_eq!(found, Some(value));
            let scanned: Vec<(K, Under<K>)> =
                store.of::<Under<K>>().scan().try_collect().await.unwrap();
            prop_assert_eq!(scanned.len(), 1);
            prop_assert_eq!(&scanned[0].0, &key);
            prop_assert_eq!(store.of::<Under<K>>().count().await.unwrap(), 1);
            prop_assert!(Under::<K>::del(&store, key.key_ref()).await.unwrap());
            Ok(())
        })
    });
    outcome.unwrap();
}

/// A strategy in which the limits together are as likely as all other values.
fn at_limits<T: Clone + Debug + 'static>(
    limits: impl Into<Vec<T>>,
    others: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    prop_oneof![prop::sample::select(limits.into()), others].boxed()
}

macro_rules! integers {
    ($($ty:ty)*) => {$( hold::<$ty>(at_limits([<$ty>::MIN, <$ty>::MAX, 0], any::<$ty>())); )*};
}

#[test]
fn numbers() {
    integers! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }
    use std::num::{NonZeroI64, NonZeroU128};
    let some = any::<i64>().prop_filter_map("zero", NonZeroI64::new);
    hold(at_limits([NonZeroI64::MIN, NonZeroI64::MAX], some));
    let some = any::<u128>().prop_filter_map("zero", NonZeroU128::new);
    hold(at_limits([NonZeroU128::MIN, NonZeroU128::MAX], some));
    hold(any::<bool>());
    hold(at_limits(
        ['\0', char::MAX, ':', '%', '{', '}'],
        any::<char>(),
    ));
}

fn texts() -> impl Strategy<Value = String> {
    let awkward = [
        "",
        ":",
        "::",
        "%",
        "%3A",
        "{}",
        "}{",
        "*",
        "[a]",
        "?",
        "\\",
        "\0",
        "\u{10ffff}",
    ];
    let awkward = prop::sample::select(awkward.map(str::to_owned).to_vec());
    prop_oneof![awkward, ".{0,40}", Just("x".repeat(70_000))]
}

#[test]
fn texts_and_compounds_of_texts() {
    hold(texts());
    hold(texts().prop_map(Box::<str>::from));
    hold(texts().prop_map(std::sync::Arc::<str>::from));
    hold(Just(()));
    hold((texts(), any::<u64>()));
    hold((
        texts(),
        (texts(), any::<i128>()),
        any::<bool>(),
        Just(()),
        any::<char>(),
        texts(),
    ));
    // A part in braces is read as the part itself.
    let read = |text: &str| {
        let mut out = crate::key::writer::KeyWriter::new("", "");
        <(HashTag<String>, u8) as KeyPart>::write((text, 255), &mut out);
        crate::key::read::read::<(HashTag<String>, u8)>(&out.into_bytes()[1..])
    };
    let outcome = TestRunner::new(Config::default()).run(&texts(), |text| {
        prop_assert_eq!(read(&text), Some((text, 255)));
        Ok(())
    });
    outcome.unwrap();
}

#[cfg(feature = "uuid")]
#[test]
fn uuids() {
    use uuid::Uuid;
    hold(at_limits(
        [Uuid::nil(), Uuid::max()],
        any::<u128>().prop_map(Uuid::from_u128),
    ));
}

#[cfg(feature = "chrono")]
#[test]
fn dates_of_chrono() {
    use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
    let days = NaiveDate::MIN
        .signed_duration_since(NaiveDate::default())
        .num_days()
        ..NaiveDate::MAX
            .signed_duration_since(NaiveDate::default())
            .num_days();
    let days = days.prop_map(|day| NaiveDate::default() + chrono::TimeDelta::days(day));
    let days = at_limits([NaiveDate::MIN, NaiveDate::MAX], days);
    hold(days.clone());
    // A leap second has twice as many nanoseconds.
    let clocks = (0..86_400u32, 0..1_000_000_000u32, any::<bool>());
    let clocks = clocks.prop_filter_map("a time", |(second, nanos, leap)| {
        let leap = u32::from(leap && second % 60 == 59) * 1_000_000_000;
        NaiveTime::from_num_seconds_from_midnight_opt(second, nanos + leap)
    });
    let instants = (days, clocks).prop_map(|(day, clock)| day.and_time(clock));
    let limits = [NaiveDateTime::MIN, NaiveDateTime::MAX];
    hold(at_limits(limits, instants.clone()));
    // Some days at either end are out of range for an instant.
    let limits = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    hold(at_limits(
        limits,
        instants.prop_map(|instant| instant.and_utc()),
    ));
}

#[cfg(feature = "time")]
#[test]
fn dates_of_time() {
    use time::{Date, OffsetDateTime, Time, UtcDateTime, UtcOffset};
    let days = (Date::MIN.to_julian_day()..=Date::MAX.to_julian_day())
        .prop_map(|day| Date::from_julian_day(day).unwrap());
    // Within two days of either end an instant may be out of range in UTC.
    let ends = [
        Date::MIN,
        Date::MAX,
        Date::MIN.next_day().unwrap(),
        Date::MAX.previous_day().unwrap(),
    ];
    let days = at_limits(ends, days);
    hold(days.clone());
    let clocks = (0..24u8, 0..60u8, 0..60u8, 0..1_000_000_000u32);
    let clocks = clocks.prop_map(|(h, m, s, n)| Time::from_hms_nano(h, m, s, n).unwrap());
    let last = Time::from_hms_nano(23, 59, 59, 999_999_999).unwrap();
    let clocks = at_limits([Time::MIDNIGHT, last], clocks);
    let local = (days, clocks).prop_map(|(day, clock)| day.with_time(clock));
    hold(at_limits(
        [UtcDateTime::MIN, UtcDateTime::MAX],
        local.clone().prop_map(|local| local.as_utc()),
    ));
    const LAST: i32 = 26 * 3600 - 1;
    let offsets = at_limits([-LAST, -3600, -1, 0, 1, 3600, LAST], -LAST..=LAST);
    let instants = (local, offsets).prop_map(|(local, offset)| {
        local.assume_offset(UtcOffset::from_whole_seconds(offset).unwrap())
    });
    hold::<OffsetDateTime>(instants);
}

/// `9999-12-31T23:59:59-01:00`, which RFC 3339 allows.
#[cfg(feature = "time")]
#[test]
fn an_instant_that_is_out_of_range_in_utc_has_a_key_of_its_own() {
    use time::{Date, Month, OffsetDateTime, UtcOffset};
    let written = |instant: OffsetDateTime| {
        let mut out = crate::key::writer::KeyWriter::new("", "t");
        OffsetDateTime::write(instant, &mut out);
        String::from_utf8(out.into_bytes()).unwrap()
    };
    let offset = |hours| UtcOffset::from_hms(hours, 0, 0).unwrap();
    let last = Date::from_calendar_date(9999, Month::December, 31).unwrap();
    let last = last.with_hms(23, 59, 59).unwrap();
    assert_eq!(
        written(last.assume_offset(offset(-1))),
        "t:+10000-01-01T005959Z"
    );
    assert_eq!(
        written(last.assume_offset(offset(-25))),
        "t:+10000-01-02T005959Z"
    );
    assert_eq!(
        written(last.assume_offset(offset(1))),
        "t:9999-12-31T225959Z"
    );
    let first = Date::MIN.midnight();
    assert_eq!(
        written(first.assume_offset(offset(1))),
        "t:-10000-12-31T230000Z"
    );
    for other in [
        "+10000-01-03T000000Z",
        "+10000-02-01T000000Z",
        "-10000-12-29T000000Z",
        "+10001-01-01T000000Z",
        "+10000-01-01T240000Z",
    ] {
        assert_eq!(
            crate::key::read::read::<OffsetDateTime>(other.as_bytes()),
            None,
            "{other}"
        );
    }
}

#[cfg(feature = "jiff")]
#[test]
fn dates_of_jiff() {
    use jiff::{Timestamp, civil::Date};
    let days =
        (-9999..=9999i16, 1..=12i8, 1..=28i8).prop_map(|(y, m, d)| jiff::civil::date(y, m, d));
    hold(at_limits([Date::MIN, Date::MAX], days));
    let seconds = Timestamp::MIN.as_second()..Timestamp::MAX.as_second();
    let instants = (seconds, 0..1_000_000_000i32)
        .prop_map(|(second, nanos)| Timestamp::new(second, nanos).unwrap());
    hold(at_limits([Timestamp::MIN, Timestamp::MAX], instants));
}

/// Keys of rate limits don't panic at their limits either.
#[tokio::test]
async fn keys_of_limits() {
    let store = Store::memory();
    let limiter = RateLimiter::builder("\0:{}%").quota(1, std::time::Duration::from_secs(1));
    let limiter = limiter.build().unwrap();
    for text in ["", ":", "\u{10ffff}", &"x".repeat(70_000)] {
        let decision = limiter.check(&store, (text, u128::MAX, i128::MIN)).await;
        assert!(decision.unwrap().is_allowed());
    }
}
