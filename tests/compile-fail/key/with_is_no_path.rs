use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Host {
    #[cached(key(with = "|a| a.to_string()"))]
    address: std::net::IpAddr,
}

fn main() {}
