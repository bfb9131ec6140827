use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "5 minuets")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn main() {}
