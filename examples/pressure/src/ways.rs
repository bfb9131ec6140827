//! The ways to read a price, and their results.

use std::sync::Arc;

use valkey_runtime::Store;

use crate::database::Database;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    ByHand,
    ByHandOnce,
    Load,
    Refresh,
    OrStale,
    RefreshOrStale,
}

pub(crate) const WAYS: &[(&str, Way)] = &[
    ("By hand: get; on a miss load, and set", Way::ByHand),
    ("By hand, one load a key and process", Way::ByHandOnce),
    (
        "get_or_load: one load a key, whatever the process",
        Way::Load,
    ),
    ("in_background, with refresh_ahead", Way::Refresh),
    (
        "in_background, with stale_if_error and load_timeout",
        Way::OrStale,
    ),
    ("in_background, with all of these", Way::RefreshOrStale),
];

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was in the cache: at once, or after another process had loaded it.
    Hit,
    /// It was loaded, by this caller or another of its process.
    Loaded,
    /// It was in the cache, and stale.
    Stale,
    Error,
}

/// A process of the application.
pub(crate) trait Application: Send + Sync + 'static {
    fn new(store: Store, database: Arc<Database>) -> Self;

    /// Leaves no price in the cache.
    fn forget(&self) -> impl Future<Output = valkey_runtime::Result<()>> + Send;

    fn call(&self, way: Way, article: u32) -> impl Future<Output = Answer> + Send;
}
