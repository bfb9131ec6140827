//! The function of a tag is named after its texts.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "{org_id}", tag = "42", tag = "")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
}

fn main() {}
