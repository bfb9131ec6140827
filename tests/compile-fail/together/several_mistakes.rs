use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(perfix = "user:", ttl = "0s", version = 0, hash_tag)]
#[cached(ttl = "1h", on_corrupt = "eror")]
struct User {
    #[cached(key, hash_tag)]
    id: u64,
    #[cached(kye)]
    degrees: f64,
    #[cached(key(with = "not a path", hashtag))]
    address: std::net::IpAddr,
    #[cached(version = 3)]
    name: String,
}

fn main() {}
