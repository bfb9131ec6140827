use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "5m")]
#[cached(ttl = "1h")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn main() {}
