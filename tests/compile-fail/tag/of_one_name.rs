//! Two tags whose functions would have one name.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "org:{org_id}", tag = "org:{team_id}", tag = "users", tag = "users")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
    team_id: u64,
}

fn main() {}
