//! Values as bytes.

pub(crate) mod codec;
pub(crate) mod digest;
pub(crate) mod read_back;
pub(crate) mod migrate;
