use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "never", refresh_ahead = "80%")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
