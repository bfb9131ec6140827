use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct Member {
    #[cached(key)]
    org: u64,
    #[cached(key)]
    name: String,
}

async fn find(store: &Store) -> valkey_runtime::Result<Option<Member>> {
    Member::get(store, 7).await
}

fn main() {}
