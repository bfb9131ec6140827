//! Rules for single attributes: each takes the written value, if any, and returns its meaning or
//! the default.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Ident, Lit, LitStr, Path, parse_quote};

use crate::errors::Errors;
use crate::model::Value;
use crate::renamed;
use crate::suggest::nearest;
use crate::ttl::{self, Ttl, TtlMistake};

/// In milliseconds.
const DAY: u64 = 24 * 60 * 60_000;

/// `attribute` is the one that may name it.
pub(crate) fn runtime(
    written: Option<&LitStr>,
    name: &Ident,
    attribute: &str,
    errors: &mut Errors,
) -> Path {
    if written.is_none()
        && let Some(renamed) = renamed::renamed()
    {
        return under_another_name(&renamed, name, attribute, errors);
    }
    let path = written.and_then(|text| {
        let path = text.parse_with(Path::parse_mod_style).ok();
        if path.is_none() {
            errors.push(
                text,
                "not a path: write the path of the crate `valkey_runtime`, as in `crate = \"my_facade::cache\"`",
            );
        }
        path
    });
    path.unwrap_or_else(|| parse_quote!(::valkey_runtime))
}

/// The path for a renamed dependency without a `crate` attribute, which is an error.
fn under_another_name(renamed: &str, name: &Ident, attribute: &str, errors: &mut Errors) -> Path {
    let message = format!(
        "this crate depends on `valkey-runtime` under the name `{renamed}`: write `#[{attribute}(crate = \"{renamed}\")]`"
    );
    errors.push(name, message);
    let renamed = Ident::new(renamed, name.span());
    parse_quote!(::#renamed)
}

pub(crate) fn prefix(written: Option<&LitStr>, name: &Ident, errors: &mut Errors) -> String {
    let default = kebab_case(&name.unraw().to_string());
    let Some(text) = written else {
        if default.is_empty() {
            errors.push(name, "no prefix can be derived from this name: write one, as in `#[cached(prefix = \"user\")]`");
        }
        return default;
    };
    let prefix = text.value();
    match prefix_mistake(&prefix, &default) {
        None => prefix,
        Some(message) => {
            errors.push(text, message);
            default
        }
    }
}

fn prefix_mistake(prefix: &str, default: &str) -> Option<String> {
    if let Some(bare) = prefix.strip_suffix(':')
        && prefix_mistake(bare, default).is_none()
    {
        return Some(format!("write `{bare}`: the colon is added"));
    }
    let wrong = prefix.chars().find_map(|c| {
        Some(match c {
            ':' => "a colon, which separates the parts of a key: write `-` or `.` instead; the common beginning of all \
                    keys of a deployment is the store's namespace",
            '{' | '}' => "a brace: to choose the cluster slot mark a field `#[cached(key(hash_tag))]`",
            '*' | '?' | '[' | ']' | '^' | '\\' => "a glob character, which would mislead scans",
            '<' | '>' | ',' => "a character that is reserved for the parameters of generic types",
            c if c.is_whitespace() => "white space: write `-` instead",
            c if c.is_control() => "a control character",
            _ => return None,
        })
    });
    match wrong {
        _ if prefix.is_empty() => Some(match default {
            "" => "the prefix is empty: write one, as in `prefix = \"user\"`".to_owned(),
            default => {
                format!("the prefix is empty: write one, or leave `prefix` out for `{default}`")
            }
        }),
        Some(wrong) => Some(format!("the prefix holds {wrong}")),
        None => None,
    }
}

/// Converts a name: `HTTPServer` → `http-server`, `UserV2` → `user-v2`.
fn kebab_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let next_is_lower = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let begins_word = letter.is_uppercase()
            && before.is_some_and(|before| !before.is_uppercase() || next_is_lower);
        if (begins_word || letter == '_') && !kebab.is_empty() && !kebab.ends_with('-') {
            kebab.push('-');
        }
        if letter != '_' {
            kebab.extend(letter.to_lowercase());
        }
    }
    kebab.trim_end_matches('-').to_owned()
}

pub(crate) fn ttl(written: Option<&Lit>, errors: &mut Errors) -> Ttl {
    let Some(written) = written else {
        return Ttl::default();
    };
    let text = match written {
        Lit::Str(text) => text.value(),
        other => unquoted_ttl(other, errors),
    };
    ttl::parse(&text).unwrap_or_else(|mistake| {
        errors.push(written, mistake);
        Ttl::default()
    })
}

/// The text of a TTL such as `300` or `5m` without quotes.
fn unquoted_ttl(written: &Lit, errors: &mut Errors) -> String {
    let mut text = written.to_token_stream().to_string();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.push('s');
    }
    if ttl::parse(&text).is_err() {
        text = "5m".to_owned();
    }
    let message = format!("a TTL is a string: write it as in `ttl = \"{text}\"`");
    errors.push(written, message);
    text
}

pub(crate) fn version(written: Option<&Lit>, errors: &mut Errors) -> u16 {
    const FIRST: u16 = 1;
    let Some(written) = written else {
        return FIRST;
    };
    let message = match written {
        Lit::Int(number) => match number.base10_parse() {
            Ok(0) => "versions begin with 1, which is also the default".to_owned(),
            Ok(version) => return version,
            Err(_) => format!("a version is a number from 1 to {}", u16::MAX),
        },
        other => {
            let meant = match other {
                Lit::Str(text) => text.value().parse().ok(),
                _ => None,
            };
            format!(
                "a version is a number: write it as in `version = {}`",
                meant.unwrap_or(2u16)
            )
        }
    };
    errors.push(written, message);
    FIRST
}

pub(crate) fn ttl_env(written: Option<&LitStr>, errors: &mut Errors) -> Option<String> {
    let written = written?;
    let name = written.value();
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some(name);
    }
    let message = "not a name of an environment variable: write it as in `ttl_env = \"USER_CACHE_TTL\"`, of letters, \
                   digits and `_`";
    errors.push(written, message);
    None
}

/// The jitter in percent.
pub(crate) fn jitter(written: Option<&LitStr>, errors: &mut Errors) -> Option<u8> {
    /// A TTL reduced by more than half would be meaningless.
    const MOST: u8 = 50;
    let written = written?;
    if let Some(percent @ ..=MOST) = percent(written) {
        return Some(percent);
    }
    errors.push(
        written,
        "not a jitter: write the largest reduction of a TTL in percent, from 0 to 50, as in `jitter = \"5%\"`",
    );
    None
}

/// The TTL of absences in milliseconds.
pub(crate) fn ttl_absent(written: Option<&LitStr>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    match ttl::parse(&written.value()) {
        Ok(Ttl::Millis(millis)) => Some(millis),
        Ok(Ttl::Never) => {
            errors.push(
                written,
                "an absence that never expires hides rows that are added later: write how long, as in \
                 `ttl_absent = \"30s\"`",
            );
            None
        }
        Err(mistake) => {
            errors.push(written, mistake);
            None
        }
    }
}

/// The time in milliseconds for which stale values are kept.
pub(crate) fn stale_if_error(written: Option<&LitStr>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    let message = match ttl::parse(&written.value()) {
        Ok(Ttl::Millis(millis)) => return Some(millis),
        Ok(Ttl::Never) | Err(TtlMistake::TooLong) => {
            "a value that is served without an end hides that its loader fails: write how long, as in `stale_if_error = \"1h\"`"
        }
        Err(TtlMistake::Malformed | TtlMistake::Zero) => {
            "not a time above zero: write how long after its TTL a value is served if the loader fails, as in \
             `stale_if_error = \"1h\"`, or leave it out"
        }
    };
    errors.push(written, message);
    None
}

/// The pause after a failed load in milliseconds.
pub(crate) fn retry_after(written: Option<&LitStr>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    if let Ok(Ttl::Millis(millis @ ..=DAY)) = ttl::parse(&written.value()) {
        return Some(millis);
    }
    errors.push(
        written,
        "not a time above zero and of at most a day: write the time between a failed load and the next one, as in \
         `retry_after = \"5s\"`, which is also the default",
    );
    None
}

/// The percentage of an entry's life before a refresh.
pub(crate) fn refresh_ahead(written: Option<&LitStr>, errors: &mut Errors) -> Option<u8> {
    let written = written?;
    if let Some(percent @ 1..=99) = percent(written) {
        return Some(percent);
    }
    errors.push(
        written,
        "not a part of a life: write the percentage of its life after which a value is reloaded, from 1 to 99, as in \
         `refresh_ahead = \"80%\"`",
    );
    None
}

/// The soft timeout in milliseconds.
pub(crate) fn load_timeout(written: Option<&LitStr>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    let message = match ttl::parse(&written.value()) {
        Ok(Ttl::Millis(millis)) => return Some(millis),
        Err(TtlMistake::Zero) => {
            "a timeout of zero: to serve a stale value at once, and reload it beside the caller, write \
             `load_timeout = \"1ms\"`; leave it out to wait until the load is over"
        }
        Ok(Ttl::Never) | Err(TtlMistake::Malformed | TtlMistake::TooLong) => {
            "not a timeout: write how long a caller waits for a load if there is a stale value to serve, as in \
             `load_timeout = \"200ms\"`, or leave it out to wait until the load is over"
        }
    };
    errors.push(written, message);
    None
}

/// The hard timeout in milliseconds.
pub(crate) fn load_deadline(written: Option<&LitStr>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    if let Ok(Ttl::Millis(millis)) = ttl::parse(&written.value()) {
        return Some(millis);
    }
    errors.push(
        written,
        "not a deadline: write how long a loader may run before its load counts as failed, as in \
         `load_deadline = \"30s\"`, which is also the default",
    );
    None
}

/// The longest life of a sliding entry in milliseconds.
pub(crate) fn max_age(written: Option<&LitStr>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    let message = match ttl::parse(&written.value()) {
        Ok(Ttl::Millis(millis)) => return Some(millis),
        Ok(Ttl::Never) | Err(TtlMistake::TooLong) => {
            "no upper limit: an entry whose invalidation was lost might never expire; write the longest life of an entry, \
             as in `max_age = \"7d\"`"
        }
        Err(TtlMistake::Malformed | TtlMistake::Zero) => {
            "not a time above zero: write the longest life of an entry, however often it is read, as in \
             `max_age = \"7d\"`"
        }
    };
    errors.push(written, message);
    None
}

/// The hold of a guard in milliseconds.
pub(crate) fn hold(written: Option<&LitStr>, errors: &mut Errors) -> Option<u64> {
    let written = written?;
    // A guard stays for at most a day: in that time nothing is cached after a write.
    if let Ok(Ttl::Millis(millis @ ..=DAY)) = ttl::parse(&written.value()) {
        return Some(millis);
    }
    errors.push(
        written,
        "not a time of at most a day: write how long replicas may lag, as in `hold = \"500ms\"`, or leave it out",
    );
    None
}

pub(crate) fn max_loads(written: Option<&Lit>, errors: &mut Errors) -> Option<u16> {
    let written = written?;
    let number = match written {
        Lit::Int(number) => number.base10_parse().ok().filter(|number| *number > 0),
        _ => None,
    };
    if number.is_none() {
        let message = format!(
            "the largest number of concurrent loads is a number from 1 to {}: write it as in `max_loads = 64`",
            u16::MAX
        );
        errors.push(written, message);
    }
    number
}

/// `None` for the default, a miss.
pub(crate) fn on_corrupt(written: Option<&LitStr>, errors: &mut Errors) -> Option<Value> {
    let written = written?;
    const WORDS: [&str; 2] = ["miss", "error"];
    let word = written.value();
    match &*word {
        "miss" => return None,
        "error" => return Some(Value::OnCorruptError),
        _ => {}
    }
    let help = match nearest(&word, WORDS) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "write `\"miss\"` (the default) or `\"error\"`".to_owned(),
    };
    errors.push(
        written,
        format!("unknown choice `{word}` for corrupt entries: {help}"),
    );
    None
}

/// Parses a percentage such as `80%`.
fn percent(written: &LitStr) -> Option<u8> {
    written.value().strip_suffix('%')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_dependency_is_named_and_taken() {
        let (mut errors, name) = (Errors::default(), parse_quote!(User));
        let path = under_another_name("cache", &name, "cached", &mut errors);
        assert_eq!(path.to_token_stream().to_string(), ":: cache");
        let said = errors.into_compile_errors().to_string();
        let says = "this crate depends on `valkey-runtime` under the name `cache`: write `#[cached(crate = \\\"cache\\\")]`";
        assert!(said.contains(says), "{said}");
    }

    #[test]
    fn names_become_kebab_case() {
        for (name, kebab) in [
            ("User", "user"),
            ("UserProfile", "user-profile"),
            ("HTTPServer", "http-server"),
            ("UserV2", "user-v2"),
            ("V2Api", "v2-api"),
            ("A", "a"),
            ("AB", "ab"),
            ("type", "type"),
            ("User_Profile", "user-profile"),
            ("_User__X_", "user-x"),
            ("GrößeÄrgern", "größe-ärgern"),
            ("__", ""),
        ] {
            assert_eq!(kebab_case(name), kebab);
        }
    }
}
