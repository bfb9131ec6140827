use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
struct User {
    #[cached(key)]
    id: u64,
    email: String,
}

async fn find_user(id: u64) -> Result<Option<User>, ()> {
    let _ = id;
    Ok(None)
}

async fn find(store: &Store, email: &str) -> Result<Option<User>, ()> {
    User::load_by_email(store, email).run(|| find_user(1), find_user).await
}

fn main() {}
