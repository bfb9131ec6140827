use serde::{Deserialize, Serialize};
use valkey_runtime::Store;

#[derive(Serialize, Deserialize)]
struct Plain {
    id: u64,
}

async fn find(store: &Store) -> valkey_runtime::Result<Option<Plain>> {
    store.of::<Plain>().get(42).await
}

fn main() {}
