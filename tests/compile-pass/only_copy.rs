//! A type whose only copy is in the store, in its third version, of which the first is gone. The
//! verbs that load and invalidate are for others, also in generic code.

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Result, Store};

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "30d", only_copy, version = 2, oldest_version = 2)]
struct CartV2 {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "30d", only_copy, version = 3, oldest_version = 2, migrate_from = CartV2)]
struct Cart {
    #[cached(key)]
    id: u64,
    #[serde(default)]
    articles: Vec<u32>,
}

impl From<CartV2> for Cart {
    fn from(old: CartV2) -> Self {
        let articles = Vec::new();
        Self {
            id: old.id,
            articles,
        }
    }
}

/// A generic one: it is checked when it is used.
#[derive(Serialize, Deserialize, Cached)]
#[cached(ttl = "never", only_copy)]
struct Draft<T> {
    #[cached(key)]
    id: u64,
    of: T,
}

async fn used(store: &Store) -> Result<()> {
    Cart { id: 1, articles: vec![] }.set(store).await?;
    Draft { id: 1, of: 7u32 }.set(store).await?;
    Draft::<u32>::get(store, 1).await?;
    Cart::get_shared(store, 1).await?;
    store.of::<Cart>().purge().await?;
    Cart::del(store, 1).await.map(drop)
}

fn main() {
    drop(used(&Store::memory()));
}
