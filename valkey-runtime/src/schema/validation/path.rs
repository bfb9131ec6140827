//! A path into a value, shown only as far as it consists of field names and indexes, and not of
//! data.
//!
//! garde writes field names and map keys in the same way. So this module follows the path in the
//! value, through its `Serialize`. A step is shown if it names a field of the struct or an index of
//! the sequence at that point. After any other step the rest is hidden.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::ser::{
    Error, Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Replaces a hidden part.
const HIDDEN: &str = "…";

/// The path as it may be shown. Its first step must be one of `fields`, the type's own names,
/// whatever names serde uses.
pub(crate) fn shown<T: Serialize>(
    value: &T,
    fields: &[&'static str],
    path: &str,
) -> Cow<'static, str> {
    if path.is_empty() {
        return Cow::Borrowed("");
    }
    let (first, rest) = step(path);
    let Some(field) = fields.iter().find(|field| **field == first.name()) else {
        return Cow::Borrowed(HIDDEN);
    };
    let field = match first {
        Step::Name(_) => Cow::Borrowed(*field),
        Step::At(_) => Cow::Owned(format!("[{field}]")),
    };
    if rest.is_empty() {
        return field;
    }
    let mut shown = Shown::default();
    // If it stops early, the rest is hidden.
    let _ = value.serialize(Walk {
        rest: path,
        shown: &mut shown,
    });
    if shown.text.is_empty() {
        shown.text = field.into_owned();
    }
    if !shown.whole {
        shown.text.push('.');
        shown.text.push_str(HIDDEN);
    }
    Cow::Owned(shown.text)
}

enum Step<'p> {
    Name(&'p str),
    At(&'p str),
}

impl<'p> Step<'p> {
    fn name(&self) -> &'p str {
        match self {
            Step::Name(name) | Step::At(name) => name,
        }
    }
}

/// Splits a path into its first step and the rest.
fn step(path: &str) -> (Step<'_>, &str) {
    let next = |rest: &'_ str| rest.len() - rest.strip_prefix('.').unwrap_or(rest).len();
    if let Some((at, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) {
        return (Step::At(at), &rest[next(rest)..]);
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let name = name.strip_prefix("r#").unwrap_or(name);
    (Step::Name(name), &rest[next(rest)..])
}

#[derive(Default)]
struct Shown {
    text: String,
    /// Whether no part is hidden.
    whole: bool,
}

/// Follows the rest of a path into a value.
struct Walk<'w> {
    rest: &'w str,
    shown: &'w mut Shown,
}

impl Walk<'_> {
    fn enter<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        match self.rest {
            "" => {
                self.shown.whole = true;
                Ok(())
            }
            _ => value.serialize(self),
        }
    }

    /// Continues in the field with this name, if that is the next step.
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Stop> {
        let (Step::Name(wanted), rest) = step(self.rest) else {
            return Ok(());
        };
        if !is_same(wanted, name) {
            return Ok(());
        }
        if !self.shown.text.is_empty() {
            self.shown.text.push('.');
        }
        self.shown.text.push_str(wanted);
        Walk {
            rest,
            shown: self.shown,
        }
        .enter(value)?;
        Err(Stop)
    }

    /// Continues at this index, if that is the next step.
    fn at<T: Serialize + ?Sized>(&mut self, at: usize, value: &T) -> Result<(), Stop> {
        let (Step::At(wanted), rest) = step(self.rest) else {
            return Ok(());
        };
        if wanted.parse() != Ok(at) {
            return Ok(());
        }
        self.shown.text.push_str(&format!("[{at}]"));
        Walk {
            rest,
            shown: self.shown,
        }
        .enter(value)?;
        Err(Stop)
    }

    /// The single element of a newtype may or may not be a step of the path.
    fn only<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Stop> {
        self.at(0, value)?;
        value.serialize(self)
    }
}

/// Whether serde's name of a field may stand for `name`, under any of serde's naming conventions.
fn is_same(name: &str, serdes: &str) -> bool {
    let letters = |name: &'_ str| {
        let letters = name.chars().filter(|letter| !matches!(letter, '_' | '-'));
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    name == serdes || letters(name) == letters(serdes)
}

/// The end of the walk: the path has been followed, or can't be followed further.
#[derive(Debug)]
struct Stop;

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the path")
    }
}

impl std::error::Error for Stop {}

impl Error for Stop {
    fn custom<T: Display>(_: T) -> Self {
        Stop
    }
}

/// Values that contain no further step.
macro_rules! ends {
    ($($method:ident($($argument:ty),*))*) => {
        $(
            fn $method(self $(, _: $argument)*) -> Result<(), Stop> {
                Ok(())
            }
        )*
    };
}

impl<'w> Serializer for Walk<'w> {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Places<'w>;
    type SerializeTuple = Places<'w>;
    type SerializeTupleStruct = Places<'w>;
    type SerializeTupleVariant = Places<'w>;
    type SerializeMap = Impossible<(), Stop>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    ends! {
        serialize_bool(bool)
        serialize_i8(i8)
        serialize_i16(i16)
        serialize_i32(i32)
        serialize_i64(i64)
        serialize_u8(u8)
        serialize_u16(u16)
        serialize_u32(u32)
        serialize_u64(u64)
        serialize_f32(f32)
        serialize_f64(f64)
        serialize_char(char)
        serialize_str(&str)
        serialize_bytes(&[u8])
        serialize_none()
        serialize_unit()
        serialize_unit_struct(&'static str)
        serialize_unit_variant(&'static str, u32, &'static str)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.only(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.only(value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Places<'w>, Stop> {
        Ok(Places { walk: self, at: 0 })
    }

    fn serialize_tuple(self, _: usize) -> Result<Places<'w>, Stop> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Places<'w>, Stop> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Places<'w>, Stop> {
        self.serialize_seq(None)
    }

    /// The next step may be a key of the map, which is data.
    fn serialize_map(self, _: Option<usize>) -> Result<Impossible<(), Stop>, Stop> {
        Err(Stop)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Stop> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Stop> {
        Ok(self)
    }
}

/// A sequence with a count of its elements.
struct Places<'w> {
    walk: Walk<'w>,
    at: usize,
}

macro_rules! places {
    ($($of:ident::$method:ident)*) => {
        $(
            impl $of for Places<'_> {
                type Ok = ();
                type Error = Stop;

                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
                    self.at += 1;
                    self.walk.at(self.at - 1, value)
                }

                fn end(self) -> Result<(), Stop> {
                    Ok(())
                }
            }
        )*
    };
}

places! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

macro_rules! fields {
    ($($of:ident)*) => {
        $(
            impl $of for Walk<'_> {
                type Ok = ();
                type Error = Stop;

                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    name: &'static str,
                    value: &T,
                ) -> Result<(), Stop> {
                    self.field(name, value)
                }

                fn end(self) -> Result<(), Stop> {
                    Ok(())
                }
            }
        )*
    };
}

fields! { SerializeStruct SerializeStructVariant }
