use valkey_runtime::{Store, cached_fn};

struct Db;

impl Db {
    #[cached_fn(ttl = "5m")]
    async fn names(&self, store: &Store, category: u32) -> Result<Vec<String>, ()> {
        let _ = store;
        Ok(vec![category.to_string()])
    }
}

fn main() {}
