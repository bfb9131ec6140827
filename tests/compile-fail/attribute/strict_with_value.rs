use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(strict = true)]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
