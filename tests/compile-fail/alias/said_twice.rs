use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "email", alias = "name", alias = "name")]
struct User {
    #[cached(key)]
    id: u64,
    #[cached(alias = "email")]
    email: String,
    name: String,
}

async fn find(store: &Store) -> valkey_runtime::Result<()> {
    User::get_by_email(store, "ada@example.org").await?;
    User::get_by_name(store, "Ada").await?;
    Ok(())
}

fn main() {}
