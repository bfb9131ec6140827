//! The description of a cached type: the constants and types that the derive writes.

use crate::base::error::Result;
use crate::base::invalid::Invalid;
use crate::base::ttl::Ttl;
use crate::key::aliases::AliasKeys;
use crate::key::part::KeyPart;
use crate::key::tag::TagWriter;
use crate::protocol::versions::Versions;
use crate::schema::guarding::Guarding;
use crate::schema::policy::Policy;
use crate::schema::unmigrated::Unmigrated;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The description of a cached type: its prefix, TTL, version, key and tags. `#[derive(Cached)]`
/// implements it.
///
/// [`Cached`](crate::Cached) has the verbs, for every type that implements this trait. Import this
/// trait only to use a constant (`User::TTL`), or to implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cached type",
    label = "`#[derive(Cached)]` is missing",
    note = "add `#[derive(Cached)]` to `{Self}`, beside serde's `Serialize` and `Deserialize`"
)]
pub trait CachedType: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The prefix of this type's keys. It must not be empty, nor contain white space, a colon, a
    /// brace or a glob character of the server. The derive checks this; an implementation by hand
    /// must ensure it. With a colon, keys of another type may begin in the same way. Without a
    /// prefix, entries can't be scanned, counted or purged.
    const PREFIX: &'static str;

    /// The time to live of an entry, unless the call or an environment variable overrides it.
    const TTL: Ttl;

    /// The version of the type's schema. A reader accepts entries of its own version, and of those
    /// from which the type migrates.
    const VERSION: u16;

    /// The other choices of the annotation.
    const POLICY: Policy = Policy::new();

    /// The policy for a write whose guard can't be placed:
    /// [`BestEffort`](crate::schema::guarding::BestEffort), or
    /// [`Strict`](crate::schema::guarding::Strict) with `#[cached(strict)]`.
    type Guarding: Guarding;

    /// Checks the rules of the type, before a value is stored and after it is read.
    /// `#[cached(validate)]` implements it. A type without rules pays nothing for it. (The name
    /// differs from the `validate` of garde and validator.)
    ///
    /// # Errors
    /// The rules that the value breaks.
    fn cache_validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// The versions of entries that the type reads: its own, and those from which it migrates.
    #[doc(hidden)]
    const VERSIONS: Versions = Versions::of(Self::VERSION);

    /// The value that an entry of an older version becomes. `#[cached(migrate_from = …)]`
    /// implements it.
    #[doc(hidden)]
    fn __migrate<E: OldEntry>(entry: &E) -> Result<Self, Unmigrated> {
        let _ = entry;
        Err(Unmigrated::Unknown)
    }

    /// A copy of the value, if the type can be cloned. With it, callers that wait for a load share
    /// its value even if it can't be stored. The derive detects whether the type is `Clone`.
    #[doc(hidden)]
    fn __try_clone(&self) -> Option<Self> {
        None
    }

    /// The fields that nothing shows, by the names under which they are serialized: those with
    /// `#[cached(redact)]`. [`Redacted`](crate::Redacted) leaves them out.
    const REDACTED: &'static [&'static str] = &[];
    /// The shape in the header of an entry: 0 for the named layout, else the fingerprint of a
    /// compact one. `#[cached(layout = "compact")]` sets it.
    #[doc(hidden)]
    const SHAPE: u32 = 0;

    /// For an alias: the prefix of its values, and the field.
    #[doc(hidden)]
    const ALIAS_OF: Option<(&'static str, &'static str)> = None;

    /// Whether it is cached that no value has an alias: of an alias with `ttl_absent`.
    #[doc(hidden)]
    const ALIAS_ABSENCES: bool = false;

    /// Writes the keys of the aliases of this value, of those with `ttl_absent`.
    #[doc(hidden)]
    fn write_aliases(&self, out: &mut AliasKeys<'_>) {
        let _ = out;
    }

    /// Whether entries have tags. A type without tags pays nothing for them.
    #[doc(hidden)]
    const TAGGED: bool = false;

    /// Whether `write_tags` leaves out the tags that follow from the key, because the value does
    /// not have its key.
    #[doc(hidden)]
    const KEY_TAGS: bool = false;

    /// The type that [`tags`](crate::Cached::cache_tags) returns.
    type Tags: Default;

    /// Writes the tags of a value.
    #[doc(hidden)]
    fn write_tags(&self, out: &mut TagWriter<'_>) {
        let _ = out;
    }

    /// The time after its stamp at which the value is refreshed, in milliseconds, in place of the
    /// policy's `refresh_ahead`. For a type whose values have times of their own.
    #[doc(hidden)]
    #[inline]
    fn __refresh_after_millis(&self) -> Option<u64> {
        None
    }

    /// Writes the tags that follow from the key alone.
    #[doc(hidden)]
    fn write_key_tags(key: Self::Key<'_>, out: &mut TagWriter<'_>) {
        let _ = (key, out);
    }

    /// The owned form of the key: `u64`, `String`, `(u64, String)`.
    type OwnedKey: for<'k> KeyPart<Ref<'k> = Self::Key<'k>>;

    /// The borrowed form of the key, for look-ups: `u64`, `&str`, `(u64, &str)`.
    type Key<'k>: Copy + Send + Sync + 'k;
}

/// An entry of an older version. Only generated code needs it.
#[doc(hidden)]
pub trait OldEntry {
    fn version(&self) -> u16;

    /// Its value, which has the type of its version.
    fn value<T: CachedType>(&self) -> Result<T, Unmigrated>;
}

/// A cached type whose key is part of its value.
#[diagnostic::on_unimplemented(
    message = "the key of `{Self}` is not part of its value",
    label = "no field of `{Self}` is marked `#[cached(key)]`",
    note = "pass the key: `value.set_at(&store, key)`; or mark the field that contains the key with `#[cached(key)]`"
)]
pub trait Keyed: CachedType {
    /// The key of this value. (The name differs from `key`, so that an application's method `key`
    /// does not hide it.)
    fn cache_key(&self) -> Self::Key<'_>;
}

/// A type whose entries have tags: one with `tag`, `tags` or `clear` in its `#[cached(…)]`.
#[diagnostic::on_unimplemented(
    message = "the entries of `{Self}` carry no tags",
    label = "`{Self}` has no tags",
    note = "name them with `#[cached(tag = \"org:{{org_id}}\")]`; or write `#[cached(tags)]`, and the loaders name them"
)]
pub trait Tagged: crate::schema::cached_type::CachedType {}

/// A type that can be [cleared](crate::Handle::clear): one with `#[cached(clear)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be cleared at once",
    label = "`{Self}` has no `#[cached(clear)]`",
    note = "add `#[cached(clear)]` to it, which gives its entries a tag; or remove them one by one"
)]
pub trait Clearable: Tagged {}
