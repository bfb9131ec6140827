//! The state of a store and of each type on it, and the options of one call.

pub(crate) mod caller;
pub(crate) mod entry;
pub(crate) mod failures;
pub(crate) mod inner;
pub(crate) mod key_turns;
#[cfg(feature = "metrics")]
pub(crate) mod load_time;
pub(crate) mod loads;
pub(crate) mod locked;
pub(crate) mod meta;
pub(crate) mod modify_options;
pub(crate) mod named;
pub(crate) mod near;
pub(crate) mod options;
#[cfg(feature = "metrics")]
pub(crate) mod published;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod records;
pub(crate) mod refusals;
pub(crate) mod shared;
pub(crate) mod store;
pub(crate) mod ttl_env;
pub(crate) mod types;
