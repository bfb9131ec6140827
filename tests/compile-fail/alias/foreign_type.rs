use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "address", alias = "height", alias = "tags")]
struct Host {
    #[cached(key)]
    id: u64,
    address: std::net::IpAddr,
    height: Option<f64>,
    tags: Vec<String>,
}

fn main() {}
