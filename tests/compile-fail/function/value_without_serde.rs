use valkey_runtime::{Store, cached_fn};

struct Name;

#[cached_fn(ttl = "5m")]
async fn names(store: &Store, category: u32) -> Result<Vec<Name>, ()> {
    let _ = category;
    Ok(vec![Name])
}

fn main() {}
