//! Tags while the server is away.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store, UpdateError};
use valkey_tests::resp::Value;
use valkey_tests::{Proxy, Server};

use crate::database::until;
use crate::stores::connect;

suite! {
    @alone [crate::tags_faults]
    an_invalidation_that_is_not_delivered_is_kept_and_nothing_is_read_under_its_tag
    an_invalidation_that_is_dropped_half_way_is_kept
    an_invalidation_that_is_lost_leaves_nothing_older_to_be_read
    an_update_whose_tags_cannot_be_guarded_goes_on_or_is_refused
    an_update_whose_end_is_not_confirmed_leaves_its_guards
    a_load_under_tags_is_not_held_up_by_a_server_that_is_away
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", tag = "org:{org_id}")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
    row: u32,
}

fn user(id: u64, row: u32) -> User {
    User {
        id,
        org_id: 42,
        row,
    }
}

/// A server behind a proxy, a store by that, and another process's store.
async fn parted() -> (Server, Proxy, Store, Store) {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let (store, other) = (connect(&proxy.url()).await, connect(&server.url()).await);
    (server, proxy, store, other)
}

async fn given(store: &Store, id: u64, row: u32) -> u32 {
    let load = async || Ok::<_, ()>(Some(user(id, row)));
    let loaded = User::get_or_load(store, id, load).await;
    loaded.unwrap().unwrap().row
}

async fn delivered(store: &Store) {
    until("all is delivered", async || store.undelivered() == 0).await;
}

async fn an_invalidation_that_is_not_delivered_is_kept_and_nothing_is_read_under_its_tag() {
    let (_server, proxy, store, other) = parted().await;
    for expire in [false, true] {
        user(1, 1).set(&other).await.unwrap();
        assert!(User::exists(&store, 1).await.unwrap());
        proxy.refuse();
        proxy.cut();
        let told = match expire {
            false => store.invalidate_tag("org:42").await,
            true => store.mark_tag_stale("org:42").await,
        };
        assert!(told.is_err(), "the caller gets the error");
        assert_eq!(store.undelivered(), 1);
        assert!(User::exists(&other, 1).await.unwrap(), "not delivered");
        proxy.accept();
        // From the first answer on, whether or not it is delivered by then.
        until("the server is back", async || store.ping().await.is_ok()).await;
        assert!(!User::exists(&store, 1).await.unwrap());
        delivered(&store).await;
        assert_eq!(User::get(&other, 1).await.unwrap(), None);
        // Nor does anything from before come back once the epoch is known again.
        assert_eq!(given(&other, 2, 1).await, 1);
        assert!(User::exists(&other, 2).await.unwrap());
        assert!(!User::exists(&other, 1).await.unwrap());
        User::del(&other, 2).await.unwrap();
    }
}

async fn an_invalidation_that_is_dropped_half_way_is_kept() {
    let (_server, proxy, store, other) = parted().await;
    user(1, 1).set(&other).await.unwrap();
    proxy.stall();
    let dropped = store.invalidate_tag("org:42");
    let soon = Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, dropped).await.is_err());
    assert_eq!(store.undelivered(), 1);
    proxy.resume();
    delivered(&store).await;
    assert_eq!(User::get(&other, 1).await.unwrap(), None);
}

/// Values from before it are recognised by their stamps.
async fn an_invalidation_that_is_lost_leaves_nothing_older_to_be_read() {
    let (_server, proxy, store, other) = parted().await;
    user(1, 1).set(&other).await.unwrap();
    assert!(User::exists(&store, 1).await.unwrap());
    proxy.refuse();
    proxy.cut();
    let tags = (0..10_000).map(|org| format!("other:{org}"));
    store.invalidate_tags(tags).await.unwrap_err();
    store.invalidate_tag("org:42").await.unwrap_err();
    assert_eq!(store.stats().lost_deletions(), 1);
    proxy.accept();
    delivered(&store).await;
    assert!(User::exists(&other, 1).await.unwrap(), "it was lost");
    assert!(!User::exists(&store, 1).await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    // It is replaced, and known to be newer once the loss is long enough ago.
    until("what was loaded is read", async || {
        assert_eq!(given(&store, 1, 2).await, 2);
        User::exists(&store, 1).await.unwrap()
    })
    .await;
    assert_eq!(given(&store, 1, 3).await, 2);
    assert_eq!(User::get(&other, 1).await.unwrap(), Some(user(1, 2)));
}

async fn an_update_whose_tags_cannot_be_guarded_goes_on_or_is_refused() {
    let (_server, proxy, store, other) = parted().await;
    user(2, 1).set(&other).await.unwrap();
    proxy.refuse();
    proxy.cut();
    let written = AtomicBool::new(false);
    let write = async || {
        written.store(true, SeqCst);
        Ok::<_, ()>(())
    };
    let refused = store
        .of::<User>()
        .update(1)
        .invalidating(["org:42"])
        .strict()
        .run(write)
        .await;
    assert!(matches!(refused, Err(UpdateError::Refused(_))));
    assert!(!written.load(SeqCst));
    store
        .of::<User>()
        .update(1)
        .invalidating(["org:42"])
        .run(write)
        .await
        .unwrap();
    assert!(written.load(SeqCst));
    assert_eq!(store.undelivered(), 2, "the key, and the tag");
    proxy.accept();
    delivered(&store).await;
    assert_eq!(User::get(&other, 2).await.unwrap(), None);
}

/// The clock is not advanced after the write, so the guard has to stay.
async fn an_update_whose_end_is_not_confirmed_leaves_its_guards() {
    let (server, proxy, store, other) = parted().await;
    user(2, 1).set(&other).await.unwrap();
    let updated = store
        .of::<User>()
        .update(1)
        .invalidating(["org:42"])
        .run(async || {
            proxy.refuse();
            proxy.cut();
            Ok::<_, ()>(())
        });
    updated.await.unwrap();
    assert_eq!(given(&other, 2, 2).await, 2);
    assert_eq!(given(&other, 2, 3).await, 3, "guarded");
    proxy.accept();
    delivered(&store).await;
    assert_eq!(given(&other, 2, 4).await, 4, "the guard is left to run out");
    let left = server.command(&["PTTL", "::tag:org:42"]);
    assert!(matches!(left, Value::Integer(1..=18_000)), "{left:?}");
}

/// A dead server costs a load under tags no more than one without.
async fn a_load_under_tags_is_not_held_up_by_a_server_that_is_away() {
    let (_server, proxy, store, _other) = parted().await;
    proxy.refuse();
    proxy.cut();
    until(
        "it is known",
        async || matches!(store.ping().await, Err(error) if error.is_refused()),
    )
    .await;
    for row in 1..100 {
        assert_eq!(given(&store, 1, row).await, row);
    }
    assert_eq!(store.stats().loads(), 99);
}
