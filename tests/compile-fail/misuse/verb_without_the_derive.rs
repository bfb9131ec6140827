use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize)]
struct Plain {
    id: u64,
}

async fn find(store: &Store) -> valkey_runtime::Result<Vec<Option<Plain>>> {
    Plain::get_many(store, [42]).await
}

fn main() {}
