use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

// The derive does not see what it stands for.
type Note = Option<String>;

#[derive(Serialize, Deserialize, Cached)]
#[cached(layout = "compact")]
struct User {
    #[cached(key)]
    id: u64,
    note: Option<Note>,
}

fn main() {}
