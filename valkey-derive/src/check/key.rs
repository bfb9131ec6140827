//! Rules for the key: its fields or its type, and whether these can form a key.

use syn::{ExprPath, Generics, Ident, LitStr, Member, Type, parse_quote};

use crate::args::Named;
use crate::errors::Errors;
use crate::model::{Key, KeyField, KeyForm, With};
use crate::syntax::Field;
use crate::types::{is_float, is_str, mentioned_param, shown, ungrouped};

/// The length of the longest tuple that implements the runtime's `KeyPart`.
const MOST_FIELDS: usize = 6;

pub(crate) const FLOAT: &str = "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string";

pub(crate) fn key(
    apart: Option<&Named<Type>>,
    fields: &[Field],
    generics: &Generics,
    errors: &mut Errors,
) -> Key {
    let marked: Vec<&Field> = fields.iter().filter(|field| field.key.is_some()).collect();
    match apart {
        None => in_fields(marked, generics, errors),
        Some(apart) if marked.is_empty() => key_apart(apart, fields, generics, errors),
        Some(apart) => {
            let message = "the key is declared twice, here and by a field marked `#[cached(key)]`: keep `key = …` if the key \
                           is not part of the value, else the field";
            errors.push(&apart.name, message);
            in_fields(marked, generics, errors)
        }
    }
}

/// The key of `key = Type`.
fn key_apart(
    apart: &Named<Type>,
    fields: &[Field],
    generics: &Generics,
    errors: &mut Errors,
) -> Key {
    let Some(ty) = &apart.value else {
        // The invalid type is already reported. Nearly always the key is a field of this name.
        return in_fields(named(fields, "id").into_iter().collect(), generics, errors);
    };
    if let Some(field) = field_of_this_name(ty, fields) {
        let message = format!(
            "`key = …` takes a type: to use the field `{}`, mark it `#[cached(key)]`",
            shown(ty)
        );
        errors.push(ty, message);
        return in_fields(vec![field], generics, errors);
    }
    let ty = owned(ty, errors);
    let possible = can_be_key(&ty, generics, errors);
    Key {
        form: KeyForm::Apart(Box::new(ty)),
        possible,
    }
}

/// The key of fields marked `key`, or that of a singleton if there are none.
fn in_fields(fields: Vec<&Field>, generics: &Generics, errors: &mut Errors) -> Key {
    let mut possible = fields.len() <= MOST_FIELDS;
    if let Some(field) = fields.get(MOST_FIELDS) {
        let message = format!(
            "a key has at most {MOST_FIELDS} fields: put some of them in a struct and mark that \
             `#[cached(key(with = \"path\"))]`"
        );
        errors.push(&field.ty, message);
    }
    one_hash_tag(&fields, errors);
    let mut parts = Vec::new();
    for (number, field) in fields.into_iter().enumerate() {
        stays_in_the_value(field, errors);
        let key = field.key.as_ref();
        let with = key.and_then(|key| key.with.as_ref());
        possible &= match with {
            Some(_) => depends_on_no_param(&field.ty, generics, errors),
            None => can_be_key(&field.ty, generics, errors),
        };
        parts.push(KeyField {
            member: field.member.clone(),
            ty: field.ty.clone(),
            with: with.map(|path| With {
                number,
                function: function(path, errors),
            }),
            hash_tag: key.is_some_and(|key| key.hash_tag.is_some()),
        });
    }
    Key {
        form: KeyForm::Fields(parts),
        possible,
    }
}

fn one_hash_tag(fields: &[&Field], errors: &mut Errors) {
    let tags = fields
        .iter()
        .filter_map(|field| field.key.as_ref()?.hash_tag.as_ref());
    for tag in tags.skip(1) {
        let message = "a second hash tag: the server uses only the first; to place entries together by several fields, \
                       make them one field";
        errors.push(tag, message);
    }
}

/// A field of the key is stored with the value and must be read back with it.
fn stays_in_the_value(field: &Field, errors: &mut Errors) {
    if let Some(skip) = skipped(field) {
        let message = format!(
            "the key is part of the value, but with `{skip}` it is lost when the value is read back: leave `{skip}` out, or \
             remove the field and write `#[cached(key = {})]` above the type",
            shown(&field.ty)
        );
        errors.push(skip, message);
    }
}

/// serde's attribute that keeps the field out of an entry.
pub(super) fn skipped(field: &Field) -> Option<&Ident> {
    field.serde(&["skip", "skip_serializing", "skip_deserializing"])
}

pub(super) fn function(path: &LitStr, errors: &mut Errors) -> Option<ExprPath> {
    let function = path.parse().ok();
    if function.is_none() {
        let message = "not the path of a function: write it as in `with = \"path::to::function\"`; a closure can't be used";
        errors.push(path, message);
    }
    function
}

/// Whether a type can be a key, judged by its name.
fn can_be_key(ty: &Type, generics: &Generics, errors: &mut Errors) -> bool {
    match ungrouped(ty) {
        // Check each part, even after an invalid one.
        Type::Tuple(tuple) => {
            let impossible = tuple
                .elems
                .iter()
                .filter(|part| !can_be_key(part, generics, errors));
            impossible.count() == 0
        }
        float if is_float(float) => {
            errors.push(float, FLOAT);
            false
        }
        _ => depends_on_no_param(ty, generics, errors),
    }
}

fn depends_on_no_param(ty: &Type, generics: &Generics, errors: &mut Errors) -> bool {
    let Some(param) = mentioned_param(ty, generics) else {
        return true;
    };
    let message = format!(
        "the key's type can't depend on `{param}`: use a type that is the same for every `{param}`"
    );
    errors.push(ty, message);
    false
}

/// The owned form of a borrowed type. Such types are often written by habit, as look-ups take
/// references.
fn owned(ty: &Type, errors: &mut Errors) -> Type {
    let owned: Type = match ungrouped(ty) {
        Type::Reference(reference) if !is_str(&reference.elem) => (*reference.elem).clone(),
        Type::Reference(_) => parse_quote!(String),
        path if is_str(path) => parse_quote!(String),
        Type::Tuple(tuple) => {
            let mut tuple = tuple.clone();
            for part in &mut tuple.elems {
                *part = self::owned(part, errors);
            }
            return Type::Tuple(tuple);
        }
        _ => return ty.clone(),
    };
    errors.push(
        ty,
        format!(
            "write the owned type, `{}`: look-ups borrow it",
            shown(&owned)
        ),
    );
    owned
}

/// The field whose name was written in place of a type.
fn field_of_this_name<'f>(ty: &Type, fields: &'f [Field]) -> Option<&'f Field> {
    match ungrouped(ty) {
        Type::Path(path) => named(fields, &path.path.get_ident()?.to_string()),
        _ => None,
    }
}

fn named<'f>(fields: &'f [Field], name: &str) -> Option<&'f Field> {
    fields
        .iter()
        .find(|field| matches!(&field.member, Member::Named(field) if field == name))
}
