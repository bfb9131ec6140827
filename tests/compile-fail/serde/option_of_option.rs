use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Patch {
    #[cached(key)]
    id: u64,
    name: Option<Option<String>>,
}

fn main() {}
