use valkey_runtime::{Store, cached_fn};

struct Db;

#[cached_fn(ttl = "5m")]
async fn names(store: &Store, db: &Db, category: u32) -> Result<Vec<String>, ()> {
    let _ = db;
    Ok(vec![category.to_string()])
}

fn main() {}
