use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(strict)]
struct Account {
    #[cached(key)]
    id: u64,
}

async fn save() -> Result<(), std::io::Error> {
    Ok(())
}

// A write that may be refused says so in its error.
async fn update(store: &Store) -> Result<(), std::io::Error> {
    Account::update(store, 42, save).await
}

fn main() {}
