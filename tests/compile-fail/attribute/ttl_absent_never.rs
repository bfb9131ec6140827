use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl_absent = "never")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
