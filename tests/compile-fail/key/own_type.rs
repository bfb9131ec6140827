use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize)]
struct UserId(u64);

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: UserId,
}

fn main() {}
