//! The derive macros of `valkey_runtime`, which re-exports them: depend on that crate, not on this one.
//!
//! A macro here is a chain of small stages: `syntax` (what was written) → `check` (what is wrong with it, and what it
//! means) → `model` → `emit` (tokens). None of them stops at a mistake, so that one compile shows all of them, and
//! implementations are emitted in any case, so that the code that uses the type is not in error because of a slip in an
//! attribute. All behaviour is in the runtime.

mod args;
mod check;
mod emit;
mod errors;
mod model;
mod renamed;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod ttl;
mod types;

use quote::quote;
use syn::{DeriveInput, parse_macro_input};

use crate::errors::Errors;

/// Makes the values of a struct cacheable: implements the trait `Cached`, and `Keyed` where the key is part of the value.
///
/// ```text
/// #[derive(Serialize, Deserialize, Cached)]
/// #[cached(prefix = "user", ttl = "5m", version = 2)]
/// struct User {
///     #[cached(key)]
///     id: u64,
///     name: String,
/// }
///
/// user.set(&store).await?;                        // SET user:42 … PX 300000
/// let found = User::get(&store, 42).await?;       // Option<User>
/// ```
///
/// The struct owns its data (no lifetimes) and implements serde's `Serialize` and `Deserialize`; attributes of serde work
/// as ever, but a field of the key can't be skipped. An enum is cached as a field of a struct.
///
/// # Above the type
///
/// | attribute | default | meaning |
/// |---|---|---|
/// | `prefix = "user"` | the type's name in kebab case: `UserProfile` → `user-profile` | what the keys begin with: `user:42` |
/// | `ttl = "5m"` | `"5m"` | how long an entry lives: numbers with the units `d`, `h`, `m`, `s`, `ms` in falling order (`"1h30m"`), a number of seconds (`"90"`), or `"never"` |
/// | `ttl_env = "USER_CACHE_TTL"` | | an environment variable that overrides the TTL at run time |
/// | `version = 2` | `1` | the version of the schema, from 1 to 65535: entries of another version are misses. Raise it when the old entries can't be read as the new type |
/// | `on_corrupt = "error"` | `"miss"` | what a read makes of an entry that is not this type's, or invalid: a miss, which is counted and logged, or an error |
/// | `keep_corrupt` | | leaves such an entry in place; by default a read removes it, if it is still the same bytes |
/// | `show_keys` | | the keys of the type are no secret: log lines and the text of errors show them. By default they show the type and a hash |
/// | `jitter = "5%"` | `"5%"` | by how much the TTL of an entry is shortened at most, at random, so that what was stored at once does not expire at once |
/// | `ttl_absent = "30s"` | | how long it is remembered that a load found nothing; by default not at all |
/// | `stale_if_error = "1h"` | | how long after its TTL a value is kept and, where the loader fails, served; by default not at all. Not with `ttl = "never"` |
/// | `retry_after = "5s"` | `"5s"` | with `stale_if_error` or `refresh_ahead`: how long after a failed load nothing is loaded, and the value that is there is served; at most a day |
/// | `refresh_ahead = "80%"` | | once so much of its life is over, from 1 to 99 percent, a value that is read is loaded anew in the background, once; by default not at all. Not with `ttl = "never"` |
/// | `load_timeout = "200ms"` | | with `stale_if_error`: how long a caller waits for a load that another runs, or with `in_background` its own, before it is given the stale value, if there is one; by default until the load is over |
/// | `load_deadline = "30s"` | `30s` | how long a loader may run: then its load has failed, and its turn, its lease and those who wait for it are free |
/// | `sliding` | | with `max_age`: a hit extends the life of an entry by its TTL. Not with `ttl = "never"` |
/// | `max_age = "7d"` | | with `sliding`: how long an entry lives at most, however often it is read. Not shorter than the `ttl` |
/// | `strict` | | an update whose guard can't be placed is refused; by default it is written all the same, and the invalidation delivered later. Updates then fail with an `UpdateError` |
/// | `hold = "500ms"` | | how long a guard stays after a write or a deletion: as long as the replicas may lag that loaders read from |
/// | `max_loads = 64` | `64` | the most loads of this type that run at a time in this process |
/// | `key = Type` | | the key is not part of the value: values are stored by `set_at(&store, key)` |
/// | `alias = "email"` | | values are found by this field too: the struct gets the methods `get_by_email` and `load_by_email`. May be written for several fields |
/// | `tag = "org:{org_id}"` | | what entries are invalidated by, together with others: the text, with the fields that stand in braces written as in a key. May be written several times |
/// | `tags = path::to::function` | | also what this function gives, from `&Self`: an iterator or a collection of texts, `String`s or `Tag`s |
/// | `tags` | | also what a loader says, by `Loaded::tags`. To be written for a type that has no other tags |
/// | `clear` | | all entries of the type can be invalidated at once: `store.of::<User>().clear()` |
/// | `validate` | | values are validated before they are stored and after they are read, by the type's `Validate` of garde or validator: with that feature of `valkey_runtime` |
/// | `validate = path::to::function` | | the same by this function, from `&Self` to `Result<(), Invalid>`, or to what either `Validate` gives. So a type that has both says which: `validate = garde::Validate::validate` |
/// | `crate = "path"` | `"::valkey_runtime"` | where the runtime is found, if it is re-exported by another crate, or the dependency has another name: `crate = "cache"` for `cache = { package = "valkey-runtime" }` |
///
/// # Above a field
///
/// | attribute | meaning |
/// |---|---|
/// | `key` | this field is the key. With several (up to six) the key is a tuple, in the order of the fields |
/// | `key(with = "path::to::function")` | the field has a foreign type `T`: the function, from `&T` to `&str` or to an owned type that can be a key, says how it is written. Different values must give different keys. Look-ups take `&T` |
/// | `key(hash_tag)` | the entry lies in the cluster slot of this part: `{42}:…`. At most one part is |
/// | `alias` | the same as `alias = "…"` above the type, with this field's name |
/// | `alias(with = "path::to::function")` | what the function makes of it is what is looked up and compared: from the borrowed form, `&str` for a `String`, to `&str` or to an owned type that can be a key. For e-mails that differ in case only, say |
///
/// A struct without a key is a singleton: its key is `()`.
///
/// # The key's type
///
/// It implements `KeyPart`, as integers, strings, `Uuid` and dates do; for a newtype derive it: [`KeyPart`]. Look-ups take
/// the borrowed form, `&str` for a field of type `String`. A key's type is as visible as the cached type: a private one
/// in a `pub` struct is error E0446, which points at the field.
///
/// # Aliases
///
/// The field has a type that can be a key, or is an `Option` of one: `None` is found by nothing. Its name and what the function
/// makes of it are part of the keys of the entries that lead to the key, so changing either is like emptying them. The key
/// itself is stored in them: its parts implement `Clone`, and serde's traits by themselves. The methods are as visible as the
/// struct. If it has one of that name, this is error E0592, which points at the alias. How they are used is
/// told in the documentation of `valkey_runtime`.
///
/// # Tags
///
/// ```text
/// #[derive(Serialize, Deserialize, Cached)]
/// #[cached(tag = "org:{org_id}", tag = "org:{org_id}:team:{team}", clear)]
/// struct User {
///     #[cached(key)]
///     id: u64,
///     org_id: u64,
///     team: Option<String>,
/// }
///
/// User::cache_tags().org(42).invalidate(&store).await?;      // org:42
/// User::cache_tags().org_team(42, "a").invalidate(&store).await?;
/// store.of::<User>().clear().await?;
/// ```
///
/// `tags()` has a function for each tag, which takes the fields in the braces. It is named after the texts around them, so
/// each tag has one, and no two tags the same. A field has a type that can be a key, or is an `Option` of one: of `None` there
/// is no such tag. One that is not part of the key can't be skipped by serde. What was stored keeps the tags that it had: raise the
/// `version` where a tag is added or changed that does not follow from the key, or where the function changes.
///
/// In a generic type the fields in tags have types without its parameters, and none has a function of its own
/// (`key(with = "…")`): a tag means the same for all of them. `clear` is of one instantiation, as a prefix is.
///
/// # Generic types
///
/// Type and const parameters are part of the prefix: `Page<User>` has the keys `page<user>:…`, so two instantiations
/// share none. The type parameters implement `PrefixPart`, as all cached types do. The key's type is the same for all.
#[proc_macro_derive(Cached, attributes(cached))]
pub fn derive_cached(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    cached(parse_macro_input!(input as DeriveInput)).into()
}

/// Makes a newtype a key, or a part of one: implements the trait `KeyPart`.
///
/// ```text
/// #[derive(KeyPart, Serialize, Deserialize)]
/// struct UserId(u64);
///
/// #[derive(Cached, Serialize, Deserialize)]
/// struct User {
///     #[cached(key)]
///     id: UserId,
/// }
///
/// User::get(&store, &id)
/// ```
///
/// For a struct with one field (of `PhantomData` there may be more), which is a `KeyPart` itself; it is written as that
/// field is. Look-ups take the newtype by reference, whatever it holds, so that the number of another newtype does not
/// pass for it; the bulk verbs take it by value as well.
///
/// | attribute above the type | meaning |
/// |---|---|
/// | `#[cached(crate = "path")]` | where the runtime is found, if it is re-exported by another crate, or the dependency has another name |
#[proc_macro_derive(KeyPart, attributes(cached))]
pub fn derive_key_part(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    key_part(parse_macro_input!(input as DeriveInput)).into()
}

fn cached(input: DeriveInput) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let written = syntax::Cached::read(input, &mut errors);
    let model = check::cached(written, &mut errors);
    let implementations = model.as_ref().map(emit::cached);
    let errors = errors.into_compile_errors();
    quote!(#errors #implementations)
}

fn key_part(input: DeriveInput) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let written = syntax::Newtype::read(input, &mut errors);
    let model = check::newtype(written, &mut errors);
    let implementations = model.as_ref().map(emit::newtype);
    let errors = errors.into_compile_errors();
    quote!(#errors #implementations)
}
