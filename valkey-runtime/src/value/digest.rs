//! A fingerprint of what a value's `Serialize` says, by which a value that was read back is
//! compared with the value that was written.
//!
//! It needs neither `PartialEq` nor `Debug`, and allocates nothing. It is finer than the stored
//! bytes: `Some(None)` and `None` are one byte, and differ here. The elements of sequences and maps
//! may come in any order, because each hash table has an order of its own. The width of an integer
//! does not count, because MessagePack has the shortest. It can't see what `Serialize` leaves out.
//!
//! Long because it is one implementation of one serde trait.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::ser::{self, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::value::codec::private;

/// The difference between a value and what was read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The field, such as `from.ip`; empty if no field is known.
    pub(crate) at: String,
}

/// Whether `read` says the same as `written`.
///
/// # Errors
/// With the innermost field that differs.
pub(crate) fn compare<T: Serialize>(written: &T, read: &T) -> Result<(), Difference> {
    if of(written) == of(read) {
        return Ok(());
    }
    Err(difference(&fields(written), &fields(read)))
}

/// `None` if `Serialize` refuses.
fn of<T: Serialize>(value: &T) -> Option<u64> {
    value.serialize(&mut Digest::default()).ok()
}

/// The fingerprints of the fields outside of sequences and maps.
fn fields<T: Serialize>(value: &T) -> Fields {
    let mut digest = Digest {
        fields: Some(Fields::new()),
        ..Digest::default()
    };
    let _ = value.serialize(&mut digest);
    digest.fields.unwrap_or_default()
}

/// By the path of names. A path has one fingerprint, because sequences and maps are left out.
type Fields = BTreeMap<Vec<&'static str>, u64>;

#[cold]
fn difference(written: &Fields, read: &Fields) -> Difference {
    let differing = written
        .iter()
        .filter(|(path, hash)| read.get(*path) != Some(*hash))
        .map(|(path, _)| path);
    let innermost = differing.max_by_key(|path| path.len());
    let at = innermost.map(|path| path.join(".")).unwrap_or_default();
    Difference { at }
}

/// What a hash stands for, so that different kinds have different hashes.
#[derive(Clone, Copy)]
enum Is {
    Unit = 1,
    None,
    Some,
    False,
    True,
    Integer,
    Negative,
    F32,
    F64,
    Text,
    Bytes,
    Newtype,
    Variant,
    Seq,
    Tuple,
    Map,
    Entry,
    Struct,
    Field,
    Number,
}

/// Folded multiplication: both halves of the product count.
fn mix(a: u64, b: u64) -> u64 {
    let wide = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    (wide as u64) ^ (wide >> 64) as u64
}

fn hash(is: Is, content: u64) -> u64 {
    mix(mix(is as u64, 0), content)
}

fn named(is: Is, name: &str, content: u64) -> u64 {
    mix(hash(is, xxh3_64(name.as_bytes())), content)
}

#[derive(Default)]
struct Digest {
    /// Filled only to find the difference.
    fields: Option<Fields>,
    path: Vec<&'static str>,
    /// The number of sequences and maps around.
    collections: usize,
}

impl Digest {
    fn field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<u64, Refused> {
        if self.fields.is_none() {
            return value.serialize(self);
        }
        self.path.push(name);
        let hash = value.serialize(&mut *self);
        if let (Some(fields), Ok(hash), 0) = (&mut self.fields, &hash, self.collections) {
            fields.insert(self.path.clone(), *hash);
        }
        self.path.pop();
        hash
    }
}

/// `Serialize` refuses. Its message may quote the value.
#[derive(Debug)]
struct Refused;

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: Display>(_: T) -> Self {
        Refused
    }
}

macro_rules! integers {
    ($($name:ident: $ty:ty),*) => { $(
        fn $name(self, value: $ty) -> Result<u64, Refused> {
            self.serialize_i128(value.into())
        }
    )* };
}

impl<'d> ser::Serializer for &'d mut Digest {
    type Ok = u64;
    type Error = Refused;
    type SerializeSeq = Parts<'d>;
    type SerializeTuple = Parts<'d>;
    type SerializeTupleStruct = Parts<'d>;
    type SerializeTupleVariant = Parts<'d>;
    type SerializeMap = Parts<'d>;
    type SerializeStruct = Parts<'d>;
    type SerializeStructVariant = Parts<'d>;

    fn is_human_readable(&self) -> bool {
        false
    }

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    }

    fn serialize_i128(self, value: i128) -> Result<u64, Refused> {
        let hash = match u128::try_from(value) {
            Ok(value) => return self.serialize_u128(value),
            Err(_) => mix(hash(Is::Negative, (value >> 64) as u64), value as u64),
        };
        Ok(hash)
    }

    fn serialize_u128(self, value: u128) -> Result<u64, Refused> {
        let upper = hash(Is::Integer, (value >> 64) as u64);
        Ok(mix(upper, value as u64))
    }

    fn serialize_bool(self, value: bool) -> Result<u64, Refused> {
        Ok(hash(if value { Is::True } else { Is::False }, 0))
    }

    fn serialize_f32(self, value: f32) -> Result<u64, Refused> {
        Ok(hash(Is::F32, value.to_bits().into()))
    }

    fn serialize_f64(self, value: f64) -> Result<u64, Refused> {
        Ok(hash(Is::F64, value.to_bits()))
    }

    fn serialize_char(self, value: char) -> Result<u64, Refused> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<u64, Refused> {
        Ok(hash(Is::Text, xxh3_64(value.as_bytes())))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<u64, Refused> {
        Ok(hash(Is::Bytes, xxh3_64(value)))
    }

    fn serialize_none(self) -> Result<u64, Refused> {
        Ok(hash(Is::None, 0))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, Refused> {
        Ok(hash(Is::Some, value.serialize(self)?))
    }

    fn serialize_unit(self) -> Result<u64, Refused> {
        Ok(hash(Is::Unit, 0))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<u64, Refused> {
        Ok(named(Is::Unit, name, 0))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<u64, Refused> {
        Ok(named(Is::Variant, variant, 0))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<u64, Refused> {
        Ok(named(Is::Newtype, name, value.serialize(self)?))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<u64, Refused> {
        Ok(named(Is::Variant, variant, self.field(variant, value)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'d>, Refused> {
        Ok(Parts::collection(self, Is::Seq))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'d>, Refused> {
        Ok(Parts::new(self, Is::Tuple, ""))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Parts<'d>, Refused> {
        Ok(Parts::new(self, Is::Tuple, name))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'d>, Refused> {
        Ok(Parts::new(self, Is::Tuple, variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'d>, Refused> {
        Ok(Parts::collection(self, Is::Map))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'d>, Refused> {
        Ok(Parts::new(self, Is::Struct, name))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'d>, Refused> {
        Ok(Parts::new(self, Is::Struct, variant))
    }
}

/// The parts of a sequence, a tuple, a map or a struct.
struct Parts<'d> {
    digest: &'d mut Digest,
    is: Is,
    name: &'static str,
    number: u64,
    /// A sum where the order does not count.
    hash: u64,
    key: u64,
}

impl<'d> Parts<'d> {
    fn new(digest: &'d mut Digest, is: Is, name: &'static str) -> Self {
        Self {
            digest,
            is,
            name,
            number: 0,
            hash: 0,
            key: 0,
        }
    }

    fn collection(digest: &'d mut Digest, is: Is) -> Self {
        digest.collections += 1;
        Self::new(digest, is, "")
    }

    fn in_order<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.hash = mix(self.hash, value.serialize(&mut *self.digest)?);
        self.number += 1;
        Ok(())
    }

    fn in_any_order(&mut self, part: u64) {
        // Mixed again, so that a sum of parts is not a sum of their contents.
        self.hash = self.hash.wrapping_add(mix(part, self.is as u64));
        self.number += 1;
    }

    fn ended(self) -> Result<u64, Refused> {
        Ok(mix(named(self.is, self.name, self.hash), self.number))
    }
}

impl ser::SerializeSeq for Parts<'_> {
    type Ok = u64;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let part = value.serialize(&mut *self.digest)?;
        self.in_any_order(part);
        Ok(())
    }

    fn end(self) -> Result<u64, Refused> {
        self.digest.collections -= 1;
        self.ended()
    }
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = u64;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.key = key.serialize(&mut *self.digest)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let value = value.serialize(&mut *self.digest)?;
        self.in_any_order(mix(hash(Is::Entry, self.key), value));
        Ok(())
    }

    fn end(self) -> Result<u64, Refused> {
        self.digest.collections -= 1;
        self.ended()
    }
}

impl ser::SerializeTuple for Parts<'_> {
    type Ok = u64;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.in_order(value)
    }

    fn end(self) -> Result<u64, Refused> {
        self.ended()
    }
}

impl ser::SerializeTupleStruct for Parts<'_> {
    type Ok = u64;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.in_order(value)
    }

    fn end(self) -> Result<u64, Refused> {
        self.ended()
    }
}

impl ser::SerializeTupleVariant for Parts<'_> {
    type Ok = u64;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.in_order(value)
    }

    fn end(self) -> Result<u64, Refused> {
        self.ended()
    }
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = u64;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        let part = match self.name.as_bytes() == private::NUMBER {
            // Its spelling may change: `1e2` is stored as 100.0.
            true => number(value)?,
            false => self.digest.field(name, value)?,
        };
        self.in_any_order(named(Is::Field, name, part));
        Ok(())
    }

    fn end(self) -> Result<u64, Refused> {
        self.ended()
    }
}

impl ser::SerializeStructVariant for Parts<'_> {
    type Ok = u64;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        let part = self.digest.field(name, value)?;
        self.in_any_order(named(Is::Field, name, part));
        Ok(())
    }

    fn end(self) -> Result<u64, Refused> {
        self.ended()
    }
}

/// The fingerprint of a number of serde_json's `arbitrary_precision`, which is a text.
fn number<T: Serialize + ?Sized>(text: &T) -> Result<u64, Refused> {
    let text = text.serialize(Text)?;
    let (negative, digits, power) = private::decimal(&text).ok_or(Refused)?;
    let sign = hash(Is::Number, negative.into());
    Ok(mix(mix(sign, power as u64), xxh3_64(digits.as_bytes())))
}

/// Accepts a text and nothing else.
struct Text;

macro_rules! only_text {
    ($($name:ident($($ty:ty),*) -> $ok:ty;)*) => { $(
        fn $name(self, $(_: $ty),*) -> Result<$ok, Refused> {
            Err(Refused)
        }
    )* };
}

impl ser::Serializer for Text {
    type Ok = String;
    type Error = Refused;
    type SerializeSeq = ser::Impossible<String, Refused>;
    type SerializeTuple = ser::Impossible<String, Refused>;
    type SerializeTupleStruct = ser::Impossible<String, Refused>;
    type SerializeTupleVariant = ser::Impossible<String, Refused>;
    type SerializeMap = ser::Impossible<String, Refused>;
    type SerializeStruct = ser::Impossible<String, Refused>;
    type SerializeStructVariant = ser::Impossible<String, Refused>;

    fn serialize_str(self, value: &str) -> Result<String, Refused> {
        Ok(value.to_owned())
    }

    only_text! {
        serialize_bool(bool) -> String;
        serialize_i8(i8) -> String;
        serialize_i16(i16) -> String;
        serialize_i32(i32) -> String;
        serialize_i64(i64) -> String;
        serialize_u8(u8) -> String;
        serialize_u16(u16) -> String;
        serialize_u32(u32) -> String;
        serialize_u64(u64) -> String;
        serialize_f32(f32) -> String;
        serialize_f64(f64) -> String;
        serialize_char(char) -> String;
        serialize_bytes(&[u8]) -> String;
        serialize_none() -> String;
        serialize_unit() -> String;
        serialize_unit_struct(&'static str) -> String;
        serialize_unit_variant(&'static str, u32, &'static str) -> String;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<String, Refused> {
        Err(Refused)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<String, Refused> {
        Err(Refused)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, Refused> {
        Err(Refused)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde::Serialize;

    use super::*;

    fn same<T: Serialize>(one: T, other: T) -> bool {
        compare(&one, &other).is_ok()
    }

    #[derive(Serialize)]
    enum Shape {
        Point,
        Dot,
        Circle(f64),
        Line(u8, u8),
        Named {
            name: &'static str,
            of: Option<Box<Shape>>,
        },
    }

    #[test]
    fn different_values_differ() {
        assert!(!same(Some(None), None::<Option<u8>>));
        assert!(!same(Some(()), None));
        assert!(!same(vec![Some(())], vec![None]));
        assert!(!same(1, 2) && !same(-1, 1) && !same(i128::MIN, -1));
        assert!(!same(u128::MAX, 1u128 << 127));
        assert!(!same(0.0, -0.0) && !same("a", "b") && !same(true, false));
        assert!(!same((1, 2), (2, 1)) && !same([1, 2], [2, 1]));
        assert!(!same(vec![1, 2], vec![1]) && !same(vec![1, 1, 2], vec![1, 2, 2]));
        assert!(!same(vec![vec![1], vec![2]], vec![vec![1, 2], vec![]]));
        assert!(!same(
            HashMap::from([(1, 2), (3, 4)]),
            HashMap::from([(1, 4), (3, 2)])
        ));
        assert!(!same(Shape::Point, Shape::Dot));
        assert!(!same(Shape::Circle(1.0), Shape::Circle(2.0)));
        assert!(!same(Shape::Line(1, 2), Shape::Line(2, 1)));
    }

    #[test]
    fn equal_values_are_the_same() {
        let many = || (0..1000).map(|n| (n, n.to_string()));
        assert!(same(many().collect::<HashMap<_, _>>(), many().collect()));
        assert!(same(many().collect::<HashSet<_>>(), many().collect()));
        assert!(same(f64::NAN, f64::NAN));
        assert!(same(Some(Some(1)), Some(Some(1))));
    }

    #[test]
    fn the_innermost_field_that_differs_is_named() {
        let named = |name| Shape::Named {
            name: "outer",
            of: Some(Box::new(Shape::Named { name, of: None })),
        };
        let at = |one: &Shape, other: &Shape| compare(one, other).unwrap_err().at;
        assert_eq!(at(&named("a"), &named("b")), "of.name");
        assert_eq!(at(&Shape::Circle(1.0), &Shape::Circle(2.0)), "Circle");
        assert_eq!(at(&Shape::Point, &Shape::Dot), "");
        // A map has data for keys, which are not named.
        let map = |name| HashMap::from([("secret", named(name))]);
        let map = compare(&map("a"), &map("b")).unwrap_err();
        assert_eq!(map.at, "");
    }

    #[derive(Serialize)]
    #[serde(rename = "$serde_json::private::Number")]
    struct Number {
        #[serde(rename = "$serde_json::private::Number")]
        text: &'static str,
    }

    #[test]
    fn a_number_of_serde_json_is_the_same_in_any_spelling() {
        let number = |text| Number { text };
        assert!(same(number("1e2"), number("100.0")));
        assert!(same(number("0.10"), number("0.1")));
        assert!(!same(number("0.10"), number("0.01")));
        assert!(!same(number("1"), number("-1")));
    }
}
