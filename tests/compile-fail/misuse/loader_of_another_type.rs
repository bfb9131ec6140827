use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn find(_: u64) -> Result<Option<String>, std::io::Error> {
    Ok(None)
}

async fn load(store: &Store) -> Result<Option<User>, std::io::Error> {
    User::get_or_load(store, 42, || find(42)).await
}

fn main() {}
