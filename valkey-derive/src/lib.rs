//! The derive macros of `valkey_runtime`, which re-exports them. Depend on that crate, not on this
//! one.
//!
//! A macro is a chain of small stages: `syntax` (tokens to what was written) → `check` (mistakes
//! and meaning) → `model` → `emit` (tokens). No stage stops at a mistake, so one compilation shows
//! all of them. Implementations are emitted in any case, so that a slip in an attribute causes no
//! errors in code that uses the type. All behaviour is in the runtime.

mod args;
mod check;
mod emit;
mod errors;
mod function;
mod model;
mod renamed;
mod shape;
mod size;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod ttl;
mod types;

use quote::quote;
use syn::{DeriveInput, parse_macro_input};

use crate::errors::Errors;

/// Makes the values of a struct cacheable: implements `CachedType`, and `Keyed` if the key is part
/// of the value.
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
/// The struct owns its data (no lifetimes) and implements serde's `Serialize` and `Deserialize`.
/// Attributes of serde work as usual, but must not skip a field of the key. Cache an enum as a
/// field of a struct.
///
/// # Above the type
///
/// | attribute | default | meaning |
/// |---|---|---|
/// | `prefix = "user"` | the type's name in kebab case: `UserProfile` → `user-profile` | the beginning of the keys: `user:42` |
/// | `ttl = "5m"` | `"5m"` | the time to live of an entry: numbers with the units `d`, `h`, `m`, `s`, `ms` (`"1h30m"`), a number of seconds (`"90"`), or `"never"` |
/// | `ttl_env = "USER_CACHE_TTL"` | | an environment variable that overrides the TTL at run time |
/// | `version = 2` | `1` | the version of the schema, from 1 to 65535: entries of another version are misses. Raise it when the new type can't read the old entries |
/// | `migrate_from = UserV1` | | the type of an older version, with the same prefix and key: its entries are converted when they are read, by `From<UserV1>` or `TryFrom<UserV1>`. That type may name a still older one |
/// | `only_copy` | | the store has the only copy of the values, and is no cache for them: an entry that can't be read is an error and stays, nothing loads or invalidates values, and each version migrates from the one before. Needs a `ttl`. See the guide `only-copy.md` |
/// | `oldest_version = 2` | `1` | with `only_copy`: the lowest version of which entries may still exist. The chain of `migrate_from` begins there |
/// | `layout = "compact"` | `"named"` | writes structs as arrays, without the names of fields: smaller, and faster to decode. An entry of another [shape](#the-shape) is a miss |
/// | `lock = "24c59e02"` | | the build fails when the [shape](#the-shape) changed and the `version` did not. The compiler says which version and which lock to write. Begin with `"00000000"`. Not for a generic type |
/// | `on_corrupt = "error"` | `"miss"` | the result of reading a corrupt or invalid entry: a miss, which is counted and logged, or an error |
/// | `keep_corrupt` | | leaves such an entry in place; by default a read removes it, if its bytes are still the same |
/// | `show_keys` | | the keys of the type are not secret: log lines and error texts show them. By default they show the type and a hash |
/// | `jitter = "5%"` | `"5%"` | the maximal random reduction of the TTL, so that entries stored together do not expire together |
/// | `ttl_absent = "30s"` | | negative caching: the time for which a "not found" result is cached; by default it is not |
/// | `stale_if_error = "1h"` | | the time after its TTL for which a value is kept, and returned if the loader fails; by default none. Not with `ttl = "never"` |
/// | `retry_after = "5s"` | `"5s"` | with `stale_if_error` or `refresh_ahead`: the time after a failed load in which nothing is loaded and the present value is returned; at most a day |
/// | `refresh_ahead = "80%"` | | the part of its life, from 1 to 99 percent, after which a read loads a value in the background, once; by default it does not. Not with `ttl = "never"` |
/// | `load_timeout = "200ms"` | | with `stale_if_error`, the soft timeout: after it a caller that waits for another caller's load gets the stale value, if one exists. In `in_background` it also applies to the caller's own load. By default callers wait until the end of the load |
/// | `load_deadline = "30s"` | `30s` | the hard timeout: after it a load counts as failed and frees its turn, its lease and its waiters |
/// | `sliding` | | with `max_age`: a hit extends the life of an entry by its TTL. Not with `ttl = "never"` |
/// | `max_age = "7d"` | | with `sliding`: the longest life of an entry, however often it is read. Not shorter than the `ttl` |
/// | `strict` | | refuses an update whose guard can't be placed. By default the update runs, and its invalidation is delivered later. Updates of a strict type return an `UpdateError` |
/// | `hold = "500ms"` | | the time for which a guard stays after a write or a deletion: the lag of the replicas that loaders read from |
/// | `max_loads = 64` | `64` | the most loads of this type that run at a time in this process |
/// | `near = "5s"` | | a [near cache](#near-cache): copies of values are kept in this process, and used for this time. At most a day, and not longer than the `ttl` |
/// | `near(ttl = "5s", …)` | | the same, with more choices |
/// | `compress = "zstd"` | | values are stored compressed, if they become smaller. `"zstd"` makes them smallest, `"lz4"` is faster; each needs the runtime's feature of that name |
/// | `compress_above = 4096` | `1024` | with `compress`: the size in bytes from which on a value is compressed |
/// | `encrypt` | | values are stored encrypted, with the keys of the store (`Builder::encryption_keys`, or the variable `VALKEY_ENCRYPTION_KEYS`). Keys and tags are not. Needs the runtime's feature `encrypt` |
/// | `key = Type` | | the key is not part of the value: values are stored by `set_at(&store, key)` |
/// | `alias = "email"` | | values are also found by this field: the struct gets the methods `get_by_email` and `load_by_email`. May be written for several fields |
/// | `tag = "org:{org_id}"` | | a tag, by which entries are invalidated together: the text, with the fields in braces written as in a key. May be written several times |
/// | `tags = path::to::function` | | adds the tags that this function returns, from `&Self`: an iterator or a collection of texts, `String`s or `Tag`s |
/// | `tags` | | adds the tags that a loader sets by `Loaded::tags`. Write it for a type that has no other tags |
/// | `clear` | | all entries of the type can be invalidated at once: `store.of::<User>().clear()` |
/// | `validate` | | validates values before they are stored and after they are read, by the type's `Validate` of garde or validator: with that feature of `valkey_runtime` |
/// | `validate = path::to::function` | | validates by this function, from `&Self` to `Result<(), Invalid>`, or to the result of either `Validate`. A type that has both must name one: `validate = garde::Validate::validate` |
/// | `crate = "path"` | `"::valkey_runtime"` | the path of the runtime, if another crate re-exports it or the dependency is renamed: `crate = "cache"` for `cache = { package = "valkey-runtime" }` |
///
/// # Above a field
///
/// | attribute | meaning |
/// |---|---|
/// | `key` | this field is the key. With several (up to six) the key is a tuple, in the order of the fields |
/// | `key(with = "path::to::function")` | for a field of a foreign type `T`: the function converts it to a key, from `&T` to `&str` or to an owned type that can be a key. Different values must give different keys. Look-ups take `&T` |
/// | `key(hash_tag)` | this part decides the cluster slot of the entry: `{42}:…`. At most one part |
/// | `redact` | the field is in no text that the cache makes of a value: `Redacted`, the `Debug` of an `Entry`. A derived `Debug` of the type itself still shows it |
/// | `alias` | the same as `alias = "…"` above the type, with this field's name |
/// | `alias(with = "path::to::function")` | the function normalises the field, and its result is looked up and compared: from the borrowed form, `&str` for a `String`, to `&str` or to an owned type that can be a key. Useful for e-mails that differ only in case |
/// | `alias(ttl_absent = "30s")` | negative caching: the time for which it is cached that no value has this alias. The writes of a value end it; for other writes the struct gets the method `email_alias`, which names the alias |
///
/// A struct without a key is a singleton: its key is `()`.
///
/// # Near cache
///
/// A near cache keeps values of the type in this process, as *near copies*. A read that finds a
/// copy asks no server.
///
/// | in `near(…)` | default | meaning |
/// |---|---|---|
/// | `ttl = "5s"` | required | how long a copy may be used, counted from when its read was sent. It bounds what a lost invalidation can cost. At most a day, and not longer than the type's `ttl` |
/// | `max_bytes = "64MiB"` | `"64MiB"` | the most memory for copies of the type in a store: a number with the unit `KiB`, `MiB` or `GiB`, or a number of bytes. At least 1 KiB |
/// | `stale = "1h"` | | the age up to which copies are served while the server can't be asked, as `Source::Stale`. Loading verbs serve them, if the loader fails too. Longer than the `ttl` of the copies |
/// | `get_stale` | | with `stale`: `get` serves such copies as well |
///
/// `near = "5s"` is short for `near(ttl = "5s")`. With `sliding`, a hit in the near cache does not
/// extend the life of the entry, since the server does not see it.
///
/// # The key's type
///
/// The key's type implements `KeyPart`, as integers, strings, `Uuid` and dates do. Derive it for a
/// newtype: [`KeyPart`]. Look-ups take the borrowed form, `&str` for a field of type `String`. The
/// key's type must be as visible as the cached type. A private one in a `pub` struct is error
/// E0446, which points at the field.
///
/// # Aliases
///
/// The field's type can be a key, or is an `Option` of such a type; `None` is never found. The
/// field's name and the function's results are part of the keys of alias entries, so a change of
/// either empties them. These entries store the key itself: its parts implement `Clone` and serde's
/// traits. The methods are as visible as the struct. If it has a method of that name, this is error
/// E0592, which points at the alias. The documentation of `valkey_runtime` shows their use.
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
/// `tags()` has a function for each tag, which takes the fields in the braces. It is named after
/// the texts around them, so each tag needs a text of its own. A field's type can be a key, or is
/// an `Option` of such a type. With `None` the entry does not get the tag. serde must not skip such
/// a field. Stored entries keep their tags. So raise the `version` when the function changes, or
/// when a tag that does not follow from the key is added or changed.
///
/// In a generic type a tag means the same for all instantiations. So its fields have types without
/// the type's parameters, and no function of their own (`key(with = "…")`). `clear` applies to one
/// instantiation, as a prefix does.
///
/// # The shape
///
/// The shape is a fingerprint of the serialized form: names, order and types of the fields, of nested
/// types too, and serde's attributes. `layout = "compact"` and `lock` need the trait `Shape` for the
/// type of each field: derive it for your own types ([`Shape`](macro@Shape)).
///
/// | attribute above a field | meaning |
/// |---|---|
/// | `#[shape(opaque = "1")]` | the form of the field is known to you alone, as for a type of another crate or with serde's `with`. Write another text when it changes |
/// | `#[shape(recursive)]` | this field closes a cycle of several types. A type that contains itself by its own name needs no mark |
///
/// # Generic types
///
/// Type and const parameters are part of the prefix: `Page<User>` has the keys `page<user>:…`, so
/// two instantiations share no keys. The type parameters implement `PrefixPart`, as all cached
/// types do. The key's type is the same for all instantiations.
#[proc_macro_derive(Cached, attributes(cached, shape))]
pub fn derive_cached(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    cached(parse_macro_input!(input as DeriveInput)).into()
}

/// Makes a newtype usable as a key, or as a part of one: implements `KeyPart`.
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
/// The struct has one field (besides `PhantomData`), which is a `KeyPart` itself, and is written as
/// that field. Look-ups take the newtype by reference, so that the number of another newtype is not
/// accepted in its place. Bulk verbs take it by value as well.
///
/// | attribute above the type | meaning |
/// |---|---|
/// | `#[cached(crate = "path")]` | the path of the runtime, if another crate re-exports it or the dependency is renamed |
#[proc_macro_derive(KeyPart, attributes(cached))]
pub fn derive_key_part(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    key_part(parse_macro_input!(input as DeriveInput)).into()
}

/// Gives a struct or an enum a fingerprint of its serialized form: implements `Shape`.
///
/// ```text
/// #[derive(Serialize, Deserialize, Shape)]
/// struct Address {
///     street: String,
///     #[shape(opaque = "1")]
///     position: geo::Point,
/// }
/// ```
///
/// The fingerprint covers names and order of the fields, names of the variants, types, and the
/// attributes of serde that change bytes. The names of types, the order of variants, defaults and
/// `alias` are not in the bytes, and not in the fingerprint. The type of each field has the trait too.
///
/// | attribute | meaning |
/// |---|---|
/// | `#[shape(opaque = "1")]` above a field or the type | its form is known to you alone: a type of another crate, or one that functions write (`with`, `into` without `from`). Write another text when the form changes |
/// | `#[shape(recursive)]` above a field | this field closes a cycle of several types: mark one field of each cycle. A type that contains itself by its own name needs no mark |
/// | `#[shape(crate = "path")]` above the type | the path of the runtime, if another crate re-exports it or the dependency is renamed |
///
/// Without a mark the compiler reports a cycle as error E0391.
#[proc_macro_derive(Shape, attributes(shape, serde))]
pub fn derive_shape(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    shape(parse_macro_input!(input as DeriveInput)).into()
}

/// Caches the result of an `async fn` under its arguments.
///
/// ```text
/// #[cached_fn(ttl = "5m", tag = "category:{category}")]
/// async fn products(store: &Store, #[context] db: &Db, category: u32) -> Result<Vec<Product>, DbError> {
///     db.products_in(category).await
/// }
///
/// let list = products(&store, &db, 7).await?;               // runs the body, or not
/// products::invalidate(&store, 7).await?;                   // the next call runs it
/// let list = products::refresh(&store, &db, 7).await?;      // runs it now
/// let list = products::get(&store, 7).await?;               // Option<Vec<Product>>
/// products::tags().category(7).invalidate(&store).await?;
/// store.of::<products>().mark_stale(7).await?;              // all verbs
/// ```
///
/// The result is a value as it is: a list, a tuple or a `String` needs no struct. The function
/// returns `T`, `Option<T>`, `Result<T, E>` or `Result<Option<T>, E>`. `T` owns its data and
/// implements serde's `Serialize` and `Deserialize`. An error is not cached. `None` is cached with
/// `ttl_absent`. If the store can't be asked, the body runs, and its result is returned.
///
/// # Parameters
///
/// Every parameter is part of the key, in the order of the signature, except these:
///
/// | parameter | meaning |
/// |---|---|
/// | of the type `&Store` | the store |
/// | `#[context] db: &Db` | not part of the key. The result must not depend on it |
///
/// The type of a part is a `KeyPart`, or a reference to one; `&str` is written as a `String` is. A
/// key has at most six parts.
///
/// | mark of a part | meaning |
/// |---|---|
/// | `#[key(hash_tag)]` | this part decides the cluster slot of the entry |
/// | `#[key(with = "path::to::function")]` | for a foreign type `T`: the function converts it to a key, as on a field of a [`Cached`](macro@Cached) type |
///
/// # Attributes
///
/// Those of a type with [`#[derive(Cached)]`](macro@Cached), with the same defaults, without `key`,
/// `alias`, `migrate_from`, `layout`, `lock`, and `tags` without a function. These differ:
///
/// | attribute | meaning |
/// |---|---|
/// | `prefix = "products"` | the default is the function's name in kebab case |
/// | `store = shop.store` | an expression over the parameters for the store. Without it there is a parameter of the type `&Store` |
/// | `tag = "category:{category}"` | the text in braces is a parameter of the key |
/// | `tags = path::to::function` | further tags, from `&T` |
/// | `validate = path::to::function` | validates results by this function, from `&T` |
/// | `refresh_ahead`, `load_timeout` | the body may go on after its call. So parameters that are references are copied at each call: their types implement `Clone` |
///
/// # What the macro adds
///
/// A struct with the function's name and visibility: the cached type of the results. Its functions
/// `get`, `invalidate`, `refresh` and `tags` are as visible as the function. Methods, functions with
/// type or const parameters, and functions that are not `async` are refused.
#[proc_macro_attribute]
pub fn cached_fn(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    function::cached_fn(arguments.into(), item.into()).into()
}

fn shape(input: DeriveInput) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let shape = shape::read::shape(&input, &mut errors);
    let runtime = shape::read::runtime(&input);
    let runtime = check::runtime(runtime.as_ref(), &input.ident, "shape", &mut errors);
    let implementation =
        emit::shape::implementation(&input.ident, &input.generics, &runtime, &shape);
    let errors = errors.into_compile_errors();
    quote!(#errors #implementation)
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
