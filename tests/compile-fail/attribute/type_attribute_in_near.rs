use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(near(ttl = "5s", stale_if_error = "1h"))]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
