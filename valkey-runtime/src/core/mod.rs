//! The state of a store and of each type that uses it, and what one call is asked for.

pub(crate) mod caller;
pub(crate) mod entry;
pub(crate) mod load_time;
pub(crate) mod loads;
pub(crate) mod meta;
pub(crate) mod options;
pub(crate) mod published;
pub(crate) mod records;
pub(crate) mod refusals;
pub(crate) mod shared;
pub(crate) mod store;
pub(crate) mod ttl_env;
pub(crate) mod types;
