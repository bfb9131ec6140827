//! Keys: their parts, reading them back, and the names of tags.

pub(crate) mod aliases;
#[cfg(any(
    feature = "uuid",
    feature = "chrono",
    feature = "time",
    feature = "jiff"
))]
pub(crate) mod foreign;
pub(crate) mod limit_key;
pub(crate) mod part;
pub(crate) mod read;
pub(crate) mod tag;
pub(crate) mod writer;
