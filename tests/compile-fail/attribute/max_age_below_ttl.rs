use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "1h", sliding, max_age = "30m")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
