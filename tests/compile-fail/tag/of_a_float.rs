//! The fields in a tag can be parts of a key.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "price:{price}")]
struct Product {
    #[cached(key)]
    id: u64,
    price: f64,
}

fn main() {}
