use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Host {
    #[cached(key(with = "to_text"))]
    address: std::net::IpAddr,
}

fn main() {}
