//! Last stage: emits the function, the cached type of its results, and the functions beside it.
//!
//! The type has the function's name: types and functions have separate names in Rust. Its private
//! function `__call` has the body, once, for calls and for refreshes.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::{Attribute, FnArg, Ident, Pat, ReturnType, Token, Type, WherePredicate, parse_quote};

use super::{Function, Param, Store};
use crate::emit::{at, implementations, within};
use crate::types::{is_plain_key, is_str, shown, ungrouped};

pub(super) fn function(function: &Function) -> TokenStream {
    let Function {
        of,
        attrs,
        vis,
        sig,
        returns,
        ..
    } = function;
    let (name, value) = (&sig.ident, &returns.value);
    let about = format!(" The cached results of the function [`{name}`](fn@{name}).");
    let cfgs: Vec<&Attribute> = of_kind(attrs, &["cfg"]).collect();
    // Attributes about the lints of the body are with the body.
    let outer = attrs.iter().filter(|attr| !is_of(attr, &["expect"]));
    let called = called(function);
    let arguments = arguments(function);
    let runtime = &of.runtime;
    let bounds = bounds(function, &quote!(#runtime::__private));
    let implementations = implementations(of);
    let serde = serde(function, value);
    let beside = beside(function);
    let inner = within(runtime, quote!(#implementations #serde #beside #called));
    let mut outer_sig = sig.clone();
    outer_sig.inputs = passed_on(function);
    let of_outer = outer_sig.generics.make_where_clause();
    of_outer.predicates.extend(bounds);
    if of_outer.predicates.is_empty() {
        outer_sig.generics.where_clause = None;
    }
    quote! {
        #(#outer)*
        #[allow(unused_qualifications, clippy::absolute_paths)]
        #vis #outer_sig {
            #name::__call(false, #(#arguments),*).await
        }

        #(#cfgs)*
        #[doc = #about]
        #[allow(non_camel_case_types)]
        #vis struct #name {
            value: #value,
        }

        #(#cfgs)*
        #inner
    }
}

/// The body of the function, for calls and for refreshes.
fn called(function: &Function) -> TokenStream {
    let Function {
        attrs,
        sig,
        body,
        params,
        returns,
        store,
        outlives,
        ..
    } = function;
    let name = &sig.ident;
    let lints = of_kind(attrs, &["allow", "warn", "deny", "forbid", "expect"]);
    let (generics, output) = (&sig.generics, &sig.output);
    let (_, _, own_bounds) = generics.split_for_impl();
    let inputs = &sig.inputs;
    let store = match store {
        Store::Param(store) => quote!(#store),
        Store::Of(expression) => quote_spanned!(at(expression)=> &(#expression)),
    };
    let keys = params.iter().filter_map(key);
    let keys: Vec<TokenStream> = keys.collect();
    let key = match &*keys {
        [one] => quote!(#one),
        several => quote!((#(#several),*)),
    };
    let run = match (returns.fallible, returns.optional) {
        (true, false) => "result",
        (true, true) => "optional_result",
        (false, false) => "value",
        (false, true) => "optional_value",
    };
    let run = match outlives {
        false => format_ident!("{run}"),
        true => format_ident!("{run}_in_background"),
    };
    let copies = params.iter().filter(|_| *outlives).filter_map(copied);
    let (own, lend): (Vec<_>, Vec<_>) = copies.unzip();
    let of_key = bounds(function, &quote!(__rt));
    let ty = match output {
        ReturnType::Type(_, ty) => quote!(#ty),
        ReturnType::Default => quote!(()),
    };
    quote! {
        impl #name where #(#of_key),* {
            #(#lints)*
            #[allow(clippy::too_many_arguments)]
            async fn __call #generics(__fresh: bool, #inputs) #output #own_bounds {
                let __load = __rt::functions::begin::<Self>(#store, __fresh, #key);
                #(#own)*
                // With its type, so that a mistake in the body is found where it is.
                #[allow(unreachable_code, clippy::let_and_return)]
                let __body = async move || #output {
                    #(#lend)*
                    let __result: #ty = #body;
                    __result
                };
                __rt::functions::#run(__load, __body).await
            }
        }
    }
}

/// The functions beside the cached one: `products::invalidate`.
fn beside(function: &Function) -> TokenStream {
    let Function {
        of,
        vis,
        sig,
        params,
        returns,
        ..
    } = function;
    let (name, value) = (&sig.ident, &returns.value);
    let keys = params.iter().filter_map(|param| param.key.as_ref());
    let (names, types): (Vec<&Ident>, Vec<TokenStream>) = keys
        .map(|part| {
            let ty = match part.with {
                true => {
                    let owned = &part.owned;
                    quote!(&#owned)
                }
                false => {
                    let owned = &part.owned;
                    quote_spanned!(at(owned)=> <#owned as __rt::KeyPart>::Ref<'_>)
                }
            };
            (&part.name, ty)
        })
        .unzip();
    let key = match &*names {
        [one] => quote!(#one),
        several => quote!((#(#several),*)),
    };
    let about_get = format!(
        " The cached result of [`{name}`](fn@{name}) for these arguments. `None` is a miss."
    );
    let about_invalidate = " Removes the cached result for these arguments, so that the next call runs the function. \
                            Returns whether there was one.";
    let about_refresh =
        " Runs the function, whatever is cached, caches the result, and returns it.";
    let of_key = bounds(function, &quote!(__rt));
    let tags = (!of.tags.templates.is_empty()).then(|| {
        quote! {
            /// The tags of the results: one function for each, which takes the parameters in it.
            #vis fn tags() -> <Self as __rt::CachedType>::Tags {
                __rt::Default::default()
            }
        }
    });
    let (generics, output, inputs) = (&sig.generics, &sig.output, passed_on(function));
    let (_, _, own_bounds) = generics.split_for_impl();
    let arguments = arguments(function);
    quote! {
        #[allow(dead_code, clippy::too_many_arguments)]
        impl #name where #(#of_key),* {
            #[doc = #about_get]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = " If the store can't be queried."]
            #vis fn get<'s>(
                store: &'s __rt::Store,
                #(#names: #types),*
            ) -> impl __rt::Future<Output = __rt::Result<__rt::Option<#value>>> + __rt::Send + use<'s> {
                __rt::functions::get::<Self>(store, #key)
            }

            #[doc = #about_invalidate]
            #[doc = ""]
            #[doc = " # Errors"]
            #[doc = " If the server did not confirm it. It is then delivered later."]
            #vis fn invalidate<'s>(
                store: &'s __rt::Store,
                #(#names: #types),*
            ) -> impl __rt::Future<Output = __rt::Result<bool>> + __rt::Send + use<'s> {
                store.of::<Self>().del(#key)
            }

            #[doc = #about_refresh]
            #vis async fn refresh #generics(#inputs) #output #own_bounds {
                Self::__call(true, #(#arguments),*).await
            }

            #tags
        }
    }
}

/// serde's traits and the runtime's, by the value.
fn serde(function: &Function, value: &Type) -> TokenStream {
    let name = &function.sig.ident;
    let of_key = bounds(function, &quote!(__rt));
    let at_value = at(value);
    let (serialize, deserialize) = (
        quote_spanned!(at_value=> <#value as __rt::Serialize>::serialize(&self.value, serializer)),
        quote_spanned!(at_value=> <#value as __rt::Deserialize<'de>>::deserialize(deserializer)),
    );
    quote! {
        impl __rt::Serialize for #name {
            fn serialize<S: __rt::Serializer>(&self, serializer: S) -> __rt::Result<S::Ok, S::Error> {
                #serialize
            }
        }

        impl<'de> __rt::Deserialize<'de> for #name {
            fn deserialize<D: __rt::Deserializer<'de>>(deserializer: D) -> __rt::Result<Self, D::Error> {
                let value = #deserialize?;
                __rt::Result::Ok(Self { value })
            }
        }

        impl __rt::Function for #name where #(#of_key),* {
            type Value = #value;

            fn of(value: #value) -> Self {
                Self { value }
            }

            fn into_value(self) -> #value {
                self.value
            }
        }
    }
}

/// The bounds on types that are not plainly fit: of parts of the key, and of what a load that
/// outlives its call copies. They are the same everywhere, and have the span of the type: so an
/// unfit type causes one error, there. `runtime` has the traits.
fn bounds(function: &Function, runtime: &TokenStream) -> Vec<WherePredicate> {
    let bound = |ty: &Type, of: TokenStream| -> WherePredicate {
        let tokens = ty.to_token_stream().into_iter();
        let end = tokens
            .last()
            .map_or_else(Span::call_site, |token| token.span());
        let bound = quote!(: #runtime::#of).into_iter().map(|mut token| {
            token.set_span(end);
            token
        });
        let bound: TokenStream = bound.collect();
        parse_quote!(#ty #bound)
    };
    let mut bounds = Vec::new();
    for param in &function.params {
        if let Some(part) = param.key.as_ref().filter(|part| !part.with)
            && !is_plainly_known(&part.owned)
        {
            bounds.push(bound(&part.owned, quote!(KeyPart)));
        }
        // A type with lifetimes is left to the place where it is copied.
        if let Type::Reference(reference) = ungrouped(&param.ty)
            && function.outlives
            && !is_str(&reference.elem)
            && !shown(&reference.elem).contains('\'')
        {
            bounds.push(bound(&reference.elem, quote!(functions::Copied)));
        }
    }
    bounds
}

/// Whether the type of a part needs no bound: it is plain, or its parts are checked one by one.
fn is_plainly_known(owned: &Type) -> bool {
    is_plain_key(owned) || matches!(ungrouped(owned), Type::Tuple(_))
}

/// The key part of a parameter, from the parameter.
fn key(param: &Param) -> Option<TokenStream> {
    let part = param.key.as_ref()?;
    let (name, owned) = (&part.name, &part.owned);
    let lent = match ungrouped(&param.ty) {
        Type::Reference(_) => quote!(#name),
        _ => quote!(&#name),
    };
    let is_text =
        matches!(ungrouped(&param.ty), Type::Reference(reference) if is_str(&reference.elem));
    Some(match part.with || is_text {
        true => lent,
        false => quote_spanned!(at(owned)=> <#owned as __rt::KeyPart>::key_ref(#lent)),
    })
}

/// For a load that outlives its call: an owned copy of a borrowed parameter, and the parameter
/// again, borrowed from the copy.
fn copied(param: &Param) -> Option<(TokenStream, TokenStream)> {
    let Type::Reference(reference) = ungrouped(&param.ty) else {
        return None;
    };
    let Pat::Ident(pat) = &param.pat else {
        return None;
    };
    let (name, of) = (&pat.ident, &reference.elem);
    let own = quote_spanned!(at(of)=> let #name = __rt::functions::owned::<#of>(#name););
    let lend = quote! {
        #[allow(unused_variables)]
        let #name = __rt::functions::lent::<#of>(&#name);
    };
    Some((own, lend))
}

/// The parameters of a function that only passes them on: each with a name.
fn passed_on(function: &Function) -> Punctuated<FnArg, Token![,]> {
    let mut inputs = function.sig.inputs.clone();
    for (input, argument) in inputs.iter_mut().zip(arguments(function)) {
        if let FnArg::Typed(typed) = input {
            *typed.pat = parse_quote!(#argument);
        }
    }
    inputs
}

/// The names of the parameters in such a function.
fn arguments(function: &Function) -> Vec<Ident> {
    let params = function.params.iter().enumerate();
    params.map(|(at, param)| argument(at, param)).collect()
}

fn argument(at: usize, param: &Param) -> Ident {
    match &param.pat {
        Pat::Ident(pat) => pat.ident.clone(),
        _ => format_ident!("__{at}"),
    }
}

fn of_kind<'a>(
    attrs: &'a [Attribute],
    names: &'a [&'a str],
) -> impl Iterator<Item = &'a Attribute> {
    attrs.iter().filter(move |attr| is_of(attr, names))
}

fn is_of(attr: &Attribute, names: &[&str]) -> bool {
    names.iter().any(|name| attr.path().is_ident(name))
}
