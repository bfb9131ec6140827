//! Second stage: what is wrong with what was written, and what it means.
//!
//! Each rule is a function from what was written to what it means; after a mistake, which it notes, it gives what was
//! probably meant.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{ExprPath, Generics, Ident, Lit, LitStr, Member, Path, Type, parse_quote};

use crate::errors::Errors;
use crate::model::{self, Key, KeyField, OnCorrupt, Policy, With};
use crate::suggest::nearest;
use crate::syntax::{self, Body, Field};
use crate::ttl::{self, Ttl};
use crate::types::{is_float, is_phantom, mentioned_param, mentions_lifetime, ungrouped};

/// As many parts as the tuples have that are keys to the runtime.
const MOST_KEY_FIELDS: usize = 6;

/// `None` if no implementation could compile: the type does not own its data, or is a union.
pub(crate) fn cached(written: syntax::Cached, errors: &mut Errors) -> Option<model::Cached> {
    let fields = match &written.body {
        Body::Struct(fields) => fields.as_slice(),
        Body::Enum(token) => {
            errors.push(token, enum_message(&written.ident));
            &[]
        }
        Body::Union(token) => {
            errors.push(
                token,
                "a union can't be cached, since serde can't read one: use a struct",
            );
            return None;
        }
    };
    let owned = owns_its_data(fields, &written.generics, errors);
    let (key, key_is_possible) = key(&written, fields, errors);
    let model = model::Cached {
        runtime: runtime(written.runtime.as_ref(), errors),
        prefix: prefix(written.prefix.as_ref(), &written.ident, errors),
        ttl: written
            .ttl
            .as_ref()
            .map(|ttl| self::ttl(ttl, errors))
            .unwrap_or_default(),
        version: written
            .version
            .as_ref()
            .map_or(1, |version| self::version(version, errors)),
        policy: Policy {
            on_corrupt: written
                .on_corrupt
                .as_ref()
                .map(|word| on_corrupt(word, errors))
                .unwrap_or_default(),
            keep_corrupt: written.keep_corrupt,
            ttl_env: written
                .ttl_env
                .as_ref()
                .and_then(|name| ttl_env(name, errors)),
        },
        key,
        key_is_possible,
        ident: written.ident,
        generics: written.generics,
    };
    owned.then_some(model)
}

/// `None` if no implementation could compile: the type does not own its data.
pub(crate) fn newtype(written: syntax::Newtype, errors: &mut Errors) -> Option<model::Newtype> {
    let only =
        "only a struct with one field, as in `struct UserId(u64);`, can be made part of a key";
    let field = match written.body {
        Body::Struct(fields) => {
            // A marker for the type system is no content: `struct Id<T>(u64, PhantomData<T>)`.
            let mut contents: Vec<_> = fields
                .into_iter()
                .filter(|field| !is_phantom(&field.ty))
                .collect();
            match (contents.pop(), contents.is_empty()) {
                (Some(field), true) => Some((field.member, field.ty)),
                (Some(field), false) => {
                    errors.push(
                        &field.ty,
                        format!("{only}: of several fields that are a key mark each with `#[cached(key)]` in the cached type"),
                    );
                    None
                }
                (None, _) => {
                    errors.push(&written.ident, only);
                    None
                }
            }
        }
        Body::Enum(token) => {
            let with = "mark the field that holds it `#[cached(key(with = \"path\"))]`, with a function that gives its name";
            errors.push(token, format!("{only}: for an enum {with}"));
            None
        }
        Body::Union(token) => {
            errors.push(token, only);
            None
        }
    };
    if let Some((_, ty)) = &field
        && is_float(ty)
    {
        errors.push(ty, FLOAT);
    }
    if let Some(lifetime) = written.generics.lifetimes().next() {
        errors.push(lifetime, "a part of a key owns its data: replace what is borrowed by an owned type, such as `String`");
        return None;
    }
    // What is refused is not written: the error of the trait would come on top.
    let field = field.filter(|(_, ty)| !is_float(ty));
    Some(model::Newtype {
        runtime: runtime(written.runtime.as_ref(), errors),
        ident: written.ident,
        generics: written.generics,
        field,
    })
}

fn enum_message(name: &Ident) -> String {
    format!(
        "an enum can't be cached by itself: put it in a struct, as in \
         `struct Cached{name} {{ #[cached(key)] id: u64, value: {name} }}`"
    )
}

/// Data that is borrowed would be borrowed from the bytes of the entry, which do not outlive the read.
fn owns_its_data(fields: &[Field], generics: &Generics, errors: &mut Errors) -> bool {
    let lifetimes: Vec<&Ident> = generics
        .lifetimes()
        .map(|param| &param.lifetime.ident)
        .collect();
    let mut owned = lifetimes.is_empty();
    let mut said = false;
    for field in fields {
        // Fields that serde does not fill from the bytes may refer to statics.
        let filled = field
            .serde(&["skip", "skip_deserializing", "deserialize_with", "with"])
            .is_none();
        let reference = match ungrouped(&field.ty) {
            Type::Reference(reference) if filled => Some(reference),
            _ => None,
        };
        if reference.is_some() || mentions_lifetime(&field.ty, &lifetimes) {
            let instead = match reference.map(|reference| ungrouped(&reference.elem)) {
                Some(Type::Path(path)) if path.path.is_ident("str") => "`String`".to_owned(),
                Some(Type::Slice(slice)) => format!("`Vec<{}>`", slice.elem.to_token_stream()),
                Some(Type::Path(path)) => format!("`{}`", path.to_token_stream()),
                _ => {
                    "a type without lifetimes (`String`, `Vec<u8>`, `Cow<'static, str>`)".to_owned()
                }
            };
            errors.push(
                &field.ty,
                format!("a cached value owns its data: use {instead} instead of what is borrowed"),
            );
            (owned, said) = (false, true);
        } else if let Some(borrow) = field.serde(&["borrow"]) {
            errors.push(borrow, "a cached value owns its data: leave out `borrow`");
            (owned, said) = (false, true);
        }
    }
    if let (false, Some(lifetime)) = (said, generics.lifetimes().next()) {
        errors.push(
            lifetime,
            "a cached value owns its data: it can't have a lifetime parameter",
        );
    }
    owned
}

fn runtime(written: Option<&LitStr>, errors: &mut Errors) -> Path {
    let usual = || parse_quote!(::valkey_runtime);
    let Some(text) = written else { return usual() };
    text.parse_with(Path::parse_mod_style).unwrap_or_else(|_| {
        errors.push(text, "not a path: write where the crate `valkey_runtime` is found, as in `crate = \"my_facade::cache\"`");
        usual()
    })
}

fn prefix(written: Option<&LitStr>, name: &Ident, errors: &mut Errors) -> String {
    let default = kebab_case(&name.unraw().to_string());
    let Some(text) = written else {
        if default.is_empty() {
            errors.push(name, "no prefix can be made of this name: write one, as in `#[cached(prefix = \"user\")]`");
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
            ':' => "a colon, which separates the parts of a key: write `-` or `.` instead; what all keys of a \
                    deployment begin with is the store's namespace",
            '{' | '}' => "a brace: to choose the cluster slot mark a field `#[cached(key(hash_tag))]`",
            '*' | '?' | '[' | ']' | '^' | '\\' => "a glob character, which would mislead scans",
            '<' | '>' | ',' => "a character that is kept for the parameters of generic types",
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

/// `HTTPServer` → `http-server`, `UserV2` → `user-v2`.
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

fn ttl(written: &Lit, errors: &mut Errors) -> Ttl {
    let text = match written {
        Lit::Str(text) => text.value(),
        other => {
            let mut text = other.to_token_stream().to_string();
            if text.bytes().all(|byte| byte.is_ascii_digit()) {
                text.push('s');
            }
            let text = if ttl::parse(&text).is_ok() {
                text
            } else {
                "5m".to_owned()
            };
            errors.push(
                written,
                format!("a TTL is a string: write it as in `ttl = \"{text}\"`"),
            );
            text
        }
    };
    ttl::parse(&text).unwrap_or_else(|mistake| {
        errors.push(written, mistake);
        Ttl::default()
    })
}

fn version(written: &Lit, errors: &mut Errors) -> u16 {
    let message = match written {
        Lit::Int(number) => match number.base10_parse::<u16>() {
            Ok(0) => "versions begin with 1 (which is also the default)".to_owned(),
            Ok(version) => return version,
            Err(_) => format!("a version is a number from 1 to {}", u16::MAX),
        },
        Lit::Str(text) => match text.value().parse::<u16>() {
            Ok(version) => format!("a version is a number: write `version = {version}`"),
            Err(_) => "a version is a number: write it as in `version = 2`".to_owned(),
        },
        _ => "a version is a number: write it as in `version = 2`".to_owned(),
    };
    errors.push(written, message);
    1
}

fn ttl_env(written: &LitStr, errors: &mut Errors) -> Option<LitStr> {
    let name = written.value();
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some(written.clone());
    }
    let message = "not a name for an environment variable: write it as in `ttl_env = \"USER_CACHE_TTL\"`, of letters, \
                   digits and `_`";
    errors.push(written, message);
    None
}

fn on_corrupt(written: &LitStr, errors: &mut Errors) -> OnCorrupt {
    const WORDS: [(&str, OnCorrupt); 2] = [("miss", OnCorrupt::Miss), ("error", OnCorrupt::Error)];
    let word = written.value();
    if let Some((_, meaning)) = WORDS.iter().find(|(known, _)| *known == word) {
        return *meaning;
    }
    let help = match nearest(&word, WORDS.iter().map(|(known, _)| *known)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "write `\"miss\"` (the default) or `\"error\"`".to_owned(),
    };
    errors.push(
        written,
        format!("unknown choice `{word}` for corrupt entries: {help}"),
    );
    OnCorrupt::default()
}

/// The key, and whether it is a possible one.
fn key(written: &syntax::Cached, fields: &[Field], errors: &mut Errors) -> (Key, bool) {
    let mut marked: Vec<&Field> = fields.iter().filter(|field| field.key.is_some()).collect();
    match &written.key {
        None => {}
        Some(apart) if !marked.is_empty() => {
            let message = "the key is said twice, here and by a field marked `#[cached(key)]`: keep `key = …` if the key \
                           is not part of the value, else the field";
            errors.push(&apart.name, message);
        }
        Some(apart) => match apart.ty.as_ref().map(|ty| (ty, names_field(ty, fields))) {
            Some((ty, None)) => {
                let (ty, possible) = key_type_apart(ty, &written.generics, errors);
                return (Key::Apart(ty), possible);
            }
            Some((ty, Some(field))) => {
                let name = field.member.to_token_stream();
                let message = format!(
                    "`key = …` takes a type: to use the field `{name}`, mark it `#[cached(key)]`"
                );
                errors.push(ty, message);
                marked.push(field);
            }
            // What was meant is not known: nearly always it is a field of this name.
            None => marked.extend(
                fields
                    .iter()
                    .find(|field| matches!(&field.member, Member::Named(name) if name == "id")),
            ),
        },
    }

    let mut possible = true;
    if let Some(field) = marked.get(MOST_KEY_FIELDS) {
        let message = format!(
            "a key has at most {MOST_KEY_FIELDS} fields: put some of them in a struct and mark that \
             `#[cached(key(with = \"path\"))]`"
        );
        errors.push(&field.ty, message);
        possible = false;
    }
    let mut tagged = None;
    let mut parts = Vec::new();
    for (number, field) in marked.into_iter().enumerate() {
        let key = field.key.as_ref();
        let with = key.and_then(|key| key.with.as_ref());
        possible &= match with {
            None => key_type(&field.ty, &written.generics, errors),
            Some(_) => depends_on_no_param(&field.ty, &written.generics, errors),
        };
        stays_in_the_value(field, errors);
        let hash_tag = key.and_then(|key| key.hash_tag.as_ref());
        if let (Some(tag), Some(_)) = (hash_tag, tagged) {
            let message = "a second hash tag: the server heeds only the first; to place entries together by several fields, \
                           make them one";
            errors.push(tag, message);
        }
        tagged = tagged.or(hash_tag);
        parts.push(KeyField {
            member: field.member.clone(),
            ty: field.ty.clone(),
            with: with.map(|path| With {
                number,
                function: function(path, errors),
            }),
            hash_tag: hash_tag.is_some(),
        });
    }
    (Key::Fields(parts), possible)
}

/// The field whose name was written where a type is expected.
fn names_field<'f>(ty: &Type, fields: &'f [Field]) -> Option<&'f Field> {
    let Type::Path(path) = ungrouped(ty) else {
        return None;
    };
    let name = path.path.get_ident()?;
    fields
        .iter()
        .find(|field| matches!(&field.member, Member::Named(field) if field == name))
}

/// A field of the key is written with the value and must be read back with it.
fn stays_in_the_value(field: &Field, errors: &mut Errors) {
    if let Some(skip) = field.serde(&["skip", "skip_serializing", "skip_deserializing"]) {
        let ty = field.ty.to_token_stream();
        let message = format!(
            "the key is part of the value, but with `{skip}` it is lost when the value is read back: leave `{skip}` out, or \
             remove the field and write `#[cached(key = {ty})]` above the type"
        );
        errors.push(skip, message);
    }
}

fn function(path: &LitStr, errors: &mut Errors) -> Option<ExprPath> {
    let function = path.parse().ok();
    if function.is_none() {
        let message = "not the path of a function: write it as in `with = \"path::to::function\"`; a closure can't be used";
        errors.push(path, message);
    }
    function
}

const FLOAT: &str = "floats are not keys: two that print alike may differ; use an integer (cents, micro-degrees) or a string";

/// Whether a type may be that of a key, as far as its name tells.
fn key_type(ty: &Type, generics: &Generics, errors: &mut Errors) -> bool {
    if let Type::Tuple(tuple) = ungrouped(ty) {
        // Not `all`: each part is looked at.
        return tuple.elems.iter().fold(true, |possible, part| {
            key_type(part, generics, errors) && possible
        });
    }
    if is_float(ty) {
        errors.push(ty, FLOAT);
        return false;
    }
    depends_on_no_param(ty, generics, errors)
}

fn depends_on_no_param(ty: &Type, generics: &Generics, errors: &mut Errors) -> bool {
    let param = mentioned_param(ty, generics);
    if let Some(param) = &param {
        let message = format!(
            "the key's type can't depend on `{param}`: use a type that is the same for every `{param}`"
        );
        errors.push(ty, message);
    }
    param.is_none()
}

/// As [`key_type`], for `key = Type`, where references are written out of habit: look-ups take them.
fn key_type_apart(ty: &Type, generics: &Generics, errors: &mut Errors) -> (Type, bool) {
    let owned: Type = match ungrouped(ty) {
        Type::Reference(reference) => match ungrouped(&reference.elem) {
            Type::Path(path) if path.path.is_ident("str") => parse_quote!(String),
            elem => elem.clone(),
        },
        Type::Path(path) if path.path.is_ident("str") => parse_quote!(String),
        _ => {
            let possible = key_type(ty, generics, errors);
            return (ty.clone(), possible);
        }
    };
    let message = format!(
        "name the owned type, `key = {}`: look-ups borrow it",
        owned.to_token_stream()
    );
    errors.push(ty, message);
    (owned, true)
}

#[cfg(test)]
mod tests {
    use super::*;

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
