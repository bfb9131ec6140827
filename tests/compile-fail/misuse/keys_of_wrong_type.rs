use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn find(store: &Store, ids: Vec<u32>) -> valkey_runtime::Result<Vec<Option<User>>> {
    User::get_many(store, &ids).await
}

fn main() {}
