//! The tokio runtime of a call: whether there is one, and whether it has timers.
//!
//! Deadlines and connections need both, and tokio panics without them. This module returns an error
//! instead.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use crate::base::error::Error;

thread_local! {
    /// The runtime that this thread checked last, and whether it has timers.
    static KNOWN: Cell<Option<(Id, bool)>> = const { Cell::new(None) };
}

/// The runtime of this call, or an error if it can't use a server. It is cheap, because it runs
/// before each command.
#[inline]
pub(crate) fn fit() -> Result<Id, Error> {
    let Ok(runtime) = Handle::try_current() else {
        return Err(outside());
    };
    let id = runtime.id();
    match KNOWN.get() {
        Some((known, true)) if known == id => Ok(id),
        _ => examined(id),
    }
}

/// Whether timers work here.
pub(crate) fn has_timers() -> bool {
    fit().is_ok()
}

/// The runtime of this call.
pub(crate) fn current() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

#[cold]
fn examined(id: Id) -> Result<Id, Error> {
    let has_timers = match KNOWN.get() {
        Some((known, has_timers)) if known == id => has_timers,
        // Tokio has no other way to find out.
        _ => catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok(),
    };
    KNOWN.set(Some((id, has_timers)));
    match has_timers {
        true => Ok(id),
        false => Err(Error::of_runtime(
            "this tokio runtime has no timers: build it with `enable_all`, or with `enable_time` and `enable_io`",
        )),
    }
}

#[cold]
fn outside() -> Error {
    Error::of_runtime(
        "commands to a server need a tokio runtime, and this call is outside of one: make it in a task, or with \
         `Runtime::block_on`",
    )
}

/// The error for a connection attempt that panicked, as tokio does without its I/O driver.
pub(crate) fn without_io() -> Error {
    Error::of_runtime(
        "this tokio runtime has no I/O, so no connection can be made in it: build it with `enable_all`, or with `enable_time` \
         and `enable_io`",
    )
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::base::error::ErrorKind;

    fn said<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn a_runtime_needs_timers_and_an_error_says_how_to_enable_them() {
        assert!(said(fit()).contains("outside"));
        let without = Builder::new_current_thread().build().unwrap();
        let with = Builder::new_current_thread().enable_time().build().unwrap();
        for _ in 0..2 {
            without.block_on(async { assert!(said(fit()).contains("enable_time")) });
            with.block_on(async { fit().unwrap() });
        }
        assert!(said(fit()).contains("outside"), "outside again");
    }
}
