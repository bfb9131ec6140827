use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
    #[cached(alias(with = "lower"))]
    email: String,
    #[cached(alias(with = "rounded"))]
    height: Option<u64>,
}

fn lower(email: u64) -> String {
    email.to_string()
}

fn rounded(height: u64) -> f64 {
    height as f64
}

fn main() {}
