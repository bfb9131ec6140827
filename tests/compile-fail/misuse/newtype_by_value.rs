use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, KeyPart, Store};

#[derive(Serialize, Deserialize, KeyPart)]
struct UserId(u64);

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: UserId,
}

async fn find(store: &Store, id: UserId) -> valkey_runtime::Result<Option<User>> {
    User::get(store, id).await
}

fn main() {}
