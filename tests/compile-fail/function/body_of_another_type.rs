use valkey_runtime::{Store, cached_fn};

#[cached_fn(ttl = "5m")]
async fn names(store: &Store, category: u32) -> Result<Vec<String>, ()> {
    Ok(vec![category])
}

fn main() {}
