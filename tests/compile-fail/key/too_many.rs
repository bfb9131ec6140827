use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    a: u8,
    #[cached(key)]
    b: u8,
    #[cached(key)]
    c: u8,
    #[cached(key)]
    d: u8,
    #[cached(key)]
    e: u8,
    #[cached(key)]
    f: u8,
    #[cached(key)]
    g: u8,
}

fn main() {}
