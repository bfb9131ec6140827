//! The fingerprints of types, through the derive.

#![allow(dead_code, reason = "only the types matter")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::time::Duration;

use crate::Shape;
use crate::schema::shape::fingerprint::Fingerprint;

const fn of<T: Shape + ?Sized>() -> Fingerprint {
    T::FINGERPRINT
}

/// Locks and stored entries depend on these numbers: no release and no compiler changes them.
#[test]
fn fingerprints_stay_as_they_are() {
    #[derive(Shape)]
    enum Role {
        Guest,
        Member(u32),
        Pair(u8, u8),
        Admin { since: u64 },
    }
    #[derive(Shape)]
    struct User {
        id: u64,
        name: String,
        roles: Vec<Role>,
        notes: HashMap<String, Option<f64>>,
        place: (i32, [u8; 4]),
    }
    for (pinned, found) in [
        ("f59fa8f2", of::<u64>()),
        ("b292ea64", of::<String>()),
        ("e0f09301", of::<Option<u8>>()),
        ("6f9efa31", of::<Role>()),
        ("99c1a028", of::<User>()),
        ("0e8432a7", of::<Duration>()),
        ("232ac4dd", Fingerprint::opaque("1")),
    ] {
        assert_eq!(found.to_string(), pinned);
    }
}

#[test]
fn types_that_are_written_in_the_same_way_share_a_fingerprint() {
    #[derive(Shape)]
    struct Newtype(u64);
    #[derive(Shape)]
    struct Marked<T>(u64, PhantomData<T>);
    #[derive(Shape)]
    struct Skipping {
        a: u8,
        #[serde(skip)]
        b: PhantomData<String>,
        #[serde(default, alias = "see", rename = "c")]
        d: bool,
    }
    #[derive(Shape)]
    struct Plain {
        a: u8,
        c: bool,
    }
    #[derive(Shape)]
    #[serde(rename_all = "camelCase")]
    struct Camel {
        first_name: u8,
    }
    #[derive(Shape)]
    struct Renamed {
        #[serde(rename(serialize = "firstName", deserialize = "firstName"))]
        r#fn: u8,
    }
    #[derive(Shape)]
    #[serde(into = "Plain", from = "Plain")]
    struct Through {
        other: f32,
    }
    assert_eq!(of::<Newtype>(), of::<u64>());
    assert_ne!(of::<Marked<u8>>(), of::<u64>());
    assert_eq!(of::<Marked<u8>>(), of::<Marked<u16>>());
    assert_eq!(of::<Skipping>(), of::<Plain>());
    assert_eq!(of::<Camel>(), of::<Renamed>());
    assert_eq!(of::<Through>(), of::<Plain>());
    assert_eq!(of::<Vec<Box<u8>>>(), of::<HashSet<std::sync::Arc<u8>>>());
    assert_eq!(of::<HashMap<u8, u16>>(), of::<BTreeMap<u8, u16>>());
    assert_eq!(of::<Box<str>>(), of::<std::borrow::Cow<'static, str>>());
}

macro_rules! fingerprints {
    ($($(#[$attribute:meta])* { $($body:tt)* })+) => {
        [$({
            #[derive(Shape)]
            $(#[$attribute])*
            $($body)*
            of::<T>()
        }),+]
    };
}

fn all_differ(all: &[Fingerprint]) {
    for (at, one) in all.iter().enumerate() {
        assert_eq!(all.iter().filter(|other| *other == one).count(), 1, "{at}");
    }
}

#[test]
fn what_changes_bytes_changes_the_fingerprint() {
    all_differ(&fingerprints! {
        { struct T { a: u8, b: u8 } }
        { struct T { b: u8, a: u8 } }
        { struct T { a: u8 } }
        { struct T { a: u8, b: u16 } }
        { struct T { a: u8, c: u8 } }
        { struct T { a: u8, #[serde(rename = "d")] b: u8 } }
        { struct T { a: u8, #[serde(skip_serializing_if = "is_zero")] b: u8 } }
        { struct T { a: u8, #[serde(flatten)] b: u8 } }
        { struct T { a: u8, #[shape(opaque = "1")] b: u8 } }
        { struct T { a: u8, #[shape(opaque = "2")] b: u8 } }
        #[serde(tag = "t")] { struct T { a: u8, b: u8 } }
        { struct T(u8, u8); }
        { struct T(u8, u8, u8); }
        { struct T; }
        { struct T {} }
        { struct T(); }
        #[shape(opaque = "1")] { struct T { a: u8, b: u8 } }
        { struct T { a: Option<u8>, b: u8 } }
        { struct T { a: [u8; 1], b: u8 } }
        { struct T { a: [u8; 2], b: u8 } }
        { struct T { a: (u8,), b: u8 } }
    });
    all_differ(&fingerprints! {
        { enum T { A, B } }
        { enum T { A } }
        { enum T { A, C } }
        { enum T { A, B() } }
        { enum T { A, B {} } }
        { enum T { A, B(u8) } }
        { enum T { A, B(u16) } }
        { enum T { A, B(u8, u8) } }
        { enum T { A, B { b: u8 } } }
        { enum T { A, B { c: u8 } } }
        #[serde(rename_all_fields = "UPPERCASE")] { enum T { A, B { c: u8 } } }
        #[serde(rename_all = "lowercase")] { enum T { A, B } }
        #[serde(tag = "t")] { enum T { A, B } }
        #[serde(tag = "t", content = "c")] { enum T { A, B } }
        #[serde(untagged)] { enum T { A, B } }
        { enum T { A(u8), B(u16) } }
        { enum T { A(u16), B(u8) } }
    });
}

#[test]
fn the_order_of_variants_is_in_it_only_where_it_decides() {
    let [ab, ba] = fingerprints! {
        { enum T { A(u8), B { b: u16 } } }
        { enum T { B { b: u16 }, A(u8) } }
    };
    assert_eq!(ab, ba);
    let [ab, ba] = fingerprints! {
        #[serde(untagged)] { enum T { A(u8), B { b: u16 } } }
        #[serde(untagged)] { enum T { B { b: u16 }, A(u8) } }
    };
    assert_ne!(ab, ba);
}

mod recursive {
    use super::*;

    #[derive(Shape)]
    pub(super) struct Tree<T> {
        pub(super) value: T,
        pub(super) children: Vec<Tree<T>>,
        pub(super) parent: Option<Box<Self>>,
    }

    #[derive(Shape)]
    pub(super) struct Order {
        pub(super) items: Vec<Item>,
        pub(super) total: u64,
    }

    #[derive(Shape)]
    pub(super) struct Item {
        pub(super) price: u64,
        #[shape(recursive)]
        pub(super) replaces: Option<Box<Order>>,
    }
}

mod changed {
    use super::*;

    #[derive(Shape)]
    pub(super) struct Order {
        pub(super) items: Vec<Item>,
        pub(super) total: i64,
    }

    #[derive(Shape)]
    pub(super) struct Item {
        pub(super) price: u64,
        #[shape(recursive)]
        pub(super) replaces: Option<Box<Order>>,
    }
}

#[test]
fn cycles_have_a_fingerprint_of_all_their_types() {
    assert_ne!(of::<recursive::Tree<u8>>(), of::<recursive::Tree<u16>>());
    assert_ne!(of::<recursive::Order>(), of::<changed::Order>());
    // The change is behind the marked edge.
    assert_ne!(of::<recursive::Item>(), of::<changed::Item>());
    of::<recursive::Order>().in_arrays();
}

#[test]
fn what_arrays_cannot_carry_is_known_at_any_depth() {
    let refused = |of: Fingerprint| {
        let why = std::panic::catch_unwind(|| of.in_arrays()).unwrap_err();
        why.downcast_ref::<String>().cloned().unwrap()
    };
    #[derive(Shape)]
    struct Inner {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<u8>,
    }
    #[derive(Shape)]
    struct Outer {
        inner: Vec<Inner>,
    }
    let why = refused(of::<Outer>());
    assert!(
        why.starts_with("in `Inner`, arrays can't carry a field that may be left out"),
        "{why}"
    );
    for unfit in fingerprints! {
        { struct T { #[serde(flatten)] a: u8 } }
        { struct T { #[serde(skip_serializing)] a: u8, b: u8 } }
        { struct T { #[serde(skip_deserializing)] a: u8, b: u8 } }
        { struct T { a: Option<Option<u8>> } }
        { struct T { a: Vec<Option<()>> } }
        { struct T(HashMap<u8, Option<Box<Option<u8>>>>); }
        #[serde(tag = "t")] { struct T { a: u8 } }
        #[serde(untagged)] { enum T { A { a: u8 }, B { b: u8 } } }
        { enum T { A { a: u8 }, #[serde(untagged)] B { b: u8 } } }
        #[serde(tag = "t", content = "c")] { enum T { A, B(u8) } }
        #[serde(tag = "t", content = "c")] { enum T { A { a: u8 }, B(u8) } }
    } {
        refused(unfit);
    }
    for fit in fingerprints! {
        { struct T { #[serde(skip)] a: u8, b: Option<Vec<Option<u8>>> } }
        { struct T { a: Option<PhantomData<u8>> } }
        #[serde(tag = "t", content = "c")] { enum T { A(u8), B(u8, u8) } }
        #[serde(tag = "t")] { enum T { A, B { b: u8 } } }
    } {
        fit.in_arrays();
    }
}

#[test]
fn foreign_types_have_a_fingerprint_behind_their_features() {
    let all: &[(&str, Fingerprint)] = &[
        #[cfg(feature = "uuid")]
        ("uuid::Uuid", of::<uuid::Uuid>()),
        #[cfg(feature = "chrono")]
        ("chrono::DateTime", of::<chrono::DateTime<chrono::Utc>>()),
        #[cfg(feature = "time")]
        ("time::OffsetDateTime", of::<time::OffsetDateTime>()),
        #[cfg(feature = "jiff")]
        ("jiff::Timestamp", of::<jiff::Timestamp>()),
        #[cfg(feature = "rust_decimal")]
        ("rust_decimal::Decimal", of::<rust_decimal::Decimal>()),
        #[cfg(feature = "url")]
        ("url::Url", of::<url::Url>()),
        #[cfg(feature = "bytes")]
        ("bytes", of::<bytes::Bytes>()),
        #[cfg(feature = "serde_json")]
        ("serde_json::Value", of::<serde_json::Value>()),
        #[cfg(feature = "compact_str")]
        ("str", of::<compact_str::CompactString>()),
    ];
    #[cfg(feature = "smallvec")]
    assert_eq!(of::<smallvec::SmallVec<[u8; 4]>>(), of::<Vec<u8>>());
    for (name, found) in all {
        assert_eq!(*found, Fingerprint::plain(name), "{name}");
    }
}

#[test]
fn two_cycles_that_meet_are_refused_where_a_type_would_not_be_covered() {
    let target = Fingerprint::cut(1, "B");
    target.beyond(1);
    let several = Fingerprint::tuple(&[target, Fingerprint::cut(2, "C")]);
    for (target, edge) in [(target, 2), (several, 1), (several, 2)] {
        assert!(std::panic::catch_unwind(|| target.beyond(edge)).is_err());
    }
}
