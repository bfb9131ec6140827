//! A value that is larger than the server takes, or sends, costs nobody else a command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, ErrorKind, Store};
use valkey_tests::Server;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m")]
struct User {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "blob", ttl = "5m")]
struct Blob {
    #[cached(key)]
    id: u64,
    text: String,
}

fn blob(id: u64, bytes: usize) -> Blob {
    let text = "x".repeat(bytes);
    Blob { id, text }
}

const MIB: usize = 1 << 20;

/// A limit for what takes milliseconds unless the machine is busy.
const LONG: Duration = Duration::from_secs(60);

/// Waits for what other tasks or the server bring about.
async fn until(what: &str, mut happens: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !happens().await {
        assert!(began.elapsed() < LONG, "{what}: not within {LONG:?}");
        tokio::task::yield_now().await;
    }
}

/// Waits until the store has a connection again.
async fn connects_again(store: &Store) {
    until("the store connects again", async || {
        User::get(store, 1).await.is_ok()
    })
    .await;
}

/// Readers of small values, and how many of them failed.
struct Others {
    over: Arc<AtomicBool>,
    readers: Vec<tokio::task::JoinHandle<usize>>,
}

impl Others {
    async fn begin(store: &Store) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let began = Arc::new(AtomicUsize::new(0));
        let readers = (0..20).map(|id| {
            let (store, over, began) = (store.clone(), over.clone(), began.clone());
            tokio::spawn(async move {
                User { id }.set(&store).await.unwrap();
                began.fetch_add(1, Ordering::SeqCst);
                let mut failures = 0;
                while !over.load(Ordering::SeqCst) {
                    failures += usize::from(User::get(&store, id).await.is_err());
                    tokio::task::yield_now().await;
                }
                failures
            })
        });
        let readers: Vec<_> = readers.collect();
        until("all readers have begun", async || {
            began.load(Ordering::SeqCst) == readers.len()
        })
        .await;
        Self { over, readers }
    }

    async fn failures(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        let mut failures = 0;
        for reader in self.readers {
            failures += reader.await.unwrap();
        }
        failures
    }
}

/// Sets and loads what is too large, again and again. How many loads there were.
async fn store_too_much(store: &Store) -> usize {
    let loads = AtomicUsize::new(0);
    for _ in 0..10 {
        let error = blob(1, 2 * MIB).set(store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(
            !error.is_transient(),
            "a loop that tries again would be of no use"
        );
        let (before, large, after) = (User { id: 50 }, blob(2, 2 * MIB), User { id: 51 });
        let results = store
            .batch()
            .set(&before)
            .set(&large)
            .set(&after)
            .send()
            .await;
        let error = results.all().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        let loaded = Blob::get_or_load(store, 3, async || {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, ()>(blob(3, 2 * MIB))
        });
        assert_eq!(loaded.await.unwrap().text.len(), 2 * MIB);
        Blob::write_through(store, &blob(4, 2 * MIB), async || Ok::<_, ()>(()))
            .await
            .unwrap();
    }
    assert_eq!(
        User::get_many(store, [50, 51])
            .await
            .unwrap()
            .iter()
            .flatten()
            .count(),
        2
    );
    loads.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_value_above_a_limit_that_the_server_reports_is_not_sent() {
    for setting in ["proto-max-bulk-len", "client-query-buffer-limit"] {
        let server = Server::builder().setting(setting, "1mb").start();
        let store = server.store_builder().connect().await.unwrap();
        let others = Others::begin(&store).await;
        store_too_much(&store).await;
        assert_eq!(others.failures().await, 0, "{setting}");
        assert_eq!(store.stats().errors(ErrorKind::Connection), 0);
        blob(9, MIB / 2).set(&store).await.unwrap();
        assert!(Blob::get(&store, 9).await.unwrap().is_some());
    }
}

/// A server that does not tell its limits closes one connection, and no more for a while.
#[tokio::test]
async fn a_value_that_closed_a_connection_is_not_sent_again() {
    for setting in ["proto-max-bulk-len", "client-query-buffer-limit"] {
        let server = Server::builder().setting(setting, "1mb").start();
        server.command(&["ACL", "SETUSER", "default", "-config|get"]);
        let store = server.store_builder().connect().await.unwrap();
        let error = blob(1, 2 * MIB).set(&store).await.unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::TooLarge | ErrorKind::Connection),
            "{error}"
        );
        connects_again(&store).await;
        let others = Others::begin(&store).await;
        store_too_much(&store).await;
        assert_eq!(others.failures().await, 0, "{setting}");
        // A smaller value is accepted.
        blob(9, MIB / 2).set(&store).await.unwrap();
    }
}

/// Several values that are more than the server sends at once, and one that is.
#[tokio::test]
async fn values_that_closed_a_connection_when_read_are_read_with_care() {
    let server = Server::builder()
        .setting("client-output-buffer-limit", "normal 1mb 0 0")
        .start();
    // Without this the entries were refused.
    server.command(&[
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "normal 0 0 0",
    ]);
    let store = server.store_builder().connect().await.unwrap();
    for id in 0..6 {
        blob(id, MIB / 2).set(&store).await.unwrap();
    }
    blob(10, 4 * MIB).set(&store).await.unwrap();
    server.command(&[
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "normal 1mb 0 0",
    ]);

    // The first of each costs a connection.
    let _ = Blob::get_many(&store, 0..6).await;
    connects_again(&store).await;
    let _ = Blob::get(&store, 10).await;
    connects_again(&store).await;
    let others = Others::begin(&store).await;
    for _ in 0..5 {
        let found = Blob::get_many(&store, 0..6).await.unwrap();
        assert_eq!(found.iter().flatten().count(), 6, "one by one");
        let error = Blob::get(&store, 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        let loaded = Blob::get_or_load(&store, 10, async || Ok::<_, ()>(blob(10, 5))).await;
        assert_eq!(loaded, Ok(blob(10, 5)));
    }
    assert_eq!(others.failures().await, 0);
}
