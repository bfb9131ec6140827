use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "30d", only_copy)]
struct CartV1 {
    #[cached(key)]
    id: u64,
}

// There was a version 2, whose entries nothing reads here.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "30d", only_copy, version = 3, migrate_from = CartV1)]
struct Cart {
    #[cached(key)]
    id: u64,
}

impl From<CartV1> for Cart {
    fn from(old: CartV1) -> Self {
        Self { id: old.id }
    }
}

fn main() {}
