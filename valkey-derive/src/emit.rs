//! Last stage: emits tokens for a model.
//!
//! It emits only constants, types and one-line methods. All code that can be generic is in the
//! runtime. The output is in an anonymous constant, so that its helper names (`__rt`) are hidden.
//! Requirements on the type of a key carry the span of the field's type, so that the compiler
//! points there.

mod alias;
pub(crate) mod shape;
mod tags;

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{GenericParam, Generics, Ident, Path, Type, WherePredicate, parse_quote};

use crate::model::{
    Cached, Choice, KeyField, KeyForm, Newtype, Policy, Template, Validation, Value,
};
use crate::ttl::Ttl;
use crate::types::{is_float, is_plain_alias, is_plain_key, mentioned_param, ungrouped};

pub(crate) fn cached(model: &Cached) -> TokenStream {
    within(&model.runtime, implementations(model))
}

/// The implementations of a cached type, for a scope with the names that they use.
pub(crate) fn implementations(model: &Cached) -> TokenStream {
    let target = Target::cached(model);
    let key_part = target.names_key_part.then(|| {
        quote!(
            use __rt::KeyPart as __KeyPart;
        )
    });
    let cached = target.implement(quote!(__rt::CachedType), constants(model));
    let fields = match &model.key.form {
        KeyForm::Fields(fields) => Some(fields),
        KeyForm::Apart(_) => None,
    };
    let keyed = fields.filter(|_| !model.in_field).map(|fields| {
        let key = match model.key.possible {
            true if fields.is_empty() => TokenStream::new(),
            true => tuple(fields, key_of_value),
            false => quote!(loop {}),
        };
        target.implement(
            quote!(__rt::Keyed),
            quote!(fn cache_key(&self) -> Self::Key<'_> { #key }),
        )
    });
    let functions = fields
        .into_iter()
        .flatten()
        .filter_map(|field| key_with(field, &target));
    let optional = model.tags.templates.iter().flat_map(Template::fields);
    let optional = optional.filter(|field| field.in_key.is_none());
    let optional = optional.map(|field| &field.ty);
    let alias_field = optional
        .chain(model.aliases.iter().map(|alias| &alias.ty))
        .any(|ty| !is_plain_alias(ty))
        .then(|| {
            quote!(
                use __rt::AliasField as __AliasField;
            )
        });
    let aliases = alias::aliases(model, &target);
    let ident = &model.ident;
    // The chain of a generic type is checked where it is used.
    let chain = model.migrate_from.as_ref().filter(|_| !target.is_generic());
    let chain = chain.map(|_| match model.policy.only_copy() {
        true => quote!(const _: __rt::Versions = __rt::all_versions::<#ident>();),
        false => quote!(const _: __rt::Versions = <#ident as __rt::CachedType>::VERSIONS;),
    });
    let is_shaped = shape::evaluated(model);
    let tags = tags::beside(model, &target);
    // A generic type is compared with others when it is first used.
    let registered = (!target.is_generic()).then(|| registered(model));
    quote!(#key_part #alias_field #cached #keyed #(#functions)* #aliases #tags #is_shaped #chain #registered)
}

pub(crate) fn newtype(model: &Newtype) -> TokenStream {
    let markers = &model.markers;
    let (ty, field, made) = match &model.field {
        Some((member, ty)) => (
            quote!(#ty),
            quote!(&self.#member),
            quote!(Self { #member: field #(, #markers: __rt::PhantomData)* }),
        ),
        None => (quote!(()), quote!(&()), quote!(loop {})),
    };
    let body = quote! {
        type Field = #ty;
        fn field(&self) -> &#ty { #field }
        fn of_field(field: #ty) -> Self { #made }
    };
    let limited = quote! {
        fn write_key(&self, out: &mut __rt::KeyWriter) {
            <Self as __rt::KeyPart>::write(self, out)
        }
    };
    let target = Target::newtype(model);
    let newtype = target.implement(quote!(__rt::Newtype), body);
    let limited = target.implement(quote!(__rt::LimitKey), limited);
    within(&model.runtime, quote!(#newtype #limited))
}

/// Wraps the implementations in a scope with the names that they use.
pub(crate) fn within(runtime: &Path, implementations: TokenStream) -> TokenStream {
    quote! {
        const _: () = {
            use #runtime::__private as __rt;
            #implementations
        };
    }
}

/// The type for which the traits are implemented.
#[derive(Clone)]
struct Target {
    ty: TokenStream,
    generics: Generics,
    names_key_part: bool,
}

impl Target {
    fn cached(model: &Cached) -> Self {
        let mut target = Target::new(&model.ident, &model.generics);
        // For a type without parameters, the compiler's own messages about missing traits are
        // better.
        if target.is_generic() {
            for param in model.generics.type_params() {
                let param = &param.ident;
                target.require(parse_quote!(#param: __rt::PrefixPart));
            }
            target.require(parse_quote! {
                Self: __rt::Serialize + __rt::DeserializeOwned + __rt::Send + __rt::Sync + 'static
            });
        }
        if let Some(guarded) = &model.guarded {
            target.require_shapes(&guarded.shape);
        }
        match &model.key.form {
            KeyForm::Fields(fields) => {
                for field in fields.iter().filter(|field| field.with.is_none()) {
                    target.require_key_part(&field.ty);
                }
            }
            KeyForm::Apart(ty) => target.require_key_part(ty),
        }
        let templates = model.tags.templates.iter();
        for field in templates.flat_map(Template::fields) {
            if field.in_key.is_none() {
                target.require_alias_field(&field.ty);
            }
        }
        target
    }

    fn newtype(model: &Newtype) -> Self {
        let mut target = Target::new(&model.ident, &model.generics);
        if target.is_generic() {
            target.require(parse_quote!(Self: __rt::Sync + 'static));
        }
        if let Some((_, ty)) = &model.field
            && mentioned_param(ty, &model.generics).is_some()
        {
            target.require(parse_quote!(#ty: __rt::KeyPart));
        }
        target
    }

    /// The struct with a function for each tag.
    fn tags() -> Self {
        Target::new(
            &Ident::new("__Tags", Span::call_site()),
            &Generics::default(),
        )
    }

    fn new(ident: &Ident, generics: &Generics) -> Self {
        let (_, params, _) = generics.split_for_impl();
        Target {
            ty: quote!(#ident #params),
            generics: generics.clone(),
            names_key_part: false,
        }
    }

    fn is_generic(&self) -> bool {
        !self.generics.params.is_empty()
    }

    fn require(&mut self, bound: WherePredicate) {
        self.generics.make_where_clause().predicates.push(bound);
    }

    /// Requires a type to be a `KeyPart`, unless it plainly is one. A type that is not then causes
    /// one error, at the type, and not one for every use of the key.
    fn require_key_part(&mut self, ty: &Type) {
        match ungrouped(ty) {
            Type::Tuple(tuple) => tuple
                .elems
                .iter()
                .for_each(|part| self.require_key_part(part)),
            ty if is_float(ty) || is_plain_key(ty) => {}
            ty => {
                self.require_of(ty, "__KeyPart");
                self.names_key_part = true;
            }
        }
    }

    /// As [`require_key_part`](Self::require_key_part), for the type of an alias.
    fn require_alias_field(&mut self, ty: &Type) {
        if !is_plain_alias(ty) {
            self.require_of(ty, "__AliasField");
        }
    }

    /// The whole bound has the span of the type, so that only the type is underlined. It counts as
    /// the user's code, so it is a single name: a path might violate the user's lints.
    fn require_of(&mut self, ty: &Type, name: &str) {
        let end = ty
            .to_token_stream()
            .into_iter()
            .last()
            .map_or_else(Span::call_site, |token| token.span());
        let name = Ident::new(name, end);
        let bound = quote_spanned!(end=> : #name);
        self.require(parse_quote!(#ty #bound));
    }

    fn implement(&self, of: TokenStream, body: TokenStream) -> TokenStream {
        let ty = &self.ty;
        let (params, _, bounds) = self.generics.split_for_impl();
        quote! {
            #[automatically_derived]
            impl #params #of for #ty #bounds { #body }
        }
    }
}

fn constants(model: &Cached) -> TokenStream {
    let prefix = prefix(model);
    let ttl = ttl(model.ttl);
    let version = Literal::u16_unsuffixed(model.version);
    let policy = policy(&model.policy);
    let names = &model.redacted;
    let redacted = (!names.is_empty())
        .then(|| quote!(const REDACTED: &'static [&'static str] = &[#(#names),*];));
    let shape = model
        .guarded
        .as_ref()
        .map(|guarded| shape::constant(guarded, model));
    let guarding = match model.strict {
        true => quote!(Strict),
        false => quote!(BestEffort),
    };
    let key = key_types(model);
    let tags = tags::items(model);
    let aliases = alias::items(model);
    let migration = model.migrate_from.as_ref().map(migration);
    let value = match model.in_field {
        true => quote!(&self.value),
        false => quote!(self),
    };
    let validate = model.validation.as_ref();
    let validate = validate.map(|validation| self::validate(validation, &value));
    let of_value = model.in_field.then(|| quote!(.map(|value| Self { value })));
    quote! {
        const PREFIX: &'static str = #prefix;
        const TTL: __rt::Ttl = #ttl;
        const VERSION: u16 = #version;
        #migration
        #policy
        #redacted
        #shape
        type Guarding = __rt::#guarding;
        #tags
        #validate
        #aliases
        #key
        fn __try_clone(&self) -> __rt::Option<Self> {
            use __rt::clones::*;
            (&__rt::Cloning(#value)).try_clone() #of_value
        }
    }
}

/// Registers a type without parameters. Nothing here depends on its implementation: after a mistake
/// in its key that would be a second error.
fn registered(model: &Cached) -> TokenStream {
    let (ident, prefix) = (&model.ident, &model.prefix);
    let version = Literal::u16_unsuffixed(model.version);
    let after = model.migrate_from.as_ref().map(
        |from| quote_spanned!(at(from)=> .after(const { &<#from as __rt::CachedType>::VERSIONS })),
    );
    let ttl_env = model.policy.choices.iter().find_map(|choice| match choice {
        Choice {
            setter: "ttl_env",
            value: Value::Text(variable),
        } => Some(quote!(__rt::Option::Some(#variable))),
        _ => None,
    });
    let ttl_env = ttl_env.unwrap_or_else(|| quote!(__rt::Option::None));
    quote! {
        __rt::inventory::submit! {
            __rt::Registered::new(
                ::core::any::type_name::<#ident>,
                #prefix,
                __rt::Versions::of(#version) #after,
                #ttl_env,
                ::core::file!(),
                ::core::line!(),
            )
        }
    }
}

fn migration(from: &Type) -> TokenStream {
    quote_spanned! {at(from)=>
        const VERSIONS: __rt::Versions = __rt::versions::<#from, Self>();
        fn __migrate<E: __rt::OldEntry>(entry: &E) -> __rt::Result<Self, __rt::Unmigrated> {
            __rt::migrated::<#from, Self, E>(entry)
        }
    }
}

/// Without a function the compiler finds the trait with the rules: see `Rules` in the runtime.
fn validate(validation: &Validation, value: &TokenStream) -> TokenStream {
    let fields = &validation.fields;
    let body = match &validation.function {
        Some(function) => {
            quote_spanned!(at(function)=> __rt::validated(#value, &[#(#fields),*], || #function(#value)))
        }
        None => quote_spanned! {located(validation.span)=>
            use __rt::validators::*;
            (&&&__rt::Rules(#value)).check(&[#(#fields),*])
        },
    };
    quote! {
        fn cache_validate(&self) -> __rt::Result<(), __rt::Invalid> { #body }
    }
}

/// The prefix, for a generic type with the names of its parameters, so that two instantiations
/// share no keys.
fn prefix(model: &Cached) -> TokenStream {
    let base = &model.prefix;
    if model.generics.params.is_empty() {
        return quote!(#base);
    }
    let names = model
        .generics
        .params
        .iter()
        .filter_map(|param| match param {
            GenericParam::Type(param) => {
                let name = &param.ident;
                Some(quote!(name(<#name as __rt::PrefixPart>::NAME)))
            }
            GenericParam::Const(param) => {
                let name = &param.ident;
                Some(quote!(number(#name as i128)))
            }
            GenericParam::Lifetime(_) => None,
        });
    let mut joined = quote!(__rt::Prefix::new(#base).open());
    for (at, name) in names.enumerate() {
        let comma = (at > 0).then(|| quote!(.comma()));
        joined.extend(quote!(#comma.#name));
    }
    quote!(const { &#joined.close() }.as_str())
}

fn ttl(ttl: Ttl) -> TokenStream {
    match ttl {
        Ttl::Never => quote!(__rt::Ttl::Never),
        Ttl::Millis(millis) => {
            let millis = Literal::u64_unsuffixed(millis);
            quote!(__rt::Ttl::from_millis(#millis))
        }
    }
}

/// Nothing for the default policy.
fn policy(policy: &Policy) -> Option<TokenStream> {
    let mut choices = TokenStream::new();
    for Choice { setter, value } in &policy.choices {
        let setter = Ident::new(setter, Span::call_site());
        let value = match value {
            Value::Flag => TokenStream::new(),
            Value::OnCorruptError => quote!(__rt::OnCorrupt::Error),
            Value::Zstd => quote!(__rt::Compression::Zstd),
            Value::Lz4 => quote!(__rt::Compression::Lz4),
            Value::Text(text) => quote!(#text),
            Value::Number(number) => Literal::u64_unsuffixed(*number).into_token_stream(),
            Value::Millis(millis) => {
                let millis = Literal::u64_unsuffixed(*millis);
                quote!(__rt::Duration::from_millis(#millis))
            }
        };
        choices.extend(quote!(.#setter(#value)));
    }
    (!choices.is_empty()).then(|| quote!(const POLICY: __rt::Policy = __rt::Policy::new()#choices;))
}

/// The owned and the borrowed type of the key.
fn key_types(model: &Cached) -> TokenStream {
    let (types, owned, borrowed) = match &model.key.form {
        KeyForm::Fields(fields) => (
            fields.iter().map(|field| &field.ty).collect(),
            tuple(fields, owned),
            tuple(fields, borrowed),
        ),
        KeyForm::Apart(ty) => (vec![&**ty], quote!(#ty), looked_up(ty)),
    };
    let owned = if model.key.possible {
        owned
    } else {
        quote!(__rt::ImpossibleKey<Self>)
    };
    // The compiler reports a type that is less visible than the cached type here. It is one of
    // those that are not plain.
    let suspect = types.iter().find(|ty| !is_plain_key(ty)).or(types.first());
    let span = suspect.map_or_else(Span::call_site, at);
    quote_spanned! {span=>
        type OwnedKey = #owned;
        type Key<'k> = #borrowed;
    }
}

fn owned(field: &KeyField) -> TokenStream {
    let ty = &field.ty;
    let part = match &field.with {
        Some(with) => {
            let number = Literal::usize_unsuffixed(with.number);
            quote!(__rt::With<#ty, Self, #number>)
        }
        None => quote!(#ty),
    };
    if field.hash_tag {
        quote!(__rt::HashTag<#part>)
    } else {
        part
    }
}

fn borrowed(field: &KeyField) -> TokenStream {
    let ty = &field.ty;
    match field.with {
        Some(_) => quote!(&'k #ty),
        None => looked_up(ty),
    }
}

/// The type of a look-up's argument. For an invalid key type it is a plausible one.
fn looked_up(ty: &Type) -> TokenStream {
    match ungrouped(ty) {
        Type::Tuple(tuple) if tuple.elems.iter().any(is_float) => {
            let parts = tuple.elems.iter().map(looked_up);
            quote!((#(#parts,)*))
        }
        float if is_float(float) => quote!(#float),
        _ => quote_spanned!(at(ty)=> <#ty as __rt::KeyPart>::Ref<'k>),
    }
}

fn key_of_value(field: &KeyField) -> TokenStream {
    let (member, ty) = (&field.member, &field.ty);
    match field.with {
        Some(_) => quote!(&self.#member),
        None => quote_spanned!(at(ty)=> <#ty as __rt::KeyPart>::key_ref(&self.#member)),
    }
}

fn tuple(fields: &[KeyField], part: impl Fn(&KeyField) -> TokenStream) -> TokenStream {
    match fields {
        [field] => part(field),
        fields => {
            let parts = fields.iter().map(part);
            quote!((#(#parts),*))
        }
    }
}

/// Implements `KeyWith` for a field with `key(with = "path")`.
fn key_with(field: &KeyField, target: &Target) -> Option<TokenStream> {
    let with = field.with.as_ref()?;
    let (ty, number) = (&field.ty, Literal::usize_unsuffixed(with.number));
    let write = with.function.as_ref().map(
        |function| quote_spanned!(at(function)=> __rt::WithResult::write_to(#function(foreign), out)),
    );
    let body = quote!(fn write(foreign: &#ty, out: &mut __rt::KeyWriter) { #write });
    Some(target.implement(quote!(__rt::KeyWith<#ty, #number>), body))
}

/// The source position of these tokens, with the name resolution of generated code.
pub(crate) fn at(tokens: &impl ToTokens) -> Span {
    located(tokens.span())
}

/// This source position, with the name resolution of generated code.
fn located(span: Span) -> Span {
    Span::call_site().located_at(span)
}
