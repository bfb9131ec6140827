use serde::{Deserialize, Serialize};
use valkey_runtime::Shape;

#[derive(Serialize, Deserialize, Shape)]
struct Node {
    #[shape(recursve)]
    next: Option<Box<Node>>,
    #[shape(opaque)]
    other: u8,
}

fn main() {}
