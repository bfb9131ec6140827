use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key(hash_tag))]
    org: u64,
    #[cached(key(hash_tag))]
    id: u64,
}

fn main() {}
