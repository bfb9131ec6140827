//! A loader says tags of a type that has some, and a type is cleared that says so.
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Loaded, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(tag = "all")]
struct Org {
    #[cached(key)]
    id: u64,
}

async fn clear(store: &Store) -> valkey_runtime::Result<()> {
    let _ = Loaded::value(User { id: 1 }).tags(["a"]);
    let _ = Loaded::value(Org { id: 1 }).tags(["a"]);
    store.of::<Org>().clear().await
}

fn main() {}
