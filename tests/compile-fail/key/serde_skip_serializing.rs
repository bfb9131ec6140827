use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    #[serde(skip_serializing)]
    id: u64,
    name: String,
}

fn main() {}
