use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn find(store: &Store, name: &str) -> Result<Option<User>, std::io::Error> {
    let load = store.of::<User>().load(42).in_background();
    load.run(|| async { Ok(Some(User { id: name.len() as u64 })) }).await
}

fn main() {}
