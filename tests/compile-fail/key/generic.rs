use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Page<T> {
    #[cached(key)]
    id: T,
    items: Vec<T>,
}

fn main() {}
