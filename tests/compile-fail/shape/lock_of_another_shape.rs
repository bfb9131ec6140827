use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

// The lock is of `id` and `name`.
#[derive(Serialize, Deserialize, Cached)]
#[cached(version = 2, lock = "24c59e02")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
    email: String,
}

fn main() {}
