use valkey_runtime::{Store, cached_fn};

#[cached_fn(ttl = "5m")]
async fn names(store: &Store, category: u32) -> Result<Vec<String>, ()> {
    Ok(vec![category.to_string()])
}

async fn forget(store: &Store) {
    let _ = names::invalidate(store, "7").await;
    let _ = names::invalidate(store).await;
}

fn main() {}
