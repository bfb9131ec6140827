//! The shape of a type: a fingerprint of its serialized form, known at compile time.
//!
//! It covers what decides the bytes: names and order of fields, their types, names of variants, and
//! serde's attributes. Names of types are not in the bytes and not in it. The page
//! `docs/internals/envelope.md` specifies the calculation, and a test pins some results.
//!
//! [`fingerprint`] calculates, [`lock`] compares with what an annotation says, and the other
//! modules have the implementations.

pub(crate) mod fingerprint;
#[cfg(any(
    feature = "uuid",
    feature = "chrono",
    feature = "time",
    feature = "jiff",
    feature = "rust_decimal",
    feature = "url",
    feature = "bytes",
    feature = "serde_json",
    feature = "smallvec",
    feature = "compact_str"
))]
mod foreign;
pub(crate) mod lock;
mod std_types;
#[cfg(all(test, feature = "derive"))]
mod tests;

use crate::schema::shape::fingerprint::Fingerprint;

/// A type whose serialized form has a fingerprint that is known at compile time.
///
/// `#[cached(layout = "compact")]` and `#[cached(lock = "…")]` need it for the type of every field.
/// The types of the standard library have it, and behind features those of `uuid`, `chrono`,
/// `time`, `jiff`, `rust_decimal`, `url`, `bytes`, `serde_json`, `smallvec` and `compact_str`.
/// Derive it for your own structs and enums. A cached struct needs no `#[derive(Shape)]` of its
/// own, unless it is a part of another one.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, Shape};
///
/// #[derive(Serialize, Deserialize, Shape)]
/// enum Role {
///     Guest,
///     Member { since: u32 },
/// }
///
/// #[derive(Serialize, Deserialize, Cached)]
/// #[cached(layout = "compact")]
/// struct User {
///     #[cached(key)]
///     id: u64,
///     role: Role,
/// }
/// ```
///
/// An implementation by hand refers to a type that serde writes in the same way:
///
/// ```
/// use valkey_runtime::{Fingerprint, Shape};
///
/// struct Sorted(Vec<u64>);
///
/// impl Shape for Sorted {
///     const FINGERPRINT: Fingerprint = <Vec<u64> as Shape>::FINGERPRINT;
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the serialized form of `{Self}` has no fingerprint, which `layout = \"compact\"` and `lock` need",
    label = "`Shape` is missing for `{Self}`",
    note = "for a type of yours: add `#[derive(Shape)]` to `{Self}`",
    note = "for any other: mark the field `#[shape(opaque = \"1\")]`, and raise that number when the form of its type changes"
)]
pub trait Shape {
    /// The fingerprint of the serialized form.
    const FINGERPRINT: Fingerprint;

    /// The same with the edges that are marked `#[shape(recursive)]` cut off, which ends a cycle.
    #[doc(hidden)]
    const CUT: Fingerprint = Self::FINGERPRINT;
}

/// Stands for a type where it contains itself.
pub enum Recursive {}

impl Shape for Recursive {
    const FINGERPRINT: Fingerprint = Fingerprint::plain("self");
}
