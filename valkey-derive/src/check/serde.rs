//! Rules for serde's attributes: a value must be read back as it was written.
//!
//! serde accepts attributes by which a type writes values that it can't read. Such a value would be
//! stored and never read. These rules do not see attributes of field types. The runtime detects
//! those when it reads back the first value.

use syn::{Member, Type};

use crate::check::unread;
use crate::errors::Errors;
use crate::syntax::{Cached, Field, Serde, serde_named};
use crate::types::ungrouped;

/// Attributes by which serde ignores the fields.
const ELSEWHERE: [&str; 5] = ["from", "try_from", "into", "remote", "transparent"];

pub(super) fn round_trips(written: &Cached, fields: &[Field], errors: &mut Errors) {
    if serde_named(&written.serde, &ELSEWHERE).is_some() {
        return;
    }
    let all_have_defaults = serde_named(&written.serde, &["default"]).is_some();
    let renames_all = serde_named(&written.serde, &["rename_all"]);
    if let Some(renames) = renames_all {
        renamed_alike(renames, errors);
    }
    let denies = serde_named(&written.serde, &["deny_unknown_fields"]).is_some();
    for (at, field) in fields.iter().enumerate() {
        unread::is_read(field, errors);
        match &field.member {
            Member::Named(name) => {
                is_written_or_has_a_default(field, all_have_defaults, errors);
                is_known(field, denies, errors);
                let name = renames_all.is_none().then(|| name.to_string());
                is_read_by_its_name(field, name.as_deref(), errors);
            }
            // A newtype is written as its content.
            Member::Unnamed(_) if fields.len() == 1 => {}
            Member::Unnamed(_) => {
                keeps_its_place(field, at + 1 == fields.len(), all_have_defaults, errors);
            }
        }
    }
}

/// An omitted field needs a default. A field of a key or a tag must not be omitted at all; its own
/// rule reports that.
fn is_written_or_has_a_default(field: &Field, all_have_defaults: bool, errors: &mut Errors) {
    if field.key.is_some()
        || all_have_defaults
        || field
            .serde(&["default", "skip", "skip_deserializing"])
            .is_some()
    {
        return;
    }
    let is_option = is_option(&field.ty) && field.serde(&["with", "deserialize_with"]).is_none();
    let Some(skip) = field.serde(&["skip_serializing", "skip_serializing_if"]) else {
        return;
    };
    if is_option {
        return;
    }
    let message = match skip == "skip_serializing" {
        true => {
            "with `skip_serializing` the field is not stored, and without `default` no entry can be read: leave \
             `skip_serializing` out, and use another type where the field must not be shown; or write \
             `#[serde(skip_serializing, default)]`, and then cached values have the default in this field"
        }
        false => {
            "with `skip_serializing_if` the field may be omitted, and without `default` such an entry can't be read: add \
             `default`, as in `#[serde(default, skip_serializing_if = \"…\")]`"
        }
    };
    errors.push(skip, message);
}

/// A field that is written but not read is an unknown field to the reader.
fn is_known(field: &Field, denies: bool, errors: &mut Errors) {
    let Some(skip) = field.serde(&["skip_deserializing"]) else {
        return;
    };
    if denies && field.serde(&["skip_serializing"]).is_none() {
        let message = "with `skip_deserializing` the field is written and not read, and then `deny_unknown_fields` refuses \
                       it: write `skip`, so that it is not written either, or leave one of the two out";
        errors.push(skip, message);
    }
}

/// `name` is the field's name, if serde uses it.
fn is_read_by_its_name(field: &Field, name: Option<&str>, errors: &mut Errors) {
    let Some(rename) = serde_named(&field.serde, &["rename"]) else {
        return;
    };
    let Some((written, read)) = names(rename) else {
        return;
    };
    let aliases: Vec<String> = field
        .serde
        .iter()
        .filter(|item| item.name == "alias")
        .filter_map(Serde::text)
        .collect();
    let written = written.as_deref().or(name);
    let read = read.as_deref().or(name);
    let is_read = match written {
        Some(written) => read == Some(written) || aliases.iter().any(|alias| alias == written),
        // A rule for all fields decides the name, which is unknown here.
        None => !aliases.is_empty(),
    };
    if !is_read {
        let instead = match written {
            Some(written) => {
                format!("write `rename = \"{written}\"`, or add `alias = \"{written}\"`")
            }
            None => "write `rename = \"…\"`, or add an `alias` for the written name".to_owned(),
        };
        let message = format!(
            "the field is written under one name and read under another, so that no entry can be read: {instead}"
        );
        errors.push(&rename.name, message);
    }
}

/// The names of `rename(…)` for writing and for reading; `None` if one name serves both.
fn names(rename: &Serde) -> Option<(Option<String>, Option<String>)> {
    let items = rename.items()?;
    let of = |name| serde_named(&items, &[name]).and_then(Serde::text);
    Some((of("serialize"), of("deserialize")))
}

fn renamed_alike(rename_all: &Serde, errors: &mut Errors) {
    let Some((written, read)) = names(rename_all) else {
        return;
    };
    if written != read {
        let rule = written.or(read).unwrap_or_default();
        let message = format!(
            "the fields are written and read under different names, so that no entry can be read: write \
             `rename_all = \"{rule}\"`"
        );
        errors.push(&rename_all.name, message);
    }
}

/// serde identifies the fields of a tuple by their positions.
fn keeps_its_place(field: &Field, last: bool, all_have_defaults: bool, errors: &mut Errors) {
    let skip = [
        "skip_serializing",
        "skip_serializing_if",
        "skip_deserializing",
    ];
    let Some(skip) = field.serde(&skip) else {
        return;
    };
    if field.key.is_some() || field.serde(&["skip"]).is_some() {
        return;
    }
    let both = field.serde(&["skip_serializing"]).is_some()
        && field.serde(&["skip_deserializing"]).is_some();
    let has_default = all_have_defaults || field.serde(&["default"]).is_some();
    if both || (last && has_default && skip != "skip_deserializing") {
        return;
    }
    let message = format!(
        "the fields of a tuple are distinguished by their positions, and `{skip}` moves the later ones: leave `{skip}` out, or give \
         the fields names"
    );
    errors.push(skip, message);
}

/// A missing `Option` is read as `None`.
fn is_option(ty: &Type) -> bool {
    match ungrouped(ty) {
        Type::Path(path) => {
            let last = path.path.segments.last();
            last.is_some_and(|last| last.ident == "Option")
        }
        _ => false,
    }
}
