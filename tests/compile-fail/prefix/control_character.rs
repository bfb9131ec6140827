use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "user\u{7}")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

fn main() {}
