use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key, perfix = "user")]
    id: u64,
}

fn main() {}
