use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User(
    #[cached(key)] u64,
    #[serde(skip_serializing_if = "Option::is_none")] Option<u64>,
    Option<u64>,
);

fn main() {}
