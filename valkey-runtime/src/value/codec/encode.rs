//! Encodes a value as MessagePack, byte by byte as rmp-serde does, within bounds.
//!
//! rmp-serde accepts a value that nests too deep or announces a wrong length, so its bytes would
//! have to be checked after they are written. This encoder refuses such a value while it writes.
//!
//! It differs from rmp-serde in one place: a negative 128-bit integer has a byte 0xff before its 16
//! bytes. Otherwise a large `u128` and a negative `i128` would have the same bytes.

use std::fmt::Display;

use serde::Serialize;
use serde::ser;

use crate::protocol::envelope::bounds;
use crate::protocol::envelope::bounds::{DEPTH, OutOfBounds, Walked, is_token};
use crate::value::codec::items;
use crate::value::codec::items::Collection;

/// The name by which rmp-serde's users mark a newtype of `(i8, bytes)` as an extension.
pub(crate) const EXTENSION: &str = "_ExtStruct";

/// The reason why a value is not encoded. It is boxed, so that the result of each item fits into a
/// register.
#[derive(Debug)]
pub(crate) struct Fault(Box<Cause>);

#[derive(Debug)]
pub(crate) enum Cause {
    /// A message of the type's `Serialize`, which may quote the value.
    Message(String),
    TooDeep,
    /// A collection announced another number of items than it has.
    Length,
    /// An extension that is not a pair of an `i8` and bytes.
    Extension,
}

impl Fault {
    pub(crate) fn into_cause(self) -> Cause {
        *self.0
    }
}

impl From<Cause> for Fault {
    #[cold]
    fn from(cause: Cause) -> Self {
        Fault(Box::new(cause))
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &*self.0 {
            Cause::Message(message) => message,
            Cause::TooDeep => OutOfBounds::TooDeep.as_str(),
            Cause::Length => "a collection announces another length than it has",
            Cause::Extension => "an extension is not a pair of an `i8` and bytes",
        })
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Cause::Message(message.to_string()).into()
    }
}

/// Writes one document to the end of a buffer. If `NAMED`, structs are maps, otherwise arrays.
pub(crate) struct Encoder<'b, const NAMED: bool> {
    out: &'b mut Vec<u8>,
    /// The number of levels that may still be opened.
    levels: usize,
    walked: Walked,
}

/// Appends the MessagePack of a value.
pub(crate) fn encode_to<T: Serialize + ?Sized, const NAMED: bool>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<Walked, Fault> {
    let mut encoder = Encoder::<NAMED> {
        out,
        levels: DEPTH,
        walked: Walked {
            items: 1,
            token: false,
        },
    };
    value.serialize(&mut encoder)?;
    Ok(encoder.walked)
}

impl<'b, const NAMED: bool> Encoder<'b, NAMED> {
    #[inline]
    fn str(&mut self, text: &str) -> Result<(), Fault> {
        self.walked.token |= is_token(text.as_bytes());
        items::text(text, self.out).ok_or(Cause::Length)?;
        Ok(())
    }

    /// The beginning of a collection whose length is known. Returns the number of levels that it
    /// takes: an empty one takes none.
    #[inline]
    fn open(&mut self, collection: Collection, length: usize) -> Result<usize, Fault> {
        let length = u32::try_from(length).map_err(|_| Cause::Length)?;
        collection.open(length, self.out);
        self.walked.items += collection.items(length);
        match length {
            0 => Ok(0),
            _ => self.descend(),
        }
    }

    #[inline]
    fn descend(&mut self) -> Result<usize, Fault> {
        self.levels = self.levels.checked_sub(1).ok_or(Cause::TooDeep)?;
        Ok(1)
    }

    #[inline]
    fn items(
        &mut self,
        collection: Collection,
        length: usize,
    ) -> Result<Items<'_, 'b, NAMED>, Fault> {
        let levels = self.open(collection, length)?;
        Ok(Items {
            encoder: self,
            left: length,
            levels,
        })
    }

    /// The beginning of a map from the name of a variant to its content.
    #[inline]
    fn variant(&mut self, name: &str) -> Result<(), Fault> {
        self.open(Collection::Map, 1)?;
        self.str(name)
    }

    /// The content of a variant.
    #[inline]
    fn content(
        &mut self,
        name: &str,
        collection: Collection,
        length: usize,
    ) -> Result<Items<'_, 'b, NAMED>, Fault> {
        self.variant(name)?;
        let mut items = self.items(collection, length)?;
        items.levels += 1;
        Ok(items)
    }

    const STRUCT: Collection = match NAMED {
        true => Collection::Map,
        false => Collection::Array,
    };

    fn counted(
        &mut self,
        collection: Collection,
        length: Option<usize>,
    ) -> Result<Counted<'_, 'b, NAMED>, Fault> {
        let at = self.out.len();
        let levels = match length {
            Some(length) => self.open(collection, length)?,
            None => {
                self.out.push(0);
                self.descend()?
            }
        };
        Ok(Counted {
            encoder: self,
            collection,
            announced: length,
            at,
            items: 0,
            levels,
        })
    }

    /// Turns the pair of an `i8` and bytes at `at` into an extension.
    fn extension(&mut self, at: usize) -> Result<(), Fault> {
        let [0x92, pair @ ..] = &self.out[at..] else {
            return Err(Cause::Extension.into());
        };
        let (kind, mut rest) = match pair {
            [kind @ (0x00..=0x7f | 0xe0..=0xff), rest @ ..] | [0xd0, kind, rest @ ..] => {
                (*kind, rest)
            }
            _ => return Err(Cause::Extension.into()),
        };
        if !matches!(rest.first(), Some(0xc4..=0xc6)) {
            return Err(Cause::Extension.into());
        }
        let item = bounds::item(&mut rest).map_err(|_| Cause::Extension)?;
        let bytes = item.text.to_vec();
        self.out.truncate(at);
        self.walked.items -= 2;
        items::extension(kind, &bytes, self.out).ok_or(Cause::Length)?;
        Ok(())
    }
}

/// A struct, a tuple or the content of a variant, whose length is known.
pub(crate) struct Items<'e, 'b, const NAMED: bool> {
    encoder: &'e mut Encoder<'b, NAMED>,
    /// The number of items that were announced and not written.
    left: usize,
    /// The number of levels that end with it.
    levels: usize,
}

impl<const NAMED: bool> Items<'_, '_, NAMED> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.left = self.left.wrapping_sub(1);
        value.serialize(&mut *self.encoder)
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Fault> {
        if NAMED {
            self.encoder.str(name)?;
        }
        self.item(value)
    }

    #[inline]
    fn close(self) -> Result<(), Fault> {
        self.encoder.levels += self.levels;
        match self.left {
            0 => Ok(()),
            _ => Err(Cause::Length.into()),
        }
    }
}

/// A sequence or a map, whose length may be unknown until its end.
pub(crate) struct Counted<'e, 'b, const NAMED: bool> {
    encoder: &'e mut Encoder<'b, NAMED>,
    collection: Collection,
    announced: Option<usize>,
    /// The offset of its marker.
    at: usize,
    /// The number of elements or entries that were written.
    items: usize,
    /// The number of levels that end with it.
    levels: usize,
}

impl<const NAMED: bool> Counted<'_, '_, NAMED> {
    #[inline]
    fn close(self) -> Result<(), Fault> {
        self.encoder.levels += self.levels;
        match self.announced {
            Some(announced) if announced == self.items => Ok(()),
            Some(_) => Err(Cause::Length.into()),
            None => self.count(),
        }
    }

    /// Writes the marker over the byte that was reserved for it.
    fn count(self) -> Result<(), Fault> {
        let length = u32::try_from(self.items).map_err(|_| Cause::Length)?;
        let (marker, bytes) = self.collection.marker(length);
        let marker = marker.into_iter().take(bytes);
        self.encoder.out.splice(self.at..=self.at, marker);
        self.encoder.walked.items += self.collection.items(length);
        Ok(())
    }
}

/// Integers that are written as wider ones.
macro_rules! as_wider {
    ($wide:ident: $($name:ident $number:ty),*) => { $(
        #[inline]
        fn $name(self, number: $number) -> Result<(), Fault> {
            self.$wide(number.into())
        }
    )* }
}

impl<'e, 'b, const NAMED: bool> ser::Serializer for &'e mut Encoder<'b, NAMED> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Counted<'e, 'b, NAMED>;
    type SerializeMap = Counted<'e, 'b, NAMED>;
    type SerializeTuple = Items<'e, 'b, NAMED>;
    type SerializeTupleStruct = Items<'e, 'b, NAMED>;
    type SerializeTupleVariant = Items<'e, 'b, NAMED>;
    type SerializeStruct = Items<'e, 'b, NAMED>;
    type SerializeStructVariant = Items<'e, 'b, NAMED>;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Fault> {
        self.out.push(0xc2 | u8::from(value));
        Ok(())
    }

    as_wider!(serialize_i64: serialize_i8 i8, serialize_i16 i16, serialize_i32 i32);

    #[inline]
    fn serialize_i64(self, number: i64) -> Result<(), Fault> {
        items::signed(number, self.out);
        Ok(())
    }

    fn serialize_i128(self, number: i128) -> Result<(), Fault> {
        match number {
            0.. => self.serialize_u128(number.cast_unsigned()),
            _ => {
                self.out.extend_from_slice(&[0xc4, 17, 0xff]);
                self.out.extend_from_slice(&number.to_be_bytes());
                Ok(())
            }
        }
    }

    as_wider!(serialize_u64: serialize_u8 u8, serialize_u16 u16, serialize_u32 u32);

    #[inline]
    fn serialize_u64(self, number: u64) -> Result<(), Fault> {
        items::unsigned(number, self.out);
        Ok(())
    }

    fn serialize_u128(self, number: u128) -> Result<(), Fault> {
        self.serialize_bytes(&number.to_be_bytes())
    }

    #[inline]
    fn serialize_f32(self, number: f32) -> Result<(), Fault> {
        items::marked(0xca, number.to_be_bytes(), self.out);
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, number: f64) -> Result<(), Fault> {
        items::marked(0xcb, number.to_be_bytes(), self.out);
        Ok(())
    }

    fn serialize_char(self, char: char) -> Result<(), Fault> {
        self.str(char.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Fault> {
        self.str(text)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Fault> {
        self.walked.token |= is_token(bytes);
        items::bytes(bytes, self.out).ok_or(Cause::Length)?;
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Fault> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Fault> {
        self.out.push(0xc0);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        self.out.push(0x90);
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Fault> {
        self.str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        let at = self.out.len();
        value.serialize(&mut *self)?;
        match name {
            EXTENSION => self.extension(at),
            _ => Ok(()),
        }
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.levels += 1;
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, Fault> {
        self.counted(Collection::Array, length)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, Fault> {
        self.counted(Collection::Map, length)
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, Fault> {
        self.items(Collection::Array, length)
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, Fault> {
        self.items(Collection::Array, length)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, Fault> {
        self.content(variant, Collection::Array, length)
    }

    #[inline]
    fn serialize_struct(
        self,
        _: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, Fault> {
        self.items(Encoder::<NAMED>::STRUCT, length)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, Fault> {
        self.content(variant, Encoder::<NAMED>::STRUCT, length)
    }
}

impl<const NAMED: bool> ser::SerializeSeq for Counted<'_, '_, NAMED> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.items += 1;
        value.serialize(&mut *self.encoder)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}

impl<const NAMED: bool> ser::SerializeMap for Counted<'_, '_, NAMED> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        key.serialize(&mut *self.encoder)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.items += 1;
        value.serialize(&mut *self.encoder)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}

/// The traits of what has a known length: values in their order, or fields with their names.
macro_rules! of_known_length {
    ($($of:ident: $serialize:ident ($($name:ident)?) => $write:ident;)*) => { $(
        impl<const NAMED: bool> ser::$of for Items<'_, '_, NAMED> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn $serialize<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), Fault> {
                self.$write($($name,)? value)
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )* }
}

of_known_length! {
    SerializeTuple: serialize_element () => item;
    SerializeTupleStruct: serialize_field () => item;
    SerializeTupleVariant: serialize_field () => item;
    SerializeStruct: serialize_field (name) => field;
    SerializeStructVariant: serialize_field (name) => field;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::value::codec::decode;
    use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple};

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        let walked = encode_to::<_, true>(value, &mut out).unwrap();
        assert_eq!(bounds::check(&out), Ok(walked));
        out
    }

    fn refused<T: Serialize>(value: &T) -> Cause {
        let refused = encode_to::<_, true>(value, &mut Vec::new());
        refused.unwrap_err().into_cause()
    }

    /// Its `Serialize`, by a function.
    struct By<F>(F);

    impl<F: Fn(&mut Encoder<'_, true>) -> Result<(), Fault>> By<F> {
        fn encoded(self) -> Result<Vec<u8>, Cause> {
            let mut out = Vec::new();
            let mut encoder = Encoder {
                out: &mut out,
                levels: DEPTH,
                walked: Walked {
                    items: 1,
                    token: false,
                },
            };
            (self.0)(&mut encoder).map_err(Fault::into_cause)?;
            assert_eq!(encoder.levels, DEPTH, "each level is given back");
            let walked = encoder.walked;
            assert_eq!(bounds::check(&out), Ok(walked));
            Ok(out)
        }
    }

    #[test]
    fn numbers_at_the_ends_of_each_width_are_written_as_by_rmp_serde() {
        for power in 0..64u32 {
            for number in [1u64 << power, (1 << power) - 1, (1 << power) + 1] {
                let expected = rmp_serde::to_vec(&number).unwrap();
                assert_eq!(encoded(&number), expected, "{number}");
                let number = number.cast_signed().wrapping_neg();
                let expected = rmp_serde::to_vec(&number).unwrap();
                assert_eq!(encoded(&number), expected, "{number}");
            }
        }
        assert_eq!(encoded(&i64::MIN), rmp_serde::to_vec(&i64::MIN).unwrap());
        assert_eq!(encoded(&u64::MAX), rmp_serde::to_vec(&u64::MAX).unwrap());
    }

    #[test]
    fn lengths_at_the_ends_of_each_width_are_written_as_by_rmp_serde() {
        for length in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let text = "x".repeat(length);
            assert_eq!(encoded(&text), rmp_serde::to_vec(&text).unwrap());
            let list = vec![7u8; length];
            assert_eq!(encoded(&list), rmp_serde::to_vec(&list).unwrap());
            let map: BTreeMap<u32, ()> = (0..).map(|key| (key, ())).take(length).collect();
            assert_eq!(encoded(&map), rmp_serde::to_vec(&map).unwrap());

            // The same without a length.
            let counted = By(|encoder: &mut Encoder<'_, true>| {
                let mut seq = ser::Serializer::serialize_seq(encoder, None)?;
                list.iter()
                    .try_for_each(|item| seq.serialize_element(item))?;
                SerializeSeq::end(seq)
            });
            assert_eq!(counted.encoded().unwrap(), encoded(&list));
            let counted = By(|encoder: &mut Encoder<'_, true>| {
                let mut entries = ser::Serializer::serialize_map(encoder, None)?;
                map.iter()
                    .try_for_each(|(key, value)| entries.serialize_entry(key, value))?;
                SerializeMap::end(entries)
            });
            assert_eq!(counted.encoded().unwrap(), encoded(&map));
        }
    }

    #[test]
    fn a_wrong_length_is_refused() {
        for announced in [0, 1, 3] {
            let seq = By(|encoder: &mut Encoder<'_, true>| {
                let mut seq = ser::Serializer::serialize_seq(encoder, Some(announced))?;
                seq.serialize_element(&1)?;
                seq.serialize_element(&2)?;
                SerializeSeq::end(seq)
            });
            assert!(matches!(seq.encoded(), Err(Cause::Length)), "{announced}");
            let tuple = By(|encoder: &mut Encoder<'_, true>| {
                let mut tuple = ser::Serializer::serialize_tuple(encoder, announced)?;
                tuple.serialize_element(&1)?;
                tuple.serialize_element(&2)?;
                SerializeTuple::end(tuple)
            });
            assert!(matches!(tuple.encoded(), Err(Cause::Length)), "{announced}");
            let fields = By(|encoder: &mut Encoder<'_, true>| {
                let mut fields = ser::Serializer::serialize_struct(encoder, "S", announced)?;
                fields.serialize_field("a", &1)?;
                fields.serialize_field("b", &2)?;
                SerializeStruct::end(fields)
            });
            assert!(
                matches!(fields.encoded(), Err(Cause::Length)),
                "{announced}"
            );
            let map = By(|encoder: &mut Encoder<'_, true>| {
                let mut map = ser::Serializer::serialize_map(encoder, Some(announced))?;
                map.serialize_entry(&1, &2)?;
                map.serialize_entry(&2, &3)?;
                SerializeMap::end(map)
            });
            assert!(matches!(map.encoded(), Err(Cause::Length)), "{announced}");
        }
    }

    #[test]
    fn levels_are_given_back_and_bounded() {
        #[derive(Serialize)]
        enum Nested {
            End,
            Newtype(Box<Nested>),
            Tuple(Box<Nested>, ()),
            Fields { inner: Option<Box<Nested>> },
        }
        let nested = |levels: usize, outer: fn(Box<Nested>) -> Nested| {
            (0..levels).fold(Nested::End, |inner, _| outer(Box::new(inner)))
        };
        let fields = |inner| Nested::Fields { inner: Some(inner) };
        let tuple = |inner| Nested::Tuple(inner, ());
        // A variant with several fields is two levels.
        for (one, levels) in [
            (Nested::Newtype as fn(_) -> _, DEPTH),
            (tuple, DEPTH / 2),
            (fields, DEPTH / 2),
        ] {
            let pair = vec![nested(levels - 1, one), nested(levels - 1, one)];
            let bytes = encoded(&pair);
            assert_eq!(bytes, rmp_serde::to_vec_named(&pair).unwrap());
            assert!(matches!(refused(&nested(levels + 1, one)), Cause::TooDeep));
        }
    }

    #[test]
    fn a_negative_wide_number_is_no_other_number() {
        for number in [-1, i128::MIN, i64::MIN.into()] {
            let bytes = encoded(&number);
            assert_eq!(bytes[..3], [0xc4, 17, 0xff]);
            assert_eq!(decode::<i128>(&bytes[..]), Ok(number));
            assert!(decode::<u128>(&bytes[..]).is_err());
        }
        for number in [0, 1, u128::MAX >> 1] {
            assert_eq!(encoded(&number), rmp_serde::to_vec(&number).unwrap());
            assert_eq!(decode::<u128>(&encoded(&number)[..]), Ok(number));
            assert_eq!(
                decode::<i128>(&encoded(&number)[..]),
                Ok(number.cast_signed())
            );
        }
        let positive = [&[0xc4, 17, 0xff][..], &1u128.to_be_bytes()].concat();
        assert!(decode::<i128>(&positive[..]).is_err(), "with a sign");
        assert_eq!(decode::<u128>(&encoded(&u128::MAX)[..]), Ok(u128::MAX));
        assert!(decode::<i128>(&encoded(&u128::MAX)[..]).is_err());
    }

    #[test]
    fn an_extension_is_written_as_by_rmp_serde() {
        #[derive(Serialize)]
        #[serde(rename = "_ExtStruct")]
        struct Extension<T>(T);
        struct Bytes(Vec<u8>);
        impl Serialize for Bytes {
            fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        for length in [0, 1, 2, 3, 4, 5, 8, 16, 17, 255, 256, 65_536] {
            for kind in [0, 1, -1, 127, -128i8] {
                let value = (Extension((kind, Bytes(vec![7; length]))), 1);
                assert_eq!(encoded(&value), rmp_serde::to_vec(&value).unwrap());
            }
        }
        assert!(matches!(refused(&Extension((1i8, 2))), Cause::Extension));
        assert!(matches!(
            refused(&Extension((300, Bytes(Vec::new())))),
            Cause::Extension
        ));
        assert!(matches!(refused(&Extension(1)), Cause::Extension));
    }
}
