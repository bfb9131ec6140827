use serde::{Deserialize, Serialize};
use valkey_runtime::Shape;

#[derive(Serialize, Deserialize)]
struct Street;

#[derive(Serialize, Deserialize, Shape)]
struct Address {
    street: Option<Street>,
}

fn main() {}
