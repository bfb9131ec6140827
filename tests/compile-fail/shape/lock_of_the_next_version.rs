use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(version = 1, lock = "24c59e02")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn main() {}
