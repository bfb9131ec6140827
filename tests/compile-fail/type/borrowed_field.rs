use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User<'a> {
    #[cached(key)]
    id: u64,
    name: &'a str,
}

fn main() {}
