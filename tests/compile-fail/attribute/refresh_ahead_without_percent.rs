use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(refresh_ahead = "0.8")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
