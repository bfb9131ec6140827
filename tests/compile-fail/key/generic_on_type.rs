use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(key = Vec<T>)]
struct Page<T> {
    items: Vec<T>,
}

fn main() {}
