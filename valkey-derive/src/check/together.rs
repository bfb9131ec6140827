//! Rules for attributes that need or exclude each other.
//!
//! [`values`](super::values) checks the value of each attribute. A malformed value counts as
//! written, but is not compared with others here, so that a slip in one attribute causes no message
//! about another.

use syn::{Ident, Lit, LitStr};

use super::value;
use crate::args::Named;
use crate::errors::Errors;
use crate::syntax::Cached;
use crate::ttl::{self, Ttl};

pub(crate) fn attributes(written: &Cached, errors: &mut Errors) {
    expires(written, errors);
    has_stale_values(written, errors);
    slides_to_a_ceiling(written, errors);
    migrates_to_a_later_version(written, errors);
    compresses(written, errors);
}

/// A size from which on values are compressed needs an algorithm.
fn compresses(written: &Cached, errors: &mut Errors) {
    if let (Some(above), None) = (&written.compress_above, &written.compress) {
        errors.push(
            &above.name,
            "`compress_above` needs `compress`: write the algorithm, as in `compress = \"zstd\"`, or leave out \
             `compress_above`",
        );
    }
}

/// Attributes that depend on the end of an entry's life need a TTL.
fn expires(written: &Cached, errors: &mut Errors) {
    let Some(Lit::Str(ttl)) = value(&written.ttl) else {
        return;
    };
    if ttl::parse(&ttl.value()) != Ok(Ttl::Never) {
        return;
    }
    let going_by_it = [
        ("stale_if_error", written.stale_if_error.is_some()),
        ("refresh_ahead", written.refresh_ahead.is_some()),
        ("sliding", written.sliding.is_some()),
    ];
    let names: Vec<&str> = going_by_it
        .into_iter()
        .filter_map(|(name, is_written)| is_written.then_some(name))
        .collect();
    let depend = match names.len() {
        0 => return,
        1 => "depends",
        _ => "depend",
    };
    let message = format!(
        "with `ttl = \"never\"` no entry expires: leave out {}, which {depend} on expiry, or write a time, as in `ttl = \"5m\"`",
        listed(&names)
    );
    errors.push(ttl, message);
}

/// Attributes about stale values need `stale_if_error`.
fn has_stale_values(written: &Cached, errors: &mut Errors) {
    if written.stale_if_error.is_some() {
        return;
    }
    // The pause also applies to failed refreshes.
    let retry_after = written.retry_after.as_ref();
    let retry_after = retry_after.filter(|_| written.refresh_ahead.is_none());
    let about_them = [retry_after, written.load_timeout.as_ref()];
    let names: Vec<&Ident> = about_them
        .into_iter()
        .filter_map(|argument| Some(&argument?.name))
        .collect();
    let need = match names.len() {
        0 => return,
        1 => "needs",
        _ => "need",
    };
    let listed = listed(&names);
    let message = format!(
        "{listed} {need} `stale_if_error`: without it there is no stale value to serve; write how long a stale value is \
         kept, as in `stale_if_error = \"1h\"`, or leave out {listed}"
    );
    errors.push(names[0], message);
}

/// A type that migrates from another has a higher version than that. The compiler compares both;
/// without a `version` it is clear here.
fn migrates_to_a_later_version(written: &Cached, errors: &mut Errors) {
    if let (Some(migrate_from), None) = (&written.migrate_from, &written.version) {
        errors.push(
            &migrate_from.name,
            "`migrate_from` needs a `version` above that of the older type, as in `version = 2`",
        );
    }
}

fn slides_to_a_ceiling(written: &Cached, errors: &mut Errors) {
    match (&written.sliding, &written.max_age) {
        (None, None) => {}
        (Some(sliding), None) => errors.push(
            sliding,
            "`sliding` needs `max_age`: otherwise an entry whose invalidation was lost might never expire; write the \
             longest life of an entry, as in `sliding, max_age = \"7d\"`",
        ),
        (None, Some(max_age)) => errors.push(
            &max_age.name,
            "`max_age` needs `sliding`: without it no entry lives longer than its `ttl`; write both, as in \
             `sliding, max_age = \"7d\"`, or leave out `max_age`",
        ),
        (Some(_), Some(max_age)) => is_within_the_ceiling(written.ttl.as_ref(), max_age, errors),
    }
}

fn is_within_the_ceiling(ttl: Option<&Named<Lit>>, max_age: &Named<LitStr>, errors: &mut Errors) {
    let (Some((ttl, shown)), Some(max_age)) = (life(ttl), &max_age.value) else {
        return;
    };
    if let Ok(Ttl::Millis(most)) = ttl::parse(&max_age.value())
        && most < ttl
    {
        let message = format!(
            "shorter than {shown}, which an entry lives without any hit: write a longer `max_age`, or a shorter `ttl`"
        );
        errors.push(max_age, message);
    }
}

/// The TTL of the type in milliseconds, with words for it. `None` if entries never expire, or if
/// the TTL is invalid, which is reported elsewhere.
pub(super) fn life(ttl: Option<&Named<Lit>>) -> Option<(u64, String)> {
    let (ttl, shown) = match ttl {
        None => (Ok(Ttl::default()), "the default, `ttl = \"5m\"`".to_owned()),
        Some(Named {
            value: Some(Lit::Str(text)),
            ..
        }) => (
            ttl::parse(&text.value()),
            format!("`ttl = \"{}\"`", text.value()),
        ),
        Some(_) => return None,
    };
    match ttl {
        Ok(Ttl::Millis(ttl)) => Some((ttl, shown)),
        Ok(Ttl::Never) | Err(_) => None,
    }
}

/// Lists names as `` `a` and `b` ``.
pub(super) fn listed(names: &[impl ToString]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("`{}`", name.to_string()))
        .collect();
    match names.as_slice() {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        one => one.concat(),
    }
}
