use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(lock = "00000000")]
struct Page<T> {
    #[cached(key)]
    id: u64,
    items: Vec<T>,
}

fn main() {}
