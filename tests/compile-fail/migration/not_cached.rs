use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize)]
struct UserV1 {
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, migrate_from = UserV1)]
struct User {
    #[cached(key)]
    id: u64,
}

impl From<UserV1> for User {
    fn from(old: UserV1) -> Self {
        Self { id: old.id }
    }
}

fn main() {}
