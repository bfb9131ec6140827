//! The code of the page `docs/guides/testing.md`, which shows it piece by piece; the last test
//! holds the page to it.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::testing::{self, Fault, Request, TestServer};
use valkey_runtime::{Cached, ErrorKind, Store};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m")]
struct User {
    #[cached(key)]
    id: u64,
    name: String,
}

struct Users {
    store: Store,
    db: Db,
}

impl Users {
    async fn show(&self, id: u64) -> Result<Option<User>, DbError> {
        User::get_or_load(&self.store, id, || self.db.find(id)).await
    }

    async fn rename(&self, id: u64, name: &str) -> Result<(), DbError> {
        User::update(&self.store, id, || self.db.rename(id, name)).await
    }
}

#[derive(Debug, PartialEq)]
struct DbError;

/// This stands for the database: its rows, and how often they were read.
struct Db(Mutex<(HashMap<u64, String>, usize)>);

impl Db {
    fn new() -> Self {
        let rows = HashMap::from([(42, "Ada".to_owned())]);
        Self(Mutex::new((rows, 0)))
    }

    async fn find(&self, id: u64) -> Result<Option<User>, DbError> {
        let (rows, reads) = &mut *self.0.lock().unwrap();
        *reads += 1;
        let name = rows.get(&id).cloned();
        Ok(name.map(|name| User { id, name }))
    }

    async fn rename(&self, id: u64, name: &str) -> Result<(), DbError> {
        let (rows, _) = &mut *self.0.lock().unwrap();
        rows.insert(id, name.to_owned());
        Ok(())
    }

    fn reads(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

fn users(store: &Store) -> Users {
    let (store, db) = (store.clone(), Db::new());
    Users { store, db }
}

fn named(name: &str) -> Result<Option<User>, DbError> {
    let name = name.to_owned();
    Ok(Some(User { id: 42, name }))
}

#[tokio::test]
async fn a_user_is_read_once_and_again_after_a_write() {
    let users = users(&Store::memory());
    assert_eq!(users.show(42).await, named("Ada"));
    assert_eq!(users.show(42).await, named("Ada"));
    assert_eq!(users.db.reads(), 1);

    users.rename(42, "Grace").await.unwrap();
    assert_eq!(users.show(42).await, named("Grace"));
    assert_eq!(users.db.reads(), 2);
}

#[tokio::test]
async fn the_service_makes_these_calls_to_its_cache() {
    let users = users(&Store::memory());
    let record = users.store.record();
    users.show(42).await.unwrap();
    users.show(42).await.unwrap();
    users.rename(42, "Grace").await.unwrap();
    users.show(42).await.unwrap();
    users.show(7).await.unwrap();
    assert_eq!(
        record.take(),
        [
            "get_or_load user:42: loaded",
            "get_or_load user:42: hit",
            "update user:42: written",
            "get_or_load user:42: loaded",
            "get_or_load user:7: nothing",
        ]
    );
}

#[tokio::test]
async fn without_its_cache_the_service_answers_from_the_database() {
    let users = users(&Store::memory());
    users.show(42).await.unwrap();

    users.store.faults().take_down();
    assert_eq!(users.show(42).await, named("Ada"));
    users.rename(42, "Grace").await.unwrap();
    assert_eq!(users.show(42).await, named("Grace"));

    // Ada is in the cache still, and nobody is given her.
    users.store.faults().recover();
    assert_eq!(users.show(42).await, named("Grace"));
}

#[tokio::test]
async fn a_request_that_fails_does_no_harm() {
    let store = Store::memory();
    let faults = store.faults();
    for fault in [
        Fault::from(ErrorKind::Timeout),
        Fault::error(ErrorKind::OutOfMemory).on(Request::Store),
        Fault::error(ErrorKind::Connection)
            .on(Request::Guard)
            .at("user:42"),
        Fault::lost_reply().of::<User>(),
    ] {
        let users = users(&store);
        User::del(&store, 42).await.unwrap();
        faults.fail_next(fault);
        assert_eq!(users.show(42).await, named("Ada"));
        users.rename(42, "Grace").await.unwrap();
        assert_eq!(users.show(42).await, named("Grace"));
        assert_eq!(faults.pending(), 0, "it has struck");
    }
}

#[tokio::test]
async fn a_user_is_read_again_after_five_minutes() {
    let (store, clock) = testing::memory();
    let users = users(&store);
    users.show(42).await.unwrap();
    clock.advance(Duration::from_secs(4 * 60));
    users.show(42).await.unwrap();
    assert_eq!(users.db.reads(), 1);
    clock.advance(Duration::from_secs(60));
    users.show(42).await.unwrap();
    assert_eq!(users.db.reads(), 2);
}

#[tokio::test]
async fn a_row_from_before_a_write_is_not_cached_after_it() {
    let users = users(&Store::memory());
    let held = users.store.faults().hold_next(Request::Store);
    let write = async {
        // The reader has Ada's row, and is about to store it.
        held.reached().await;
        users.rename(42, "Grace").await.unwrap();
        held.release();
    };
    let (shown, ()) = tokio::join!(users.show(42), write);
    assert_eq!(shown, named("Ada"));
    assert_eq!(users.show(42).await, named("Grace"));
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "session", ttl = "30m", sliding, max_age = "7d")]
struct Session {
    #[cached(key)]
    token: String,
}

#[tokio::test]
async fn a_session_that_is_used_stays() {
    let (store, clock) = testing::memory();
    let token = "2557123d".to_owned();
    Session { token }.set(&store).await.unwrap();
    for _ in 0..3 {
        clock.advance(Duration::from_secs(20 * 60));
        assert!(Session::get(&store, "2557123d").await.unwrap().is_some());
        store.settled().await;
    }
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "views")]
struct Views {
    #[cached(key)]
    page: u64,
    number: u64,
}

/// Wrong: what another has counted between the two requests is overwritten.
async fn count_a_view(store: &Store) {
    let views = Views::get(store, 1).await.unwrap();
    let number = views.map_or(0, |views| views.number) + 1;
    Views { page: 1, number }.set(store).await.unwrap();
}

#[tokio::test]
async fn two_views_at_once_are_counted_as_one() {
    let store = Store::memory();
    tokio::join!(count_a_view(&store), count_a_view(&store));
    let views = Views::get(&store, 1).await.unwrap().unwrap();
    assert_eq!(views.number, 1, "one is lost");
}

static SERVER: LazyLock<TestServer> = LazyLock::new(TestServer::plain);

#[tokio::test]
async fn two_instances_share_a_server() {
    let one = users(&SERVER.store_in("two-instances").await);
    let other = users(&SERVER.store_in("two-instances").await);
    one.show(42).await.unwrap();
    assert_eq!(other.show(42).await, named("Ada"));
    assert_eq!(other.db.reads(), 0);
}

#[tokio::test]
async fn the_service_outlives_its_server() {
    let server = TestServer::tls();
    let users = users(&server.store().await);
    users.show(42).await.unwrap();

    server.kill();
    assert_eq!(users.show(42).await, named("Ada"));
    server.restart();
    assert_eq!(users.show(42).await, named("Ada"));
}

#[test]
fn a_user_comes_back() {
    testing::assert_round_trip(&User {
        id: 42,
        name: "Ada".into(),
    });
}

/// And all of the tests above.
#[test]
fn the_page_shows_this_code() {
    let page = include_str!("../../../docs/guides/testing.md");
    let code = include_str!("testing_page.rs");
    let blocks = page.split("```rust\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 6, "{}", blocks.len());
    for block in &blocks {
        assert!(code.contains(block), "not in this file:\n{block}");
    }
    let tests = code.split("#[tokio::test]\nasync fn ").skip(1);
    for test in tests.filter_map(|rest| rest.split("()").next()) {
        let shown = blocks.iter().any(|block| block.contains(test));
        assert!(shown, "the page does not show {test}");
    }
}
