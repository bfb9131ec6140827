use valkey_runtime::{Store, cached_fn};

trait Names {
    #[cached_fn(ttl = "5m")]
    async fn names(store: &Store, category: u32) -> Vec<String>;
}

fn main() {}
