use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(near(size = 1000))]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
