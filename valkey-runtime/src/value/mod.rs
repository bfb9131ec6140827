//! Values as bytes.

pub(crate) mod codec;
pub(crate) mod digest;
#[cfg(feature = "encrypt")]
pub(crate) mod keys;
#[cfg(not(feature = "encrypt"))]
#[path = "keys/absent.rs"]
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod migrate;
pub(crate) mod pack;
pub(crate) mod read_back;
pub(crate) mod shown;
