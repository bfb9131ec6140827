use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, KeyPart};

#[derive(Serialize, Deserialize, KeyPart)]
struct UserId(u64);

#[derive(Serialize, Deserialize, Cached)]
pub struct User {
    #[cached(key)]
    pub id: u64,
    #[cached(key)]
    org: UserId,
}

fn main() {}
