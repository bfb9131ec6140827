//! The lowest layer, which uses no other part of this crate: errors, clocks, tasks, warnings,
//! counters.

pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod error;
pub(crate) mod invalid;
pub(crate) mod lock;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod paused;
pub(crate) mod peer;
pub(crate) mod runtime;
pub(crate) mod secret;
pub(crate) mod shown_keys;
pub(crate) mod tasks;
pub(crate) mod ttl;
pub(crate) mod variables;
pub(crate) mod warnings;
