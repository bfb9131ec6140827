//! Failures: counted, and with the operation and the key.

use crate::base::error::Error;
use crate::core::inner::view;
use crate::core::types::Type;

view! {
    /// Counts failures of a store, and says where they happened.
    Failures
}

impl<'a> Failures<'a> {
    /// Counts a failure that belongs to no type, and returns it for the caller.
    pub(crate) fn failed(self, error: Error) -> Error {
        self.counters.error(error.kind());
        error
    }

    /// As [`failed`](Self::failed), for a failure that may belong to a type.
    pub(crate) fn failed_of(self, of: Option<&Type>, error: Error) -> Error {
        match of {
            Some(of) => of.failed(error),
            None => self.failed(error),
        }
    }

    pub(crate) fn failed_at(self, operation: &'static str, key: &[u8], error: Error) -> Error {
        self.failed(self.at(operation, key, error))
    }

    /// Adds the operation and the key to an error.
    pub(crate) fn at(self, operation: &'static str, key: &[u8], error: Error) -> Error {
        error.at(operation, self.types.keys().told(key))
    }

    /// Counts and logs a failure that belongs to no type and is not returned to the caller.
    pub(crate) fn log_failure(self, error: Error, what: &'static str) {
        self.failed(error).log(&self.warnings, None, what);
    }
}
