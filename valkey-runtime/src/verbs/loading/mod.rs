//! Loading of missing values: at most one load per key, across all processes.

pub(crate) mod ask;
pub(crate) mod driver;
pub(crate) mod end;
pub(crate) mod finish;
pub(crate) mod follow;
pub(crate) mod lead;
pub(crate) mod loader;
pub(crate) mod many;
pub(crate) mod one;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod sight;
pub(crate) mod work;

pub(crate) use many::get_or_load_many;
pub(crate) use one::get_or_load;
