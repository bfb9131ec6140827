use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

/// Stands for `serde_json::value::RawValue`.
#[derive(Serialize, Deserialize)]
struct RawValue;

#[derive(Serialize, Deserialize, Cached)]
struct Page {
    #[cached(key)]
    id: u64,
    json: Option<Box<RawValue>>,
}

fn main() {}
