use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Shape};

#[derive(Serialize, Deserialize, Shape)]
struct Address {
    street: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(layout = "compact")]
struct User {
    #[cached(key)]
    id: u64,
    addresses: Vec<Address>,
}

fn main() {}
