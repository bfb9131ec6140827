use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(
    stale_if_eror = "never",
    retry_after = "0s",
    refresh_ahead = "0%",
    load_timeout = "soon",
    max_age = "1m",
    slidng
)]
struct User {
    #[cached(key)]
    id: u64,
}

fn main() {}
