use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct Doc {
    #[cached(key)]
    name: String,
}

async fn find(store: &Store, name: String) -> valkey_runtime::Result<Option<Doc>> {
    Doc::get(store, name).await
}

fn main() {}
