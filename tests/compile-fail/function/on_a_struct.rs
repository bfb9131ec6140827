use valkey_runtime::cached_fn;

#[cached_fn(ttl = "5m")]
struct Names(Vec<String>);

fn main() {}
