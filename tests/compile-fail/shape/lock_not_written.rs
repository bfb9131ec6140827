use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(version = 2, lock = "00000000")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn main() {}
