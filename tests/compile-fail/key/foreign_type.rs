use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Host {
    #[cached(key)]
    address: std::net::IpAddr,
}

fn main() {}
