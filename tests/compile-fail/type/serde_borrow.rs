use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
    #[serde(borrow = "'static")]
    name: std::borrow::Cow<'static, str>,
}

fn main() {}
