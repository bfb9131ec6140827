//! What a hit costs of a type that has everything switched on (freshness in the header, a life that hits extend, refreshing
//! ahead, stale values), over a hit of a plain type: the same value of about 200 bytes, by the same verb and by its own.
//!
//! ```text
//! cargo bench -p benches --bench timed
//! ```

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::pin::Pin;

use benches::{Rounds, timed};
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

/// A type of that name with these attributes, of about 200 bytes as MessagePack.
macro_rules! user {
    ($name:ident: $($attribute:tt)*) => {
        #[derive(Clone, Debug, Serialize, Deserialize, Cached)]
        #[cached($($attribute)*)]
        struct $name {
            #[cached(key)]
            id: u64,
            name: String,
            email: String,
            city: String,
            created: i64,
            active: bool,
            tags: Vec<String>,
        }

        impl $name {
            fn new(id: u64) -> Self {
                Self {
                    id,
                    name: "Augusta Ada King, Countess of Lovelace".into(),
                    email: "ada.lovelace@analytical-engine.example".into(),
                    city: "London, Marylebone".into(),
                    created: 1_767_225_600,
                    active: true,
                    tags: vec!["mathematics".into(), "poetry".into(), "engines".into()],
                }
            }

            async fn fill(store: &Store) {
                for id in 0..KEYS {
                    Self::new(id).set(store).await.unwrap();
                }
            }
        }
    };
}

user!(Plain: prefix = "plain", ttl = "1h");
user!(Everything: prefix = "timed", ttl = "1h", ttl_absent = "1m", sliding, max_age = "1d", stale_if_error = "1d",
    refresh_ahead = "80%", load_timeout = "1s");

const KEYS: u64 = 1000;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Does so many reads, beginning with this key.
type Contender = Box<dyn Fn(u64, u64) -> Work>;

fn contender<F, Fut>(store: &Store, read: F) -> Contender
where
    F: Fn(Store, u64) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let store = store.clone();
    Box::new(move |first, count| {
        let store = store.clone();
        Box::pin(async move {
            for id in first..first + count {
                read(store.clone(), id % KEYS).await;
            }
        })
    })
}

#[tokio::main]
async fn main() {
    let server = Server::plain();
    let store = Store::connect(&server.url()).await.unwrap();
    Plain::fill(&store).await;
    Everything::fill(&store).await;
    let contenders = [
        contender(&store, |store, id| async move {
            let load = async || Err::<Plain, _>("it is there");
            assert!(
                Plain::get_or_load(&store, id, load)
                    .await
                    .unwrap()
                    .unwrap()
                    .active
            );
        }),
        contender(&store, |store, id| async move {
            let load = async || Err::<Everything, _>("it is there");
            assert!(
                Everything::get_or_load(&store, id, load)
                    .await
                    .unwrap()
                    .unwrap()
                    .active
            );
        }),
        contender(&store, |store, id| async move {
            let load = |_| async { Err::<Everything, _>("it is there") };
            assert!(
                Everything::get_or_refresh(&store, id, load)
                    .await
                    .unwrap()
                    .unwrap()
                    .active
            );
        }),
    ];
    let names = [
        "get_or_load of a plain type",
        "get_or_load with everything on",
        "get_or_refresh with everything on",
    ];
    for (tasks, reads, rounds) in [(1, 2_000, 61), (64, 12_800, 61)] {
        let mut table = Rounds::new(&names);
        for round in 0..rounds {
            for at in table.order(round) {
                let ((), time) = timed(run(&contenders[at], tasks, reads)).await;
                table.add(at, reads as usize, time);
            }
        }
        table.print(&format!("hits with {tasks} task(s)"));
    }
    let stats = store.stats();
    assert_eq!((stats.loads(), stats.background_running()), (0, 0));
}

async fn run(contender: &Contender, tasks: u64, reads: u64) {
    let each = reads / tasks;
    let running: Vec<_> = (0..tasks)
        .map(|task| tokio::spawn(contender(task * each, each)))
        .collect();
    for task in running {
        task.await.unwrap();
    }
}
