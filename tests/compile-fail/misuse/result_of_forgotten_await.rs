use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn find(store: &Store) -> valkey_runtime::Result<()> {
    let user: Option<User> = User::get(store, 42)?;
    drop(user);
    Ok(())
}

fn main() {}
