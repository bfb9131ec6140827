use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

#[derive(Serialize, Deserialize, Cached)]
struct Page<T> {
    #[cached(key)]
    id: T,
}

async fn use_it(store: &Store, page: Page<u64>) -> valkey_runtime::Result<()> {
    page.set(store).await?;
    let _: Option<Page<u64>> = Page::get(store, 7).await?;
    Ok(())
}

fn main() {}
