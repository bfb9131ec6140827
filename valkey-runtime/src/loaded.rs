//! What a loader may answer.

use crate::Ttl;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Loaded<T> {
    pub(crate) value: Option<T>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) store: bool,
}

impl<T> Loaded<T> {
    /// A value.
    pub fn value(value: T) -> Self {
        Self {
            value: Some(value),
            ttl: None,
            store: true,
        }
    }

    /// There is none.
    pub fn absent() -> Self {
        Self {
            value: None,
            ttl: None,
            store: true,
        }
    }

    /// How long it is to be kept, in place of the type's TTL.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Not to be kept: it is given to the callers that wait for it, and to no one after.
    pub fn dont_store(mut self) -> Self {
        self.store = false;
        self
    }
}

/// What a loader may give for a value of type `T`: an `Option<T>`, a `T`, or a [`Loaded<T>`].
#[diagnostic::on_unimplemented(
    message = "a loader gives `Option<{T}>`, `{T}` or `Loaded<{T}>`, not `{Self}`",
    label = "what this loader gives is not a `{T}`"
)]
pub trait IntoLoaded<T> {
    /// What was loaded.
    fn into_loaded(self) -> Loaded<T>;
}

impl<T> IntoLoaded<T> for Loaded<T> {
    fn into_loaded(self) -> Loaded<T> {
        self
    }
}

impl<T> IntoLoaded<T> for Option<T> {
    fn into_loaded(self) -> Loaded<T> {
        Loaded {
            value: self,
            ttl: None,
            store: true,
        }
    }
}

impl<T: crate::Cached> IntoLoaded<T> for T {
    fn into_loaded(self) -> Loaded<T> {
        Loaded::value(self)
    }
}
