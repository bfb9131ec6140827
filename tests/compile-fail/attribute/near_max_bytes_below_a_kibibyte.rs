use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(near(ttl = "5s", max_bytes = "64"))]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
