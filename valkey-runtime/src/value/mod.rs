//! A value as bytes.

pub(crate) mod codec;
