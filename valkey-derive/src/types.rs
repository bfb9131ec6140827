//! What can be told of a type by its tokens.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{GenericParam, Generics, Ident, Type};

/// The type without the invisible group that a `$ty` of a macro puts around it, and without parentheses.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        ty => ty,
    }
}

/// A float that is named as one. An alias is found by the trait `KeyPart`.
pub(crate) fn is_float(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::Path(path) if path.path.is_ident("f32") || path.path.is_ident("f64"))
}

pub(crate) fn is_phantom(ty: &Type) -> bool {
    match ungrouped(ty) {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "PhantomData"),
        _ => false,
    }
}

/// The first type or const parameter that is named in the type.
pub(crate) fn mentioned_param<'g>(ty: &Type, generics: &'g Generics) -> Option<&'g Ident> {
    let params = || {
        generics.params.iter().filter_map(|param| match param {
            GenericParam::Type(param) => Some(&param.ident),
            GenericParam::Const(param) => Some(&param.ident),
            GenericParam::Lifetime(_) => None,
        })
    };
    named_in(ty, |before| !matches!(before, Some('\'' | ':')))
        .find_map(|name| params().find(|param| **param == name))
}

/// Whether one of these lifetimes is named in the type.
pub(crate) fn mentions_lifetime(ty: &Type, lifetimes: &[&Ident]) -> bool {
    named_in(ty, |before| before == Some('\''))
        .any(|name| lifetimes.iter().any(|lifetime| **lifetime == name))
}

/// The names in the type that stand after such a character.
fn named_in(ty: &Type, after: impl Fn(Option<char>) -> bool) -> impl Iterator<Item = Ident> {
    let mut before = None;
    flat(ty.to_token_stream())
        .into_iter()
        .filter_map(move |token| {
            let stands_after = before.take();
            match token {
                TokenTree::Ident(name) if after(stands_after) => return Some(name),
                TokenTree::Punct(punct) => before = Some(punct.as_char()),
                _ => {}
            }
            None
        })
}

/// The tokens without the groups around them.
fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(group) => flat(group.stream()),
            token => vec![token],
        })
        .collect()
}
