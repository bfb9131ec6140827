use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "2s", near(ttl = "5s"))]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
