//! The meaning of an annotated type: the input of the last stage.
//!
//! A model can always be emitted. After a mistake it contains something plausible, so that the user
//! sees only errors about the annotation.

use proc_macro2::Span;
use syn::{ExprPath, Generics, Ident, Member, Path, Type, Visibility};

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
    pub(crate) policy: Policy,
    /// Whether a write whose guard can't be placed is refused.
    pub(crate) strict: bool,
    pub(crate) key: Key,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) tags: Tags,
    pub(crate) validation: Option<Validation>,
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

/// The differences from the runtime's `Policy::new()`.
#[derive(Default)]
pub(crate) struct Policy {
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) keep_corrupt: bool,
    pub(crate) show_keys: bool,
    pub(crate) ttl_env: Option<String>,
    pub(crate) jitter_percent: Option<u8>,
    pub(crate) ttl_absent_millis: Option<u64>,
    pub(crate) stale_if_error_millis: Option<u64>,
    pub(crate) retry_after_millis: Option<u64>,
    pub(crate) refresh_ahead_percent: Option<u8>,
    pub(crate) load_timeout_millis: Option<u64>,
    pub(crate) load_deadline_millis: Option<u64>,
    /// The longest life of a sliding entry; `None` if hits do not extend it.
    pub(crate) max_age_millis: Option<u64>,
    pub(crate) hold_millis: Option<u32>,
    pub(crate) max_loads: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnCorrupt {
    #[default]
    Miss,
    Error,
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
