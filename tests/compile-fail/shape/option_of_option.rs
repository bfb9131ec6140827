use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(layout = "compact")]
struct User {
    #[cached(key)]
    id: u64,
    note: Option<Option<String>>,
}

fn main() {}
