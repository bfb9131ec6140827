use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Login {
    #[cached(key)]
    id: u64,
    #[serde(flatten)]
    addresses: HashMap<String, IpAddr>,
}

fn main() {}
