use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    #[serde(skip_deserializing)]
    id: u64,
    name: String,
}

fn main() {}
