use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached, garde::Validate, validator::Validate)]
#[cached(prefix = "user", validate)]
struct User {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
}

fn main() {}
