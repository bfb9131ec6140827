//! What a type says of its entries: the constants and types that the derive writes.

use crate::base::error::Result;
use crate::base::invalid::Invalid;
use crate::base::ttl::Ttl;
use crate::key::part::KeyPart;
use crate::key::tag::TagWriter;
use crate::schema::guarding::Guarding;
use crate::schema::policy::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a cached type is: its prefix, its TTL, its version, its key and its tags. `#[derive(Cached)]` implements it.
///
/// [`Cached`](crate::Cached) has the verbs, for every type that implements this trait. Import it only to name a constant
/// (`User::TTL`), or to implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cached type",
    label = "`#[derive(Cached)]` is missing",
    note = "add `#[derive(Cached)]` to `{Self}`, beside serde's `Serialize` and `Deserialize`"
)]
pub trait CachedType: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The prefix of this type's keys. The derive sees to it that it is not empty, and holds neither white space, a colon, a
    /// brace nor what is a glob to the server. An implementation by hand has to: with a colon in it another type's keys may
    /// begin like this one's, and what has no prefix can be neither scanned, counted nor purged.
    const PREFIX: &'static str;

    /// How long an entry lives, where neither the call nor an environment variable says otherwise.
    const TTL: Ttl;

    /// The version of the type's schema. A reader takes only entries of its own version.
    const VERSION: u16;

    /// What the annotation decides besides.
    const POLICY: Policy = Policy::new();

    /// What becomes of a write whose guard can't be placed: [`BestEffort`](crate::schema::guarding::BestEffort), or
    /// [`Strict`](crate::schema::guarding::Strict) with `#[cached(strict)]`.
    type Guarding: Guarding;

    /// Whether the value keeps the rules of its type. It is asked of each value before it is stored and after it is read;
    /// `#[cached(validate)]` implements it. A type without rules costs nothing for it. (A name of its own, so that it is not
    /// taken for the `validate` of garde or validator.)
    ///
    /// # Errors
    /// The rules that it breaks.
    fn cache_validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// A copy of the value, if the type can be cloned: callers that wait for a load share its value even where that can't be
    /// stored. The derive finds out whether the type is `Clone`.
    #[doc(hidden)]
    fn __try_clone(&self) -> Option<Self> {
        None
    }

    /// The prefix of the values, and the field, where this is an alias of theirs.
    #[doc(hidden)]
    const ALIAS_OF: Option<(&'static str, &'static str)> = None;

    /// Whether entries carry tags. One that carries none costs nothing for it.
    #[doc(hidden)]
    const TAGGED: bool = false;

    /// What [`tags`](crate::Cached::cache_tags) gives.
    type Tags: Default;

    /// Writes the tags of a value.
    #[doc(hidden)]
    fn write_tags(&self, out: &mut TagWriter<'_>) {
        let _ = out;
    }

    /// Writes those that follow from the key alone.
    #[doc(hidden)]
    fn write_key_tags(key: Self::Key<'_>, out: &mut TagWriter<'_>) {
        let _ = (key, out);
    }

    /// The key as an application owns it: `u64`, `String`, `(u64, String)`.
    type OwnedKey: for<'k> KeyPart<Ref<'k> = Self::Key<'k>>;

    /// The key as a look-up takes it: `u64`, `&str`, `(u64, &str)`.
    type Key<'k>: Copy + Send + Sync + 'k;
}

/// A cached type whose key is part of its value.
#[diagnostic::on_unimplemented(
    message = "the key of `{Self}` is not part of its value",
    label = "no field of `{Self}` is marked `#[cached(key)]`",
    note = "say where it goes: `value.set_at(&store, key)`; or mark the field that holds the key with `#[cached(key)]`"
)]
pub trait Keyed: CachedType {
    /// The key of this value. (A name of its own, so that an application's method `key` does not hide it.)
    fn cache_key(&self) -> Self::Key<'_>;
}

/// A type whose entries carry tags: one with `tag`, `tags` or `clear` in its `#[cached(…)]`.
#[diagnostic::on_unimplemented(
    message = "the entries of `{Self}` carry no tags",
    label = "`{Self}` has no tags",
    note = "say which, by `#[cached(tag = \"org:{{org_id}}\")]`; or `#[cached(tags)]`, that its loaders say them"
)]
pub trait Tagged: crate::schema::cached_type::CachedType {}

/// A type that can be [cleared](crate::Handle::clear): one with `#[cached(clear)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be cleared at once",
    label = "`{Self}` does not say that it can be cleared",
    note = "add `#[cached(clear)]` to it: its entries then carry a tag; or remove them one by one"
)]
pub trait Clearable: Tagged {}
