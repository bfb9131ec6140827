//! A value that is found unchanged has the tags of what was read back.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "org:{org_id}")]
struct User {
    #[cached(key)]
    id: u64,
    #[serde(skip)]
    org_id: u64,
}

fn main() {}
