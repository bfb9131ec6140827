use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(load_timeout = "200ms")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
