use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct User {
    #[cached(key)]
    id: u64,
}

async fn find(store: &Store) -> Result<Vec<Option<User>>, std::io::Error> {
    let load = store.of::<User>().load_many([42]);
    load.run(async |ids: Vec<u64>| Ok::<_, std::io::Error>(ids)).await
}

fn main() {}
