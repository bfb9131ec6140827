use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct Price {
    #[cached(key(with = "euros"))]
    cents: u64,
}

fn euros(cents: &u64) -> f64 {
    *cents as f64 / 100.0
}

fn main() {}
