use valkey_runtime::{Store, cached_fn};

struct Db;

#[cached_fn(ttl = "5m", refresh_ahead = "80%")]
async fn names(store: &Store, #[context] db: &Db, category: u32) -> Result<Vec<String>, ()> {
    let _ = db;
    Ok(vec![category.to_string()])
}

fn main() {}
