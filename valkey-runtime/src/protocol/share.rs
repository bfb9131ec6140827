//! What the caller of a load shares with those that wait.

/// What callers share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Share<V> {
    Value(V),
    /// One that is no longer fresh, since there is no better one to be had.
    Stale(V),
    Nothing,
}
