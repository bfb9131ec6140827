use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User(#[cached(key)] u64, #[cached(alias)] String);

fn main() {}
