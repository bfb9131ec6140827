use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn find(store: &Store) -> Result<Option<User>, std::io::Error> {
    let load = store.of::<User>().load(42);
    load.in_background().bypass().run(async || Ok(None)).await
}

fn main() {}
