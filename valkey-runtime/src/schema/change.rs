//! The answers of a closure that changes a value, and the errors of such a change.

use std::convert::Infallible;
use std::fmt;

use crate::base::error::Error;
use crate::schema::cached_type::CachedType;

/// The answer of a closure of [`Handle::modify`](crate::Handle::modify): what becomes of the value.
///
/// A closure may also return the new value itself, or an `Option` of which `None` deletes.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// use valkey_runtime::Change;
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct Coupon {
///     #[cached(key)]
///     code: String,
///     left: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::memory();
/// # Coupon { code: "X".into(), left: 2 }.set(&store).await?;
/// let redeem = |coupon: Option<Coupon>| match coupon {
///     None => Change::Keep,
///     Some(Coupon { left: 1, .. }) => Change::Delete,
///     Some(coupon) => Change::Store(Coupon { left: coupon.left - 1, ..coupon }),
/// };
/// let coupons = store.of::<Coupon>();
/// assert_eq!(coupons.modify("X", redeem).await?.map(|coupon| coupon.left), Some(1));
/// assert!(coupons.modify("X", redeem).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Change<T> {
    /// Stores this value, in place of the present one or as the first.
    Store(T),
    /// Deletes the value, if there is one.
    Delete,
    /// Changes nothing, and sends nothing.
    Keep,
}

/// The answer of a closure that changes a value: the new value, an `Option` of it, a [`Change`], or
/// a `Result` of one of these.
#[diagnostic::on_unimplemented(
    message = "a closure of `modify` for `{T}` returns `{T}`, `Option<{T}>`, `Change<{T}>`, or a `Result` of one of them, not \
               `{Self}`",
    note = "`None` deletes the value, and `Change::Keep` leaves it as it is"
)]
pub trait IntoChange<T>: Sized {
    /// The closure's own error.
    type Error: Send;

    /// The answer of the call: the value, if the closure always has one, and else an `Option`.
    type Given<V>;

    #[doc(hidden)]
    fn into_change(self) -> Result<Change<T>, Self::Error>;

    #[doc(hidden)]
    fn given<V>(value: Option<V>) -> Self::Given<V>;
}

impl<T> IntoChange<T> for Change<T> {
    type Error = Infallible;
    type Given<V> = Option<V>;

    fn into_change(self) -> Result<Change<T>, Infallible> {
        Ok(self)
    }

    fn given<V>(value: Option<V>) -> Option<V> {
        value
    }
}

impl<T> IntoChange<T> for Option<T> {
    type Error = Infallible;
    type Given<V> = Option<V>;

    fn into_change(self) -> Result<Change<T>, Infallible> {
        Ok(self.map_or(Change::Delete, Change::Store))
    }

    fn given<V>(value: Option<V>) -> Option<V> {
        value
    }
}

impl<T: CachedType> IntoChange<T> for T {
    type Error = Infallible;
    type Given<V> = V;

    fn into_change(self) -> Result<Change<T>, Infallible> {
        Ok(Change::Store(self))
    }

    fn given<V>(value: Option<V>) -> V {
        match value {
            Some(value) => value,
            None => unreachable!("a closure that returns a value neither deletes nor keeps"),
        }
    }
}

impl<T, C: IntoChange<T, Error = Infallible>, E: Send> IntoChange<T> for Result<C, E> {
    type Error = E;
    type Given<V> = C::Given<V>;

    fn into_change(self) -> Result<Change<T>, E> {
        self.map(|change| match change.into_change() {
            Ok(change) => change,
            Err(never) => match never {},
        })
    }

    fn given<V>(value: Option<V>) -> C::Given<V> {
        C::given(value)
    }
}

/// The error of [`Handle::modify`](crate::Handle::modify). `E` is the closure's own error.
///
/// After [`Unknown`](Self::Unknown) the change may be stored. After any other error it is not.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Store};
/// use valkey_runtime::ModifyError;
///
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct Seats { #[cached(key)] flight: u64, left: u32 }
/// #[derive(Debug, PartialEq)]
/// struct SoldOut;
///
/// async fn book(store: &Store, flight: u64) -> Result<u32, ModifyError<SoldOut>> {
///     let seats = Seats::modify(store, flight, |seats: Option<Seats>| match seats {
///         Some(seats) if seats.left > 0 => Ok(Seats { left: seats.left - 1, ..seats }),
///         _ => Err(SoldOut),
///     });
///     Ok(seats.await?.left)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// Seats { flight: 1, left: 1 }.set(&store).await?;
/// assert!(matches!(book(&store, 1).await, Ok(0)));
/// assert!(matches!(book(&store, 1).await, Err(ModifyError::Change(SoldOut))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ModifyError<E> {
    /// The closure failed with this error. Nothing was changed.
    Change(E),
    /// The value could not be read or stored: the server could not be asked or refused, or the
    /// closure's value is invalid, can't be encoded or is too large. Nothing was changed.
    Store(Error),
    /// Other callers changed the value at each attempt, or a guarded write went on for too long.
    /// Nothing was changed.
    Contended(Error),
    /// The change was sent, its answer was lost, and the entry does not show whether the change was
    /// made: it was deleted or changed by another caller since, or the server can't be asked.
    Unknown(Error),
}

impl<E> ModifyError<E> {
    /// The error of the store, unless the closure failed.
    pub fn store_error(&self) -> Option<&Error> {
        match self {
            Self::Change(_) => None,
            Self::Store(error) | Self::Contended(error) | Self::Unknown(error) => Some(error),
        }
    }
}

impl From<ModifyError<Infallible>> for Error {
    /// The error of a closure that does not fail.
    fn from(error: ModifyError<Infallible>) -> Self {
        match error {
            ModifyError::Change(never) => match never {},
            ModifyError::Store(error)
            | ModifyError::Contended(error)
            | ModifyError::Unknown(error) => error,
        }
    }
}

impl<E: fmt::Display> fmt::Display for ModifyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(error) => error.fmt(f),
            Self::Store(error) | Self::Contended(error) | Self::Unknown(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for ModifyError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Change(error) => error.source(),
            // Its text is this one's.
            Self::Store(_) | Self::Contended(_) | Self::Unknown(_) => None,
        }
    }
}
