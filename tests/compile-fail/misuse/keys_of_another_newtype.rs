use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, KeyPart, Store};

#[derive(Serialize, Deserialize, KeyPart)]
struct UserId(u64);

#[derive(KeyPart)]
struct OrgId(u64);

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: UserId,
}

async fn find(store: &Store, ids: Vec<OrgId>) -> valkey_runtime::Result<Vec<Option<User>>> {
    User::get_many(store, &ids).await
}

fn main() {}
