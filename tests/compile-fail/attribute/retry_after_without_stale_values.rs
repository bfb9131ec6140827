use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(retry_after = "5s")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
