use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[serde(deny_unknown_fields)]
struct User {
    #[cached(key)]
    id: u64,
    #[serde(skip_deserializing)]
    name: String,
}

fn main() {}
