use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "30d", only_copy)]
struct Cart {
    #[cached(key)]
    id: u64,
}

fn main() {
    let store = Store::memory();
    drop(store.of::<Cart>().mark_stale(1));
}
