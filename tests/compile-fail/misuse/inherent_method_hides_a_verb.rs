use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

impl User {
    fn get(&self) -> u64 {
        self.id
    }
}

async fn find(store: &Store) -> valkey_runtime::Result<Option<User>> {
    User::get(store, 42).await
}

fn main() {}
