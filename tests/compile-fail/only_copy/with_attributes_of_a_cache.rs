use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "30d", only_copy, jitter = "5%", hold = "1s", clear)]
struct Cart {
    #[cached(key)]
    id: u64,
}

fn main() {}
