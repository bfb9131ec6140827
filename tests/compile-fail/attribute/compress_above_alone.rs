use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(compress_above = 4096)]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
