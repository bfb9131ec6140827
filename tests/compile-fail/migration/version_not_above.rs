use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2)]
struct UserV2 {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, migrate_from = UserV2)]
struct User {
    #[cached(key)]
    id: u64,
}

impl From<UserV2> for User {
    fn from(old: UserV2) -> Self {
        Self { id: old.id }
    }
}

fn main() {}
