//! A brace has its other one.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "org:{org_id", tag = "region}")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
}

fn main() {}
