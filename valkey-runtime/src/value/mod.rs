//! Values as bytes.

pub(crate) mod codec;
