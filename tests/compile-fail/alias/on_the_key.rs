use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "id")]
struct User {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
struct Settings {
    #[cached(alias)]
    colour: String,
}

fn main() {}
