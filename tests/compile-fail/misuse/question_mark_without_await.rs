use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

fn remove(store: &Store) -> valkey_runtime::Result<bool> {
    User::del(store, 42)?
}

fn main() {}
