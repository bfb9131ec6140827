use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user", validate = is_valid)]
struct User {
    #[cached(key)]
    id: u64,
}

fn is_valid(user: &User) -> bool {
    user.id > 0
}

fn main() {}
