//! Rules for tags: templates over fields, and the other sources of tags.

use syn::ext::IdentExt;
use syn::{Ident, LitStr, Member};

use super::alias::nearest_name;
use super::key::skipped;
use crate::errors::Errors;
use crate::model::{Key, KeyForm, Piece, TagField, Tags, Template};
use crate::syntax::{self, Field};
use crate::types::{is_float, mentioned_param};

pub(crate) fn tags(
    written: &syntax::Cached,
    fields: &[Field],
    key: &Key,
    errors: &mut Errors,
) -> Tags {
    let mut templates: Vec<Template> = Vec::new();
    for tag in &written.tags {
        let Some(template) = template(tag, written, fields, key, errors) else {
            continue;
        };
        let same = |other: &Template| other.function == template.function;
        if let Some(other) = templates.iter().find(|other| same(other)) {
            let message = match other.written == template.written {
                true => format!("the tag `{}` is written twice: keep one", template.written),
                false => format!(
                    "this tag and `{}` have the same texts, which name their function `{}`: change one of the texts",
                    other.written, template.function
                ),
            };
            errors.push(tag, message);
        } else {
            templates.push(template);
        }
    }
    // No value could contain such a key.
    if !key.possible {
        templates.clear();
    }
    let others = written.other_tags.as_ref();
    let function = others.and_then(|others| others.value.as_ref());
    Tags {
        templates,
        function: function.map(|function| function.0.clone()),
        at_call: others.is_some() && function.is_none(),
        clear: written.clear,
    }
}

/// Returns `None` if no part of the template is usable.
fn template(
    tag: &LitStr,
    written: &syntax::Cached,
    fields: &[Field],
    key: &Key,
    errors: &mut Errors,
) -> Option<Template> {
    let text = tag.value();
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        let Some((name, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}'))
        else {
            let message =
                "an unmatched brace: write a field in braces, as in `tag = \"org:{org_id}\"`";
            errors.push(tag, message);
            return None;
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let field = field(tag, name.trim(), fields, errors)?;
        pieces.push(Piece::Field(Box::new(tag_field(
            tag, field, written, key, errors,
        )?)));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    let function = function(&pieces, tag, errors)?;
    Some(Template {
        function,
        written: text,
        pieces,
    })
}

fn field<'f>(
    tag: &LitStr,
    name: &str,
    fields: &'f [Field],
    errors: &mut Errors,
) -> Option<&'f Field> {
    let named: Vec<(String, &Field)> = fields.iter().map(|field| (name_of(field), field)).collect();
    if let Some((_, field)) = named.iter().find(|(known, _)| known == name) {
        return Some(field);
    }
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    let meant = nearest_name(name, &names);
    let help = match meant {
        Some(meant) if name.strip_prefix("r#") == Some(meant) => {
            format!("write `{meant}`, the name without `r#`")
        }
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let names = named.iter().map(|(name, _)| format!("`{name}`"));
            let names = names.collect::<Vec<_>>().join(", ");
            format!("the text in braces must be one of the fields: {names}")
        }
    };
    errors.push(tag, format!("there is no field `{name}`: {help}"));
    let (_, field) = named
        .iter()
        .find(|(name, _)| Some(name.as_str()) == meant)?;
    Some(field)
}

fn tag_field(
    tag: &LitStr,
    field: &Field,
    written: &syntax::Cached,
    key: &Key,
    errors: &mut Errors,
) -> Option<TagField> {
    let name = name_of(field);
    let in_key = match &key.form {
        KeyForm::Fields(parts) => parts.iter().position(|part| part.member == field.member),
        KeyForm::Apart(_) => None,
    };
    if let Some(skip) = skipped(field).filter(|_| in_key.is_none()) {
        let message = format!(
            "entries are marked by `{name}`, but with `{skip}` it is lost when a value is read back: leave `{skip}` out"
        );
        errors.push(skip, message);
    }
    if let Some(param) = mentioned_param(&field.ty, &written.generics) {
        let message = format!(
            "the type of `{name}` can't depend on `{param}`: the fields in a tag have the same type for every `{param}`"
        );
        errors.push(tag, message);
        return None;
    }
    let generic = written.generics.type_params().next();
    let with = field.key.as_ref().and_then(|key| key.with.as_ref());
    if let (Some(_), Some(with)) = (generic, with) {
        let message = "in a tag of a generic type a field can't have a function of its own";
        errors.push(with, message);
        return None;
    }
    if is_float(&field.ty) && in_key.is_none() {
        errors.push(&field.ty, super::key::FLOAT);
        return None;
    }
    Some(TagField {
        member: field.member.clone(),
        ty: field.ty.clone(),
        in_key,
    })
}

/// The function of a tag is named after its texts: `org_team` for `org:{org_id}:team:{team}`.
fn function(pieces: &[Piece], tag: &LitStr, errors: &mut Errors) -> Option<Ident> {
    let texts = pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Field(_) => None,
    });
    let texts = texts.collect::<Vec<_>>().join("_");
    let words = texts
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("_").to_lowercase();
    let ident = syn::parse_str::<Ident>(&name)
        .or_else(|_| syn::parse_str(&format!("r#{name}")))
        .map(|ident| Ident::new_raw(&ident.unraw().to_string(), tag.span()));
    match ident {
        Ok(ident) => Some(match syn::parse_str::<Ident>(&name) {
            Ok(_) => Ident::new(&name, tag.span()),
            Err(_) => ident,
        }),
        Err(_) => {
            let message = "a tag needs a text that begins with a letter and names its function, as in \
                           `tag = \"org:{org_id}\"` for `tags().org(42)`";
            errors.push(tag, message);
            None
        }
    }
}

pub(super) fn name_of(field: &Field) -> String {
    match &field.member {
        Member::Named(name) => name.unraw().to_string(),
        Member::Unnamed(at) => at.index.to_string(),
    }
}
