//! The code emitted for aliases.

use proc_macro2::{Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{GenericParam, Ident, Visibility};

use super::{Target, at, located};
use crate::model::{Alias, Cached};

/// The look-ups by other fields: inherent methods with the span of the alias. So if there is
/// another method of that name, the compiler points at the alias.
pub(super) fn aliases(model: &Cached, target: &Target) -> Option<TokenStream> {
    if model.aliases.is_empty() {
        return None;
    }
    let mut target = target.clone();
    for alias in &model.aliases {
        target.require_alias_field(&alias.ty);
    }
    let traits = model
        .aliases
        .iter()
        .enumerate()
        .map(|(number, alias)| aliased(number, alias, &target));
    let look_ups = model
        .aliases
        .iter()
        .enumerate()
        .map(|(number, alias)| look_ups(number, alias, model));
    let ty = &target.ty;
    let (params, _, bounds) = target.generics.split_for_impl();
    Some(quote! {
        #(#traits)*
        #[allow(dead_code)]
        impl #params #ty #bounds { #(#look_ups)* }
    })
}

/// The items in the implementation of `CachedType`: the aliases whose absences a stored value ends.
pub(super) fn items(model: &Cached) -> Option<TokenStream> {
    let numbered = model.aliases.iter().enumerate();
    let cached = numbered.filter(|(_, alias)| alias.ttl_absent.is_some());
    let numbers: Vec<Literal> = cached
        .map(|(number, _)| Literal::usize_unsuffixed(number))
        .collect();
    (!numbers.is_empty()).then(|| {
        quote! {
            const ALIAS_ABSENCES: bool = true;
            fn write_aliases(&self, __out: &mut __rt::AliasKeys<'_>) {
                #(__rt::write_alias::<Self, #numbers>(self, __out);)*
            }
        }
    })
}

fn aliased(number: usize, alias: &Alias, target: &Target) -> TokenStream {
    let (name, member, ty) = (&alias.name, &alias.member, &alias.ty);
    let number = Literal::usize_unsuffixed(number);
    let write = alias.with.as_ref().map(|function| {
        let write =
            quote_spanned!(at(function)=> __rt::WithResult::write_to(#function(value), out));
        quote! {
            fn write(value: __rt::AliasRef<'_, #ty>, out: &mut __rt::KeyWriter) { #write }
        }
    });
    // The error about a type that can't be part of a key points at the alias.
    let of = quote_spanned!(located(alias.span)=> __rt::Aliased<#number>);
    let ttl_absent = alias.ttl_absent.map(|millis| {
        let millis = Literal::u64_unsuffixed(millis);
        quote! {
            const TTL_ABSENT: __rt::Option<__rt::Duration> =
                __rt::Option::Some(__rt::Duration::from_millis(#millis));
        }
    });
    let body = quote! {
        const NAME: &'static str = #name;
        #ttl_absent
        type Field = #ty;
        fn field(&self) -> &#ty { &self.#member }
        #write
    };
    target.implement(of, body)
}

fn look_ups(number: usize, alias: &Alias, model: &Cached) -> TokenStream {
    let span = located(alias.span);
    let (vis, name, ty) = (beginning_at(span, &model.vis), &alias.name, &alias.ty);
    let number = Literal::usize_unsuffixed(number);
    let method = |verb: &str| Ident::new(&format!("{verb}_by_{name}"), span);
    let (get, load) = (method("get"), method("load"));
    let about_get = format!(
        " Reads the value with this `{name}`, if its key is cached: [`{load}`](Self::{load}) looks it up. `None` is a miss."
    );
    let about_load = format!(
        " Begins a load of the value with this `{name}`: `{load}(&store, …).run(find_key, load)`. Where its key is \
         not cached, `find_key` looks it up; where the value is not cached, `load` loads it. Both may be called twice."
    );
    let params = model
        .generics
        .params
        .iter()
        .filter_map(|param| match param {
            GenericParam::Type(param) => Some(&param.ident),
            GenericParam::Const(param) => Some(&param.ident),
            GenericParam::Lifetime(_) => None,
        });
    let params = quote!(#(#params,)*);
    let named = Ident::new(&format!("{name}_alias"), span);
    let about_named = format!(
        " Names the alias `{name}`, for the writes that give a value this alias: \
         `store.of::<…>().create([…::{named}(…)])`."
    );
    let named = alias.ttl_absent.map(|_| {
        quote_spanned! {span=>
            #[doc = #about_named]
            #vis fn #named(value: __rt::AliasRef<'_, #ty>) -> __rt::Alias<Self> {
                __rt::alias::<Self, #number>(value)
            }
        }
    });
    quote_spanned! {span=>
        #named

        #[doc = #about_get]
        #[doc = ""]
        #[doc = " # Errors"]
        #[doc = " As `get`."]
        #vis fn #get<'s>(
            store: &'s __rt::Store,
            value: __rt::AliasRef<'_, #ty>,
        ) -> impl __rt::Future<Output = __rt::Result<__rt::Option<Self>>> + __rt::Send + use<'s, #params> {
            __rt::get_by::<Self, #number>(store, value)
        }

        #[doc = #about_load]
        #vis fn #load<'s>(
            store: &'s __rt::Store,
            value: __rt::AliasRef<'_, #ty>,
        ) -> __rt::Load<'s, Self, __rt::ByAlias<Self, #number>> {
            __rt::load_by::<Self, #number>(store, value)
        }
    }
}

/// The visibility, with the span of the alias on its first token: the compiler's messages about a
/// method begin there.
fn beginning_at(span: Span, vis: &Visibility) -> TokenStream {
    let mut tokens: Vec<TokenTree> = vis.to_token_stream().into_iter().collect();
    if let Some(first) = tokens.first_mut() {
        first.set_span(span);
    }
    tokens.into_iter().collect()
}
