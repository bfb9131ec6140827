//! The result that the leader of a load shares with its followers.

/// A shared result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Share<V> {
    Value(V),
    /// A stale value, because no better one is available.
    Stale(V),
    Nothing,
}
