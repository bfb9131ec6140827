use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "emial", alias = "colour")]
struct User {
    #[cached(key)]
    id: u64,
    email: String,
}

async fn find(store: &Store) -> valkey_runtime::Result<Option<User>> {
    User::get_by_email(store, "ada@example.org").await
}

fn main() {}
