use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
    #[serde(flatten)]
    roles: Vec<String>,
}

fn main() {}
