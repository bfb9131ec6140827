use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(layout = "compct")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
