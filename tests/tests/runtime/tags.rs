//! Tags, over every backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use valkey_runtime::{Cached, Loaded, ManualClock, SetOptions, Source, Stale, Store};

use valkey_tests::resp::Value;

use crate::database::until;
use crate::stores::On;

suite! {
    @alone [crate::tags]
    entries_fall_due_one_by_one
}

suite! {
    crate::tags =>
    an_entry_with_an_invalidated_tag_is_not_there
    a_tag_is_one_across_types
    tags_that_are_computed_or_said_by_the_loader_count_too
    none_is_no_tag
    a_type_is_cleared_at_once
    an_entry_from_before_its_type_had_tags_is_not_read
    a_type_without_tags_respects_those_of_its_entries
    many_are_read_and_loaded_with_their_tags
    a_load_that_is_overtaken_is_not_stored
    a_call_after_an_invalidation_joins_no_earlier_load
    a_caller_that_joined_a_load_is_not_given_a_value_that_was_not_stored
    an_absence_has_the_tags_that_follow_from_the_key
    without_its_epoch_or_the_clock_an_entry_is_a_miss
    an_entry_of_a_stale_tag_is_served_if_its_loader_fails
    an_unchanged_value_has_the_clock_of_its_load
    conditions_go_by_what_tags_leave
    a_touch_keeps_the_epochs
    nothing_is_stored_or_read_while_a_tag_is_guarded
    a_guard_of_a_dead_writer_stays
    a_write_through_is_stored_with_its_tags
    a_write_through_that_invalidates_its_own_tag_stores_nothing
    an_invalidation_after_a_hold_leaves_a_guard
    only_valid_entries_are_scanned_and_counted
    an_entry_loaded_after_a_spread_mark_stays_until_the_next_one
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "user",
    ttl = "5m",
    ttl_absent = "5m",
    clear,
    tag = "org:{org_id}",
    tag = "shard:{id}",
    tag = "users"
)]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
    row: u32,
}

/// A loader that counts, and lets loads end as the test wants.
struct Database {
    loads: AtomicUsize,
    begun: Semaphore,
    gate: Semaphore,
}

const OPEN: usize = 1 << 16;

impl Database {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            loads: AtomicUsize::new(0),
            begun: Semaphore::new(0),
            gate: Semaphore::new(OPEN),
        })
    }

    fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }

    async fn load<T>(&self, value: T) -> Result<T, &'static str> {
        self.loads.fetch_add(1, SeqCst);
        self.begun.add_permits(1);
        let gate = self.gate.acquire().await;
        gate.map(drop).map_err(|_| "closed")?;
        Ok(value)
    }
}

fn user(id: u64, org_id: u64, row: u32) -> User {
    User { id, org_id, row }
}

/// The row that a call is given, having loaded it if need be.
async fn given(store: &Store, db: &Database, row: User) -> u32 {
    let found = User::get_or_load(store, row.id, || db.load(Some(row)));
    found.await.unwrap().unwrap().row
}

/// How long the server keeps a key, in milliseconds.
fn time_left(on: On, key: &str) -> i64 {
    match on.raw(&["PTTL", key]) {
        Value::Integer(left) => left,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn an_entry_with_an_invalidated_tag_is_not_there(on: On) {
    let store = on.store("tags-plain").await;
    let db = Database::new();
    for tag in ["org:42", "users", "shard:1"] {
        assert_eq!(given(&store, &db, user(1, 42, 1)).await, 1, "{on:?} {tag}");
        user(2, 7, 1).set(&store).await.unwrap();
        let loads = db.loads();
        assert_eq!(given(&store, &db, user(1, 42, 2)).await, 1, "{on:?} {tag}");
        assert_eq!(db.loads(), loads, "{on:?} {tag}: a hit");
        assert!(User::exists(&store, 1).await.unwrap(), "{on:?} {tag}");
        assert!(
            store.of::<User>().ttl(1).await.unwrap().is_some(),
            "{on:?} {tag}"
        );
        assert!(store.of::<User>().get_entry(1).await.unwrap().is_some());

        store.invalidate_tag(tag).await.unwrap();
        assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?} {tag}");
        assert_eq!(User::get_many(&store, [1]).await.unwrap(), [None]);
        assert!(!User::exists(&store, 1).await.unwrap(), "{on:?} {tag}");
        assert_eq!(
            store.of::<User>().ttl(1).await.unwrap(),
            None,
            "{on:?} {tag}"
        );
        assert!(store.of::<User>().get_entry(1).await.unwrap().is_none());
        assert_eq!(User::exists(&store, 2).await.unwrap(), tag != "users");

        assert_eq!(given(&store, &db, user(1, 42, 3)).await, 3, "{on:?} {tag}");
        assert_eq!(given(&store, &db, user(1, 42, 4)).await, 3, "{on:?} {tag}");
        assert_eq!(db.loads(), loads + 1, "{on:?} {tag}: it was stored");
        User::del(&store, 1).await.unwrap();
    }
    user(1, 42, 1).set(&store).await.unwrap();
    User::cache_tags().org(41).invalidate(&store).await.unwrap();
    User::cache_tags()
        .shard(2)
        .invalidate(&store)
        .await
        .unwrap();
    assert!(User::exists(&store, 1).await.unwrap(), "{on:?}: others'");
    User::cache_tags().org(42).invalidate(&store).await.unwrap();
    assert!(!User::exists(&store, 1).await.unwrap(), "{on:?}");
    user(1, 42, 1).set(&store).await.unwrap();
    let tags = [User::cache_tags().org(42), User::cache_tags().org(43)];
    store.invalidate_tags(tags).await.unwrap();
    assert!(!User::exists(&store, 1).await.unwrap(), "{on:?}");
    assert_eq!(store.stats().errors_total(), 0, "{on:?}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "invoice", tag = "org:{org_id}")]
struct Invoice {
    #[cached(key)]
    org_id: u64,
    #[cached(key)]
    number: String,
}

pub(crate) async fn a_tag_is_one_across_types(on: On) {
    let store = on.store("tags-across").await;
    let invoice = Invoice {
        org_id: 42,
        number: "a:b".to_owned(),
    };
    invoice.set(&store).await.unwrap();
    user(1, 42, 1).set(&store).await.unwrap();
    assert!(Invoice::exists(&store, (42, "a:b")).await.unwrap());
    Invoice::cache_tags()
        .org(42)
        .invalidate(&store)
        .await
        .unwrap();
    assert!(!Invoice::exists(&store, (42, "a:b")).await.unwrap());
    assert!(!User::exists(&store, 1).await.unwrap(), "{on:?}");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "post", tag = "author:{author}", tags = topics)]
struct Post {
    #[cached(key)]
    id: u64,
    author: Option<String>,
    topics: Vec<String>,
}

fn topics(post: &Post) -> Vec<String> {
    let topics = post.topics.iter();
    topics.map(|topic| format!("topic:{topic}")).collect()
}

fn post(author: Option<&str>, topics: &[&str]) -> Post {
    Post {
        id: 1,
        author: author.map(str::to_owned),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    }
}

pub(crate) async fn tags_that_are_computed_or_said_by_the_loader_count_too(on: On) {
    let store = on.store("tags-computed").await;
    let a_post = || Loaded::value(post(Some("Ada"), &["rust", "cache"])).tags(["front page"]);
    for tag in ["author:Ada", "topic:rust", "topic:cache", "front page"] {
        let loaded = Post::get_or_load(&store, 1, async || Ok::<_, ()>(a_post()));
        assert!(loaded.await.unwrap().is_some(), "{on:?} {tag}");
        assert!(Post::exists(&store, 1).await.unwrap(), "{on:?} {tag}");
        store.invalidate_tag("topic:go").await.unwrap();
        assert!(
            Post::get(&store, 1).await.unwrap().is_some(),
            "{on:?} {tag}"
        );
        store.invalidate_tag(tag).await.unwrap();
        assert!(!Post::exists(&store, 1).await.unwrap(), "{on:?} {tag}");
    }
}

pub(crate) async fn none_is_no_tag(on: On) {
    let store = on.store("tags-none").await;
    post(None, &[]).set(&store).await.unwrap();
    Post::cache_tags()
        .author("Ada")
        .invalidate(&store)
        .await
        .unwrap();
    assert!(Post::exists(&store, 1).await.unwrap(), "{on:?}");
    post(Some("Ada"), &[]).set(&store).await.unwrap();
    Post::cache_tags()
        .author("Ada")
        .invalidate(&store)
        .await
        .unwrap();
    assert!(!Post::exists(&store, 1).await.unwrap(), "{on:?}");
}

pub(crate) async fn a_type_is_cleared_at_once(on: On) {
    let store = on.store("tags-clear").await;
    user(1, 1, 1).set(&store).await.unwrap();
    user(2, 2, 2).set(&store).await.unwrap();
    post(None, &[]).set(&store).await.unwrap();
    store.of::<User>().clear().await.unwrap();
    let found = User::get_many(&store, [1, 2]).await.unwrap();
    assert_eq!(found, [None, None], "{on:?}");
    assert!(Post::exists(&store, 1).await.unwrap(), "{on:?}");
    user(1, 1, 2).set(&store).await.unwrap();
    assert!(User::exists(&store, 1).await.unwrap(), "{on:?}");
}

/// `User` before it had tags.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct Untagged {
    #[cached(key)]
    id: u64,
    org_id: u64,
    row: u32,
}

pub(crate) async fn an_entry_from_before_its_type_had_tags_is_not_read(on: On) {
    let store = on.store("tags-before").await;
    let before = Untagged {
        id: 1,
        org_id: 42,
        row: 1,
    };
    before.set(&store).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?}");
    let db = Database::new();
    assert_eq!(given(&store, &db, user(1, 42, 2)).await, 2, "{on:?}");
    assert_eq!(given(&store, &db, user(1, 42, 3)).await, 2, "{on:?}");
}

pub(crate) async fn a_type_without_tags_respects_those_of_its_entries(on: On) {
    let store = on.store("tags-after").await;
    user(1, 42, 1).set(&store).await.unwrap();
    assert!(Untagged::exists(&store, 1).await.unwrap(), "{on:?}");
    let found = Untagged::get(&store, 1).await.unwrap().unwrap();
    assert_eq!((found.id, found.org_id, found.row), (1, 42, 1), "{on:?}");
    store.invalidate_tag("org:42").await.unwrap();
    assert!(!Untagged::exists(&store, 1).await.unwrap(), "{on:?}");
    assert!(Untagged::get(&store, 1).await.unwrap().is_none(), "{on:?}");
}

pub(crate) async fn many_are_read_and_loaded_with_their_tags(on: On) {
    let store = on.store("tags-many").await;
    let rows = |row| move |id| user(id, id % 3, row);
    let load = |row: u32| {
        let store = store.clone();
        async move {
            let loaded = User::get_or_load_many(&store, 0..10, async |ids: Vec<u64>| {
                let rows = ids.into_iter().map(rows(row));
                Ok::<_, ()>(rows.map(|user| (user.id, user)).collect::<Vec<_>>())
            });
            let loaded = loaded.await.unwrap().into_iter().flatten();
            loaded.map(|user| user.row).collect::<Vec<_>>()
        }
    };
    assert_eq!(load(1).await, [1; 10], "{on:?}");
    assert_eq!(load(2).await, [1; 10], "{on:?}");
    store.invalidate_tag("org:1").await.unwrap();
    let found = User::get_many(&store, 0..10).await.unwrap();
    let there: Vec<u64> = found.iter().flatten().map(|user| user.id).collect();
    assert_eq!(there, [0, 2, 3, 5, 6, 8, 9], "{on:?}");
    assert_eq!(load(3).await, [1, 3, 1, 1, 3, 1, 1, 3, 1, 1], "{on:?}");
    assert_eq!(load(4).await, [1, 3, 1, 1, 3, 1, 1, 3, 1, 1], "{on:?}");

    let all: Vec<User> = (0..10).map(rows(5)).collect();
    User::set_many(&store, &all).await.unwrap();
    assert_eq!(load(6).await, [5; 10], "{on:?}");
    store.invalidate_tag("users").await.unwrap();
    assert_eq!(load(7).await, [7; 10], "{on:?}");
}

/// FusionCache 535: the tag is known only from the row that the load gives.
pub(crate) async fn a_load_that_is_overtaken_is_not_stored(on: On) {
    let store = on.store("tags-overtaken").await;
    for warm in [false, true] {
        if warm {
            // The epoch is known.
            user(3, 42, 1).set(&store).await.unwrap();
        }
        let db = Database::new();
        db.gate.forget_permits(OPEN);
        let load = {
            let (store, db) = (store.clone(), db.clone());
            tokio::spawn(async move { given(&store, &db, user(1, 42, 1)).await })
        };
        db.begun.acquire().await.unwrap().forget();
        store.invalidate_tag("org:42").await.unwrap();
        db.gate.add_permits(OPEN);
        assert_eq!(load.await.unwrap(), 1, "{on:?}: it began before");
        assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?} {warm}");
        assert_eq!(given(&store, &db, user(1, 42, 2)).await, 2, "{on:?} {warm}");
        assert_eq!(given(&store, &db, user(1, 42, 3)).await, 2, "{on:?} {warm}");
        User::del(&store, 1).await.unwrap();
    }
}

pub(crate) async fn a_call_after_an_invalidation_joins_no_earlier_load(on: On) {
    let store = on.store("tags-joined").await;
    let db = Database::new();
    db.gate.forget_permits(OPEN);
    let call = |row| {
        let (store, db) = (store.clone(), db.clone());
        tokio::spawn(async move { given(&store, &db, user(1, 42, row)).await })
    };
    let leader = call(1);
    db.begun.acquire().await.unwrap().forget();
    store.invalidate_tag("org:42").await.unwrap();
    let followers: Vec<_> = (0..20).map(|_| call(2)).collect();
    until("all have missed", async || store.stats().misses() == 21).await;
    db.gate.add_permits(OPEN);
    assert_eq!(leader.await.unwrap(), 1, "{on:?}");
    for follower in followers {
        assert_eq!(follower.await.unwrap(), 2, "{on:?}");
    }
    assert!(db.loads() <= 4, "{on:?}: {} loads", db.loads());
    assert_eq!(given(&store, &db, user(1, 42, 3)).await, 2, "{on:?}");
}

pub(crate) async fn a_caller_that_joined_a_load_is_not_given_a_value_that_was_not_stored(on: On) {
    let store = on.store("tags-unstored").await;
    let db = Database::new();
    db.gate.forget_permits(OPEN);
    let call = |row| {
        let (store, db) = (store.clone(), db.clone());
        tokio::spawn(async move { given(&store, &db, user(1, 42, row)).await })
    };
    let leader = call(1);
    db.begun.acquire().await.unwrap().forget();
    let follower = call(2);
    until("both have missed", async || store.stats().misses() == 2).await;
    // The lease goes, and no epoch tells of it.
    User::del(&store, 1).await.unwrap();
    db.gate.add_permits(OPEN);
    assert_eq!(leader.await.unwrap(), 1, "{on:?}");
    assert_eq!(follower.await.unwrap(), 2, "{on:?}");
    assert_eq!(db.loads(), 2, "{on:?}");
    assert_eq!(given(&store, &db, user(1, 42, 3)).await, 2, "{on:?}");
}

pub(crate) async fn an_absence_has_the_tags_that_follow_from_the_key(on: On) {
    let store = on.store("tags-absence").await;
    let absent = async |store: &Store| {
        let found = store
            .of::<User>()
            .load(1)
            .run(async || Ok::<_, ()>(None::<User>));
        assert!(found.await.unwrap().is_none(), "{on:?}");
    };
    for tag in ["users", "shard:1"] {
        absent(&store).await;
        let before = store.stats().absences();
        absent(&store).await;
        assert_eq!(store.stats().absences(), before + 1, "{on:?} {tag}");
        store.invalidate_tag("org:42").await.unwrap();
        absent(&store).await;
        assert_eq!(store.stats().absences(), before + 2, "{on:?} {tag}");
        store.invalidate_tag(tag).await.unwrap();
        absent(&store).await;
        assert_eq!(store.stats().absences(), before + 2, "{on:?} {tag}");
    }
}

pub(crate) async fn without_its_epoch_or_the_clock_an_entry_is_a_miss(on: On) {
    if on == On::Memory {
        // Nothing evicts a single key there at will; `eviction.rs` does it by the bound.
        return;
    }
    let store = on.store("tags-evicted").await;
    let db = Database::new();
    let key = |name: &str| format!("tags-evicted:::{name}");
    for lost in [
        "tag:org:42",
        "tag:users",
        "tag:shard:1",
        "type:user",
        "clock",
    ] {
        assert_eq!(given(&store, &db, user(1, 42, 1)).await, 1, "{on:?} {lost}");
        let removed = on.raw(&["DEL", &key(lost)]);
        assert_eq!(removed, Value::Integer(1), "{on:?} {lost}");
        let is_clock = lost == "clock";
        assert_eq!(
            User::exists(&store, 1).await.unwrap(),
            is_clock,
            "{on:?} {lost}"
        );
        store.invalidate_tag("org:42").await.unwrap();
        assert!(!User::exists(&store, 1).await.unwrap(), "{on:?} {lost}");
        assert_eq!(given(&store, &db, user(1, 42, 2)).await, 2, "{on:?} {lost}");
        assert!(User::exists(&store, 1).await.unwrap(), "{on:?} {lost}");
        User::del(&store, 1).await.unwrap();
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "kept",
    ttl = "5m",
    stale_if_error = "1h",
    tag = "org:{org_id}"
)]
struct Kept {
    #[cached(key)]
    id: u64,
    org_id: u64,
    row: u32,
}

fn kept(row: u32) -> Kept {
    Kept {
        id: 1,
        org_id: 42,
        row,
    }
}

pub(crate) async fn an_entry_of_a_stale_tag_is_served_if_its_loader_fails(on: On) {
    let store = on.store("tags-soft").await;
    let failing = async || Err::<Option<Kept>, _>("no database");
    kept(1).set(&store).await.unwrap();
    user(1, 42, 1).set(&store).await.unwrap();
    store.mark_tag_stale("org:42").await.unwrap();
    assert_eq!(Kept::get(&store, 1).await.unwrap(), None, "{on:?}");
    assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?}");
    let served = store.of::<Kept>().load(1).entry().run(failing);
    let served = served.await.unwrap().unwrap();
    assert_eq!((served.source(), served.row), (Source::Stale, 1), "{on:?}");

    let loaded = store
        .of::<Kept>()
        .load(1)
        .fresh()
        .run(async || Ok::<_, ()>(Some(kept(2))));
    assert_eq!(loaded.await.unwrap(), Some(kept(2)), "{on:?}");
    assert_eq!(Kept::get(&store, 1).await.unwrap(), Some(kept(2)), "{on:?}");

    // An entry that is a miss does not count as present.
    Kept::cache_tags().org(42).mark_stale(&store).await.unwrap();
    let set = kept(3)
        .set_with(&store, SetOptions::new().if_absent())
        .await;
    assert!(set.unwrap(), "{on:?}");
    assert_eq!(Kept::get(&store, 1).await.unwrap(), Some(kept(3)), "{on:?}");

    // A hard invalidation wins.
    Kept::cache_tags().org(42).mark_stale(&store).await.unwrap();
    Kept::cache_tags().org(42).invalidate(&store).await.unwrap();
    let served = Kept::get_or_load(&store, 1, failing).await;
    assert_eq!(served, Err("no database"), "{on:?}");
}

pub(crate) async fn an_unchanged_value_has_the_clock_of_its_load(on: On) {
    let store = on.store("tags-unchanged").await;
    let revalidated = async |row| {
        let loaded = store
            .of::<Kept>()
            .load(1)
            .revalidate(async |stale: Option<Stale<Kept>>| {
                Ok::<_, ()>(match stale {
                    Some(stale) => stale.unchanged(),
                    None => Loaded::value(kept(row)),
                })
            });
        loaded.await.unwrap().unwrap().row
    };
    kept(1).set(&store).await.unwrap();
    store.mark_tag_stale("org:42").await.unwrap();
    assert_eq!(revalidated(2).await, 1, "{on:?}");
    assert_eq!(Kept::get(&store, 1).await.unwrap(), Some(kept(1)), "{on:?}");
    store.invalidate_tag("org:42").await.unwrap();
    assert_eq!(revalidated(3).await, 3, "{on:?}");
}

pub(crate) async fn conditions_go_by_what_tags_leave(on: On) {
    let store = on.store("tags-conditions").await;
    let set = async |row, options| user(1, 42, row).set_with(&store, options).await.unwrap();
    let row = async || User::get(&store, 1).await.unwrap().map(|user| user.row);
    let (absent, present) = (
        SetOptions::new().if_absent(),
        SetOptions::new().if_present(),
    );
    assert!(!set(1, present).await, "{on:?}");
    assert!(set(1, absent).await, "{on:?}");
    assert!(!set(2, absent).await, "{on:?}");
    assert!(set(2, present).await, "{on:?}");
    assert_eq!(row().await, Some(2), "{on:?}");
    store.invalidate_tag("org:42").await.unwrap();
    assert!(!set(3, present).await, "{on:?}");
    assert!(set(3, absent).await, "{on:?}");
    assert_eq!(row().await, Some(3), "{on:?}");
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "touched", ttl = "1h", jitter = "0%", tag = "touched:{id}")]
struct Touched {
    #[cached(key)]
    id: u64,
}

pub(crate) async fn a_touch_keeps_the_epochs(on: On) {
    if on == On::Memory {
        return;
    }
    let store = on.store("tags-touch").await;
    let options = SetOptions::new().ttl(Duration::from_secs(10));
    Touched { id: 1 }.set_with(&store, options).await.unwrap();
    let epoch = "tags-touch:::tag:touched:1";
    let left = || time_left(on, epoch);
    assert!((60_000..=70_000).contains(&left()), "{on:?}: {}", left());
    assert!(Touched::touch(&store, 1).await.unwrap(), "{on:?}");
    assert!(left() > 3_600_000, "{on:?}: {}", left());
    store.invalidate_tag("touched:1").await.unwrap();
    assert!(left() > 3_600_000, "{on:?}: {}", left());
    assert!(!Touched::touch(&store, 1).await.unwrap(), "{on:?}");
}

pub(crate) async fn nothing_is_stored_or_read_while_a_tag_is_guarded(on: On) {
    let store = on.store("tags-guarded").await;
    let db = Database::new();
    user(1, 42, 1).set(&store).await.unwrap();
    user(2, 42, 1).set(&store).await.unwrap();
    let updated = store
        .of::<User>()
        .update(1)
        .invalidating([User::cache_tags().org(42)])
        .run(async || {
            assert_eq!(User::get(&store, 2).await.unwrap(), None, "{on:?}");
            assert_eq!(given(&store, &db, user(2, 42, 1)).await, 1, "{on:?}");
            assert_eq!(User::get(&store, 2).await.unwrap(), None, "{on:?}");
            user(2, 42, 1).set(&store).await.unwrap();
            assert_eq!(User::get(&store, 2).await.unwrap(), None, "{on:?}");
            Ok::<_, ()>(())
        });
    updated.await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?}");
    assert_eq!(given(&store, &db, user(2, 42, 2)).await, 2, "{on:?}");
    assert_eq!(given(&store, &db, user(2, 42, 3)).await, 2, "{on:?}");

    // On the guard object too.
    let guard = store
        .of::<User>()
        .update(1)
        .invalidating(["org:42"])
        .guard()
        .await
        .unwrap();
    assert!(guard.still_held().await.unwrap(), "{on:?}");
    assert_eq!(given(&store, &db, user(2, 42, 3)).await, 3, "{on:?}");
    assert_eq!(
        given(&store, &db, user(2, 42, 4)).await,
        4,
        "{on:?}: not stored"
    );
    assert!(guard.release().await.unwrap(), "{on:?}");
    assert_eq!(given(&store, &db, user(2, 42, 5)).await, 5, "{on:?}");
    assert_eq!(given(&store, &db, user(2, 42, 6)).await, 5, "{on:?}");
}

pub(crate) async fn a_guard_of_a_dead_writer_stays(on: On) {
    let store = on.store("tags-dead").await;
    let db = Database::new();
    user(2, 42, 1).set(&store).await.unwrap();
    drop(
        store
            .of::<User>()
            .update(1)
            .invalidating(["org:42"])
            .guard()
            .await
            .unwrap(),
    );
    assert_eq!(given(&store, &db, user(2, 42, 2)).await, 2, "{on:?}");
    assert_eq!(given(&store, &db, user(2, 42, 3)).await, 3, "{on:?}");
    if on != On::Memory {
        let left = time_left(on, "tags-dead:::tag:org:42");
        assert!((11_000..=18_000).contains(&left), "{on:?}: {left}");
    }
}

pub(crate) async fn a_write_through_is_stored_with_its_tags(on: On) {
    let store = on.store("tags-through").await;
    let write = async || Ok::<_, ()>(());
    User::write_through(&store, &user(1, 42, 2), write)
        .await
        .unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(user(1, 42, 2)));
    store.invalidate_tag("org:42").await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?}");
    // Overtaken by an invalidation.
    let written = User::write_through(&store, &user(1, 42, 3), async || {
        store.invalidate_tag("org:42").await
    });
    written.await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None, "{on:?}");
}

pub(crate) async fn a_write_through_that_invalidates_its_own_tag_stores_nothing(on: On) {
    let store = on.store("tags-through-own").await;
    let write = async || Ok::<_, ()>(());
    for (tag, stored) in [("org:42", false), ("org:41", true)] {
        user(2, 41, 1).set(&store).await.unwrap();
        let row = user(1, 42, 2);
        store
            .of::<User>()
            .write_through(&row)
            .invalidating([tag])
            .run(write)
            .await
            .unwrap();
        assert_eq!(User::exists(&store, 1).await.unwrap(), stored, "{on:?}");
        assert_eq!(User::exists(&store, 2).await.unwrap(), !stored, "{on:?}");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "lagging", hold = "500ms", tag = "org:{org_id}")]
struct Lagging {
    #[cached(key)]
    id: u64,
    org_id: u64,
}

pub(crate) async fn an_invalidation_after_a_hold_leaves_a_guard(on: On) {
    let store = on.store("tags-hold").await;
    let row = Lagging { id: 1, org_id: 42 };
    row.set(&store).await.unwrap();
    assert!(Lagging::exists(&store, 1).await.unwrap(), "{on:?}");
    Lagging::cache_tags()
        .org(42)
        .invalidate(&store)
        .await
        .unwrap();
    assert!(!Lagging::exists(&store, 1).await.unwrap(), "{on:?}");
    row.set(&store).await.unwrap();
    assert!(!Lagging::exists(&store, 1).await.unwrap(), "{on:?}: held");
    // So does the guarded update of another type.
    let updated = store
        .of::<User>()
        .update(1)
        .invalidating([Lagging::cache_tags().org(43)])
        .run(async || Ok::<_, ()>(()));
    updated.await.unwrap();
    user(1, 43, 1).set(&store).await.unwrap();
    assert!(!User::exists(&store, 1).await.unwrap(), "{on:?}: held");
    if on != On::Memory {
        let left = time_left(on, "tags-hold:::tag:org:42");
        assert!((10_500..=11_500).contains(&left), "{on:?}: {left}");
    }
}

pub(crate) async fn only_valid_entries_are_scanned_and_counted(on: On) {
    let store = on.store("tags-scan").await;
    let users: Vec<User> = (0..100).map(|id| user(id, id % 4, 1)).collect();
    User::set_many(&store, &users).await.unwrap();
    assert_eq!(store.of::<User>().count().await.unwrap(), 100, "{on:?}");
    store.invalidate_tag("org:1").await.unwrap();
    assert_eq!(store.of::<User>().count().await.unwrap(), 75, "{on:?}");
    assert_eq!(store.of::<Untagged>().count().await.unwrap(), 75, "{on:?}");
    let scanned: Vec<(u64, User)> = store.of::<User>().scan().try_collect().await.unwrap();
    assert_eq!(scanned.len(), 75, "{on:?}");
    assert!(scanned.iter().all(|(_, user)| user.org_id != 1), "{on:?}");
    store.of::<User>().purge().await.unwrap();
    assert_eq!(store.of::<User>().count().await.unwrap(), 0, "{on:?}");
    // The epochs are left.
    user(2, 2, 2).set(&store).await.unwrap();
    store.purge().await.unwrap();
    assert_eq!(store.of::<User>().count().await.unwrap(), 0, "{on:?}");
    user(2, 2, 2).set(&store).await.unwrap();
    assert_eq!(store.of::<User>().count().await.unwrap(), 1, "{on:?}");
}

pub(crate) async fn an_entry_loaded_after_a_spread_mark_stays_until_the_next_one(on: On) {
    let store = on.store("tags-spread").await;
    let hour = Duration::from_secs(3600);
    kept(1).set(&store).await.unwrap();
    store.mark_tag_stale_over("org:42", hour).await.unwrap();
    let load = async || Ok::<_, ()>(Some(kept(2)));
    let loaded = store.of::<Kept>().load(1).fresh().run(load).await;
    assert_eq!(loaded, Ok(Some(kept(2))), "{on:?}");
    // It began after that, and is to fall due by the next one only.
    assert_eq!(Kept::get(&store, 1).await.unwrap(), Some(kept(2)), "{on:?}");
    Kept::cache_tags()
        .org(42)
        .mark_stale_over(&store, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(Kept::get(&store, 1).await.unwrap(), None, "{on:?}");
}

/// Each at a moment of its own: about half of them by the middle of the time.
async fn entries_fall_due_one_by_one() {
    const USERS: usize = 1000;
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    let store = store.connect().await.unwrap();
    let users: Vec<User> = (0..USERS as u64).map(|id| user(id, 42, 1)).collect();
    let left = async || {
        let found = User::get_many(&store, 0..USERS as u64).await.unwrap();
        found.iter().flatten().count()
    };
    let spread = Duration::from_secs(100);
    User::set_many(&store, &users).await.unwrap();
    clock.advance(Duration::from_secs(1));
    User::cache_tags()
        .org(42)
        .mark_stale_over(&store, spread)
        .await
        .unwrap();
    assert!(left().await > USERS * 98 / 100, "nearly none at once");
    for (part, least, most) in [(1, 68, 82), (2, 42, 58), (3, 18, 32)] {
        clock.advance(spread / 4);
        let left = left().await * 100 / USERS;
        assert!((least..=most).contains(&left), "{part}: {left} %");
    }
    // Values from before the first mark are stale at once. Values stored since then become stale one
    // by one.
    User::set_many(&store, &users[..USERS / 2]).await.unwrap();
    clock.advance(Duration::from_secs(1));
    User::cache_tags()
        .org(42)
        .mark_stale_over(&store, spread)
        .await
        .unwrap();
    let now = left().await;
    assert!((USERS * 48 / 100..=USERS / 2).contains(&now), "{now}");
    clock.advance(spread);
    assert_eq!(left().await, 0);
    // Values that are stored after that are fresh.
    User::set_many(&store, &users).await.unwrap();
    assert_eq!(left().await, USERS);
}
