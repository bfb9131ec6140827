#![deny(unused_must_use)]

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn remove(store: &Store) {
    User::del(store, 42);
}

fn main() {}
