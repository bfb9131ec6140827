use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(key = (u64, &str))]
struct User {
    name: String,
}

fn main() {}
