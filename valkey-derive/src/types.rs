//! Properties of a type that its tokens show.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{GenericArgument, GenericParam, Generics, Ident, PathArguments, Type};

/// The type without parentheses, and without the invisible group that a macro's `$ty` adds.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        ty => ty,
    }
}

/// The type's name, if it is a single identifier without parameters.
fn name(ty: &Type) -> Option<&Ident> {
    match ungrouped(ty) {
        Type::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

/// Whether the type is a float, by its name. The trait `KeyPart` detects floats behind a type
/// alias.
pub(crate) fn is_float(ty: &Type) -> bool {
    name(ty).is_some_and(|name| name == "f32" || name == "f64")
}

pub(crate) fn is_str(ty: &Type) -> bool {
    name(ty).is_some_and(|name| name == "str")
}

/// Whether the type certainly is a key, by its usual name.
pub(crate) fn is_plain_key(ty: &Type) -> bool {
    const NAMES: [&str; 15] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "bool", "char", "String",
    ];
    name(ty).is_some_and(|name| NAMES.iter().any(|plain| name == plain))
}

/// As [`is_plain_key`], for aliases: such a type, or an `Option` of it.
pub(crate) fn is_plain_alias(ty: &Type) -> bool {
    let last = match ungrouped(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    };
    match last.map(|segment| (&segment.ident, &segment.arguments)) {
        Some((name, PathArguments::AngleBracketed(of))) if name == "Option" => of
            .args
            .iter()
            .all(|of| matches!(of, GenericArgument::Type(ty) if is_plain_key(ty))),
        _ => is_plain_key(ty),
    }
}

pub(crate) fn is_phantom(ty: &Type) -> bool {
    let last = match ungrouped(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    };
    last.is_some_and(|segment| segment.ident == "PhantomData")
}

/// The type as a user would write it, for messages.
pub(crate) fn shown(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (wide, narrow) in [
        (" :: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" ;", ";"),
        ("& ", "&"),
    ] {
        text = text.replace(wide, narrow);
    }
    text
}

/// The first type or const parameter that the type mentions.
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

/// Whether the type mentions this type parameter.
pub(crate) fn mentions_param(ty: &Type, param: &Ident) -> bool {
    named_in(ty, |before| !matches!(before, Some('\'' | ':'))).any(|name| name == *param)
}

/// Whether the type mentions one of these lifetimes.
pub(crate) fn mentions_lifetime(ty: &Type, lifetimes: &[&Ident]) -> bool {
    named_in(ty, |before| before == Some('\''))
        .any(|name| lifetimes.iter().any(|lifetime| **lifetime == name))
}

/// All names in the type.
pub(crate) fn names(ty: &Type) -> impl Iterator<Item = Ident> {
    named_in(ty, |before| before != Some('\''))
}

/// The names in the type that follow such a character.
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

/// The tokens without their groups.
fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(group) => flat(group.stream()),
            token => vec![token],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_shown_as_they_are_written() {
        for ty in [
            "u64",
            "std::net::IpAddr",
            "Vec<Option<u8>>",
            "(u64, Id<A, B>)",
            "&'static str",
            "[u8; 4]",
        ] {
            assert_eq!(shown(&syn::parse_str(ty).unwrap()), ty);
        }
    }

    #[test]
    fn parameters_are_found_where_they_are_named() {
        let generics: syn::ItemStruct =
            syn::parse_str("struct S<'a, T, const N: usize> {}").unwrap();
        let generics = generics.generics;
        for (ty, param) in [
            ("T", "T"),
            ("Vec<(u8, T)>", "T"),
            ("[u8; N]", "N"),
            ("T::Id", "T"),
            ("<Vec<T> as Trait>::Id", "T"),
            ("&'a T", "T"),
        ] {
            assert_eq!(
                mentioned_param(&syn::parse_str(ty).unwrap(), &generics).unwrap(),
                param,
                "{ty}"
            );
        }
        for ty in ["u8", "a::T", "Vec<a::N>", "dyn Fn() -> a::T", "Id<'T>"] {
            assert_eq!(
                mentioned_param(&syn::parse_str(ty).unwrap(), &generics),
                None,
                "{ty}"
            );
        }
        let a: Ident = syn::parse_str("a").unwrap();
        assert!(mentions_lifetime(
            &syn::parse_str("Vec<Cow<'a, str>>").unwrap(),
            &[&a]
        ));
        assert!(!mentions_lifetime(
            &syn::parse_str("Vec<a::Cow<'b, a>>").unwrap(),
            &[&a]
        ));
    }
}
