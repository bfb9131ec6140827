use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(alias = "email")]
pub(crate) struct User {
    #[cached(key)]
    id: u64,
    email: String,
    #[cached(alias)]
    name: String,
}

impl User {
    fn get_by_email(_: &str) -> Option<Self> {
        None
    }

    fn load_by_name(_: &str) -> Option<Self> {
        None
    }
}

fn main() {}
