use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(near(max_bytes = "64MiB"))]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
