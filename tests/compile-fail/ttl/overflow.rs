use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "99999999999999999999s")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn main() {}
