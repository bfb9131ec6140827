//! Rules for a type whose only copy is in the store: `only_copy`.
//!
//! It excludes everything that loads a value, or loses one. Each group of such attributes has one
//! message. The runtime checks the chain of versions, which it sees as a whole.

use syn::Lit;

use super::together::listed;
use super::values;
use crate::errors::Errors;
use crate::syntax::{Cached, Field};

/// The oldest version of which entries may exist, if the store has the only copy of the values.
pub(super) fn oldest(written: &Cached, fields: &[Field], errors: &mut Errors) -> Option<u16> {
    let oldest = written.oldest_version.as_ref();
    if written.only_copy.is_none() {
        if let Some(oldest) = oldest {
            errors.push(
                &oldest.name,
                "`oldest_version` needs `only_copy`: a cache may lose old entries, so nothing depends on their versions; \
                 leave it out",
            );
        }
        return None;
    }
    excludes(written, fields, errors);
    lives_as_written(written, errors);
    let oldest = values::version(oldest.and_then(|oldest| oldest.value.as_ref()), errors);
    migrates_from_the_oldest(written, oldest, errors);
    Some(oldest)
}

fn excludes(written: &Cached, fields: &[Field], errors: &mut Errors) {
    let near_stale = written.near.as_ref();
    let near_stale =
        near_stale.is_some_and(|near| near.stale.is_some() || near.get_stale.is_some());
    let loads = [
        ("ttl_absent", written.ttl_absent.is_some()),
        ("stale_if_error", written.stale_if_error.is_some()),
        ("retry_after", written.retry_after.is_some()),
        ("refresh_ahead", written.refresh_ahead.is_some()),
        ("load_timeout", written.load_timeout.is_some()),
        ("load_deadline", written.load_deadline.is_some()),
        ("max_loads", written.max_loads.is_some()),
        ("strict", written.strict),
        ("hold", written.hold.is_some()),
        ("near(stale = …)", near_stale),
    ];
    let of_aliases =
        !written.aliases.is_empty() || fields.iter().any(|field| field.alias.is_some());
    let of_tags = [
        ("tag", !written.tags.is_empty()),
        ("tags", written.other_tags.is_some()),
        ("clear", written.clear),
    ];
    let loses = [
        ("on_corrupt", written.on_corrupt.is_some()),
        ("keep_corrupt", written.keep_corrupt),
    ];
    exclude(
        written,
        &loads,
        "no database has the values, so nothing loads them, and a copy that is not the latest is wrong",
        errors,
    );
    exclude(
        written,
        &of_tags,
        "to invalidate a tag would lose the entries",
        errors,
    );
    exclude(
        written,
        &[("alias", of_aliases)],
        "a load stores an alias, and no load has these values; store a value of another type under the second key",
        errors,
    );
    exclude(
        written,
        &loses,
        "an entry that can't be read is always an error, and always stays",
        errors,
    );
    exclude(
        written,
        &[("jitter", written.jitter.is_some())],
        "such an entry lives for its whole TTL",
        errors,
    );
}

/// One message about those of the attributes that are written.
fn exclude(written: &Cached, attributes: &[(&str, bool)], why: &str, errors: &mut Errors) {
    let names: Vec<&str> = attributes
        .iter()
        .filter_map(|(name, is_written)| is_written.then_some(*name))
        .collect();
    if let (false, Some(only_copy)) = (names.is_empty(), &written.only_copy) {
        let names = listed(&names);
        errors.push(
            only_copy,
            format!("`only_copy` excludes {names}: {why}; leave out {names}"),
        );
    }
}

/// The default TTL is that of a cache.
fn lives_as_written(written: &Cached, errors: &mut Errors) {
    if let (Some(only_copy), None) = (&written.only_copy, &written.ttl) {
        errors.push(
            only_copy,
            "`only_copy` needs `ttl`: with the default of 5 minutes the data would soon be gone; write how long it is kept, \
             as in `ttl = \"30d\"` or `ttl = \"never\"`",
        );
    }
}

fn migrates_from_the_oldest(written: &Cached, oldest: u16, errors: &mut Errors) {
    // A malformed version has a message of its own.
    let version = match &written.version {
        None => 1,
        Some(Lit::Int(number)) => match number.base10_parse::<u16>() {
            Ok(version @ 1..) => version,
            _ => return,
        },
        Some(_) => return,
    };
    let name = written.oldest_version.as_ref().map(|oldest| &oldest.name);
    if let (true, Some(name)) = (oldest > version, name) {
        errors.push(
            name,
            format!("`oldest_version` is above the `version`, {version}: write at most that"),
        );
    } else if oldest < version && written.migrate_from.is_none() {
        let message = format!(
            "the store has the only copy of the entries of version {}: keep the struct of that version as a type of its own, \
             write `migrate_from = {}V{}` here, and implement `From` or `TryFrom` for the conversion. If no such entry exists \
             any more, write `oldest_version = {version}`",
            version - 1,
            written.ident,
            version - 1,
        );
        errors.push(&written.version, message);
    }
}
