//! Reading keys back: a scan finds bytes, and returns the key from which they were written.
//!
//! Only text that the type itself would write is a key of it. `007` is no key of a type with a
//! number as its key, because no look-up ever requests it. So each part is written again and
//! compared.

use std::borrow::Cow;
use std::sync::Arc;

use crate::key::part::{HashTag, KeyPart, KeyWith, Newtype, With};
use crate::key::writer::KeyWriter;

/// A key that can be read back from its bytes, as a [scan](crate::Handle::scan) does.
///
/// Implemented for all keys that this library knows, and for newtypes of these that derive
/// `KeyPart`. A part that a function writes, `#[cached(key(with = "…"))]`, is read as its text: a
/// `String`. A type with its own implementation of [`KeyPart`] needs one of this trait too, if it
/// is to be scanned:
///
/// ```
/// use valkey_runtime::{KeyPart, KeyReader, KeyWriter, ReadKey};
///
/// #[derive(Clone, Copy)]
/// enum Side { Left, Right }
///
/// impl KeyPart for Side {
///     type Ref<'k> = Side;
///
///     fn key_ref(&self) -> Side {
///         *self
///     }
///
///     fn write(side: Side, out: &mut KeyWriter) {
///         out.part(match side {
///             Side::Left => "left",
///             Side::Right => "right",
///         });
///     }
/// }
///
/// impl ReadKey for Side {
///     type Read = Side;
///
///     fn read(parts: &mut KeyReader<'_>) -> Option<Side> {
///         match &*parts.part()? {
///             "left" => Some(Side::Left),
///             "right" => Some(Side::Right),
///             _ => None,
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "keys of type `{Self}` can't be read back, which a scan needs",
    label = "not a `ReadKey`",
    note = "implement `ReadKey` for it, beside `KeyPart`; `count` and `purge` need none of that"
)]
pub trait ReadKey: KeyPart {
    /// The key as a scan returns it: `u64`, `String`, `(u64, String)`.
    type Read: Send + 'static;

    /// Takes the parts that [`KeyPart::write`] writes. `None` if no key is written like this.
    fn read(parts: &mut KeyReader<'_>) -> Option<Self::Read>;
}

/// The parts of a found key, one after the other.
///
/// Only implementations of [`ReadKey`] need it.
#[derive(Debug)]
pub struct KeyReader<'k> {
    /// `None` once everything is taken.
    rest: Option<&'k [u8]>,
    begun: bool,
}

impl<'k> KeyReader<'k> {
    /// Starts after the prefix and its colon.
    fn new(parts: &'k [u8]) -> Self {
        Self {
            rest: Some(parts),
            begun: false,
        }
    }

    /// The next part, unescaped. `None` if there is none, or none that could have been written.
    pub fn part(&mut self) -> Option<String> {
        unescaped(self.raw()?)
    }

    /// The next part, if `P` writes the value read from its text in the same way.
    pub(crate) fn value<P>(&mut self, read: impl FnOnce(&str) -> Option<P>) -> Option<P>
    where
        P: for<'p> KeyPart<Ref<'p> = P> + Copy,
    {
        let raw = self.raw()?;
        let value = read(&unescaped(raw)?)?;
        let mut again = KeyWriter::new("", "");
        P::write(value, &mut again);
        (&again.into_bytes()[1..] == raw).then_some(value)
    }

    fn raw(&mut self) -> Option<&'k [u8]> {
        let rest = self.rest.take()?;
        self.begun = true;
        match rest.iter().position(|byte| *byte == b':') {
            None => Some(rest),
            Some(colon) => {
                self.rest = Some(&rest[colon + 1..]);
                Some(&rest[..colon])
            }
        }
    }

    /// The parts within the next pair of braces.
    fn braces(&mut self) -> Option<KeyReader<'k>> {
        let inner = self.rest.take()?.strip_prefix(b"{")?;
        let end = inner.iter().position(|byte| *byte == b'}')?;
        self.begun = true;
        self.rest = match &inner[end + 1..] {
            [] => None,
            [b':', rest @ ..] => Some(rest),
            _ => return None,
        };
        Some(KeyReader::new(&inner[..end]))
    }

    fn is_done(&self) -> bool {
        self.rest.is_none_or(|rest| rest.is_empty() && !self.begun)
    }
}

/// The key with these parts, which follow the prefix and its colon.
pub(crate) fn read<P: ReadKey>(parts: &[u8]) -> Option<P::Read> {
    whole::<P>(KeyReader::new(parts))
}

fn whole<P: ReadKey>(mut parts: KeyReader<'_>) -> Option<P::Read> {
    let key = P::read(&mut parts)?;
    parts.is_done().then_some(key)
}

fn unescaped(raw: &[u8]) -> Option<String> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        text.push(match byte {
            b'{' | b'}' => return None,
            b'%' => {
                let (code, after) = rest.split_at_checked(2)?;
                rest = after;
                match code {
                    b"25" => b'%',
                    b"3A" => b':',
                    b"7B" => b'{',
                    b"7D" => b'}',
                    _ => return None,
                }
            }
            byte => *byte,
        });
    }
    String::from_utf8(text).ok()
}

macro_rules! readable {
    ($($ty:ty => |$text:ident| $read:expr;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl ReadKey for $ty {
            type Read = $ty;

            fn read(parts: &mut KeyReader<'_>) -> Option<$ty> {
                parts.value(|$text| $read)
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
pub(crate) use readable;

macro_rules! by_from_str {
    ($($ty:ty)*) => { readable! { $($ty => |text| text.parse().ok();)* } };
}

macro_rules! nonzero {
    ($($ty:ident)*) => { by_from_str! { $(std::num::$ty)* } };
}

by_from_str! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char }
nonzero! { NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 }

macro_rules! strings {
    ($($ty:ty)*) => {$(
        #[diagnostic::do_not_recommend]
        impl ReadKey for $ty {
            type Read = $ty;

            fn read(parts: &mut KeyReader<'_>) -> Option<$ty> {
                parts.part().map(<$ty>::from)
            }
        }
    )*};
}

strings! { String Box<str> Arc<str> Cow<'static, str> }

#[diagnostic::do_not_recommend]
impl ReadKey for () {
    type Read = ();

    fn read(_: &mut KeyReader<'_>) -> Option<()> {
        Some(())
    }
}

macro_rules! tuples {
    ($(($($part:ident),+))*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($part: ReadKey),+> ReadKey for ($($part,)+) {
            type Read = ($($part::Read,)+);

            fn read(parts: &mut KeyReader<'_>) -> Option<Self::Read> {
                Some(($($part::read(parts)?,)+))
            }
        }
    )*};
}

tuples! { (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }

#[diagnostic::do_not_recommend]
impl<P: ReadKey> ReadKey for HashTag<P> {
    type Read = P::Read;

    fn read(parts: &mut KeyReader<'_>) -> Option<P::Read> {
        whole::<P>(parts.braces()?)
    }
}

#[diagnostic::do_not_recommend]
impl<N: Newtype + Send> ReadKey for N
where
    N::Field: ReadKey<Read = N::Field>,
{
    type Read = N;

    fn read(parts: &mut KeyReader<'_>) -> Option<N> {
        N::Field::read(parts).map(N::of_field)
    }
}

/// Reads the text of the part: the conversion by the function can't be undone.
#[diagnostic::do_not_recommend]
impl<F, T, const NUMBER: usize> ReadKey for With<F, T, NUMBER>
where
    F: Send + Sync + 'static,
    T: KeyWith<F, NUMBER>,
{
    type Read = String;

    fn read(parts: &mut KeyReader<'_>) -> Option<String> {
        parts.part()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written<P: KeyPart>(key: P::Ref<'_>) -> Vec<u8> {
        let mut out = KeyWriter::new("", "");
        P::write(key, &mut out);
        out.into_bytes().split_off(1)
    }

    #[test]
    fn a_written_key_is_read_back() {
        fn back<P: ReadKey<Read = P> + PartialEq>(key: P) -> bool {
            read::<P>(&written::<P>(key.key_ref())) == Some(key)
        }
        assert!(back(42u64) && back(-1i8) && back(u128::MAX) && back(true) && back(':'));
        assert!(back(std::num::NonZeroU16::MIN));
        assert!(back(()) && back(String::new()) && back(("".to_owned(), "".to_owned())));
        assert!(back((7u64, (Arc::<str>::from("a:{b}%"), false))));
        assert!(back(((), 7u64)));
        let tagged = |parts: &[u8]| read::<(HashTag<(u64, String)>, String)>(parts);
        let key = ((42, "x:{y}".to_owned()), "a".to_owned());
        let bytes = written::<(HashTag<(u64, String)>, String)>(((42, "x:{y}"), "a"));
        assert_eq!(tagged(&bytes), Some(key));
    }

    #[test]
    fn bytes_that_a_type_never_writes_are_not_read_as_its_key() {
        for parts in [
            "", "007", "+7", " 7", "-7", "7:", "7:8", "{7}", "%37", "7%3A", "x",
        ] {
            assert_eq!(read::<u64>(parts.as_bytes()), None, "{parts}");
        }
        for parts in ["a:b", "{a}", "a}", "%", "%2", "%3a", "%41", "a%zz"] {
            assert_eq!(read::<String>(parts.as_bytes()), None, "{parts}");
        }
        assert_eq!(read::<String>(b"\xff"), None);
        for parts in [
            "7", "7:", "{7}", "{7}a", "7:a", "{7}:a:b", "{7:8}:a", "{}:a",
        ] {
            let key = read::<(HashTag<u64>, char)>(parts.as_bytes());
            assert_eq!(key, None, "{parts}");
        }
        assert_eq!(read::<(HashTag<u64>, char)>(b"{7}:a"), Some((7, 'a')));
        assert_eq!(read::<()>(b"x"), None);
    }

    proptest! {
        #[test]
        fn awkward_strings_come_back(a in "[%:{}3A25]{0,6}", b in "\\PC{0,4}") {
            let bytes = written::<(HashTag<String>, String)>((&a, &b));
            prop_assert_eq!(read::<(HashTag<String>, String)>(&bytes), Some((a, b)));
        }

        #[test]
        fn whatever_is_read_is_written_the_same(parts in "[%:{}3A70-]{0,8}") {
            if let Some(key) = read::<(HashTag<String>, i64)>(parts.as_bytes()) {
                prop_assert_eq!(written::<(HashTag<String>, i64)>((&key.0, key.1)), parts.as_bytes());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(parts: Vec<u8>) {
            read::<(HashTag<String>, i64)>(&parts);
            read::<(u8, String)>(&parts);
        }
    }
}
