//! The limits of an entry, for the codec and for packing.

use crate::base::error::{Error, ErrorKind};

/// A store's limits for an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Its largest size in bytes.
    pub(crate) size: usize,
    /// The memory that its value may take, as a multiple of its size.
    pub(crate) expansion: usize,
}

impl Limits {
    /// The most bytes that a compressed payload of this size may expand to.
    pub(crate) fn unpacked(self, compressed: usize) -> usize {
        let expanded = compressed.saturating_mul(self.expansion);
        expanded.max(LEAST_MEMORY).min(self.size)
    }
}

/// The default of [`Limits::expansion`].
pub(crate) const EXPANSION: usize = 32;
/// The memory that the value of any entry may take, however small the entry is: 4 MiB.
pub(crate) const LEAST_MEMORY: usize = 4 << 20;

/// Refuses an entry that is larger than the limit.
pub(crate) fn fits(size: usize, max_size: usize) -> Result<(), Error> {
    if size <= max_size {
        return Ok(());
    }
    let message = format!("the entry would have {size} bytes, more than the limit of {max_size}");
    Err(Error::new(ErrorKind::TooLarge, message))
}
