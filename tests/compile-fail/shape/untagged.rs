use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Shape};

#[derive(Serialize, Deserialize, Shape)]
#[serde(untagged)]
enum Place {
    Street { street: String },
    Town { town: String },
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(layout = "compact")]
struct User {
    #[cached(key)]
    id: u64,
    place: Place,
}

fn main() {}
