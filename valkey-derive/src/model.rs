//! What an annotated type means: the input of the last stage.
//!
//! A model can always be emitted. Where something was wrong it holds something plausible, so that the only errors that
//! the user sees are those about the annotation.

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
    /// The whole prefix; for a generic type the part before the names of its parameters.
    pub(crate) prefix: String,
    pub(crate) ttl: Ttl,
    pub(crate) version: u16,
    pub(crate) policy: Policy,
    /// Whether a write is refused whose guard can't be placed.
    pub(crate) strict: bool,
    pub(crate) key: Key,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) tags: Tags,
    pub(crate) validation: Option<Validation>,
}

/// What values are validated by.
pub(crate) struct Validation {
    /// `None` where it is found by the type's traits.
    pub(crate) function: Option<ExprPath>,
    /// The names of the fields, as they stand in the struct.
    pub(crate) fields: Vec<String>,
    /// Where it is said.
    pub(crate) span: Span,
}

/// What entries are invalidated by.
#[derive(Default)]
pub(crate) struct Tags {
    pub(crate) templates: Vec<Template>,
    /// The function that computes more of them.
    pub(crate) function: Option<ExprPath>,
    /// Whether loaders say more of them.
    pub(crate) at_call: bool,
    /// Whether the type is one.
    pub(crate) clear: bool,
}

/// One tag, of which the function is named after its texts.
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
    /// Its place among the fields of the key, if it is one.
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

/// What differs from the runtime's `Policy::new()`.
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
    /// The ceiling of a life that hits extend; `None` where they don't.
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
    /// False after a mistake in the types: nothing can write such a key, but look-ups can still name it.
    pub(crate) possible: bool,
}

pub(crate) enum KeyForm {
    /// The key is in the value: in these fields, in order. No field at all makes a singleton.
    Fields(Vec<KeyField>),
    /// The key is of this type and is not part of the value.
    Apart(Box<Type>),
}

pub(crate) struct KeyField {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) with: Option<With>,
    pub(crate) hash_tag: bool,
}

/// `key(with = "path")`: the field is written as what the function makes of it.
pub(crate) struct With {
    /// Which field of the key it is: several may be of one type and have different functions.
    pub(crate) number: usize,
    /// `None` after a mistake.
    pub(crate) function: Option<ExprPath>,
}

/// A field that values are found by besides their key.
pub(crate) struct Alias {
    /// As in `get_by_email`.
    pub(crate) name: String,
    pub(crate) member: Member,
    pub(crate) ty: Type,
    /// The function that it is normalised by.
    pub(crate) with: Option<ExprPath>,
    /// Where it is said to be one.
    pub(crate) span: Span,
}

/// A type with `#[derive(KeyPart)]`.
pub(crate) struct Newtype {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) runtime: Path,
    /// The field that is written; `None` after a mistake.
    pub(crate) field: Option<(Member, Type)>,
    /// Its markers for the type system.
    pub(crate) markers: Vec<Member>,
}
