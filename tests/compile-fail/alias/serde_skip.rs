use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
struct User {
    #[cached(key)]
    id: u64,
    #[serde(skip)]
    email: String,
}

fn main() {}
