//! The shape of a cached type, and the implementation of `Shape`.

use proc_macro2::{Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Generics, Ident, Path, parse_quote};

use super::{Target, located, within};
use crate::model::Cached;
use crate::shape::emit::{For, Owner, constants, expression};
use crate::shape::{Content, Form, Guarded, Of, Part, Shape};
use crate::types::{is_phantom, mentions_param};

/// The constant that decides the layout of the entries, and fails where the lock does not hold.
pub(super) fn constant(guarded: &Guarded, model: &Cached) -> TokenStream {
    let owner = Owner {
        ident: &model.ident,
        generics: &model.generics,
    };
    let of = match guarded.compact {
        Some(_) => For::Arrays,
        None => For::Whole,
    };
    let shape = expression(&guarded.shape.form, owner, of);
    let checked = guarded.lock.map(|(lock, at)| {
        let (name, lock) = (model.ident.to_string(), Literal::u32_unsuffixed(lock));
        let version = Literal::u16_unsuffixed(model.version);
        quote_spanned!(located(at)=> __rt::is_locked(shape, #name, #version, #lock);)
    });
    let layout = match guarded.compact {
        Some(_) => quote!(shape.to_u32()),
        None => quote!(0),
    };
    quote! {
        const SHAPE: u32 = {
            let shape = #shape;
            #checked
            #layout
        };
    }
}

/// Has the compiler calculate the constant even if nothing uses it. It can't for a generic type.
pub(super) fn evaluated(model: &Cached) -> Option<TokenStream> {
    let ident = &model.ident;
    let is_concrete = model.generics.params.is_empty() && model.guarded.is_some();
    is_concrete.then(|| quote!(const _: u32 = <#ident as __rt::CachedType>::SHAPE;))
}

pub(crate) fn implementation(
    ident: &Ident,
    generics: &Generics,
    runtime: &Path,
    shape: &Shape,
) -> TokenStream {
    let mut target = Target::new(ident, generics);
    target.require_shapes(shape);
    let body = constants(shape, Owner { ident, generics });
    within(runtime, target.implement(quote!(__rt::Shape), body))
}

impl Target {
    /// Requires each type parameter that is a part of the form to have a shape.
    pub(super) fn require_shapes(&mut self, shape: &Shape) {
        let params: Vec<Ident> = self
            .generics
            .type_params()
            .map(|p| p.ident.clone())
            .collect();
        for param in params {
            if parts(&shape.form).any(|part| mentions(part, &param)) {
                self.require(parse_quote!(#param: __rt::Shape));
            }
        }
    }
}

fn mentions(part: &Part, param: &Ident) -> bool {
    match &part.of {
        Of::Type(ty) | Of::Edge(ty, _) => !is_phantom(ty) && mentions_param(ty, param),
        Of::Opaque(_) => false,
    }
}

fn parts(form: &Form) -> Box<dyn Iterator<Item = &Part> + '_> {
    match form {
        Form::Opaque(_) | Form::Unit => Box::new(std::iter::empty()),
        Form::As(part) => Box::new(std::iter::once(part)),
        Form::Tuple(parts) => Box::new(parts.iter()),
        Form::Struct(fields, _) => Box::new(fields.iter().map(|(_, part)| part)),
        Form::Enum { variants, .. } => {
            Box::new(variants.iter().flat_map(|(_, content)| match content {
                Content::Unit => Vec::new(),
                Content::Newtype(part) => vec![part],
                Content::Tuple(parts) => parts.iter().collect(),
                Content::Struct(fields) => fields.iter().map(|(_, part)| part).collect(),
            }))
        }
    }
}
