//! Emits the code for tags.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Member};

use super::{Target, at};
use crate::model::{Cached, KeyField, KeyForm, Piece, TagField, Template};

/// The items in the implementation of `CachedType`.
pub(super) fn items(model: &Cached) -> TokenStream {
    let tags = &model.tags;
    let name = match tags.templates.is_empty() {
        true => quote!(()),
        false => quote!(__Tags),
    };
    if tags.is_empty() {
        return quote!(type Tags = #name;);
    }
    let (from_key, from_value): (Vec<&Template>, Vec<&Template>) =
        tags.templates.iter().partition(|tag| follows_from_key(tag));
    let of_key = (!from_key.is_empty() || tags.clear).then(|| {
        let of_type = tags.clear.then(|| quote!(__tags.of_type(Self::PREFIX);));
        let written = from_key.iter().map(|template| {
            written(template, model, |field| {
                let name = key_name(field.in_key.unwrap_or_default());
                quote!(#name)
            })
        });
        quote!(#of_type #(__tags.tag(|__out| { #written });)*)
    });
    let key = of_key.as_ref().map(|of_key| {
        let key = key_pattern(&from_key, model);
        quote!(fn write_key_tags(#key: Self::Key<'_>, __tags: &mut __rt::TagWriter<'_>) { #of_key })
    });
    let keyed = matches!(model.key.form, KeyForm::Fields(_)) && !model.in_field;
    // The tags of the key are then known only where the key is.
    let beside = (model.in_field && of_key.is_some()).then(|| {
        quote!(
            const KEY_TAGS: bool = true;
        )
    });
    let of_key = of_key.map(|of_key| match keyed {
        true => quote!(Self::write_key_tags(__rt::Keyed::cache_key(self), __tags);),
        false if model.in_field => TokenStream::new(),
        // The key is not in the value, so no tag contains a part of it.
        false => of_key,
    });
    let of_value = from_value.iter().map(|template| of_value(template, model));
    let computed = tags.function.as_ref().map(|function| {
        let at = at(function);
        let value = match model.in_field {
            true => quote_spanned!(at=> &self.value),
            false => quote_spanned!(at=> self),
        };
        quote_spanned!(at=> __tags.extend(#function(#value));)
    });
    let written = quote!(#of_key #(#of_value)* #computed);
    let written = (!written.is_empty())
        .then(|| quote!(fn write_tags(&self, __tags: &mut __rt::TagWriter<'_>) { #written }));
    quote! {
        const TAGGED: bool = true;
        type Tags = #name;
        #beside
        #key
        #written
    }
}

/// A pattern for the key that names the parts used in these tags.
fn key_pattern(tags: &[&Template], model: &Cached) -> TokenStream {
    let fields = tags.iter().flat_map(|tag| tag.fields());
    let used: Vec<usize> = fields.filter_map(|field| field.in_key).collect();
    if used.is_empty() {
        return quote!(_);
    }
    let names = (0..key_parts(model).len()).map(|at| match used.contains(&at) {
        true => key_name(at),
        false => format_ident!("_"),
    });
    match &*names.collect::<Vec<_>>() {
        [one] => quote!(#one),
        several => quote!((#(#several),*)),
    }
}

/// The items beside the implementation of `CachedType`.
pub(super) fn beside(model: &Cached, target: &Target) -> TokenStream {
    let tags = &model.tags;
    if tags.is_empty() {
        return TokenStream::new();
    }
    let tagged = target.implement(quote!(__rt::Tagged), TokenStream::new());
    let clearable = tags
        .clear
        .then(|| target.implement(quote!(__rt::Clearable), TokenStream::new()));
    let functions = (!tags.templates.is_empty()).then(|| {
        let mut bounded = Target::tags();
        let fields = tags.templates.iter().flat_map(Template::fields);
        for field in fields.filter(|field| field.in_key.is_none()) {
            bounded.require_alias_field(&field.ty);
        }
        let bounds = &bounded.generics.where_clause;
        let functions = tags.templates.iter().map(|template| function(template, model));
        quote! {
            #[derive(__rt::Default)]
            pub struct __Tags;
            #[allow(dead_code, private_interfaces, clippy::unused_self, clippy::trivially_copy_pass_by_ref)]
            impl __Tags #bounds { #(#functions)* }
        }
    });
    quote!(#tagged #clearable #functions)
}

/// Writes a tag that does not follow from the key. It is left out if an `Option` in it is `None`.
fn of_value(template: &Template, model: &Cached) -> TokenStream {
    let optional: Vec<&TagField> = template
        .fields()
        .filter(|field| field.in_key.is_none())
        .collect();
    let written = written(template, model, |field| {
        let (member, ty) = (&field.member, &field.ty);
        match field.in_key {
            Some(at) => match with(at, model) {
                true => quote!(&self.#member),
                false => quote!(<#ty as __rt::KeyPart>::key_ref(&self.#member)),
            },
            None => {
                let name = part_name(member);
                quote!(#name)
            }
        }
    });
    let tag = quote!(__tags.tag(|__out| { #written }););
    optional.iter().rev().fold(tag, |tag, field| {
        let (member, ty, name) = (&field.member, &field.ty, part_name(&field.member));
        quote!(if let __rt::Option::Some(#name) = <#ty as __rt::AliasField>::part(&self.#member) { #tag })
    })
}

/// Writes the pieces of a template. `found` gives the expression of each field.
fn written(
    template: &Template,
    model: &Cached,
    found: impl Fn(&TagField) -> TokenStream,
) -> TokenStream {
    let pieces = template.pieces.iter().map(|piece| match piece {
        Piece::Text(text) => quote!(__out.text(#text);),
        Piece::Field(field) => {
            let (part, found) = (part(field, model), found(field));
            quote!(<#part as __rt::KeyPart>::write(#found, __out);)
        }
    });
    quote!(#(#pieces)*)
}

/// The type that writes a field.
fn part(field: &TagField, model: &Cached) -> TokenStream {
    let ty = &field.ty;
    match field.in_key.map(|at| (at, with(at, model))) {
        Some((at, true)) => {
            let number = Literal::usize_unsuffixed(at);
            let target = &model.ident;
            quote!(__rt::With<#ty, #target, #number>)
        }
        Some((_, false)) => quote!(#ty),
        None => quote!(<#ty as __rt::AliasField>::Part),
    }
}

fn function(template: &Template, model: &Cached) -> TokenStream {
    let name = &template.function;
    let about = format!(" The tag `{}`.", template.written);
    let hold = Literal::u64_unsuffixed(model.policy.hold_millis);
    let params = template.fields().map(|field| {
        let (name, ty) = (part_name(&field.member), &field.ty);
        match field.in_key.map(|at| with(at, model)) {
            Some(true) => quote!(#name: &#ty),
            Some(false) => quote!(#name: <#ty as __rt::KeyPart>::Ref<'_>),
            None => quote!(#name: __rt::AliasRef<'_, #ty>),
        }
    });
    let written = written(template, model, |field| {
        let name = part_name(&field.member);
        quote!(#name)
    });
    quote! {
        #[doc = #about]
        pub fn #name(&self, #(#params),*) -> __rt::Tag {
            __rt::Tag::written(#hold, |__out| { #written })
        }
    }
}

fn follows_from_key(template: &Template) -> bool {
    template.fields().all(|field| field.in_key.is_some())
}

fn key_parts(model: &Cached) -> &[KeyField] {
    match &model.key.form {
        KeyForm::Fields(fields) => fields,
        KeyForm::Apart(_) => &[],
    }
}

fn with(at: usize, model: &Cached) -> bool {
    key_parts(model)
        .get(at)
        .is_some_and(|part| part.with.is_some())
}

fn key_name(at: usize) -> Ident {
    format_ident!("__key{at}")
}

/// The name of a field as a parameter or variable.
fn part_name(member: &Member) -> Ident {
    match member {
        Member::Named(name) => name.clone(),
        Member::Unnamed(at) => format_ident!("__{}", at.index),
    }
}
