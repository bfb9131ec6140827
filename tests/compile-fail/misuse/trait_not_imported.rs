use serde::{Deserialize, Serialize};
use valkey_runtime::Store;

#[derive(Serialize, Deserialize, valkey_runtime::Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn find(store: &Store) -> valkey_runtime::Result<Option<User>> {
    User::get(store, 42).await
}

fn main() {}
