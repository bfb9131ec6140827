use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(lock = "v2")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
