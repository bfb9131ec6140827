//! First stage: reads the function and its attributes, without judging their meaning.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Expr, FnArg, Generics, Ident, Meta, Pat, Signature, Token, Type, Visibility};

use crate::args::{Args, Place};
use crate::errors::Errors;
use crate::syntax::{Cached, Key};

pub(crate) struct Function {
    /// The attributes of a cached type, without fields.
    pub(crate) of: Cached,
    /// The expression of `store = …`.
    pub(crate) store: Option<Expr>,
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    /// Without the marks above its parameters.
    pub(crate) sig: Signature,
    /// With its braces.
    pub(crate) body: TokenStream,
    /// Without `self`.
    pub(crate) params: Vec<Param>,
}

pub(crate) struct Param {
    pub(crate) pat: Pat,
    pub(crate) ty: Type,
    /// The mark `#[context]`.
    pub(crate) context: Option<Ident>,
    /// The mark `#[key(…)]`.
    pub(crate) key: Option<Key>,
}

impl Function {
    /// # Errors
    /// If it is no function with a body.
    pub(crate) fn read(
        arguments: TokenStream,
        item: TokenStream,
        errors: &mut Errors,
    ) -> syn::Result<Self> {
        let Item {
            attrs,
            vis,
            mut sig,
            body,
        } = syn::parse2(item)?;
        let mut args = Args::within(arguments, Place::Function, errors);
        let store = args.value("store");
        let named = (sig.ident.clone(), vis.clone(), Generics::default());
        let of = Cached::with(&mut args, named);
        let mut params = Vec::new();
        for input in &mut sig.inputs {
            if let FnArg::Typed(typed) = input {
                let marks = Marks::taken(&mut typed.attrs, errors);
                params.push(Param {
                    pat: (*typed.pat).clone(),
                    ty: (*typed.ty).clone(),
                    context: marks.context,
                    key: marks.key,
                });
            }
        }
        Ok(Function {
            of,
            store,
            attrs,
            vis,
            sig,
            body,
            params,
        })
    }

    /// The function as it would be without a cache.
    pub(crate) fn plain(&self) -> TokenStream {
        let Function {
            attrs,
            vis,
            sig,
            body,
            ..
        } = self;
        quote!(#(#attrs)* #vis #sig #body)
    }
}

/// The marks above a parameter.
#[derive(Default)]
struct Marks {
    context: Option<Ident>,
    key: Option<Key>,
}

impl Marks {
    /// Takes the marks from the attributes of a parameter: the compiler knows no such attributes.
    fn taken(attrs: &mut Vec<Attribute>, errors: &mut Errors) -> Self {
        let mut marks = Marks::default();
        attrs.retain(|attr| {
            if attr.path().is_ident("context") {
                if !matches!(attr.meta, Meta::Path(_)) {
                    errors.push(attr, "`context` takes no arguments: write `#[context]`");
                }
                marks.context = attr.path().get_ident().cloned();
            } else if attr.path().is_ident("key") {
                let list = match &attr.meta {
                    Meta::List(list) => list.tokens.clone(),
                    Meta::Path(_) => TokenStream::new(),
                    Meta::NameValue(value) => {
                        let message = "`key` has the wrong form: write it as in `#[key(hash_tag)]`";
                        errors.push(value, message);
                        TokenStream::new()
                    }
                };
                let mut args = Args::within(list, Place::Key, errors);
                marks.key = Some(Key {
                    with: args.value("with"),
                    hash_tag: args.flag("hash_tag"),
                });
            } else {
                return true;
            }
            false
        });
        marks
    }
}

/// A function. Its body is not parsed: the compiler reports its mistakes better.
struct Item {
    attrs: Vec<Attribute>,
    vis: Visibility,
    sig: Signature,
    body: TokenStream,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let not_a_function = "only a function can be a cached function: write `#[cached_fn(…)]` above an `async fn`; a struct is cached by \
             `#[derive(Cached)]`";
        let is_function = input.peek(Token![fn])
            || input.peek(Token![async])
            || input.peek(Token![const]) && !input.peek2(syn::Ident)
            || input.peek(Token![unsafe])
            || input.peek(Token![extern]);
        if !is_function {
            return Err(input.error(not_a_function));
        }
        let sig: Signature = input.parse()?;
        let body: TokenStream = input.parse()?;
        let has_body = body.clone().into_iter().next().is_some_and(|token| {
            matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
        });
        if !has_body {
            let message = "a cached function has a body: in a trait write the method without `#[cached_fn]`, and call a cached \
                           function in its implementation";
            return Err(syn::Error::new_spanned(sig.to_token_stream(), message));
        }
        Ok(Item {
            attrs,
            vis,
            sig,
            body,
        })
    }
}
