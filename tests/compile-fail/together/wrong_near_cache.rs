use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(
    ttl = "1m",
    near(
        ttl = "5m",
        max_bytes = "1 kb",
        stale = "2m",
        getstale = true,
        capacity = 100
    )
)]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
