use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[serde(rename_all(serialize = "camelCase"))]
struct User {
    #[cached(key)]
    id: u64,
    full_name: String,
}

fn main() {}
