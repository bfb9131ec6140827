//! The answers of a loader.

use std::ops::Deref;

use crate::base::ttl::Ttl;
use crate::key::part::OwnKey;
use crate::key::tag::Tag;
use crate::schema::cached_type::{CachedType, Keyed, Tagged};
use crate::schema::keys::KeyOf;

/// A loader's result, and how it is stored: for loaders that decide by the value.
///
/// A loader without such a decision returns an `Option`, or the value itself.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// use std::time::Duration;
/// use valkey_runtime::Loaded;
///
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct Order { #[cached(key)] id: u64, shipped: bool }
/// # #[derive(Debug)]
/// # struct DbError;
/// # async fn find_order(id: u64) -> Result<Option<Order>, DbError> { Ok(Some(Order { id, shipped: true })) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), DbError> {
/// # let store = Store::memory();
/// let order = Order::get_or_load(&store, 42, async || {
///     Ok::<_, DbError>(match find_order(42).await? {
///         // A shipped order no longer changes.
///         Some(order) if order.shipped => Loaded::value(order).ttl(Duration::from_secs(24 * 60 * 60)),
///         Some(order) => Loaded::value(order).dont_store(),
///         None => Loaded::absent(),
///     })
/// })
/// .await?;
/// # assert!(order.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Loaded<T> {
    pub(crate) value: Option<T>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) fate: Fate,
    /// In addition to the type's tags.
    pub(crate) tags: Vec<Tag>,
}

/// The storing and sharing of a loader's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored,
    NotStored,
    /// Not stored, and returned only to callers that came before the load began.
    NotShared,
    /// The stale value, unchanged: its TTL restarts.
    Unchanged,
    /// The stale value, because there is no better one at the moment.
    Served,
}

impl<T> Loaded<T> {
    /// A loaded value.
    pub fn value(value: T) -> Self {
        Self {
            value: Some(value),
            ttl: None,
            fate: Fate::Stored,
            tags: Vec::new(),
        }
    }

    /// A "not found" result.
    pub fn absent() -> Self {
        Self {
            value: None,
            ttl: None,
            fate: Fate::Stored,
            tags: Vec::new(),
        }
    }

    /// "Not found" when the load began: later callers load themselves.
    pub(crate) fn absent_by_then() -> Self {
        Self {
            fate: Fate::NotShared,
            ..Self::absent()
        }
    }

    /// Adds tags to the value, in addition to those of its type.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Loaded};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(tags)]
    /// struct Page {
    ///     #[cached(key)]
    ///     path: String,
    ///     author: String,
    /// }
    ///
    /// fn loaded(page: Page) -> Loaded<Page> {
    ///     let author = format!("author:{}", page.author);
    ///     Loaded::value(page).tags([author])
    /// }
    /// # let page = Page { path: "/".into(), author: "ada".into() };
    /// # let _ = loaded(page);
    /// ```
    pub fn tags<I>(mut self, tags: I) -> Self
    where
        T: Tagged,
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Sets the TTL of the result, in place of the type's.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Keeps the result from being stored: only the callers that wait for it get it.
    pub fn dont_store(mut self) -> Self {
        self.fate = Fate::NotStored;
        self
    }
}

/// A result of a loader for a value of type `T`: an `Option<T>`, a `T`, or a [`Loaded<T>`].
#[diagnostic::on_unimplemented(
    message = "a loader returns `Option<{T}>`, `{T}` or `Loaded<{T}>`, not `{Self}`",
    label = "this loader does not return a `{T}`"
)]
pub trait IntoLoaded<T> {
    /// The answer of a call whose loader returns this: `V` if the loader always has a value,
    /// otherwise `Option<V>`. `V` is the value, or its [`Entry`](crate::Entry).
    type Given<V>;

    /// Whether the loader always has a value.
    #[doc(hidden)]
    const ALWAYS: bool;

    /// Converts the result to a [`Loaded`].
    fn into_loaded(self) -> Loaded<T>;

    #[doc(hidden)]
    fn given<V>(found: Option<V>) -> Self::Given<V>;
}

impl<T> IntoLoaded<T> for Loaded<T> {
    type Given<V> = Option<V>;
    const ALWAYS: bool = false;

    fn given<V>(found: Option<V>) -> Option<V> {
        found
    }

    fn into_loaded(self) -> Loaded<T> {
        self
    }
}

impl<T> IntoLoaded<T> for Option<T> {
    type Given<V> = Option<V>;
    const ALWAYS: bool = false;

    fn given<V>(found: Option<V>) -> Option<V> {
        found
    }

    fn into_loaded(self) -> Loaded<T> {
        Loaded {
            value: self,
            ttl: None,
            fate: Fate::Stored,
            tags: Vec::new(),
        }
    }
}

impl<T: CachedType> IntoLoaded<T> for T {
    type Given<V> = V;
    const ALWAYS: bool = true;

    fn given<V>(found: Option<V>) -> V {
        match found {
            Some(value) => value,
            None => unreachable!(
                "a call that needs a value takes no \"not found\" from others, and its loader has one"
            ),
        }
    }

    fn into_loaded(self) -> Loaded<T> {
        Loaded::value(self)
    }
}

/// A row of a bulk load: a value whose key is one of its fields, or a pair of key and value. In a
/// pair, the value may also be an `Option`, or a [`Loaded<T>`], which sets how it is stored.
#[diagnostic::on_unimplemented(
    message = "a bulk loader returns rows of `{T}`: values, or pairs of key and value, not `{Self}`",
    label = "not a row of `{T}`",
    note = "if the key is not a field of the value, return pairs: `(key, value)`"
)]
pub trait IntoRow<T: CachedType<OwnedKey: OwnKey>> {
    /// Returns the key and the loaded value.
    fn into_row(self) -> (KeyOf<T>, Loaded<T>);
}

impl<T, L> IntoRow<T> for (KeyOf<T>, L)
where
    T: CachedType<OwnedKey: OwnKey>,
    L: IntoLoaded<T>,
{
    fn into_row(self) -> (KeyOf<T>, Loaded<T>) {
        (self.0, self.1.into_loaded())
    }
}

impl<T: Keyed<OwnedKey: OwnKey>> IntoRow<T> for T {
    fn into_row(self) -> (KeyOf<T>, Loaded<T>) {
        (T::OwnedKey::own(self.cache_key()), Loaded::value(self))
    }
}

/// A cached value whose TTL is over or soon will be, as its loader gets it.
///
/// A loader may recognize by the value itself, such as by an `ETag` or `updated_at` in it, that it
/// is still current. Then it need not fetch the value again. The time of storing is not available:
/// it proves nothing about the value.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// use valkey_runtime::{Loaded, Stale};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// #[cached(prefix = "page", ttl = "1m", stale_if_error = "1h")]
/// struct Page {
///     #[cached(key)]
///     path: String,
///     etag: String,
///     body: String,
/// }
///
/// # #[derive(Debug)]
/// # struct HttpError;
/// # enum Response { NotModified, Page(Page) }
/// # async fn fetch(path: &str, etag: Option<&str>) -> Result<Response, HttpError> {
/// #     Ok(Response::Page(Page { path: path.into(), etag: "1".into(), body: String::new() }))
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), HttpError> {
/// # let store = Store::memory();
/// let load = store.of::<Page>().load("/");
/// let page = load.revalidate(async |stale: Option<Stale<Page>>| {
///     let etag = stale.as_ref().map(|page| page.etag.as_str());
///     Ok::<_, HttpError>(match (fetch("/", etag).await?, stale) {
///         (Response::Page(page), _) => Loaded::value(page),
///         (Response::NotModified, Some(page)) => page.unchanged(),
///         (Response::NotModified, None) => return Err(HttpError),
///     })
/// })
/// .await?;
/// # assert!(page.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stale<T> {
    value: T,
}

impl<T> Stale<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value }
    }

    /// Reports that the value is still current. Its TTL restarts, as if it had been loaded.
    pub fn unchanged(self) -> Loaded<T> {
        self.with(Fate::Unchanged)
    }

    /// Serves the value as it is, because there is no better one at the moment. It is not loaded
    /// again for a while ([`retry_after`](crate::schema::policy::Policy::retry_after)). For types
    /// with `stale_if_error`, an error of the loader has the same effect.
    pub fn serve(self) -> Loaded<T> {
        self.with(Fate::Served)
    }

    /// Returns the value.
    pub fn into_value(self) -> T {
        self.value
    }

    fn with(self, fate: Fate) -> Loaded<T> {
        Loaded {
            fate,
            ..Loaded::value(self.value)
        }
    }
}

impl<T> Deref for Stale<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
