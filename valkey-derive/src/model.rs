//! What an annotated type means: the input of the last stage.
//!
//! A model can always be emitted. Where something was wrong it holds something plausible, so that the only errors that
//! the user sees are those about the annotation.

use syn::{ExprPath, Generics, Ident, Member, Path, Type};

use crate::ttl::Ttl;

/// A type with `#[derive(Cached)]`.
pub(crate) struct Cached {
    pub(crate) ident: Ident,
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
}

/// What differs from the runtime's `Policy::new()`.
#[derive(Default)]
pub(crate) struct Policy {
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) keep_corrupt: bool,
    pub(crate) ttl_env: Option<String>,
    pub(crate) jitter_percent: Option<u8>,
    pub(crate) ttl_absent_millis: Option<u64>,
    pub(crate) stale_if_error_millis: Option<u64>,
    pub(crate) retry_after_millis: Option<u64>,
    pub(crate) refresh_ahead_percent: Option<u8>,
    pub(crate) load_timeout_millis: Option<u64>,
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
