//! The meaning of an annotated type: the input of the last stage.
//!
//! A model can always be emitted. After a mistake it contains something plausible, so that the user
//! sees only errors about the annotation.

use proc_macro2::Span;
use syn::{ExprPath, Generics, Ident, Member, Path, Type, Visibility};

use crate::shape;
use crate::ttl::Ttl;

/// A type with `#[derive(Cached)]`.
pub(crate) struct Cached {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) generics: Generics,
    /// The path of `valkey_runtime`.
    pub(crate) runtime: Path,
    /// The whole prefix, or for a generic type the part before the names of its parameters.
    pub(crate) prefix: String,
    pub(crate) ttl: Ttl,
    pub(crate) version: u16,
    /// The type of an older version, from which values are converted.
    pub(crate) migrate_from: Option<Type>,
    pub(crate) policy: Policy,
    /// The fields that nothing shows, by the names under which they are serialized.
    pub(crate) redacted: Vec<String>,
    /// Its shape, where that decides something.
    pub(crate) guarded: Option<shape::Guarded>,
    /// Whether a write whose guard can't be placed is refused.
    pub(crate) strict: bool,
    pub(crate) key: Key,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) tags: Tags,
    pub(crate) validation: Option<Validation>,
    /// Whether the type is that of a cached function: its value is in the field `value`, and its
    /// key is not in the value.
    pub(crate) in_field: bool,
}

/// The validator of values.
pub(crate) struct Validation {
    /// `None` if the compiler finds it by the type's traits.
    pub(crate) function: Option<ExprPath>,
    /// The names of the fields in the struct.
    pub(crate) fields: Vec<String>,
    /// The position of the attribute.
    pub(crate) span: Span,
}

/// The sources of an entry's tags.
#[derive(Default)]
pub(crate) struct Tags {
    pub(crate) templates: Vec<Template>,
    /// The function that computes further tags.
    pub(crate) function: Option<ExprPath>,
    /// Whether loaders set further tags.
    pub(crate) at_call: bool,
    /// Whether the type has a tag for all its entries.
    pub(crate) clear: bool,
}

/// One tag. Its function is named after its texts.
pub(crate) struct Template {
    pub(crate) function: Ident,
    pub(crate) written: String,
    pub(crate) pieces: Vec<Piece>,
}

pub(crate) enum Piece {
    Text(String),
    Field(Box<TagField>),
}

pub(crate) struct TagField {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    /// Its position among the fields of the key, if it is one of them.
    pub(crate) in_key: Option<usize>,
}

impl Tags {
    pub(crate) fn is_empty(&self) -> bool {
        self.templates.is_empty() && self.function.is_none() && !self.at_call && !self.clear
    }
}

impl Template {
    pub(crate) fn fields(&self) -> impl Iterator<Item = &TagField> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(&**field),
            Piece::Text(_) => None,
        })
    }
}

/// The differences from the runtime's `Policy::new()`: calls of its setters, in this order.
#[derive(Default)]
pub(crate) struct Policy {
    pub(crate) choices: Vec<Choice>,
    /// The hold of the type's tags, too.
    pub(crate) hold_millis: u64,
}

/// A call of a setter of the runtime's `Policy`.
pub(crate) struct Choice {
    pub(crate) setter: &'static str,
    pub(crate) value: Value,
}

/// The argument of a setter.
pub(crate) enum Value {
    /// None.
    Flag,
    /// `OnCorrupt::Error`.
    OnCorruptError,
    /// `Compression::Zstd`.
    Zstd,
    /// `Compression::Lz4`.
    Lz4,
    Text(String),
    Number(u64),
    Millis(u64),
}

impl Policy {
    pub(crate) fn flag(&mut self, setter: &'static str, is_set: bool) {
        self.choose(setter, is_set.then_some(Value::Flag));
    }

    pub(crate) fn number(&mut self, setter: &'static str, number: Option<impl Into<u64>>) {
        self.choose(setter, number.map(|number| Value::Number(number.into())));
    }

    pub(crate) fn time(&mut self, setter: &'static str, millis: Option<u64>) {
        self.choose(setter, millis.map(Value::Millis));
    }

    /// Whether the store has the only copy of the type's values.
    pub(crate) fn only_copy(&self) -> bool {
        self.choices
            .iter()
            .any(|choice| choice.setter == "only_copy")
    }

    /// Nothing where the attribute is not written.
    pub(crate) fn choose(&mut self, setter: &'static str, value: Option<Value>) {
        self.choices
            .extend(value.map(|value| Choice { setter, value }));
    }
}

pub(crate) struct Key {
    pub(crate) form: KeyForm,
    /// False after a mistake in the types: no value can write such a key, but look-ups can still
    /// name it.
    pub(crate) possible: bool,
}

pub(crate) enum KeyForm {
    /// The key is in the value: in these fields, in order. Without fields the type is a singleton.
    Fields(Vec<KeyField>),
    /// The key has this type and is not part of the value.
    Apart(Box<Type>),
}

pub(crate) struct KeyField {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) with: Option<With>,
    pub(crate) hash_tag: bool,
}

/// `key(with = "path")`: the function's result is written in place of the field.
pub(crate) struct With {
    /// The position among the fields of the key, as several may have the same type and different
    /// functions.
    pub(crate) number: usize,
    /// `None` after a mistake.
    pub(crate) function: Option<ExprPath>,
}

/// A field by which values are found besides their key.
pub(crate) struct Alias {
    /// As in `get_by_email`.
    pub(crate) name: String,
    pub(crate) member: Member,
    pub(crate) ty: Type,
    /// The function that normalises it.
    pub(crate) with: Option<ExprPath>,
    /// The time in milliseconds for which an absence is cached.
    pub(crate) ttl_absent: Option<u64>,
    /// The position of the attribute.
    pub(crate) span: Span,
}

/// A type with `#[derive(KeyPart)]`.
pub(crate) struct Newtype {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) runtime: Path,
    /// The field that is written; `None` after a mistake.
    pub(crate) field: Option<(Member, Type)>,
    /// The `PhantomData` fields.
    pub(crate) markers: Vec<Member>,
}
