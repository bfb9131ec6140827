//! Writes a form as an expression of the runtime's `Fingerprint`.
//!
//! A type that contains itself by its own name is replaced by a marker there: the compiler would
//! otherwise need the constant to calculate it. A cycle of several types needs a marked field.

use proc_macro2::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Type};

use super::{Content, Form, Of, Part, Shape};

/// Which of the two constants an expression is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// The whole, of which arrays must be able to carry every part.
    Arrays,
    Whole,
    /// Without what is behind marked edges.
    Cut,
}

/// The type whose form is written.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'o> {
    pub(crate) ident: &'o Ident,
    pub(crate) generics: &'o Generics,
}

/// The body of `impl Shape`.
pub(crate) fn constants(shape: &Shape, owner: Owner<'_>) -> TokenStream {
    let unfit = shape.unfit.iter().map(|unfit| {
        let why = format!("in `{}`, {}", owner.ident, unfit.why);
        quote!(.unfit(#why))
    });
    let unfit: TokenStream = unfit.collect();
    let (whole, cut) = (
        expression(&shape.form, owner, For::Whole),
        expression(&shape.form, owner, For::Cut),
    );
    quote! {
        const FINGERPRINT: __rt::Fingerprint = #whole #unfit;
        const CUT: __rt::Fingerprint = #cut #unfit;
    }
}

pub(crate) fn expression(form: &Form, owner: Owner<'_>, of: For) -> TokenStream {
    let part = |part: &Part| self::part(part, owner, of);
    let named = |parts: &[(String, Part)]| {
        let fields = parts.iter().map(|(name, field)| {
            let field = part(field);
            quote!((#name, #field))
        });
        quote!(__rt::Fingerprint::structure(&[#(#fields),*]))
    };
    let tuple = |parts: &[Part]| {
        let parts = parts.iter().map(part);
        quote!(__rt::Fingerprint::tuple(&[#(#parts),*]))
    };
    match form {
        Form::Opaque(text) => quote!(__rt::Fingerprint::opaque(#text)),
        Form::As(content) => part(content),
        Form::Unit => quote!(__rt::Fingerprint::plain("unit_struct")),
        Form::Tuple(parts) => tuple(parts),
        Form::Struct(fields, None) => named(fields),
        Form::Struct(fields, Some(tag)) => {
            let (name, fields) = (owner.ident.to_string(), named(fields));
            quote!(__rt::Fingerprint::variants(&["internal", #tag], &[(#name, #fields)]))
        }
        Form::Enum {
            tagging,
            untagged,
            variants,
        } => {
            let variants = variants.iter().map(|(name, content)| {
                let content = match content {
                    Content::Unit => quote!(__rt::Fingerprint::plain("unit")),
                    Content::Newtype(content) => {
                        let content = part(content);
                        quote!(#content.kind("newtype"))
                    }
                    Content::Tuple(parts) => tuple(parts),
                    Content::Struct(fields) => named(fields),
                };
                quote!((#name, #content))
            });
            match untagged {
                true => quote!(__rt::Fingerprint::untagged(&[#(#variants),*])),
                false => {
                    quote!(__rt::Fingerprint::variants(&[#(#tagging),*], &[#(#variants),*]))
                }
            }
        }
    }
}

fn part(part: &Part, owner: Owner<'_>, of: For) -> TokenStream {
    let form = match &part.of {
        Of::Opaque(text) => quote!(__rt::Fingerprint::opaque(#text)),
        Of::Type(ty) => {
            let at = at(ty);
            let (ty, constant) = (without_itself(ty, owner), constant(of, at));
            let checked = (of == For::Arrays).then(|| quote_spanned!(at=> .in_arrays()));
            quote_spanned!(at=> <#ty as __rt::Shape>::#constant #checked)
        }
        Of::Edge(ty, number) => {
            let name = owner.ident.to_string();
            let number = Literal::u64_unsuffixed(*number);
            let edge = quote!(__rt::Fingerprint::edge(__rt::module_path!(), #name, #number));
            let (at, written) = (at(ty), compact(ty.to_token_stream()));
            match of {
                For::Cut => quote!(__rt::Fingerprint::cut(#edge, #written)),
                For::Whole => {
                    quote_spanned!(at=> <#ty as __rt::Shape>::CUT.beyond(#edge))
                }
                For::Arrays => {
                    quote_spanned!(at=> <#ty as __rt::Shape>::CUT.beyond(#edge).in_arrays())
                }
            }
        }
    };
    let sometimes = part.sometimes.then(|| quote!(.kind("sometimes")));
    let flattened = part.flattened.then(|| quote!(.kind("flatten")));
    quote!(#form #sometimes #flattened)
}

fn constant(of: For, at: Span) -> Ident {
    let name = match of {
        For::Arrays | For::Whole => "FINGERPRINT",
        For::Cut => "CUT",
    };
    Ident::new(name, at)
}

/// The source position of the type, with the name resolution of generated code.
fn at(ty: &Type) -> Span {
    Span::call_site().located_at(ty.span())
}

/// The tokens without white space, but between two words.
fn compact(tokens: TokenStream) -> String {
    let mut text = String::new();
    for token in tokens {
        let token = match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                format!("{open}{}{close}", compact(group.stream()))
            }
            token => token.to_string(),
        };
        let word = |letter: Option<char>| letter.is_some_and(|c| c.is_alphanumeric() || c == '_');
        if word(text.chars().next_back()) && word(token.chars().next()) {
            text.push(' ');
        }
        text.push_str(&token);
    }
    text
}

/// The type with `__rt::Recursive` for its owner: where it names the owner, with the owner's own
/// parameters, or `Self`.
fn without_itself(ty: &Type, owner: Owner<'_>) -> TokenStream {
    let (_, params, _) = owner.generics.split_for_impl();
    let params = params.to_token_stream();
    replaced(ty.to_token_stream(), owner.ident, &compact(params))
}

fn replaced(tokens: TokenStream, ident: &Ident, params: &str) -> TokenStream {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut out = TokenStream::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_path = is_colon(tokens.get(at.wrapping_sub(1)));
        let end = match &tokens[at] {
            TokenTree::Ident(name) if name == "Self" => Some(at + 1),
            TokenTree::Ident(name) if name == ident => with_params(&tokens, at + 1, params),
            _ => None,
        };
        match (end, &tokens[at]) {
            (Some(end), _) if !is_path && !is_colon(tokens.get(end)) => {
                out.extend(quote!(__rt::Recursive));
                at = end;
                continue;
            }
            (_, TokenTree::Group(group)) => {
                let inner = replaced(group.stream(), ident, params);
                let mut replaced = Group::new(group.delimiter(), inner);
                replaced.set_span(group.span());
                out.extend([TokenTree::Group(replaced)]);
            }
            (_, token) => out.extend([token.clone()]),
        }
        at += 1;
    }
    out
}

/// The end of the name that continues here, if it has exactly these parameters.
fn with_params(tokens: &[TokenTree], at: usize, params: &str) -> Option<usize> {
    let is = |at: usize, wanted: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
    if !is(at, '<') {
        return params.is_empty().then_some(at);
    }
    let (mut depth, mut end) = (0, at);
    loop {
        match () {
            () if is(end, '<') => depth += 1,
            () if is(end, '>') => depth -= 1,
            () => {}
        }
        end += 1;
        if depth == 0 || end >= tokens.len() {
            break;
        }
    }
    let written = compact(tokens[at..end].iter().cloned().collect());
    (written == params).then_some(end)
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_replaced_where_it_contains_itself() {
        let item: syn::ItemStruct = syn::parse_str("struct Node<T, const N: usize> {}").unwrap();
        let owner = Owner {
            ident: &item.ident,
            generics: &item.generics,
        };
        for (ty, without) in [
            ("Vec<Node<T, N>>", "Vec<__rt::Recursive>"),
            ("Option<Box<Self>>", "Option<Box<__rt::Recursive>>"),
            ("(u8, [Node<T, N>; 2])", "(u8,[__rt::Recursive;2])"),
            // Another instantiation, and other types.
            ("Vec<Node<u8, N>>", "Vec<Node<u8,N>>"),
            ("Vec<other::Node<T, N>>", "Vec<other::Node<T,N>>"),
            ("Self::Item", "Self::Item"),
            ("Nodes", "Nodes"),
        ] {
            let ty: Type = syn::parse_str(ty).unwrap();
            assert_eq!(compact(without_itself(&ty, owner)), without);
        }
    }

    #[test]
    fn a_type_is_written_without_spaces() {
        let ty: Type = syn::parse_str("Vec < & 'static dyn  Any >").unwrap();
        assert_eq!(compact(ty.to_token_stream()), "Vec<&'static dyn Any>");
    }
}
