//! The public API: the names that an application calls.

mod absent_aliases;
pub(crate) mod alias;
pub(crate) mod batch;
pub(crate) mod cached;
pub(crate) mod choices;
pub mod function;
pub(crate) mod handle;
pub(crate) mod load;
pub(crate) mod modify;
pub(crate) mod store;
pub(crate) mod update;
