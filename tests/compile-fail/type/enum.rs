use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
enum Shape {
    Circle { radius: u32 },
    Square { side: u32 },
}

fn main() {}
