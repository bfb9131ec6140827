use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(key = String)]
struct Rates {
    rates: Vec<u32>,
}

async fn store_it(store: &Store, rates: &Rates) -> valkey_runtime::Result<()> {
    rates.set(store).await
}

fn main() {}
