use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize)]
struct Address {
    street: String,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(layout = "compact")]
struct User {
    #[cached(key)]
    id: u64,
    addresses: Vec<Address>,
}

fn main() {}
