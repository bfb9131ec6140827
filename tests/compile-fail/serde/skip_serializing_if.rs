use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

fn main() {}
