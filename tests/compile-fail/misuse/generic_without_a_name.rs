use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct Page<T> {
    #[cached(key)]
    number: u64,
    items: Vec<T>,
}

#[derive(Serialize, Deserialize)]
struct Item;

async fn find(store: &Store) -> valkey_runtime::Result<Option<Page<Item>>> {
    Page::<Item>::get(store, 1).await
}

fn main() {}
