//! One write of many.

use crate::protocol::transition::Verb;

/// What is done to one of many keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write<'a> {
    /// Stores an entry, whatever is there, for so many milliseconds; none for never. True.
    Set {
        bytes: &'a [u8],
        ttl: Option<u64>,
    },
    Apply(Verb<'a>),
}

impl Write<'_> {
    /// How many bytes are stored.
    pub(crate) fn size(&self) -> usize {
        match self {
            Write::Set { bytes, .. } => bytes.len(),
            Write::Apply(
                Verb::SetIfAbsent(put, _)
                | Verb::SetIfPresent(put, _)
                | Verb::Fill { put, .. }
                | Verb::StoreThrough { put, .. },
            ) => put.bytes.len(),
            Write::Apply(_) => 0,
        }
    }
}
