//! An answer to a read, before it is judged.

use bytes::Bytes;

/// What lies under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Entry(Bytes),
    /// Another type of the server's: a list, a hash.
    Foreign,
    /// A value or an absence that is for another key. Said by a [`Gateway`](crate::backend::gateway::Gateway).
    Misplaced(Bytes),
    /// Not to be known, since a deletion of the key waits for the server. What a [`Gateway`](crate::backend::gateway::Gateway) says in
    /// place of a backend.
    Withheld,
    /// A value or an absence with this stamp that may be older than a deletion which was lost. Said by a `Gateway`, too.
    Outdated(u64),
}
