use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(key = id)]
struct User {
    id: u64,
}

fn main() {}
