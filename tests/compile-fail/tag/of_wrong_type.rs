//! A tag takes what its field is.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "org:{org_id}")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
}

fn main() {
    let _ = User::cache_tags().org("42");
    let _ = User::cache_tags().org(42, 7);
    let _ = User::cache_tags().team(42);
}
