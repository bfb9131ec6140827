use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

type Degrees = f64;

#[derive(Serialize, Deserialize, Cached)]
struct Reading {
    #[cached(key)]
    degrees: Degrees,
}

fn main() {}
