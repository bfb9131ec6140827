//! Fields that nothing shows: `#[cached(redact)]`.
//!
//! What shows a value knows its fields by the names under which serde writes them. A marked field
//! whose name can't be known is refused.

use syn::Member;
use syn::ext::IdentExt;

use crate::errors::Errors;
use crate::syntax::{Cached, Field, Serde, serde_named};

/// The marked fields, by the names under which they are serialized.
pub(super) fn redacted(written: &Cached, fields: &[Field], errors: &mut Errors) -> Vec<String> {
    let mut names = Vec::new();
    for field in fields {
        let Some(mark) = &field.redact else {
            continue;
        };
        // What serde does not write is in no text.
        if field.serde(&["skip", "skip_serializing"]).is_some() {
            continue;
        }
        let of_type = ["into", "transparent"];
        let why = if let Some(item) = serde_named(&written.serde, &of_type) {
            format!(
                "with `#[serde({})]` above the type it is not written as a field",
                item.name
            )
        } else if let Some(name) = field.serde(&["flatten"]) {
            format!(
                "with `#[serde({name})]` its parts are written under their own names: use a field that is not flattened"
            )
        } else if matches!(field.member, Member::Unnamed(_)) {
            "it has no name: use a struct with named fields".to_owned()
        } else if let Some(name) = name_of(written, field) {
            names.push(name);
            continue;
        } else {
            "the name under which it is written is unknown".to_owned()
        };
        errors.push(mark, format!("this field can't be redacted: {why}"));
    }
    names
}

/// The name under which serde writes a field. `None` if serde refuses its form.
fn name_of(written: &Cached, field: &Field) -> Option<String> {
    let Member::Named(name) = &field.member else {
        return None;
    };
    let name = name.unraw().to_string();
    match (
        serde_named(&field.serde, &["rename"]),
        serde_named(&written.serde, &["rename_all"]),
    ) {
        (Some(renamed), _) if renamed.text().is_some() => renamed.text(),
        (Some(renamed), all) => match (written_form(renamed), all) {
            (Some(form), _) => form.text(),
            (None, None) => Some(name),
            (None, Some(all)) => by_rule(&name, all),
        },
        (None, Some(all)) => by_rule(&name, all),
        (None, None) => Some(name),
    }
}

/// The `serialize = "…"` in `rename(…)` or `rename_all(…)`.
fn written_form(item: &Serde) -> Option<Serde> {
    let mut items = item.items()?.into_iter();
    items.find(|item| item.name == "serialize")
}

fn by_rule(name: &str, all: &Serde) -> Option<String> {
    let rule = match all.text() {
        Some(rule) => rule,
        None => match written_form(all) {
            Some(form) => form.text()?,
            None => return Some(name.to_owned()),
        },
    };
    cased(name, &rule)
}

/// A field's name under a rule of serde's `rename_all`. Names of fields are in snake case.
fn cased(name: &str, rule: &str) -> Option<String> {
    let pascal = || {
        let mut begins = true;
        name.chars()
            .filter_map(|c| {
                if c == '_' {
                    begins = true;
                    return None;
                }
                let c = if begins { c.to_ascii_uppercase() } else { c };
                begins = false;
                Some(c)
            })
            .collect::<String>()
    };
    Some(match rule {
        "lowercase" | "snake_case" => name.to_owned(),
        "UPPERCASE" | "SCREAMING_SNAKE_CASE" => name.to_ascii_uppercase(),
        "PascalCase" => pascal(),
        "camelCase" => {
            let pascal = pascal();
            let first = pascal.chars().next()?.len_utf8();
            pascal[..first].to_ascii_lowercase() + &pascal[first..]
        }
        "kebab-case" => name.replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => name.to_ascii_uppercase().replace('_', "-"),
        _ => return None,
    })
}
