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

fn pages(store: &Store) {
    let _ = store.of::<Page<Item>>();
}

fn main() {}
