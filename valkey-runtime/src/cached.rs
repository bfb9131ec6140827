//! The trait an annotated struct gets: a few constants, its key, and the verbs.
//!
//! The verbs are one line each over [`Handle`](crate::Handle), which is the core form; the trait's methods are for
//! reading well.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{KeyFrom, KeyPart, Policy, Result, SetOptions, Store, Ttl};

/// A type whose values are cached. Get it with `#[derive(Cached)]`.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, Store};
///
/// #[derive(Serialize, Deserialize, Cached, Debug, PartialEq)]
/// #[cached(prefix = "user", ttl = "5m", version = 2)]
/// struct User {
///     #[cached(key)]
///     id: u64,
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::memory();
/// let ada = User { id: 42, name: "Ada".into() };
/// ada.set(&store).await?;
/// assert_eq!(User::get(&store, 42).await?, Some(ada));
/// assert!(User::del(&store, 42).await?);
/// assert!(!User::exists(&store, 42).await?);
/// # Ok(())
/// # }
/// ```
///
/// A verb's key and value are turned into bytes when the verb is called, not when its future is first polled: the future
/// borrows nothing but the store. All futures are [`Send`]. To spawn one, move a clone of the store into the task:
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct User { #[cached(key)] id: u64 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// let task = tokio::spawn({
///     let store = store.clone();
///     async move { User::get(&store, 42).await }
/// });
/// assert!(task.await.unwrap()?.is_none());
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cached type",
    label = "`Cached` is not implemented for it",
    note = "add `#[derive(Cached)]` to `{Self}`, beside serde's `Serialize` and `Deserialize`"
)]
pub trait Cached: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The prefix of this type's keys.
    const PREFIX: &'static str;

    /// How long an entry lives, where neither the call nor an environment variable says otherwise.
    const TTL: Ttl;

    /// The version of the type's schema. A reader takes only entries of its own version.
    const VERSION: u16;

    /// What the annotation decides besides.
    const POLICY: Policy = Policy::new();

    /// The key as an application owns it: `u64`, `String`, `(u64, String)`.
    type OwnedKey: for<'k> KeyPart<Ref<'k> = Self::Key<'k>>;

    /// The key as a look-up takes it: `u64`, `&str`, `(u64, &str)`.
    type Key<'k>: Copy + Send + Sync + 'k;

    /// Reads the value under `key`. `None` is a miss.
    ///
    /// # Errors
    /// When the server could not be asked, or, with `on_corrupt = "error"`, when the entry is corrupt.
    fn get<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Option<Self>>> + Send + use<'s, Self> {
        store.of::<Self>().get(key)
    }

    /// Reads many values in one go; the answer is in the order of the keys.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// User::set_many(&store, [&User { id: 1 }, &User { id: 3 }]).await?;
    /// let ids: Vec<u64> = vec![1, 2, 3];
    /// let found: Vec<Option<User>> = User::get_many(&store, &ids).await?;
    /// assert!(found[0].is_some() && found[1].is_none() && found[2].is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get). A key that holds another type of the server's (a list, say) is a miss here, since the
    /// server's bulk read does not tell.
    fn get_many<'s, I>(
        store: &'s Store,
        keys: I,
    ) -> impl Future<Output = Result<Vec<Option<Self>>>> + Send + use<'s, Self, I>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item>,
    {
        store.of::<Self>().get_many(keys)
    }

    /// Whether [`get`](Self::get) would give a value, as far as the entry's header tells.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn exists<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().exists(key)
    }

    /// Deletes the entry, whatever its version. True if a value was there.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn del<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().del(key)
    }

    /// Deletes many entries; the answer is how many values were there.
    ///
    /// # Errors
    /// When the server could not be asked; the message says how many of the entries are in doubt.
    fn del_many<'s, I>(
        store: &'s Store,
        keys: I,
    ) -> impl Future<Output = Result<u64>> + Send + use<'s, Self, I>
    where
        I: IntoIterator,
        Self::OwnedKey: KeyFrom<I::Item>,
    {
        store.of::<Self>().del_many(keys)
    }

    /// How long the value under `key` will still live; `None` where [`get`](Self::get) would give none.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn ttl<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<Option<Ttl>>> + Send + use<'s, Self> {
        store.of::<Self>().ttl(key)
    }

    /// Starts the life of the value under `key` anew, with the type's TTL. True if there was one.
    ///
    /// # Errors
    /// When the server could not be asked.
    fn touch<'s>(
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().touch(key)
    }

    /// Stores the value under `key`: for types whose key is not part of the value.
    ///
    /// # Errors
    /// When the value can't be encoded or is too large, and when the server could not be asked or refused.
    fn set_at<'s>(
        &self,
        store: &'s Store,
        key: Self::Key<'_>,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, Self> {
        store.of::<Self>().set_at(key, self)
    }

    /// As [`set_at`](Self::set_at), with a TTL or a condition of this call. True if the value was stored.
    ///
    /// # Errors
    /// As [`set_at`](Self::set_at).
    fn set_at_with<'s>(
        &self,
        store: &'s Store,
        key: Self::Key<'_>,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self> {
        store.of::<Self>().set_at_with(key, self, options)
    }

    /// The key of this value.
    fn key(&self) -> Self::Key<'_>
    where
        Self: Keyed,
    {
        self.cache_key()
    }

    /// Stores the value under its own key. The last writer wins.
    ///
    /// # Errors
    /// When the value can't be encoded or is too large, and when the server could not be asked or refused.
    fn set<'s>(&self, store: &'s Store) -> impl Future<Output = Result<()>> + Send + use<'s, Self>
    where
        Self: Keyed,
    {
        store.of::<Self>().set(self)
    }

    /// As [`set`](Self::set), with a TTL or a condition of this call. True if the value was stored.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached, Debug)]
    /// # struct User { #[cached(key)] id: u64 }
    /// use std::time::Duration;
    /// use valkey_runtime::SetOptions;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let options = SetOptions::new().ttl(Duration::from_secs(10)).if_absent();
    /// assert!(User { id: 1 }.set_with(&store, options).await?);
    /// assert!(!User { id: 1 }.set_with(&store, options).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`set`](Self::set).
    fn set_with<'s>(
        &self,
        store: &'s Store,
        options: SetOptions,
    ) -> impl Future<Output = Result<bool>> + Send + use<'s, Self>
    where
        Self: Keyed,
    {
        store.of::<Self>().set_with(self, options)
    }

    /// Stores many values, each under its own key.
    ///
    /// # Errors
    /// As [`set`](Self::set). Nothing is sent if one of the values can't be encoded; where the server refused some, the
    /// message says how many, and the others are stored.
    fn set_many<'s, 'v, I>(
        store: &'s Store,
        values: I,
    ) -> impl Future<Output = Result<()>> + Send + use<'s, 'v, Self, I>
    where
        Self: Keyed,
        I: IntoIterator<Item = &'v Self>,
    {
        store.of::<Self>().set_many(values)
    }
}

/// A cached type whose key is part of its value.
#[diagnostic::on_unimplemented(
    message = "the key of `{Self}` is not part of its value",
    label = "no field of `{Self}` is marked `#[cached(key)]`",
    note = "say where it goes: `value.set_at(&store, key)`; or mark the field that holds the key with `#[cached(key)]`"
)]
pub trait Keyed: Cached {
    /// The key of this value. (A name of its own, so that an application's method `key` does not hide it.)
    fn cache_key(&self) -> Self::Key<'_>;
}
