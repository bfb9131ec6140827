//! Entries of other versions of a type: those that a later release has left behind.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use valkey_runtime::{Cached, ManualClock, SetOptions, Store};

use crate::steady::writes_into;
use crate::stores::On;

suite! {
    crate::versions =>
    a_newer_entry_that_no_longer_wins_is_replaced
    newer_entries_are_purged_and_nothing_else
}

/// The release that was taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 3, ttl = "1h")]
struct Later {
    #[cached(key)]
    id: u64,
    #[cached(alias)]
    email: String,
    row: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", version = 2, ttl = "1h")]
struct User {
    #[cached(key)]
    id: u64,
    #[cached(alias)]
    email: String,
}

fn later(id: u64) -> Later {
    let email = format!("{id}@example.com");
    Later { id, email, row: 7 }
}

fn user(id: u64) -> User {
    let email = format!("{id}@example.com");
    User { id, email }
}

async fn load(store: &Store, id: u64) -> User {
    let loaded = User::get_or_load(store, id, async || Ok::<_, ()>(user(id))).await;
    loaded.unwrap()
}

/// In a namespace of its own, with a time after which newer entries give way.
async fn store(on: On, namespace: &str, newer_wins: Duration) -> Store {
    writes_into(on.nodes(), namespace);
    let builder = on.builder().namespace(namespace);
    builder.newer_wins_for(newer_wins).connect().await.unwrap()
}

async fn a_newer_entry_that_no_longer_wins_is_replaced(on: On) {
    let store = store(on, "versions-lapsed", Duration::ZERO).await;
    let if_absent = || SetOptions::new().if_absent();
    later(1).set(&store).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    let there = Later::get(&store, 1).await.unwrap();
    assert_eq!(there, Some(later(1)), "a read leaves it alone");

    load(&store, 1).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));

    later(1).set(&store).await.unwrap();
    assert!(user(1).set_with(&store, if_absent()).await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));

    later(1).set(&store).await.unwrap();
    let fresh = store.of::<User>().load(1).fresh();
    fresh.run(async || Ok::<_, ()>(user(1))).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));

    // An alias entry of a later version gives way as well.
    Later::load_by_email(&store, "2@example.com")
        .run(
            async || Ok::<_, ()>(Some(2)),
            async |id| Ok(Some(later(id))),
        )
        .await
        .unwrap();
    User::load_by_email(&store, "2@example.com")
        .run(async || Ok::<_, ()>(Some(2)), async |id| Ok(Some(user(id))))
        .await
        .unwrap();
    let found = User::get_by_email(&store, "2@example.com").await;
    assert_eq!(found.unwrap(), Some(user(2)));
    assert_eq!(store.stats().corrupt(), 0);
}

async fn newer_entries_are_purged_and_nothing_else(on: On) {
    let store = store(on, "versions-purged", Duration::MAX).await;
    for id in 1..=600 {
        later(id).set(&store).await.unwrap();
    }
    // Ones that stay: of the type's own version, of an older one, and a guard.
    user(601).set(&store).await.unwrap();
    let older = store.of::<Older>();
    older.set(&Older { id: 602 }).await.unwrap();
    let guard = store.of::<User>().update(603).guard().await.unwrap();
    load(&store, 1).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), None, "it still wins");

    // An entry of a later release: with a flag that this one does not know.
    if on != On::Memory {
        on.raw(&[&b"SETRANGE"[..], b"versions-purged:user:2", b"30", b"\x01"]);
    }
    assert_eq!(store.of::<User>().purge_newer().await.unwrap(), 600);
    assert_eq!(store.of::<User>().purge_newer().await.unwrap(), 0);
    assert_eq!(Later::get(&store, 1).await.unwrap(), None);
    assert_eq!(User::get(&store, 601).await.unwrap(), Some(user(601)));
    assert!(Older::exists(&store, 602).await.unwrap());
    assert!(guard.still_held().await.unwrap());
    load(&store, 1).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct Older {
    #[cached(key)]
    id: u64,
}

/// The time counts from the stamp, by the server's time.
#[tokio::test]
async fn a_newer_entry_wins_for_ten_minutes_by_default() {
    let clock = Arc::new(ManualClock::new());
    let builder = Store::builder().memory().clock(clock.clone());
    let store = builder.connect().await.unwrap();
    later(1).set(&store).await.unwrap();
    clock.advance(Duration::from_secs(600));
    load(&store, 1).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    clock.advance(Duration::from_millis(1));
    load(&store, 1).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1)));
}
