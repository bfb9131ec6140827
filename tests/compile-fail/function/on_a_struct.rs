use valkey_runtime::{Store, cached_fn};

#[cached_fn(ttl = "5m")]
struct Names(Vec<String>);

fn main() {}
