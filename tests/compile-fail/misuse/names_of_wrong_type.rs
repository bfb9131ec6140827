use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct Doc {
    #[cached(key)]
    name: String,
}

async fn find(store: &Store, ids: Vec<u32>) -> valkey_runtime::Result<Vec<Option<Doc>>> {
    Doc::get_many(store, &ids).await
}

fn main() {}
