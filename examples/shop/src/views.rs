//! The views of each product in the present hour.

use std::sync::LazyLock;
use std::time::Duration;

use valkey_runtime::counter::Counter;
use valkey_runtime::{Result, Store};

static VIEWS: LazyLock<Counter<u32>> = LazyLock::new(|| {
    let hour = Duration::from_secs(3600);
    let views = Counter::builder("views").window(hour).build();
    views.expect("an hour is a valid window")
});

/// Counts a view, and returns the views so far.
pub async fn count(store: &Store, product: u32) -> Result<i64> {
    VIEWS.add(store, product, 1).await
}

/// Begins to count again.
pub async fn reset(store: &Store, product: u32) -> Result<i64> {
    VIEWS.reset(store, product).await
}

/// The views of a product.
pub async fn of(store: &Store, product: u32) -> Result<i64> {
    VIEWS.get(store, product).await
}
