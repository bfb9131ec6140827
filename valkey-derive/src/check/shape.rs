//! Rules for `layout` and `lock`.

use proc_macro2::Span;
use syn::{Generics, Ident, LitStr};

use crate::args::Named;
use crate::errors::Errors;
use crate::shape::{Guarded, Shape};
use crate::suggest::nearest;

/// `None` for a type with neither, and after a mistake.
pub(super) fn guarded(
    layout: Option<&LitStr>,
    lock: Option<&Named<LitStr>>,
    shape: Option<Shape>,
    generics: &Generics,
    errors: &mut Errors,
) -> Option<Guarded> {
    let compact = layout.and_then(|layout| is_compact(layout, errors));
    let lock = lock.and_then(|lock| locked(lock, generics, errors));
    let shape = shape?;
    let carried = compact.is_none() || shape.unfit.is_empty();
    if compact.is_some() {
        for unfit in &shape.unfit {
            let message = format!(
                "`layout = \"compact\"` writes arrays instead of names, and {}",
                unfit.why
            );
            errors.push(&unfit.at, message);
        }
    }
    (carried && (compact.is_some() || lock.is_some())).then_some(Guarded {
        shape,
        compact,
        lock,
    })
}

fn is_compact(layout: &LitStr, errors: &mut Errors) -> Option<Span> {
    let help = match layout.value().as_str() {
        "compact" => return Some(layout.span()),
        "named" => return None,
        other => match nearest(other, ["compact", "named"]) {
            Some(meant) => format!("did you mean `layout = \"{meant}\"`?"),
            None => "write `layout = \"compact\"`, or leave it out for the named layout".to_owned(),
        },
    };
    errors.push(
        layout,
        format!("unknown layout `{}`: {help}", layout.value()),
    );
    None
}

/// The number of a lock, and its position.
fn locked(lock: &Named<LitStr>, generics: &Generics, errors: &mut Errors) -> Option<(u32, Span)> {
    let text = lock.value.as_ref()?;
    if let Some(param) = generics.params.first() {
        let message = "the shape of a generic type differs for each of its instantiations, so one lock can't hold for all: leave \
                       `lock` out, and raise the `version` by hand; `layout = \"compact\"` needs no lock";
        errors.push(named(param), message);
        return None;
    }
    let digits = text.value();
    let is_hexadecimal = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    if digits.len() == 8 && digits.chars().all(is_hexadecimal) {
        let lock = u32::from_str_radix(&digits, 16).unwrap_or(0);
        return Some((lock, text.span()));
    }
    let message = "a lock has eight hexadecimal digits, which the compiler tells: write `lock = \"00000000\"`, and then what it \
                   says";
    errors.push(text, message);
    None
}

fn named(param: &syn::GenericParam) -> &Ident {
    match param {
        syn::GenericParam::Type(param) => &param.ident,
        syn::GenericParam::Const(param) => &param.ident,
        syn::GenericParam::Lifetime(param) => &param.lifetime.ident,
    }
}
