//! The result of a read, before it is judged.

use bytes::Bytes;

/// The content of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Entry(Bytes),
    /// Another data type of the server: a list, a hash.
    Foreign,
    /// A value or an absence of another key. Returned by a
    /// [`Gateway`](crate::backend::gateway::Gateway).
    Misplaced(Bytes),
    /// Unknown, because an invalidation of the key waits for delivery. Returned by a
    /// [`Gateway`](crate::backend::gateway::Gateway) in place of a backend.
    Withheld,
    /// A value or an absence with this stamp that its tags or a lost invalidation forbid to read. A
    /// `Gateway` returns it after a lost invalidation.
    Outdated(u64),
}
