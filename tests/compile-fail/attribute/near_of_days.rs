use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "7d", near = "2d")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
