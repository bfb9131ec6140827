use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
struct User<'a> {
    #[cached(key)]
    id: u64,
    #[serde(borrow)]
    names: Vec<&'a str>,
}

fn main() {}
