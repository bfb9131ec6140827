use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
    #[serde(rename(serialize = "fullName"))]
    name: String,
}

fn main() {}
