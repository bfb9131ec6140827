//! What a loader may answer.

use std::ops::Deref;

use crate::base::ttl::Ttl;
use crate::key::part::OwnKey;
use crate::key::tag::Tag;
use crate::schema::cached_type::{CachedType, Keyed, Tagged};
use crate::schema::keys::KeyOf;

/// What a loader found, and what is to become of it: for loaders that decide by the value.
///
/// A loader that has nothing to decide gives an `Option`, or the value itself.
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
///         // What will not change any more may stay.
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
    /// Besides those that the type says.
    pub(crate) tags: Vec<Tag>,
}

/// What is to become of what a loader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored,
    NotStored,
    /// Not stored, and given to those alone who had called before the load began.
    NotShared,
    /// It is what was there, and lives anew.
    Unchanged,
    /// It is what was there, and there is nothing better at the moment.
    Served,
}

impl<T> Loaded<T> {
    /// A value.
    pub fn value(value: T) -> Self {
        Self {
            value: Some(value),
            ttl: None,
            fate: Fate::Stored,
            tags: Vec::new(),
        }
    }

    /// There is none.
    pub fn absent() -> Self {
        Self {
            value: None,
            ttl: None,
            fate: Fate::Stored,
            tags: Vec::new(),
        }
    }

    /// There was none when the load began: callers that came later load themselves.
    pub(crate) fn absent_by_then() -> Self {
        Self {
            fate: Fate::NotShared,
            ..Self::absent()
        }
    }

    /// Tags that the value carries besides those that its type says.
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

    /// How long it is to be kept, in place of the type's TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Not to be kept: it is given to the callers that wait for it, and to no one after.
    pub fn dont_store(mut self) -> Self {
        self.fate = Fate::NotStored;
        self
    }
}

/// What a loader may give for a value of type `T`: an `Option<T>`, a `T`, or a [`Loaded<T>`].
#[diagnostic::on_unimplemented(
    message = "a loader gives `Option<{T}>`, `{T}` or `Loaded<{T}>`, not `{Self}`",
    label = "what this loader gives is not a `{T}`"
)]
pub trait IntoLoaded<T> {
    /// The answer of a call whose loader returns this: `V` where the loader always has a value, and
    /// else `Option<V>`. `V` is the value, or its [`Entry`](crate::Entry).
    type Given<V>;

    /// Whether the loader always has a value.
    #[doc(hidden)]
    const ALWAYS: bool;

    /// The loaded value, and how it is to be stored.
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

/// A row of a bulk load: a value whose key is one of its fields, or a pair of key and value. The
/// value may be a [`Loaded<T>`], which says how it is to be stored, and an `Option`.
#[diagnostic::on_unimplemented(
    message = "a bulk loader returns rows of `{T}`: values, or pairs of key and value, not `{Self}`",
    label = "not a row of `{T}`",
    note = "where the key is not a field of the value, return pairs: `(key, value)`"
)]
pub trait IntoRow<T: CachedType<OwnedKey: OwnKey>> {
    /// The key, and the loaded value.
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

/// What was there, as its loader sees it: a value whose time is over, or will be soon.
///
/// A loader that can tell by the value itself whether it is still the present one, by an `ETag` or
/// an `updated_at` in it, saves fetching it again. It is not told when the value was stored: by
/// that nothing can be told.
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

    /// It is still the present one, and lives as long again as if it had been loaded.
    pub fn unchanged(self) -> Loaded<T> {
        self.with(Fate::Unchanged)
    }

    /// There is no better one at the moment: it is served as it is, and for a while
    /// ([`retry_after`](crate::schema::policy::Policy::retry_after)) not loaded again. What
    /// an error of the loader does too, for types with `stale_if_error`.
    pub fn serve(self) -> Loaded<T> {
        self.with(Fate::Served)
    }

    /// The value alone.
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
