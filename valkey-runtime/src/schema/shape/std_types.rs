//! The shapes of the standard library's types.
//!
//! Types that serde writes in the same way share a shape: the sequences, the texts, and every
//! pointer with what it points to.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{NonZero, Saturating, Wrapping};
use std::ops::{Bound, Range, RangeFrom, RangeInclusive, RangeTo};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use crate::schema::shape::Shape;
use crate::schema::shape::fingerprint::Fingerprint;

macro_rules! plain {
    ($($name:literal: $($of:ty),+;)+) => { $($(
        impl Shape for $of {
            const FINGERPRINT: Fingerprint = Fingerprint::plain($name);
        }
    )+)+ };
}

plain! {
    "bool": bool, AtomicBool;
    "u8": u8, AtomicU8;
    "u16": u16, AtomicU16;
    "u32": u32, AtomicU32;
    "u64": u64, AtomicU64;
    "u128": u128;
    "usize": usize, AtomicUsize;
    "i8": i8, AtomicI8;
    "i16": i16, AtomicI16;
    "i32": i32, AtomicI32;
    "i64": i64, AtomicI64;
    "i128": i128;
    "isize": isize, AtomicIsize;
    "f32": f32;
    "f64": f64;
    "char": char;
    "str": str, String, Path, PathBuf;
    "os_str": OsStr, OsString;
    "bytes": CStr, CString;
    "ip": IpAddr;
    "ipv4": Ipv4Addr;
    "ipv6": Ipv6Addr;
    "socket": SocketAddr;
    "socket_v4": SocketAddrV4;
    "socket_v6": SocketAddrV6;
}

impl Shape for () {
    const FINGERPRINT: Fingerprint = Fingerprint::unit();
}

impl<T: ?Sized> Shape for PhantomData<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::plain("unit_struct");
}

/// Both consts by the same expression, of the consts of the parameters.
macro_rules! of_parts {
    ($([$($params:tt)*] $of:ty, $($part:ident)*: $form:expr;)+) => { $(
        impl<$($params)*> Shape for $of {
            const FINGERPRINT: Fingerprint = {
                $(#[allow(non_snake_case, reason = "named as the type")] let $part = $part::FINGERPRINT;)*
                $form
            };
            const CUT: Fingerprint = {
                $(#[allow(non_snake_case, reason = "named as the type")] let $part = $part::CUT;)*
                $form
            };
        }
    )+ };
}

of_parts! {
    [T: Shape + ?Sized] &T, T: T;
    [T: Shape + ?Sized] &mut T, T: T;
    [T: Shape + ?Sized] Box<T>, T: T;
    [T: Shape + ?Sized] Rc<T>, T: T;
    [T: Shape + ?Sized] Arc<T>, T: T;
    [T: Shape + ToOwned + ?Sized] Cow<'_, T>, T: T;
    [T: Shape] Cell<T>, T: T;
    [T: Shape + ?Sized] RefCell<T>, T: T;
    [T: Shape + ?Sized] Mutex<T>, T: T;
    [T: Shape + ?Sized] RwLock<T>, T: T;
    [T: Shape] Reverse<T>, T: T;
    [T: Shape] Wrapping<T>, T: T;
    [T: Shape] Saturating<T>, T: T;

    [T: Shape] Option<T>, T: Fingerprint::option(T);
    [T: Shape] [T], T: Fingerprint::seq(T);
    [T: Shape] Vec<T>, T: Fingerprint::seq(T);
    [T: Shape] VecDeque<T>, T: Fingerprint::seq(T);
    [T: Shape] LinkedList<T>, T: Fingerprint::seq(T);
    [T: Shape] BinaryHeap<T>, T: Fingerprint::seq(T);
    [T: Shape] BTreeSet<T>, T: Fingerprint::seq(T);
    [T: Shape, S] HashSet<T, S>, T: Fingerprint::seq(T);
    [T: Shape, const N: usize] [T; N], T: Fingerprint::array(T, N);
    [K: Shape, V: Shape] BTreeMap<K, V>, K V: Fingerprint::map(K, V);
    [K: Shape, V: Shape, S] HashMap<K, V, S>, K V: Fingerprint::map(K, V);

    [T: Shape, E: Shape] Result<T, E>, T E: Fingerprint::variants(
        &[],
        &[("Ok", T.kind("newtype")), ("Err", E.kind("newtype"))],
    );
    [T: Shape] Bound<T>, T: Fingerprint::variants(
        &[],
        &[
            ("Unbounded", Fingerprint::plain("unit")),
            ("Included", T.kind("newtype")),
            ("Excluded", T.kind("newtype")),
        ],
    );
    [T: Shape] Range<T>, T: Fingerprint::structure(&[("start", T), ("end", T)]);
    [T: Shape] RangeInclusive<T>, T: Fingerprint::structure(&[("start", T), ("end", T)]);
    [T: Shape] RangeFrom<T>, T: Fingerprint::structure(&[("start", T)]);
    [T: Shape] RangeTo<T>, T: Fingerprint::structure(&[("end", T)]);
}

macro_rules! non_zero {
    ($($of:ty)+) => { $(
        impl Shape for NonZero<$of> {
            const FINGERPRINT: Fingerprint = <$of>::FINGERPRINT;
        }
    )+ };
}

non_zero!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

impl Shape for Duration {
    const FINGERPRINT: Fingerprint =
        Fingerprint::structure(&[("secs", u64::FINGERPRINT), ("nanos", u32::FINGERPRINT)]);
}

impl Shape for SystemTime {
    const FINGERPRINT: Fingerprint = Fingerprint::structure(&[
        ("secs_since_epoch", u64::FINGERPRINT),
        ("nanos_since_epoch", u32::FINGERPRINT),
    ]);
}

macro_rules! tuples {
    ($first:ident $($rest:ident)*) => {
        impl<$first: Shape, $($rest: Shape),*> Shape for ($first, $($rest,)*) {
            const FINGERPRINT: Fingerprint =
                Fingerprint::tuple(&[$first::FINGERPRINT, $($rest::FINGERPRINT),*]);
            const CUT: Fingerprint = Fingerprint::tuple(&[$first::CUT, $($rest::CUT),*]);
        }
        tuples!($($rest)*);
    };
    () => {};
}

tuples!(A B C D E F G H I J K L M N O P);
