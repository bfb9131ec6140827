//! Keys: the encoding of key parts as bytes, which is injective.
//!
//! A key is `[namespace:]prefix:part[:part…]`. The namespace belongs to the store and the prefix to
//! the type; this module writes the parts. Each part is escaped (`%`, `:`, `{`, `}`). So a colon in
//! the bytes always separates two parts, and a brace always belongs to a hash tag. Two different
//! keys of a type never have the same bytes.
//!
//! [`KeyPart`] is implemented for the *owned* types of an application (`u64`, `String`, `(u64,
//! String)`). It names the borrowed form that look-ups take ([`KeyPart::Ref`]: `u64`, `&str`,
//! `(u64, &str)`). [`KeyFrom`] defines the items that the bulk verbs accept as keys.

use crate::key::writer::KeyWriter;
use std::borrow::{Borrow, Cow};
use std::marker::PhantomData;
use std::sync::Arc;

/// A type that can be a cache key, or one part of it.
///
/// Implemented for integers, `bool`, `char`, the owned string types, tuples of up to six parts,
/// `()` (the key of a singleton), and with features for UUIDs and dates. A newtype gets it by
/// `#[derive(KeyPart)]`. A foreign type is used with `#[cached(key(with = "path"))]`.
///
/// ```
/// use valkey_runtime::KeyPart;
///
/// #[derive(KeyPart)]
/// struct UserId(u64);
/// # fn main() {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be part of a cache key",
    label = "not a `KeyPart`",
    note = "a newtype of yours: add `#[derive(KeyPart)]` to it",
    note = "a foreign type: write `#[cached(key(with = \"path::to::function\"))]`, a function from `&{Self}` to a type that can be one",
    note = "a parameter of a cached function on which its result does not depend, such as a connection: mark it `#[context]`",
    note = "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string"
)]
pub trait KeyPart: 'static {
    /// The argument of a look-up: the value itself if it is small, else a reference.
    type Ref<'k>: Copy + Send + Sync + 'k;

    /// The borrowed form of this key.
    fn key_ref(&self) -> Self::Ref<'_>;

    /// Writes the key. An implementation writes the same number of parts for every value, and
    /// different bytes for different values.
    fn write(key: Self::Ref<'_>, out: &mut KeyWriter);
}

/// The items that bulk verbs accept as keys: an item of type `X` stands for a key of type `Self`.
///
/// So `User::get_many(&store, &ids)` accepts a `Vec<u64>`, an array, or an iterator of `u64`, and
/// `Doc::get_many(&store, &names)` accepts a `Vec<String>` as well as `["a", "b"]`.
#[diagnostic::on_unimplemented(
    message = "a `{X}` is not a key of the type that is looked up: its key is a `{Self}`",
    label = "expected items that are (or borrow) a `{Self}`",
    note = "the bulk verbs take the key's own type, a reference to it, and for a string any `AsRef<str>`"
)]
pub trait KeyFrom<X>: KeyPart {
    /// The key of the item.
    fn key_from(item: &X) -> Self::Ref<'_>;
}

/// A key that can be owned, as the loader of a bulk verb gets it. Every key with [`Clone`] parts is
/// one.
#[diagnostic::on_unimplemented(
    message = "keys of type `{Self}` can't be owned by a loader",
    label = "a part of the key can't be cloned",
    note = "derive `Clone` for the types that are part of the key"
)]
pub trait OwnKey: KeyPart {
    /// The key as the loader gets it: `u64`, `String`, `(u64, String)`.
    type Owned: Send + Sync;

    /// The key, owned.
    fn own(key: Self::Ref<'_>) -> Self::Owned;

    /// The borrowed form of an owned key.
    fn of_owned(owned: &Self::Owned) -> Self::Ref<'_>;
}

macro_rules! by_value {
    ($($ty:ty => |$key:ident, $out:ident| $write:expr;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl KeyPart for $ty {
            type Ref<'k> = $ty;

            fn key_ref(&self) -> $ty {
                *self
            }

            fn write($key: $ty, $out: &mut KeyWriter) {
                $write
            }
        }

        #[diagnostic::do_not_recommend]
        impl OwnKey for $ty {
            type Owned = $ty;

            fn own(key: $ty) -> $ty {
                key
            }

            fn of_owned(owned: &$ty) -> $ty {
                *owned
            }
        }

        #[diagnostic::do_not_recommend]
        impl<X: Borrow<$ty>> KeyFrom<X> for $ty {
            fn key_from(item: &X) -> $ty {
                *item.borrow()
            }
        }

        #[diagnostic::do_not_recommend]
        impl crate::key::limit_key::LimitKey for $ty {
            fn write_key(&self, out: &mut KeyWriter) {
                <$ty as KeyPart>::write(*self, out);
            }
        }
    )*};
}
#[cfg(any(
    feature = "uuid",
    feature = "chrono",
    feature = "time",
    feature = "jiff"
))]
pub(crate) use by_value;

macro_rules! integers {
    ($($ty:ty)*) => { by_value! { $($ty => |key, out| out.number(key);)* } };
}

macro_rules! nonzero {
    ($($ty:ident)*) => { by_value! { $(std::num::$ty => |key, out| out.number(key.get());)* } };
}

integers! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }
nonzero! { NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 }
by_value! {
    bool => |key, out| out.part(if key { "true" } else { "false" });
    char => |key, out| out.part(key.encode_utf8(&mut [0; 4]));
}

macro_rules! strings {
    ($($ty:ty)*) => {$(
        #[diagnostic::do_not_recommend]
        impl KeyPart for $ty {
            type Ref<'k> = &'k str;

            fn key_ref(&self) -> &str {
                self
            }

            fn write(key: &str, out: &mut KeyWriter) {
                out.part(key);
            }
        }

        impl OwnKey for $ty {
            type Owned = $ty;

            fn own(key: &str) -> $ty {
                <$ty>::from(key.to_owned())
            }

            fn of_owned(owned: &Self) -> &str {
                owned
            }
        }

        #[diagnostic::do_not_recommend]
        impl<X: AsRef<str>> KeyFrom<X> for $ty {
            fn key_from(item: &X) -> &str {
                item.as_ref()
            }
        }

        #[diagnostic::do_not_recommend]
        impl crate::key::limit_key::LimitKey for $ty {
            fn write_key(&self, out: &mut KeyWriter) {
                out.part(self);
            }
        }
    )*};
}

strings! { String Box<str> Arc<str> Cow<'static, str> }

#[diagnostic::do_not_recommend]
impl KeyPart for () {
    type Ref<'k> = ();

    fn key_ref(&self) {}

    fn write((): (), _: &mut KeyWriter) {}
}

impl OwnKey for () {
    type Owned = ();

    fn own((): ()) {}

    fn of_owned((): &()) {}
}

#[diagnostic::do_not_recommend]
impl<X: Borrow<()>> KeyFrom<X> for () {
    fn key_from(_: &X) {}
}

macro_rules! tuples {
    ($(($($part:ident $item:ident $at:tt),+))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($part: KeyPart),+> KeyPart for ($($part,)+) {
            type Ref<'k> = ($($part::Ref<'k>,)+);

            fn key_ref(&self) -> Self::Ref<'_> {
                ($(self.$at.key_ref(),)+)
            }

            fn write(key: Self::Ref<'_>, out: &mut KeyWriter) {
                $($part::write(key.$at, out);)+
            }
        }

        impl<$($part: OwnKey),+> OwnKey for ($($part,)+) {
            type Owned = ($($part::Owned,)+);

            fn own(key: Self::Ref<'_>) -> Self::Owned {
                ($($part::own(key.$at),)+)
            }

            fn of_owned(owned: &Self::Owned) -> Self::Ref<'_> {
                ($($part::of_owned(&owned.$at),)+)
            }
        }

        #[diagnostic::do_not_recommend]
        impl<$($part: KeyFrom<$item>, $item),+> KeyFrom<($($item,)+)> for ($($part,)+) {
            fn key_from(item: &($($item,)+)) -> Self::Ref<'_> {
                ($($part::key_from(&item.$at),)+)
            }
        }

        #[diagnostic::do_not_recommend]
        impl<$($part: KeyFrom<$item>, $item),+> KeyFrom<&($($item,)+)> for ($($part,)+) {
            fn key_from<'x>(item: &'x &($($item,)+)) -> Self::Ref<'x> {
                ($($part::key_from(&item.$at),)+)
            }
        }
    )*};
}

tuples! {
    (A X 0, B Y 1)
    (A X 0, B Y 1, C Z 2)
    (A X 0, B Y 1, C Z 2, D W 3)
    (A X 0, B Y 1, C Z 2, D W 3, E V 4)
    (A X 0, B Y 1, C Z 2, D W 3, E V 4, F U 5)
}

/// A part that decides the cluster slot, written in braces. `#[cached(key(hash_tag))]` uses it.
#[doc(hidden)]
pub struct HashTag<P>(P);

#[diagnostic::do_not_recommend]
impl<P: KeyPart> KeyPart for HashTag<P> {
    type Ref<'k> = P::Ref<'k>;

    fn key_ref(&self) -> P::Ref<'_> {
        self.0.key_ref()
    }

    fn write(key: P::Ref<'_>, out: &mut KeyWriter) {
        out.begin();
        out.bytes.push(b'{');
        out.separate = false;
        P::write(key, out);
        out.bytes.push(b'}');
        out.separate = true;
    }
}

impl<P: OwnKey> OwnKey for HashTag<P> {
    type Owned = P::Owned;

    fn own(key: P::Ref<'_>) -> P::Owned {
        P::own(key)
    }

    fn of_owned(owned: &P::Owned) -> P::Ref<'_> {
        P::of_owned(owned)
    }
}

#[diagnostic::do_not_recommend]
impl<X, P: KeyFrom<X>> KeyFrom<X> for HashTag<P> {
    fn key_from(item: &X) -> P::Ref<'_> {
        P::key_from(item)
    }
}

/// A newtype, written in a key as its one field. `#[derive(KeyPart)]` implements it.
///
/// Look-ups take it by reference, whatever its field is. So the number of one newtype is not
/// accepted for another.
#[doc(hidden)]
pub trait Newtype: Sized + Sync + 'static {
    type Field: KeyPart;

    fn field(&self) -> &Self::Field;

    fn of_field(field: Self::Field) -> Self;
}

#[diagnostic::do_not_recommend]
impl<N: Newtype> KeyPart for N {
    type Ref<'k> = &'k N;

    fn key_ref(&self) -> &N {
        self
    }

    fn write(key: &N, out: &mut KeyWriter) {
        N::Field::write(key.field().key_ref(), out);
    }
}

#[diagnostic::do_not_recommend]
impl<N: Newtype + Clone + Send> OwnKey for N {
    type Owned = N;

    fn own(key: &N) -> N {
        key.clone()
    }

    fn of_owned(owned: &N) -> &N {
        owned
    }
}

#[diagnostic::do_not_recommend]
impl<N: Newtype, X: Borrow<N>> KeyFrom<X> for N {
    fn key_from(item: &X) -> &N {
        item.borrow()
    }
}

/// A foreign type as part of a key. The cached type `T` has the function that writes it, for the
/// key part with this number. `#[cached(key(with = "…"))]` uses it.
#[doc(hidden)]
pub struct With<F, T, const NUMBER: usize>(F, PhantomData<T>);

/// The function of a `#[cached(key(with = "…"))]`, for the part with this number.
#[doc(hidden)]
pub trait KeyWith<F, const NUMBER: usize>: 'static {
    fn write(foreign: &F, out: &mut KeyWriter);
}

impl<F: Send + Sync + 'static, T: KeyWith<F, NUMBER>, const NUMBER: usize> KeyPart
    for With<F, T, NUMBER>
{
    type Ref<'k> = &'k F;

    fn key_ref(&self) -> &F {
        &self.0
    }

    fn write(key: &F, out: &mut KeyWriter) {
        T::write(key, out);
    }
}

impl<F, T, const NUMBER: usize> OwnKey for With<F, T, NUMBER>
where
    F: Clone + Send + Sync + 'static,
    T: KeyWith<F, NUMBER>,
{
    type Owned = F;

    fn own(key: &F) -> F {
        key.clone()
    }

    fn of_owned(owned: &F) -> &F {
        owned
    }
}

#[diagnostic::do_not_recommend]
impl<F, T, X, const NUMBER: usize> KeyFrom<X> for With<F, T, NUMBER>
where
    F: Send + Sync + 'static,
    T: KeyWith<F, NUMBER>,
    X: Borrow<F>,
{
    fn key_from(item: &X) -> &F {
        item.borrow()
    }
}

/// The result of the function in a `#[cached(key(with = "…"))]` or an `alias(with = "…")`: a key
/// part, or text that it borrows.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a function for `with = …` returns `&str` or a type that can be a key, not `{Self}`",
    label = "returns `{Self}`",
    note = "let it return a `String` or an integer"
)]
pub trait WithResult {
    fn write_to(self, out: &mut KeyWriter);
}

#[diagnostic::do_not_recommend]
impl<P: KeyPart> WithResult for P {
    fn write_to(self, out: &mut KeyWriter) {
        P::write(self.key_ref(), out);
    }
}

#[diagnostic::do_not_recommend]
impl WithResult for &str {
    fn write_to(self, out: &mut KeyWriter) {
        out.part(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key<P: KeyPart>(key: P::Ref<'_>) -> String {
        let mut out = KeyWriter::new("", "t");
        P::write(key, &mut out);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[test]
    fn parts_are_readable() {
        assert_eq!(key::<u64>(42), "t:42");
        assert_eq!(key::<i8>(-1), "t:-1");
        assert_eq!(key::<bool>(true), "t:true");
        assert_eq!(key::<char>('ß'), "t:ß");
        assert_eq!(key::<()>(()), "t:");
        assert_eq!(key::<(u64, String)>((7, "ada")), "t:7:ada");
        assert_eq!(
            key::<(u64, (Arc<str>, bool))>((7, ("ada", false))),
            "t:7:ada:false"
        );
    }

    #[test]
    fn separators_and_braces_within_a_part_are_escaped() {
        assert_eq!(key::<String>("a:b"), "t:a%3Ab");
        assert_eq!(key::<char>(':'), "t:%3A");
        assert_eq!(key::<String>("100%{x}"), "t:100%25%7Bx%7D");
        assert_ne!(
            key::<(String, String)>(("a:b", "c")),
            key::<(String, String)>(("a", "b:c"))
        );
    }

    #[test]
    fn a_hash_tag_is_the_only_thing_in_braces() {
        assert_eq!(key::<(HashTag<u64>, String)>((42, "{x}")), "t:{42}:%7Bx%7D");
        assert_eq!(key::<(String, HashTag<String>)>(("a", "b")), "t:a:{b}");
    }

    proptest! {
        #[test]
        fn keys_of_strings_are_injective(a: (String, String), b: (String, String)) {
            let written = |k: &(String, String)| key::<(String, String)>((&k.0, &k.1));
            prop_assert_eq!(a == b, written(&a) == written(&b));
        }

        /// Few letters, so that near misses (an escape beside its unescaped form) occur.
        #[test]
        fn keys_of_awkward_strings_are_injective(
            a in ("[%:{}3A25]{0,6}", "[%:{}3A25]{0,6}"),
            b in ("[%:{}3A25]{0,6}", "[%:{}3A25]{0,6}"),
        ) {
            let written = |k: &(String, String)| key::<(HashTag<String>, String)>((&k.0, &k.1));
            prop_assert_eq!(a == b, written(&a) == written(&b));
        }

        #[test]
        fn keys_of_numbers_are_injective(a: (i64, u16), b: (i64, u16)) {
            prop_assert_eq!(a == b, key::<(i64, u16)>(a) == key::<(i64, u16)>(b));
        }
    }
}
