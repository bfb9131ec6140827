//! The function that computes tags takes a value of the type.
use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

#[derive(Serialize, Deserialize, Cached)]
#[cached(tags = topics)]
struct Post {
    #[cached(key)]
    id: u64,
    topics: Vec<String>,
}

fn topics(topics: &[String]) -> Vec<String> {
    topics.to_vec()
}

fn main() {}
