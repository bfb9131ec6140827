use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached, garde::Validate)]
#[cached(prefix = "user", validate(garde))]
struct User {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
}

fn main() {}
