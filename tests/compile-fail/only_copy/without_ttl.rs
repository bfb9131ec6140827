use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(only_copy)]
struct Cart {
    #[cached(key)]
    id: u64,
}

fn main() {}
