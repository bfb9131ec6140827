//! One write of many.

use crate::protocol::transition::{Becomes, Verb};

/// The write to one of many keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write<'a> {
    /// Stores an entry over anything, for `ttl` milliseconds or without an expiry. Answers true.
    Set {
        bytes: &'a [u8],
        ttl: Option<u64>,
    },
    Apply(Verb<'a>),
}

impl Write<'_> {
    /// The number of bytes that are stored.
    pub(crate) fn size(&self) -> usize {
        match self {
            Write::Set { bytes, .. } => bytes.len(),
            Write::Apply(
                Verb::SetIfAbsent(put, ..)
                | Verb::SetIfPresent(put, _)
                | Verb::SetOnlyCopy { put, .. }
                | Verb::Fill { put, .. }
                | Verb::StoreThrough { put, .. },
            ) => put.bytes.len(),
            Write::Apply(Verb::Swap(swap)) if swap.becomes != Becomes::Removed => {
                swap.put.bytes.len()
            }
            Write::Apply(_) => 0,
        }
    }
}
