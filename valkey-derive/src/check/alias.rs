//! Rules for aliases: the fields by which values are found besides their key.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::{Ident, LitStr, Member};

use super::key::{function, skipped};
use super::values;
use crate::errors::Errors;
use crate::model::{Alias, Key, KeyForm};
use crate::suggest::nearest;
use crate::syntax::Field;

/// The aliases named above the type and the fields marked as such, in the order of the fields.
pub(crate) fn aliases(
    named: &[LitStr],
    fields: &[Field],
    key: &Key,
    errors: &mut Errors,
) -> Vec<Alias> {
    let named = of_fields(named, fields, errors);
    let mut aliases = Vec::new();
    for field in fields {
        let above = named.iter().find(|(of, _)| of.member == field.member);
        let marked = field.alias.as_ref();
        let span = match (above, marked) {
            (None, None) => continue,
            (Some((_, name)), Some(_)) => {
                let message = "the alias is declared twice, here and above its field: keep one";
                errors.push(name, message);
                name.span()
            }
            (Some((_, name)), None) => name.span(),
            (None, Some(alias)) => alias.name.span(),
        };
        let with = marked.and_then(|alias| alias.with.as_ref());
        let function = with.and_then(|path| function(path, errors));
        let ttl_absent = marked.and_then(|alias| alias.ttl_absent.as_ref());
        let ttl_absent = values::ttl_absent(ttl_absent, errors);
        is_needed(field, span, key, errors);
        stays_in_the_value(field, errors);
        let Some(name) = field_name(field) else {
            let message = "this field has no name for its look-ups, as in `get_by_email`: name the fields of the struct";
            errors.push(at(span), message);
            continue;
        };
        aliases.push(Alias {
            name,
            member: field.member.clone(),
            ty: field.ty.clone(),
            with: function,
            ttl_absent,
            span,
        });
    }
    match key.possible {
        true => aliases,
        // No value could contain such a key.
        false => Vec::new(),
    }
}

/// The fields with these names, each once.
fn of_fields<'f, 'n>(
    named: &'n [LitStr],
    fields: &'f [Field],
    errors: &mut Errors,
) -> Vec<(&'f Field, &'n LitStr)> {
    let names: Vec<String> = fields.iter().filter_map(field_name).collect();
    let mut found: Vec<(&Field, &LitStr)> = Vec::new();
    for written in named {
        let value = written.value();
        let meant = match names.iter().find(|name| **name == value) {
            Some(_) => Some(value.as_str()),
            None => {
                let meant = nearest_name(&value, &names);
                let help = match meant {
                    Some(meant) if value.strip_prefix("r#") == Some(meant) => {
                        format!("write `{meant}`, the name without `r#`")
                    }
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "an alias is a second field that finds a value, as in \
                             `alias = \"email\"`"
                        .to_owned(),
                };
                errors.push(written, format!("there is no field `{value}`: {help}"));
                meant
            }
        };
        let is_meant = |field: &&Field| field_name(field).as_deref() == meant;
        let Some(field) = meant.and_then(|_| fields.iter().find(is_meant)) else {
            continue;
        };
        if found.iter().any(|(other, _)| other.member == field.member) {
            let message = format!("the alias `{value}` is written twice: keep one");
            errors.push(written, message);
        } else {
            found.push((field, written));
        }
    }
    found
}

/// The field with the most similar name; for a raw name the one without `r#`.
pub(super) fn nearest_name<'n>(written: &str, names: &'n [String]) -> Option<&'n str> {
    let bare = written.strip_prefix("r#");
    let known = bare.and_then(|bare| names.iter().find(|name| *name == bare));
    known
        .map(String::as_str)
        .or_else(|| nearest(written, names.iter().map(String::as_str)))
}

/// Rejects an alias of a type with a single value, and an alias that is the key.
fn is_needed(field: &Field, span: Span, key: &Key, errors: &mut Errors) {
    let KeyForm::Fields(parts) = &key.form else {
        return;
    };
    let message = match parts.as_slice() {
        [part] if part.member == field.member => {
            "this field is the key: values are found by it without an alias"
        }
        [] => {
            "a type without a key has one value, which is found without an alias: mark the field that is the key \
             `#[cached(key)]`"
        }
        _ => return,
    };
    errors.push(at(span), message);
}

/// The alias is compared with the field of the value that is read.
fn stays_in_the_value(field: &Field, errors: &mut Errors) {
    // For a field of the key this is already reported.
    if let Some(skip) = skipped(field).filter(|_| field.key.is_none()) {
        let message = format!(
            "values are compared by their alias, but with `{skip}` it is lost when a value is read back: leave `{skip}` out, \
             or the alias"
        );
        errors.push(skip, message);
    }
}

fn at(span: Span) -> Ident {
    Ident::new("alias", span)
}

fn field_name(field: &Field) -> Option<String> {
    match &field.member {
        Member::Named(name) => Some(name.unraw().to_string()),
        Member::Unnamed(_) => None,
    }
}
