//! The fields in a tag can be parts of a key.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize)]
struct OrgId(u64);

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "org:{org_id}")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: OrgId,
}

fn main() {}
