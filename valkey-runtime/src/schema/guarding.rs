//! Whether a write proceeds if its guard can't be placed.

use crate::base::error::Error;
use crate::base::error::Result;
use std::fmt;

/// The policy for a write whose guard can't be placed; an attribute of the type.
///
/// [`BestEffort`], the default, writes without a guard. [`Strict`] refuses the write.
pub trait Guarding: 'static {
    /// Whether the write is refused.
    const STRICT: bool;

    /// The error of an update whose write fails with `E`.
    type Error<E>;

    /// The result if the guard can't be placed; nothing was written.
    #[doc(hidden)]
    fn refused<E>(error: Error) -> Result<(), Self::Error<E>>;

    /// The error if the write failed.
    #[doc(hidden)]
    fn failed<E>(error: E) -> Self::Error<E>;
}

/// The write runs without its guard: the database takes precedence. The invalidation is kept and
/// delivered when the server is back; until then other processes may read the old row. The only
/// error is that of the write.
#[derive(Debug)]
pub enum BestEffort {}

/// The write is refused: `#[cached(strict)]`.
#[derive(Debug)]
pub enum Strict {}

impl Guarding for BestEffort {
    const STRICT: bool = false;
    type Error<E> = E;

    fn refused<E>(_: Error) -> Result<(), E> {
        Ok(())
    }

    fn failed<E>(error: E) -> E {
        error
    }
}

impl Guarding for Strict {
    const STRICT: bool = true;
    type Error<E> = UpdateError<E>;

    fn refused<E>(error: Error) -> Result<(), UpdateError<E>> {
        Err(UpdateError::Refused(error))
    }

    fn failed<E>(error: E) -> UpdateError<E> {
        UpdateError::Write(error)
    }
}

/// The error of an update that may be refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// The guard could not be placed. Nothing was written.
    Refused(Error),
    /// The write failed with this error.
    Write(E),
}

impl<E: fmt::Display> fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Refused(error) => write!(
                f,
                "the write was refused, because its guard could not be placed: {error}"
            ),
            UpdateError::Write(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for UpdateError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its text is part of this one.
            UpdateError::Refused(error) => error.source(),
            UpdateError::Write(error) => error.source(),
        }
    }
}
