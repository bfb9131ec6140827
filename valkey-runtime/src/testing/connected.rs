//! Waiting until a store is connected.

use crate::config::Builder;
use crate::core::store::Store;

pub(crate) async fn connected(builder: Builder) -> Store {
    let store = builder.connect().await;
    store.unwrap_or_else(|error| panic!("the store can't connect to the test server: {error}"))
}
