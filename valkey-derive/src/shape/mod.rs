//! The shape of a type: a constant that the compiler calculates from names and serde's attributes,
//! and from the shapes of the types of its fields.
//!
//! [`read`] finds the form in which serde's derive writes the type, and mistakes. [`emit`] writes the
//! expression. `#[derive(Shape)]` implements the trait by it; `#[derive(Cached)]` uses it for a type
//! with `layout = "compact"` or a `lock`.

pub(crate) mod emit;
pub(crate) mod read;
mod rename;

use proc_macro2::{Span, TokenStream};
use syn::Type;

/// The form in which a type is written.
pub(crate) enum Form {
    /// Only the user knows it: a text that changes with it.
    Opaque(String),
    /// As another type: a newtype, or by serde's `transparent` or `into`.
    As(Part),
    Unit,
    Tuple(Vec<Part>),
    /// With the field that holds the name of the type, by serde's `tag`.
    Struct(Vec<(String, Part)>, Option<String>),
    Enum {
        /// Nothing for a variant that is written by its name.
        tagging: Vec<String>,
        /// Whether a variant has no name in the bytes.
        untagged: bool,
        variants: Vec<(String, Content)>,
    },
}

/// The content of a variant.
pub(crate) enum Content {
    Unit,
    Newtype(Part),
    Tuple(Vec<Part>),
    Struct(Vec<(String, Part)>),
}

/// A field.
pub(crate) struct Part {
    pub(crate) of: Of,
    /// Whether serde may leave it out.
    pub(crate) sometimes: bool,
    pub(crate) flattened: bool,
}

/// The source of a field's form.
pub(crate) enum Of {
    Type(Box<Type>),
    /// A text that the user changes with it.
    Opaque(String),
    /// The marked edge of a cycle, with its position in the type.
    Edge(Box<Type>, u64),
}

/// A reason why arrays can't carry a type.
pub(crate) struct Unfit {
    pub(crate) at: TokenStream,
    /// As in "`skip_serializing_if` …".
    pub(crate) why: String,
}

/// The shape of a type with `#[derive(Shape)]`, or of a cached one.
pub(crate) struct Shape {
    pub(crate) form: Form,
    /// In the order of the source.
    pub(crate) unfit: Vec<Unfit>,
}

/// `layout` and `lock` of a cached type.
pub(crate) struct Guarded {
    pub(crate) shape: Shape,
    /// The position of `layout = "compact"`.
    pub(crate) compact: Option<Span>,
    /// The number, and its position.
    pub(crate) lock: Option<(u32, Span)>,
}
