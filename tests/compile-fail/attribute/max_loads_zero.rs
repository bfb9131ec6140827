use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(max_loads = 0)]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
