//! A hit of a cached function beside a `get` of the same value of about 200 bytes, and beside a
//! `get_or_load`, on a server.
//!
//! ```text
//! cargo bench -p benches --bench functions
//! ```

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use benches::{KEYS, contender, race};
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store, cached_fn};
use valkey_tests::Server;

benches::user!(User: prefix = "user", ttl = "1h");

#[cached_fn(ttl = "1h")]
async fn user_of(store: &Store, id: u64) -> Result<User, ()> {
    Ok(User::new(id))
}

#[tokio::main]
async fn main() {
    let server = Server::plain();
    let store = Store::connect(&server.url()).await.unwrap();
    User::fill(&store).await;
    for id in 0..KEYS {
        user_of(&store, id).await.unwrap();
    }
    let loads = store.stats().loads();
    let contenders = [
        contender(&store, |store, id| async move {
            assert!(User::get(&store, id).await.unwrap().unwrap().active);
        }),
        contender(&store, |store, id| async move {
            let load = async || Err::<User, _>("it is there");
            assert!(User::get_or_load(&store, id, load).await.unwrap().active);
        }),
        contender(&store, |store, id| async move {
            assert!(user_of(&store, id).await.unwrap().active);
        }),
    ];
    let names = ["get", "get_or_load", "cached function"];
    for (tasks, reads) in [(1, 2_000), (64, 12_800)] {
        let title = format!("hits with {tasks} task(s)");
        race(&title, &names, &contenders, (tasks, reads, 61)).await;
    }
    assert_eq!(store.stats().loads(), loads, "each was a hit");
}
