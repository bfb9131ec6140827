use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(near = "10m")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
