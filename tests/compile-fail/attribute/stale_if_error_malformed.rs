use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(stale_if_error = "soon")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
