//! Keys: their parts, and reading them back.

pub(crate) mod foreign;
pub(crate) mod limit_key;
pub(crate) mod part;
pub(crate) mod read;
pub(crate) mod tag;
pub(crate) mod writer;
