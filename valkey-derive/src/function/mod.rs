//! `#[cached_fn]`: a function whose results are cached.
//!
//! The stages are those of the derive: `syntax` → `check` → `model` → `emit`. The result of the
//! function becomes the value of a cached type with the function's name, whose key is the
//! parameters. So the attributes are those of a type, with the same rules and the same code.

mod check;
mod emit;
mod syntax;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, Ident, Pat, Signature, Type, Visibility};

use crate::errors::Errors;
use crate::model;

pub(crate) fn cached_fn(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let written = match syntax::Function::read(arguments, item.clone(), &mut errors) {
        Ok(written) => written,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    let plain = written.plain();
    let emitted = match check::function(written, &mut errors) {
        Some(model) => emit::function(&model),
        // The function without a cache, so that its callers show no errors.
        None => plain,
    };
    let errors = errors.into_compile_errors();
    quote!(#errors #emitted)
}

/// A cached function.
struct Function {
    /// The cached type of its results, whose fields are the parameters of the key.
    of: model::Cached,
    attrs: Vec<syn::Attribute>,
    vis: Visibility,
    /// Without the marks above its parameters.
    sig: Signature,
    body: TokenStream,
    params: Vec<Param>,
    returns: Returns,
    store: Store,
    /// Whether a load may go on after its call.
    outlives: bool,
}

/// The type of a cached function's result.
struct Returns {
    /// The type that is cached.
    value: Type,
    /// Whether the value is in an `Option`, whose `None` is an absence.
    optional: bool,
    /// Whether it is in a `Result`.
    fallible: bool,
}

/// The store of a cached function.
enum Store {
    /// This parameter.
    Param(Ident),
    /// This expression over its parameters.
    Of(Box<Expr>),
}

struct Param {
    pat: Pat,
    ty: Type,
    /// The name and the part of the key, if it is one.
    key: Option<Part>,
}

/// A parameter that is part of the key.
struct Part {
    name: Ident,
    /// The owned type.
    owned: Type,
    /// Whether a function converts it: `key(with = "…")`.
    with: bool,
}
