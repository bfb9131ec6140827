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
    let none = async |_: Vec<u64>| Ok::<Vec<Cart>, ()>(Vec::new());
    drop(Cart::get_or_load_many(&store, [1, 2], none));
}
