use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Host {
    #[cached(key)]
    network: u32,
    #[cached(key)]
    address: std::net::IpAddr,
}

fn main() {}
