use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
struct User {
    #[cached(key)]
    id: u64,
    email: Option<String>,
}

async fn find(store: &Store, email: String) -> valkey_runtime::Result<()> {
    User::get_by_email(store, email).await?;
    User::get_by_email(store, Some("ada@example.org")).await?;
    Ok(())
}

fn main() {}
