//! Only a field can stand in braces.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "org:{org}", tag = "region:{colour}")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
}

fn main() {}
