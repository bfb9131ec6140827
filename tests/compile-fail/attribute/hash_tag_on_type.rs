use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(hash_tag)]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn main() {}
