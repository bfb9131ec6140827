use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct UserV1 {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, migrate_from = UserV1)]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
