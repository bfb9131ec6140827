use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(near = "5s", max_bytes = "1MiB")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
