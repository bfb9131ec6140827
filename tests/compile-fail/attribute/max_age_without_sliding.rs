use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(max_age = "7d")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
