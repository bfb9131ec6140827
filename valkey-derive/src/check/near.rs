//! Rules for the near cache of a type, `near = "5s"` or `near(ttl = "5s", …)`.
//!
//! Each value has its rule, which returns its meaning. Values are compared only if both are valid,
//! so that a slip in one causes no message about another. A malformed value counts as written.

use quote::ToTokens;
use syn::{Ident, Lit, LitStr};

use super::{together, value};
use crate::args::Named;
use crate::errors::Errors;
use crate::model::Policy;
use crate::size;
use crate::syntax::Near;
use crate::ttl::{self, Ttl, TtlMistake};

/// In milliseconds.
const DAY: u64 = 24 * 60 * 60_000;

/// The least memory for copies. The runtime's `Policy` asserts the same.
const LEAST_BYTES: u64 = 1024;

/// The choices for the near cache of a type with this TTL.
pub(super) fn near(
    written: &Near,
    of_type: Option<&Named<Lit>>,
    policy: &mut Policy,
    errors: &mut Errors,
) {
    let ttl = time(written, of_type, errors);
    policy.time("near", ttl);
    let bytes = max_bytes(written.max_bytes.as_ref(), errors);
    policy.number("near_max_bytes", bytes);
    policy.time("near_stale", stale(written, ttl, errors));
    get_stale(written, errors);
    policy.flag("near_get_stale", written.get_stale.is_some());
}

/// The time in milliseconds for which a copy may be used.
fn time(written: &Near, of_type: Option<&Named<Lit>>, errors: &mut Errors) -> Option<u64> {
    let Some(ttl) = &written.ttl else {
        errors.push(
            &written.name,
            "`near` needs `ttl`, which bounds what a lost invalidation can cost: write how long a copy may be used, as \
             in `near(ttl = \"5s\")`",
        );
        return None;
    };
    let (name, text) = (&ttl.name, ttl.value.as_ref()?);
    let millis = match ttl::parse(&text.value()) {
        Ok(Ttl::Millis(millis @ ..=DAY)) => millis,
        mistake => {
            errors.push(text, mistake_in_time(name, mistake.err()));
            return None;
        }
    };
    if let Some((life, shown)) = together::life(of_type)
        && millis > life
    {
        let message = format!(
            "longer than {shown}, but a copy can't be kept longer than its entry: write a shorter time here, or a longer \
             `ttl` of the type"
        );
        errors.push(text, message);
    }
    Some(millis)
}

/// The message for a time that is over a day, or not even a time.
fn mistake_in_time(name: &Ident, mistake: Option<TtlMistake>) -> String {
    match mistake {
        Some(TtlMistake::Zero) => format!(
            "a time of zero: no copy would ever be used; write how long one may be used, as in `{name} = \"5s\"`, or \
             leave out `near`"
        ),
        Some(TtlMistake::Malformed) => {
            format!("not a time: write how long a copy may be used, as in `{name} = \"5s\"`")
        }
        Some(TtlMistake::TooLong) | None => format!(
            "over a day: a copy whose invalidation was lost would be used for that time; write a time of at most a day, \
             as in `{name} = \"5s\"`"
        ),
    }
}

/// The most memory in bytes.
fn max_bytes(written: Option<&Lit>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    let bytes = match written {
        Lit::Str(text) => size::parse(&text.value()),
        Lit::Int(number) if number.suffix().is_empty() => size::parse(number.base10_digits()),
        other => {
            errors.push(written, unquoted(other));
            return None;
        }
    };
    match bytes {
        Ok(bytes @ LEAST_BYTES..) => return Some(bytes),
        Ok(_) => errors.push(
            written,
            "under 1 KiB, in which hardly any copy fits: write a larger size, as in `max_bytes = \"64MiB\"`, which is \
             also the default; for no near cache, leave out `near`",
        ),
        Err(mistake) => errors.push(written, mistake),
    }
    None
}

/// The message for a size such as `64MiB` without quotes.
fn unquoted(written: &Lit) -> String {
    let text = written.to_token_stream().to_string();
    let meant = match size::parse(&text) {
        Ok(_) => text,
        Err(size::SizeMistake::Unit(meant)) => meant,
        Err(_) => "64MiB".to_owned(),
    };
    format!("a size with a unit is a string: write it as in `max_bytes = \"{meant}\"`")
}

/// The age in milliseconds up to which copies are served while the server can't be asked.
fn stale(written: &Near, ttl: Option<u64>, errors: &mut Errors) -> Option<u64> {
    let text = value(&written.stale)?;
    let message = match ttl::parse(&text.value()) {
        Ok(Ttl::Millis(stale)) => {
            if let (Some(ttl), Some(shown)) = (ttl, value(&written.ttl))
                && stale <= ttl
            {
                not_longer(text, shown, errors);
            }
            return Some(stale);
        }
        Ok(Ttl::Never) | Err(TtlMistake::TooLong) => {
            "a copy that is served without an end hides that the server can't be asked: write up to which age, as in \
             `stale = \"1h\"`"
        }
        Err(TtlMistake::Malformed | TtlMistake::Zero) => {
            "not a time above zero: write up to which age copies are served while the server can't be asked, as in \
             `stale = \"1h\"`, or leave it out"
        }
    };
    errors.push(text, message);
    None
}

fn not_longer(stale: &LitStr, ttl: &LitStr, errors: &mut Errors) {
    let message = format!(
        "not longer than `ttl = \"{}\"`, up to which copies are used in any case: write a longer time, as in \
         `stale = \"1h\"`, or leave out `stale`",
        ttl.value()
    );
    errors.push(stale, message);
}

fn get_stale(written: &Near, errors: &mut Errors) {
    if let (Some(get_stale), None) = (&written.get_stale, &written.stale) {
        errors.push(
            get_stale,
            "`get_stale` needs `stale`: without it no stale copies are kept; write up to which age `get` serves them, as \
             in `stale = \"1h\", get_stale`, or leave out `get_stale`",
        );
    }
}
