//! Decodes a value from MessagePack as [`encode`](mod@crate::value::codec::encode) writes it: by
//! serde's rules, within bounds.
//!
//! Nothing in the input is trusted. A declared length is at most the length of the rest; at most
//! [`DEPTH`] arrays and maps nest; and memory is counted before it is allocated ([`Memory`]).
//! Errors do not describe the value, because serde's messages would quote it.
//!
//! Long because it is one implementation of one serde trait, whose methods share one budget.

use std::fmt::{self, Display};

use serde::de::value::{BorrowedBytesDeserializer, SeqAccessDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::protocol::envelope::bounds;
use crate::protocol::envelope::bounds::{DEPTH, OutOfBounds};
use crate::value::codec::encode::EXTENSION;
use crate::value::codec::private::is_private;

/// The reason why a value is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    OutOfBounds(OutOfBounds),
    Known(&'static str),
    Said(String),
}

use Fault::{Known, OutOfBounds as Out};

const TYPE: Fault = Known("a value of an unexpected type");
const UTF8: Fault = Known("a text that is not UTF-8");
const PRIVATE: Fault = Known("a map key that begins with `$serde_json::private::`");
const MEMORY: Fault =
    Known("it would take more memory than `Builder::max_expansion` allows for its size");
const WITHHELD: &str =
    "its `Deserialize` refused (the message is withheld: it may quote the value)";

impl Fault {
    pub(crate) fn into_text(self) -> String {
        match self {
            Fault::OutOfBounds(why) => why.as_str().to_owned(),
            Fault::Known(why) => why.to_owned(),
            Fault::Said(why) => why,
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.clone().into_text())
    }
}

impl std::error::Error for Fault {}

impl From<OutOfBounds> for Fault {
    fn from(why: OutOfBounds) -> Self {
        Out(why)
    }
}

/// Passes on only those messages of serde that come from the type.
impl de::Error for Fault {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        let message = message.to_string();
        match of_serde(&message) {
            Said::Whole => Fault::Said(message),
            Said::Without(known) => Known(known),
            Said::Unknown => Known(WITHHELD),
        }
    }

    #[cold]
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::Said(format!("invalid type, expected {expected}"))
    }

    #[cold]
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::Said(format!("invalid value, expected {expected}"))
    }

    #[cold]
    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Fault::Said(format!("invalid length, expected {expected}"))
    }

    #[cold]
    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Fault::Said(format!("unknown variant, expected {}", one_of(expected)))
    }

    #[cold]
    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Fault::Said(format!("unknown field, expected {}", one_of(expected)))
    }

    #[cold]
    fn missing_field(field: &'static str) -> Self {
        Fault::Said(format!("missing field `{field}`"))
    }

    #[cold]
    fn duplicate_field(field: &'static str) -> Self {
        Fault::Said(format!("duplicate field `{field}`"))
    }
}

/// The part of a message that is serde's own and quotes nothing.
enum Said {
    Whole,
    /// The message without the name that it quotes.
    Without(&'static str),
    Unknown,
}

/// All messages of serde and its derive that are not in the methods of [`de::Error`] above.
fn of_serde(message: &str) -> Said {
    // They end with the name of a type.
    const BEGIN: [&str; 2] = [
        "data did not match any variant of untagged enum ",
        "no variant of enum ",
    ];
    const WHOLE: [&str; 14] = [
        "can only flatten structs and maps",
        "untagged and internally tagged enums do not support enum input",
        "i128 is not supported",
        "u128 is not supported",
        "value is missing",
        "unexpected map key",
        "overflow deserializing Duration",
        "overflow deserializing SystemTime",
        "overflow deserializing SystemTime epoch offset",
        "cannot deserialize Unix OS string on Windows",
        "cannot deserialize Windows OS string on Unix",
        // Those of the standard library, where serde reads a text.
        "invalid IP address syntax",
        "invalid IPv4 address syntax",
        "invalid IPv6 address syntax",
    ];
    match message {
        _ if BEGIN.iter().any(|begin| message.starts_with(begin)) => Said::Whole,
        _ if WHOLE.contains(&message) => Said::Whole,
        _ if message.starts_with("unknown field `") => {
            Said::Without("unknown field beside a flattened one")
        }
        _ => Said::Unknown,
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => format!("`{name}`"),
        names => format!("one of `{}`", names.join("`, `")),
    }
}

/// The bytes that may still be allocated. Collections are counted when they make room: first for
/// their declared length, up to [`HINT`], then for twice as much each time. Values behind a pointer
/// are counted when they are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory(pub(crate) usize);

/// The largest length that a collection is given before anything is read.
const HINT: usize = 4096;
/// The most bytes for which serde's own collections make room before anything is read.
const CAUTIOUS: usize = 1 << 20;

impl Memory {
    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        self.0 = self.0.checked_sub(bytes).ok_or(MEMORY)?;
        Ok(())
    }
}

/// The room that a collection has made.
#[derive(Clone, Copy)]
struct Room {
    elements: usize,
    /// Whether it may be a hash table, which has more slots than elements.
    map: bool,
}

impl Room {
    /// Makes room before the next element. `left` elements of `size` bytes each are still to come.
    #[inline(never)]
    fn grow(&mut self, memory: &mut Memory, left: usize, size: usize) -> Result<(), Fault> {
        let size = size.max(1);
        let before = self.slots().saturating_mul(size);
        self.elements = match (self.elements, self.map) {
            (0, true) => left.min(HINT).min(CAUTIOUS / size).max(3),
            (0, false) => left.min(HINT).min(CAUTIOUS / size).max(4),
            (elements, _) => elements.saturating_mul(2),
        };
        let after = self.slots().saturating_mul(size);
        // While the elements move, both the old and the new room exist.
        if after > memory.0 {
            return Err(MEMORY);
        }
        memory.take(after - before)
    }

    fn slots(self) -> usize {
        match self.map {
            false => self.elements,
            true if self.elements == 0 => 0,
            true => (self.elements.saturating_mul(8) / 7 + 1)
                .checked_next_power_of_two()
                .unwrap_or(usize::MAX),
        }
    }
}

pub(crate) struct Decoder<'de> {
    rest: &'de [u8],
    /// The number of arrays and maps that may still nest here.
    levels: usize,
    memory: Memory,
    /// The bytes at the place of the next value.
    place: usize,
    /// Whether structs are arrays, and not maps.
    compact: bool,
    /// The number of nested `Option`s that began at the same byte, and the number of bytes left
    /// there.
    options: (usize, usize),
}

/// The purpose for which a map is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    Struct,
    Collection,
}

impl<'de> Decoder<'de> {
    /// For a value that itself takes `place` bytes.
    pub(crate) fn new(payload: &'de [u8], memory: Memory, place: usize, compact: bool) -> Self {
        Self {
            rest: payload,
            levels: DEPTH,
            memory,
            place,
            compact,
            options: (0, usize::MAX),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn peek(&self) -> Result<u8, Fault> {
        self.rest
            .first()
            .copied()
            .ok_or(Out(OutOfBounds::Truncated))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.rest.split_first().ok_or(Out(OutOfBounds::Truncated))?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Out(OutOfBounds::Truncated))?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn slice(&mut self, length: usize) -> Result<&'de [u8], Fault> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Out(OutOfBounds::Truncated))?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn length<const N: usize>(&mut self) -> Result<usize, Fault> {
        let bytes = self.bytes::<N>()?;
        let length = bytes
            .iter()
            .fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        usize::try_from(length).map_err(|_| Out(OutOfBounds::Truncated))
    }

    /// The next value is a `T`. If its place is smaller, it is behind a pointer.
    #[inline]
    fn put<T>(&mut self) -> Result<(), Fault> {
        let size = size_of::<T>();
        if size > self.place {
            self.memory.take(size)?;
            self.place = size;
        }
        Ok(())
    }

    #[inline]
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        match self.byte()? {
            positive @ 0x00..=0x7f => visitor.visit_u8(positive),
            negative @ 0xe0..=0xff => visitor.visit_i8(negative as i8),
            marker => self.wide_number(marker, visitor),
        }
    }

    fn wide_number<V: Visitor<'de>>(&mut self, marker: u8, visitor: V) -> Result<V::Value, Fault> {
        match marker {
            0xc0 => visitor.visit_unit(),
            0xc2 => visitor.visit_bool(false),
            0xc3 => visitor.visit_bool(true),
            0xca => visitor.visit_f32(f32::from_be_bytes(self.bytes()?)),
            0xcb => visitor.visit_f64(f64::from_be_bytes(self.bytes()?)),
            0xcc => visitor.visit_u8(self.byte()?),
            0xcd => visitor.visit_u16(u16::from_be_bytes(self.bytes()?)),
            0xce => visitor.visit_u32(u32::from_be_bytes(self.bytes()?)),
            0xcf => visitor.visit_u64(u64::from_be_bytes(self.bytes()?)),
            0xd0 => visitor.visit_i8(i8::from_be_bytes(self.bytes()?)),
            0xd1 => visitor.visit_i16(i16::from_be_bytes(self.bytes()?)),
            0xd2 => visitor.visit_i32(i32::from_be_bytes(self.bytes()?)),
            0xd3 => visitor.visit_i64(i64::from_be_bytes(self.bytes()?)),
            0xc1 => Err(Out(OutOfBounds::Reserved)),
            _ => Err(TYPE),
        }
    }

    /// Any item. Bytes become a sequence if the visitor expects one.
    fn any<V: Visitor<'de>>(
        &mut self,
        visitor: V,
        is: As,
        bytes_as_seq: bool,
    ) -> Result<V::Value, Fault> {
        let marker = self.byte()?;
        match marker {
            0x80..=0x8f => self.map(usize::from(marker & 15), is, visitor),
            0xa0..=0xbf => self.text(usize::from(marker & 31), visitor),
            0x90..=0x9f => self.seq(usize::from(marker & 15), visitor),
            0x00..=0x7f => visitor.visit_u8(marker),
            0xe0..=0xff => visitor.visit_i8(marker as i8),
            0xd9 => {
                let length = self.length::<1>()?;
                self.text(length, visitor)
            }
            0xda => {
                let length = self.length::<2>()?;
                self.text(length, visitor)
            }
            0xdb => {
                let length = self.length::<4>()?;
                self.text(length, visitor)
            }
            0xdc => {
                let length = self.length::<2>()?;
                self.seq(length, visitor)
            }
            0xdd => {
                let length = self.length::<4>()?;
                self.seq(length, visitor)
            }
            0xde => {
                let length = self.length::<2>()?;
                self.map(length, is, visitor)
            }
            0xdf => {
                let length = self.length::<4>()?;
                self.map(length, is, visitor)
            }
            0xc4..=0xc6 => {
                let length = match marker {
                    0xc4 => self.length::<1>()?,
                    0xc5 => self.length::<2>()?,
                    _ => self.length::<4>()?,
                };
                let bytes = self.slice(length)?;
                match bytes_as_seq {
                    false => visitor.visit_borrowed_bytes(bytes),
                    true => {
                        visitor.visit_seq(de::value::SeqDeserializer::new(bytes.iter().copied()))
                    }
                }
            }
            0xc7..=0xc9 | 0xd4..=0xd8 => self.extension(marker, visitor),
            _ => self.wide_number(marker, visitor),
        }
    }

    /// The fields of a struct. In the named layout they have names: an array is of another type,
    /// and its positions mean nothing. In the compact layout a map is of another type.
    #[inline]
    fn structure<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        let marker = self.peek()?;
        let other = match self.compact {
            true => is_map(marker),
            false => is_array(marker),
        };
        match other {
            true => Err(TYPE),
            false => self.any(visitor, As::Struct, self.compact),
        }
    }

    /// Any item but bytes, which are of another type, such as a UUID.
    #[inline]
    fn only_text<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        match self.peek()? {
            0xc4..=0xc6 => Err(TYPE),
            _ => self.deserialize_any(visitor),
        }
    }

    /// A number that was written as an integer, or as a wider float. `narrowed` is its value in the
    /// type that is read. An integer must be the same there, and a finite float finite.
    #[cold]
    fn as_float<V: Visitor<'de>>(
        &mut self,
        visitor: V,
        narrowed: fn(f64) -> f64,
    ) -> Result<V::Value, Fault> {
        let begin = self.rest;
        let fits = match self.peek()? {
            0xcb => {
                self.byte()?;
                let float = f64::from_be_bytes(self.bytes()?);
                !float.is_finite() || narrowed(float).is_finite()
            }
            _ => match self.wide() {
                Ok(Wide::Positive(number)) => narrowed(number as f64) as i128 == i128::from(number),
                Ok(Wide::Negative(number)) => narrowed(number as f64) as i128 == i128::from(number),
                Ok(Wide::Whole(_) | Wide::Below(_)) | Err(_) => true,
            },
        };
        self.rest = begin;
        match fits {
            true => self.number(visitor),
            false => Err(TYPE),
        }
    }

    fn text<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        let bytes = self.slice(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            // No serializer writes such a text; a visitor for bytes accepts it.
            Err(_) => visitor
                .visit_borrowed_bytes::<Fault>(bytes)
                .map_err(|_| UTF8),
        }
    }

    fn open(&mut self, elements: usize) -> Result<(), Fault> {
        // Each takes at least a byte.
        if elements > self.rest.len() {
            return Err(Out(OutOfBounds::Truncated));
        }
        self.levels = self
            .levels
            .checked_sub(1)
            .ok_or(Out(OutOfBounds::TooDeep))?;
        Ok(())
    }

    fn seq<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        self.open(length)?;
        let mut elements = Elements::new(self, length, As::Collection, false);
        let read = visitor.visit_seq(&mut elements);
        let left = elements.left;
        self.levels += 1;
        whole(read?, left, length)
    }

    fn map<V: Visitor<'de>>(
        &mut self,
        length: usize,
        is: As,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.open(length.saturating_mul(2))?;
        let mut entries = Elements::new(self, length, is, true);
        let read = visitor.visit_map(&mut entries);
        let left = entries.left;
        self.levels += 1;
        whole(read?, left, length)
    }

    fn extension<V: Visitor<'de>>(&mut self, marker: u8, visitor: V) -> Result<V::Value, Fault> {
        let length = match marker {
            0xc7 => self.length::<1>()?,
            0xc8 => self.length::<2>()?,
            0xc9 => self.length::<4>()?,
            fixed => 1 << (fixed - 0xd4),
        };
        let [tag] = self.bytes::<1>()?;
        let data = self.slice(length)?;
        let parts = Extension {
            tag: Some(tag as i8),
            data: Some(data),
        };
        visitor.visit_newtype_struct(SeqAccessDeserializer::new(parts))
    }

    fn wide(&mut self) -> Result<Wide, Fault> {
        Ok(match self.byte()? {
            positive @ 0x00..=0x7f => Wide::Positive(positive.into()),
            negative @ 0xe0..=0xff => Wide::Negative(i64::from(negative as i8)),
            0xcc => Wide::Positive(self.byte()?.into()),
            0xcd => Wide::Positive(u16::from_be_bytes(self.bytes()?).into()),
            0xce => Wide::Positive(u32::from_be_bytes(self.bytes()?).into()),
            0xcf => Wide::Positive(u64::from_be_bytes(self.bytes()?)),
            0xd0 => Wide::Negative(i8::from_be_bytes(self.bytes()?).into()),
            0xd1 => Wide::Negative(i16::from_be_bytes(self.bytes()?).into()),
            0xd2 => Wide::Negative(i32::from_be_bytes(self.bytes()?).into()),
            0xd3 => Wide::Negative(i64::from_be_bytes(self.bytes()?)),
            0xc4 => match self.byte()? {
                16 => Wide::Whole(u128::from_be_bytes(self.bytes()?)),
                17 if self.byte()? == 0xff => match i128::from_be_bytes(self.bytes()?) {
                    number @ ..0 => Wide::Below(number),
                    0.. => return Err(TYPE),
                },
                _ => {
                    return Err(Known(
                        "a 128-bit integer that has neither 16 bytes nor 17 after a sign",
                    ));
                }
            },
            _ => return Err(TYPE),
        })
    }
}

fn is_array(marker: u8) -> bool {
    matches!(marker, 0x90..=0x9f | 0xdc | 0xdd)
}

fn is_map(marker: u8) -> bool {
    matches!(marker, 0x80..=0x8f | 0xde | 0xdf)
}

fn is_text(marker: u8) -> bool {
    matches!(marker, 0xa0..=0xbf | 0xd9..=0xdb)
}

/// The source of a 128-bit integer.
enum Wide {
    Positive(u64),
    Negative(i64),
    Whole(u128),
    /// A negative number, with a sign of its own, so that it is not read as a `u128`.
    Below(i128),
}

/// A visitor that leaves elements does not match the written type.
fn whole<T>(read: T, left: usize, length: usize) -> Result<T, Fault> {
    match left {
        0 => Ok(read),
        left => Err(Fault::Said(format!(
            "an array or map whose length is not {}",
            length - left
        ))),
    }
}

macro_rules! numbers {
    ($($name:ident)*) => { $(
        #[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.number(visitor)
        }
    )* };
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Fault;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        self.any(visitor, As::Collection, false)
    }

    numbers! {
        deserialize_bool
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.peek()? {
            0xca => self.number(visitor),
            _ => self.as_float(visitor, |wide| wide as f32 as f64),
        }
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.peek()? {
            0xca | 0xcb => self.number(visitor),
            _ => self.as_float(visitor, |wide| wide),
        }
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.only_text(visitor)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.only_text(visitor)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i128(match self.wide()? {
            Wide::Positive(number) => number.into(),
            Wide::Negative(number) => number.into(),
            Wide::Whole(number) => i128::try_from(number).map_err(|_| TYPE)?,
            Wide::Below(number) => number,
        })
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u128(match self.wide()? {
            Wide::Positive(number) => number.into(),
            Wide::Negative(number) => u128::try_from(number).map_err(|_| TYPE)?,
            Wide::Whole(number) => number,
            Wide::Below(_) => return Err(TYPE),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        if self.peek()? == 0xc0 {
            self.rest = &self.rest[1..];
            return visitor.visit_none();
        }
        // A type that is an `Option` of itself would never end.
        let (options, left) = self.options;
        self.options = match left == self.rest.len() {
            true if options == DEPTH => return Err(Out(OutOfBounds::TooDeep)),
            true => (options + 1, left),
            false => (1, self.rest.len()),
        };
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        match self.peek()? {
            // A variant with content is a map from its name to the content.
            0x81 => {
                self.rest = &self.rest[1..];
                self.open(2)?;
                let read = visitor.visit_enum(Variant {
                    decoder: &mut *self,
                });
                self.levels += 1;
                read
            }
            text if is_text(text) => visitor.visit_enum(UnitVariant { decoder: self }),
            _ => Err(TYPE),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        match name {
            EXTENSION => match self.byte()? {
                marker @ (0xc7..=0xc9 | 0xd4..=0xd8) => self.extension(marker, visitor),
                _ => Err(TYPE),
            },
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.peek()? {
            0xc0 | 0x90 => {
                self.rest = &self.rest[1..];
                visitor.visit_unit()
            }
            _ => self.any(visitor, As::Collection, false),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        self.any(visitor, As::Collection, true)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        self.any(visitor, As::Struct, true)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        self.any(visitor, As::Struct, true)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        self.structure(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.put::<V::Value>()?;
        self.any(visitor, As::Collection, false)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        bounds::skip(&mut self.rest, self.levels)?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { char bytes byte_buf unit identifier }
}

/// The elements of an array, or the entries of a map.
struct Elements<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: usize,
    read: usize,
    is: As,
    room: Room,
    /// The size of the key whose value is next.
    key: usize,
}

impl<'d, 'de> Elements<'d, 'de> {
    fn new(decoder: &'d mut Decoder<'de>, length: usize, is: As, map: bool) -> Self {
        Self {
            decoder,
            left: length,
            read: 0,
            is,
            room: Room { elements: 0, map },
            key: 0,
        }
    }

    /// Counts the next element, of `size` bytes, if it is collected.
    #[inline]
    fn collect(&mut self, size: usize) -> Result<(), Fault> {
        if self.is == As::Collection {
            if self.read == self.room.elements {
                self.room.grow(&mut self.decoder.memory, self.left, size)?;
            }
            self.read += 1;
        }
        Ok(())
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.collect(size_of::<T::Value>())?;
        self.left -= 1;
        self.decoder.place = size_of::<T::Value>();
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(HINT))
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.key = size_of::<K::Value>();
        if is_private(self.decoder.rest) {
            return Err(PRIVATE);
        }
        // The name of a field must be a text: nothing writes it as a number.
        if self.is == As::Struct && !is_text(self.decoder.peek()?) {
            return Err(TYPE);
        }
        self.decoder.place = size_of::<K::Value>();
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let size = self.key + size_of::<V::Value>();
        // It was counted with its key.
        self.left += 1;
        let room = self.collect(size);
        self.left -= 1;
        room?;
        self.decoder.place = size_of::<V::Value>();
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(HINT))
    }
}

struct UnitVariant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
}

impl<'de> de::EnumAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        Ok((seed.deserialize(&mut *self.decoder)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Known("invalid type, expected newtype variant"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Known("invalid type, expected tuple variant"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(Known("invalid type, expected struct variant"))
    }
}

struct Variant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        match is_text(self.decoder.peek()?) {
            true => Ok((seed.deserialize(&mut *self.decoder)?, self)),
            false => Err(TYPE),
        }
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.decoder.byte()? {
            0xc0 => Ok(()),
            _ => Err(TYPE),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.decoder.any(visitor, As::Struct, true)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.decoder.structure(visitor)
    }
}

/// Type and content of an extension.
struct Extension<'de> {
    tag: Option<i8>,
    data: Option<&'de [u8]>,
}

impl<'de> de::SeqAccess<'de> for Extension<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        if let Some(tag) = self.tag.take() {
            return seed.deserialize(tag.into_deserializer()).map(Some);
        }
        match self.data.take() {
            Some(data) => seed
                .deserialize(BorrowedBytesDeserializer::new(data))
                .map(Some),
            None => Ok(None),
        }
    }
}
