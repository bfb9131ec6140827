use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(compress = "zstd", compress_above = "4KiB")]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
