//! All entries of a type: scan, count and purge, over every backend.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use valkey_runtime::{
    BestEffort, Cached, CachedType, ErrorKind, KeyPart, Purged, ScanOptions, SetOptions, Store, Ttl,
};
use valkey_tests::resp::Value;
use valkey_tests::{Proxy, Server};

use crate::database::{Database, PATIENCE, User, until, user};
use crate::stores::{CLUSTER, On};

suite! {
    crate::scan =>
    three_thousand_are_counted_scanned_and_purged
    nothing_is_a_scan_of_nothing
    a_scan_is_bounded
    only_what_get_would_give_is_there
    similar_prefixes_are_others
    generic_types_are_others
    aliases_go_with_their_type
    without_a_namespace_no_namespace_is_touched
    globs_in_a_prefix_stand_for_themselves
    a_namespace_is_purged_and_no_other
    lists_and_strangers_are_left_alone
    guards_stay
    a_purge_leaves_the_guard_that_a_deletion_does
    a_load_under_way_when_a_purge_begins_is_not_stored
    entries_that_come_and_go_are_no_trouble
    keys_are_given_as_they_were_written
    keys_that_no_look_up_asks_for_are_not_given
    corrupt_entries_are_skipped_or_given_as_errors
    a_scan_is_no_use_of_what_it_gives
    a_store_that_is_off_has_nothing_and_purges
    a_closed_store_says_so
}

async fn fill(store: &Store, ids: std::ops::Range<u64>) {
    let users: Vec<_> = ids.map(|id| User { id, row: id as u32 }).collect();
    User::set_many(store, &users).await.unwrap();
}

async fn ids(store: &Store) -> Vec<u64> {
    let found: Vec<(u64, User)> = store.of::<User>().scan().try_collect().await.unwrap();
    assert!(found.iter().all(|(id, user)| *id == user.id));
    let mut ids: Vec<_> = found.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

async fn three_thousand_are_counted_scanned_and_purged(on: On) {
    let store = on.store("scan-3000").await;
    fill(&store, 0..3000).await;
    assert_eq!(store.of::<User>().count().await.unwrap(), 3000);
    assert_eq!(ids(&store).await, (0..3000).collect::<Vec<_>>());
    let mut said = Vec::new();
    let removed = store
        .of::<User>()
        .purge_with(|purged| said.push(purged))
        .await;
    assert_eq!(removed.unwrap(), 3000);
    let counts: Vec<_> = said.iter().map(Purged::values).collect();
    assert!(counts.len() >= 3 && counts.is_sorted(), "{counts:?}");
    let last = said.last().unwrap();
    assert_eq!((last.keys(), last.values()), (3000, 3000));
    assert_eq!(store.of::<User>().count().await.unwrap(), 0);
    assert_eq!(User::get(&store, 7).await.unwrap(), None);
}

async fn nothing_is_a_scan_of_nothing(on: On) {
    let store = on.store("scan-nothing").await;
    assert_eq!(store.of::<User>().count().await.unwrap(), 0);
    assert!(store.of::<User>().scan().next().await.is_none());
    assert_eq!(store.of::<User>().purge().await.unwrap(), 0);
}

async fn a_scan_is_bounded(on: On) {
    let store = on.store("scan-bounded").await;
    fill(&store, 0..100).await;
    for (page, limit) in [(1, 5), (7, 50), (1000, 99), (3, usize::MAX), (0, 0)] {
        let options = ScanOptions::new().page(page).limit(limit);
        let scan = store.of::<User>().scan_with(options);
        pin_mut!(scan);
        // As a `Stream`, by the methods that all of them have.
        let found = StreamExt::map(scan, |found| found.unwrap().0);
        let found: Vec<_> = found.collect().await;
        assert_eq!(found.len(), limit.min(100), "{page} {limit}");
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "thing",
    version = 2,
    ttl_absent = "1m",
    stale_if_error = "1h"
)]
struct Thing {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "thing", version = 1)]
struct OldThing {
    #[cached(key)]
    id: u64,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "thing", version = 3)]
struct NewThing {
    #[cached(key)]
    id: u64,
}

async fn only_what_get_would_give_is_there(on: On) {
    let store = on.store("scan-own").await;
    for id in 0..3 {
        Thing { id }.set(&store).await.unwrap();
    }
    Thing { id: 10 }.set(&store).await.unwrap();
    assert!(store.of::<Thing>().mark_stale(10).await.unwrap());
    let none = Thing::get_or_load(&store, 11, async || Ok::<_, ()>(None)).await;
    assert_eq!(none, Ok(None));
    OldThing { id: 12 }.set(&store).await.unwrap();
    NewThing { id: 13 }.set(&store).await.unwrap();
    let guard = store.of::<Thing>().update(14).guard().await.unwrap();
    let begun = Arc::new(Notify::new());
    let lease = tokio::spawn({
        let (store, begun) = (store.clone(), begun.clone());
        let never = async move || {
            begun.notify_one();
            std::future::pending::<Result<Thing, ()>>().await
        };
        async move { Thing::get_or_load(&store, 15, never).await }
    });
    begun.notified().await;
    let short = SetOptions::new().ttl(Duration::from_millis(1));
    Thing { id: 16 }.set_with(&store, short).await.unwrap();
    until("it has run out", async || {
        !Thing::exists(&store, 16).await.unwrap()
    })
    .await;

    let mut found: Vec<(u64, Thing)> = store.of::<Thing>().scan().try_collect().await.unwrap();
    found.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(found, [0, 1, 2].map(|id| (id, Thing { id })));
    assert_eq!(store.of::<Thing>().count().await.unwrap(), 3);
    assert_eq!(store.of::<OldThing>().count().await.unwrap(), 1);
    assert_eq!(store.of::<NewThing>().count().await.unwrap(), 1);
    for id in 0..20 {
        let there = id < 3;
        assert_eq!(Thing::exists(&store, id).await.unwrap(), there, "{id}");
        assert_eq!(
            store.of::<Thing>().ttl(id).await.unwrap().is_some(),
            there,
            "{id}"
        );
    }

    // All of it goes, as by `del`, but for the guard.
    let removed = store.of::<Thing>().purge().await.unwrap();
    assert_eq!(removed, 5, "the values of all versions");
    assert_eq!(store.of::<NewThing>().count().await.unwrap(), 0);
    if on != On::Memory {
        for id in [0, 1, 2, 10, 11, 12, 13, 15, 16] {
            let key = format!("scan-own:thing:{id}");
            assert_eq!(on.raw(&["EXISTS", &key]), Value::Integer(0), "{id}");
        }
        assert_eq!(on.raw(&["EXISTS", "scan-own:thing:14"]), Value::Integer(1));
    }
    lease.abort();
    assert!(guard.release().await.unwrap());
}

/// A type whose prefix no annotation would take.
macro_rules! by_hand {
    ($($name:ident $prefix:literal)*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        struct $name(u64);

        impl CachedType for $name {
            const PREFIX: &'static str = $prefix;
            const TTL: Ttl = Ttl::Never;
            const VERSION: u16 = 1;
            type Guarding = BestEffort;
            type Tags = ();
            type OwnedKey = u64;
            type Key<'k> = u64;
        }
    )*};
}

by_hand! {
    Star "user*" Question "us?r" Class "[u]ser" Range "user[0-9]" Escape "user\\" Not "[^x]"
    Users "users" Use "use" Upper "USER"
}

/// One entry of each, whose keys have something in common.
async fn fill_all(store: &Store) {
    macro_rules! set { ($($of:ident)*) => { $($of(7).set_at(store, 7).await.unwrap();)* } }
    user(1).set(store).await.unwrap();
    set! { Star Question Class Range Escape Not Users Use Upper }
}

/// How many of each there are.
async fn all(store: &Store) -> [u64; 10] {
    macro_rules! counts { ($($of:ident)*) => { [$(store.of::<$of>().count().await.unwrap()),*] } }
    counts! { User Star Question Class Range Escape Not Users Use Upper }
}

async fn similar_prefixes_are_others(on: On) {
    let store = on.store("scan-similar").await;
    fill_all(&store).await;
    assert_eq!(all(&store).await, [1; 10]);
    assert_eq!(store.of::<User>().purge().await.unwrap(), 1);
    assert_eq!(all(&store).await, [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(store.of::<Use>().purge().await.unwrap(), 1);
    assert_eq!(all(&store).await, [0, 1, 1, 1, 1, 1, 1, 1, 0, 1]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", key = u64)]
#[serde(bound = "")]
struct Page<T: Cached> {
    items: Vec<u64>,
    #[serde(skip)]
    of: PhantomData<T>,
}

async fn generic_types_are_others(on: On) {
    let store = on.store("scan-generic").await;
    let items = vec![1, 2];
    let of = PhantomData::<User>;
    Page { items, of }.set_at(&store, 1).await.unwrap();
    let items = vec![3];
    let of = PhantomData::<Thing>;
    Page { items, of }.set_at(&store, 1).await.unwrap();
    user(1).set(&store).await.unwrap();
    let (id, page) = store
        .of::<Page<User>>()
        .scan()
        .next()
        .await
        .unwrap()
        .unwrap();
    assert_eq!((id, page.items), (1, vec![1, 2]));
    assert_eq!(store.of::<Page<User>>().purge().await.unwrap(), 1);
    assert_eq!(store.of::<Page<User>>().count().await.unwrap(), 0);
    assert_eq!(store.of::<Page<Thing>>().count().await.unwrap(), 1);
    assert_eq!(store.of::<User>().count().await.unwrap(), 1);
}

/// A type without a prefix has its keys where aliases are: `namespace::prefix:name:value`.
#[derive(Debug, Serialize, Deserialize)]
struct Alias(u64);

impl CachedType for Alias {
    const PREFIX: &'static str = "";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 1;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = (String, String, String);
    type Key<'k> = (&'k str, &'k str, &'k str);
}

by_hand! { Percent "100%" }

async fn aliases_go_with_their_type(on: On) {
    let store = on.store("scan-alias").await;
    let aliases = ["user", "users", "us", "100%", "superuser"];
    // The keys of a namespace's own begin with two colons.
    let own = [("", "", "clock"), ("", "user", "epoch")];
    for prefix in aliases {
        let key = (prefix, "email", "user:*@example.org");
        Alias(1).set_at(&store, key).await.unwrap();
    }
    for key in own {
        Alias(1).set_at(&store, key).await.unwrap();
    }
    fill_all(&store).await;
    Percent(7).set_at(&store, 7).await.unwrap();
    assert_eq!(all(&store).await, [1; 10]);
    assert_eq!(ids(&store).await, [1]);
    let there = async |prefix| {
        let key = (prefix, "email", "user:*@example.org");
        Alias::exists(&store, key).await.unwrap()
    };
    let mut last = Purged::default();
    let removed = store.of::<User>().purge_with(|purged| last = purged).await;
    assert_eq!((removed.unwrap(), last.values(), last.keys()), (1, 1, 2));
    assert_eq!(all(&store).await, [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    for prefix in aliases {
        assert_eq!(there(prefix).await, prefix != "user", "{prefix}");
    }
    assert_eq!(store.of::<Percent>().purge().await.unwrap(), 1);
    for prefix in aliases {
        let gone = ["user", "100%"].contains(&prefix);
        assert_eq!(there(prefix).await, !gone, "{prefix}");
    }

    // No type of the derive's is without a prefix.
    for error in [
        store.of::<Alias>().count().await.unwrap_err(),
        store.of::<Alias>().purge().await.unwrap_err(),
        store
            .of::<Alias>()
            .scan()
            .next()
            .await
            .unwrap()
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    let removed = store.purge_with(|purged| last = purged).await.unwrap();
    assert_eq!((removed, last.values(), last.keys()), (9, 9, 12));
    for prefix in aliases {
        assert!(!there(prefix).await, "{prefix}");
    }
    for key in own {
        assert!(Alias::exists(&store, key).await.unwrap(), "{key:?}");
    }
}

by_hand! { Lonely "scan-lonely" }

async fn without_a_namespace_no_namespace_is_touched(on: On) {
    let nowhere = on.builder().connect().await.unwrap();
    let store = on.store("scan-nowhere").await;
    let alias = ("scan-lonely", "email", "x");
    for store in [&nowhere, &store] {
        Lonely(7).set_at(store, 7).await.unwrap();
        Alias(7).set_at(store, alias).await.unwrap();
    }
    assert_eq!(nowhere.of::<Lonely>().count().await.unwrap(), 1);
    let found = nowhere.of::<Lonely>().scan().try_collect::<Vec<_>>().await;
    assert_eq!(found.unwrap().len(), 1);
    assert_eq!(nowhere.of::<Lonely>().purge().await.unwrap(), 1);
    assert!(!Alias::exists(&nowhere, alias).await.unwrap());
    assert_eq!(store.of::<Lonely>().count().await.unwrap(), 1);
    assert!(Alias::exists(&store, alias).await.unwrap());
}

async fn globs_in_a_prefix_stand_for_themselves(on: On) {
    let store = on.store("scan-globs").await;
    macro_rules! purged {
        ($($of:ident $at:literal)*) => {$(
            fill_all(&store).await;
            assert_eq!(store.of::<$of>().scan().next().await.unwrap().unwrap().0, 7);
            assert_eq!(store.of::<$of>().purge().await.unwrap(), 1, stringify!($of));
            let mut left = [1; 10];
            left[$at] = 0;
            assert_eq!(all(&store).await, left, stringify!($of));
        )*};
    }
    purged! { Star 1 Question 2 Class 3 Range 4 Escape 5 Not 6 }
}

async fn a_namespace_is_purged_and_no_other(on: On) {
    // No namespace holds a glob.
    for namespace in ["a*", "[x]", "?", "a\\", "a:b"] {
        let refused = on.builder().namespace(namespace).connect().await;
        assert_eq!(
            refused.unwrap_err().kind(),
            ErrorKind::Config,
            "{namespace}"
        );
    }
    let nowhere = on.builder().connect().await.unwrap();
    let mut asked = false;
    let error = nowhere.purge_with(|_| asked = true).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.operation()),
        (ErrorKind::Config, Some("purge"))
    );
    assert!(!asked && nowhere.stats().errors(ErrorKind::Config) == 1);

    let store = on.store("scan-ns").await;
    let others = [
        on.store("scan-ns2").await,
        on.store("scan-n").await,
        on.store("SCAN-NS").await,
        nowhere,
    ];
    for other in &others {
        Use(4711).set_at(other, 4711).await.unwrap();
    }
    fill_all(&store).await;
    let guard = store.of::<User>().update(99).guard().await.unwrap();
    let mut said = Vec::new();
    let removed = store.purge_with(|purged| said.push(purged)).await.unwrap();
    assert_eq!(removed, 10);
    let last = said.last().unwrap();
    assert_eq!((last.keys(), last.values()), (11, 10));
    assert_eq!(all(&store).await, [0; 10]);
    assert!(guard.release().await.unwrap(), "guards stay");
    for other in &others {
        assert!(Use::exists(other, 4711).await.unwrap(), "{other:?}");
        Use::del(other, 4711).await.unwrap();
    }
}

async fn lists_and_strangers_are_left_alone(on: On) {
    if on == On::Memory {
        return;
    }
    let store = on.store("scan-strangers").await;
    fill(&store, 0..10).await;
    let strange = [
        "scan-strangers:user",
        "scan-strangers:users:1",
        "scan-strangers-user:1",
        "Xscan-strangers:user:1",
        "scan-strangersXuser:1",
        "scan-strangers:use:r:1",
    ];
    for key in strange {
        on.raw(&["SET", key, "a stranger's"]);
    }
    for key in ["scan-strangers:user:3", "scan-strangers:user:list"] {
        on.raw(&["DEL", key]);
        on.raw(&["RPUSH", key, "a", "b"]);
    }
    assert_eq!(store.of::<User>().count().await.unwrap(), 9);
    assert_eq!(ids(&store).await.len(), 9);
    assert_eq!(store.of::<User>().purge().await.unwrap(), 9);
    for key in strange {
        let value = Value::Bulk(b"a stranger's".to_vec());
        assert_eq!(on.raw(&["GET", key]), value, "{key}");
    }
    for key in ["scan-strangers:user:3", "scan-strangers:user:list"] {
        assert_eq!(on.raw(&["LLEN", key]), Value::Integer(2), "{key}");
    }
    assert_eq!(store.purge().await.unwrap(), 0, "no values of ours");
    assert_eq!(on.raw(&["EXISTS", strange[2]]), Value::Integer(1));
}

async fn guards_stay(on: On) {
    let store = on.store("scan-guards").await;
    let guard = store.of::<User>().update(1).guard().await.unwrap();
    assert_eq!(store.of::<User>().purge().await.unwrap(), 0);
    assert!(guard.still_held().await.unwrap());
    let load = async || Ok::<_, ()>(user(1));
    User::get_or_load(&store, 1, load).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None, "not stored");
    assert!(guard.release().await.unwrap());
    // As after a `del`, a writer who is under way stores nothing.
    let row = user(2);
    let write = async || {
        store.of::<User>().purge().await.unwrap();
        Ok::<_, ()>(())
    };
    User::write_through(&store, &row, write).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "lagging", hold = "30s")]
struct Lagging {
    #[cached(key)]
    id: u64,
}

async fn a_purge_leaves_the_guard_that_a_deletion_does(on: On) {
    let store = on.store("scan-hold").await;
    Lagging { id: 1 }.set(&store).await.unwrap();
    assert_eq!(store.of::<Lagging>().purge().await.unwrap(), 1);
    for (id, stored) in [(1, false), (2, true)] {
        let load = async || Ok::<_, ()>(Lagging { id });
        Lagging::get_or_load(&store, id, load).await.unwrap();
        assert_eq!(Lagging::exists(&store, id).await.unwrap(), stored, "{id}");
    }
}

async fn a_load_under_way_when_a_purge_begins_is_not_stored(on: On) {
    let store = on.store("scan-loads").await;
    let database = Database::closed(1);
    let calls = database.calls(&store, 1);
    database.begun(1).await;
    store.of::<User>().purge().await.unwrap();
    database.let_go();
    crate::database::all_given(calls, 1).await;
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.stats().refused_fills(), 1);
}

async fn entries_that_come_and_go_are_no_trouble(on: On) {
    let store = on.store("scan-come-and-go").await;
    fill(&store, 0..1000).await;
    let mut scan = store.of::<User>().scan_with(ScanOptions::new().page(20));
    let mut found = BTreeSet::new();
    let mut step = 0;
    while let Some(item) = scan.next().await {
        let (id, user) = item.unwrap();
        assert_eq!(u64::from(user.row), id);
        found.insert(id);
        if step % 50 == 0 && step < 1000 {
            User::del_many(&store, 500 + step / 2..500 + step / 2 + 25)
                .await
                .unwrap();
            fill(&store, 2000 + step..2000 + step + 50).await;
        }
        step += 1;
    }
    // Those that were there all the while.
    assert!((0..500).all(|id| found.contains(&id)), "{}", found.len());
    let left: BTreeSet<_> = ids(&store).await.into_iter().collect();
    assert!((0..500).all(|id| left.contains(&id)));
    let most = left.len() as u64;
    assert_eq!(store.of::<User>().count().await.unwrap(), most);
}

#[derive(Serialize, Deserialize, KeyPart, Clone, PartialEq, Debug)]
struct Org(String);

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
enum Color {
    Red,
}

impl Color {
    fn name(&self) -> &'static str {
        match self {
            Color::Red => "red:ish",
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "member")]
struct Member {
    #[cached(key(hash_tag))]
    org: Org,
    #[cached(key)]
    id: i32,
    #[cached(key(with = "Color::name"))]
    color: Color,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "single")]
struct Single(u8);

async fn keys_are_given_as_they_were_written(on: On) {
    let store = on.store("scan-keys").await;
    let member = |org: &str, id| Member {
        org: Org(org.into()),
        id,
        color: Color::Red,
    };
    let orgs = ["a", "", "a:b", "{x}", "100%", "ß\u{0}\n*?[x]\\"];
    for (id, org) in orgs.into_iter().enumerate() {
        member(org, -(id as i32)).set(&store).await.unwrap();
    }
    let found: Vec<(_, Member)> = store.of::<Member>().scan().try_collect().await.unwrap();
    assert_eq!(found.len(), orgs.len());
    for ((org, id, color), member) in found {
        assert_eq!((org, id), (member.org, member.id));
        assert_eq!(color, "red:ish", "what a function wrote is its text");
    }
    Single(5).set(&store).await.unwrap();
    let ((), single) = store.of::<Single>().scan().next().await.unwrap().unwrap();
    assert_eq!(single, Single(5));
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", key = String)]
struct Named {
    row: u32,
}

async fn keys_that_no_look_up_asks_for_are_not_given(on: On) {
    let store = on.store("scan-no-keys").await;
    for key in ["007", "+7", "x", "7:8"] {
        let named = Named { row: 1 };
        named.set_at(&store, key).await.unwrap();
    }
    let named: BTreeMap<String, Named> = store.of::<Named>().scan().try_collect().await.unwrap();
    let keys: Vec<_> = named.into_keys().collect();
    assert_eq!(keys, ["+7", "007", "7:8", "x"]);
    // They are no numbers.
    assert!(store.of::<User>().scan().next().await.is_none());
    assert_eq!(
        store.of::<User>().purge().await.unwrap(),
        4,
        "gone all the same"
    );
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", on_corrupt = "error", keep_corrupt)]
struct Strict {
    #[cached(key)]
    id: u64,
    row: u32,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
struct Impostor {
    #[cached(key)]
    id: u64,
    row: String,
}

async fn corrupt_entries_are_skipped_or_given_as_errors(on: On) {
    let store = on.store("scan-corrupt").await;
    fill(&store, 0..10).await;
    for id in [3, 4] {
        let row = "not a number".into();
        Impostor { id, row }.set(&store).await.unwrap();
    }
    let mut errors = Vec::new();
    let (mut scan, mut values) = (store.of::<Strict>().scan(), 0);
    while let Some(found) = scan.next().await {
        match found {
            Ok(_) => values += 1,
            Err(error) => errors.push(error),
        }
    }
    assert_eq!((values, errors.len()), (8, 2));
    for error in errors {
        assert_eq!(
            (error.kind(), error.operation()),
            (ErrorKind::Corrupt, Some("scan"))
        );
        let key = error.key().unwrap();
        assert!(key.ends_with("user:3") || key.ends_with("user:4"), "{key}");
    }
    assert_eq!(store.stats().corrupt(), 2);
    assert_eq!(
        store.of::<User>().count().await.unwrap(),
        10,
        "as far as headers tell"
    );
    // Where the type does not keep them, a scan takes them away as a read does.
    assert_eq!(ids(&store).await, [0, 1, 2, 5, 6, 7, 8, 9]);
    assert_eq!(store.of::<User>().count().await.unwrap(), 8);
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "sliding", ttl = "1m", jitter = "0%", sliding, max_age = "1h")]
struct Sliding {
    #[cached(key)]
    id: u64,
}

async fn a_scan_is_no_use_of_what_it_gives(on: On) {
    let store = on.store("scan-no-use").await;
    let short = SetOptions::new().ttl(Duration::from_secs(20));
    Sliding { id: 1 }.set_with(&store, short).await.unwrap();
    let found: Vec<_> = store.of::<Sliding>().scan().try_collect().await.unwrap();
    assert_eq!(
        (found.len(), store.of::<Sliding>().count().await.unwrap()),
        (1, 1)
    );
    for _ in 0..5 {
        store.ping().await.unwrap();
        tokio::task::yield_now().await;
    }
    let left = store.of::<Sliding>().ttl(1).await.unwrap().unwrap();
    assert!(
        matches!(left, Ttl::After(left) if left <= Duration::from_secs(20)),
        "{left}"
    );
    let stats = store.stats();
    assert_eq!((stats.hits(), stats.misses()), (0, 0));
}

async fn a_store_that_is_off_has_nothing_and_purges(on: On) {
    let store = on.store("scan-off").await;
    fill(&store, 0..3).await;
    store.set_enabled(false);
    assert_eq!(store.of::<User>().count().await.unwrap(), 0);
    assert!(store.of::<User>().scan().next().await.is_none());
    assert_eq!(store.of::<User>().purge().await.unwrap(), 3);
    store.set_enabled(true);
    assert_eq!(store.of::<User>().count().await.unwrap(), 0);
}

async fn a_closed_store_says_so(on: On) {
    let store = on.store("scan-closed").await;
    fill(&store, 0..500).await;
    let options = ScanOptions::new().page(50);
    let mut scan = store.of::<User>().scan_with(options);
    scan.next().await.unwrap().unwrap();
    store.close().await;
    let mut last = None;
    while let Some(found) = scan.next().await {
        last = Some(found);
    }
    assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(scan.next().await.is_none(), "over");
    for error in [
        store.of::<User>().count().await.unwrap_err(),
        store.of::<User>().purge().await.unwrap_err(),
        store.purge().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

async fn patient(url: &str) -> Store {
    let builder = Store::builder().url(url).namespace("own");
    builder.command_timeout(PATIENCE).connect().await.unwrap()
}

#[tokio::test]
async fn no_value_is_transferred_to_be_counted() {
    let server = Server::plain();
    let store = patient(&server.url()).await;
    fill(&store, 0..3000).await;
    server.reset_command_counts();
    assert_eq!(store.of::<User>().count().await.unwrap(), 3000);
    let counts = server.command_counts();
    let of = |name| counts.get(name).copied().unwrap_or(0);
    assert_eq!(
        (of("getrange"), of("get"), of("mget"), of("keys")),
        (3000, 0, 0, 0)
    );
    assert!((2..=10).contains(&of("scan")), "incremental: {counts:?}");
}

#[tokio::test]
async fn a_scan_reads_by_the_page_and_a_dropped_one_no_more() {
    let server = Server::plain();
    let store = patient(&server.url()).await;
    fill(&store, 0..3000).await;
    server.reset_command_counts();
    let asked = || (server.command_count("scan"), server.command_count("mget"));
    let mut scan = store.of::<User>().scan_with(ScanOptions::new().page(100));
    assert_eq!(asked(), (0, 0), "not before it is polled");
    for _ in 0..10 {
        scan.next().await.unwrap().unwrap();
    }
    let few = asked();
    assert!(few.0 <= 3 && few.1 <= 3, "{few:?}");
    drop(scan);
    store.ping().await.unwrap();
    assert_eq!(asked(), few);
    let all: Vec<_> = store.of::<User>().scan().try_collect().await.unwrap();
    assert_eq!(all.len(), 3000);
    let (scans, reads) = asked();
    assert!(
        scans - few.0 >= 12 && reads - few.1 <= 30,
        "{scans} {reads}"
    );
    assert_eq!(server.command_count("get"), 0);
}

#[tokio::test]
async fn all_nodes_of_a_cluster_are_asked() {
    let store = On::Cluster.store("scan-nodes").await;
    fill(&store, 0..300).await;
    let scans = || {
        let nodes = CLUSTER.nodes().iter();
        nodes
            .map(|node| node.command_count("scan"))
            .collect::<Vec<_>>()
    };
    let before = scans();
    assert_eq!(store.of::<User>().count().await.unwrap(), 300);
    let after = scans();
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before < after)
    );
    for node in CLUSTER.nodes() {
        let keys = node.command(&["KEYS", "scan-nodes:user:*"]);
        assert!(matches!(keys, Value::Array(keys) if !keys.is_empty()));
    }
}

/// A key that moves from a node that was not asked yet to one that was.
#[tokio::test]
async fn keys_whose_slot_moves_meanwhile_are_found() {
    const EACH: i32 = 50;
    let cluster = Server::cluster();
    let nodes = cluster.nodes();
    let store = Store::builder()
        .url(&cluster.url())
        .command_timeout(PATIENCE);
    let store = store.connect().await.unwrap();
    let slot = |org: &str| {
        let Value::Integer(slot) = nodes[0].command(&["CLUSTER", "KEYSLOT", &format!("{{{org}}}")])
        else {
            panic!("no slot");
        };
        slot
    };
    // An organisation on each node.
    let orgs = [0..5461, 5461..10923, 10923..16384].map(|slots| {
        let mut names = (0..).map(|n| format!("org{n}"));
        names.find(|org| slots.contains(&slot(org))).unwrap()
    });
    for org in &orgs {
        for id in 0..EACH {
            let (org, color) = (Org(org.clone()), Color::Red);
            Member { org, id, color }.set(&store).await.unwrap();
        }
    }
    nodes.iter().for_each(Server::reset_command_counts);
    let mut scan = store
        .of::<Member>()
        .scan_with(ScanOptions::new().page(1000));
    let mut found = BTreeSet::new();
    let (first, _) = scan.next().await.unwrap().unwrap();
    found.insert((first.0.0, first.1));
    let asked: Vec<_> = (0..3)
        .filter(|at| nodes[*at].command_count("scan") > 0)
        .collect();
    let [to] = asked[..] else {
        panic!("{asked:?} were asked")
    };
    let from = (to + 1) % 3;
    move_slot(nodes, &slot(&orgs[from]).to_string(), from, to);

    while let Some(item) = scan.next().await {
        let ((org, id, _), _) = item.unwrap();
        found.insert((org.0, id));
    }
    assert_eq!(found.len(), 3 * EACH as usize, "from {from} to {to}");
    assert_eq!(store.of::<Member>().count().await.unwrap(), 3 * EACH as u64);
    assert_eq!(store.of::<Member>().purge().await.unwrap(), 3 * EACH as u64);
}

fn move_slot(nodes: &[Server], slot: &str, from: usize, to: usize) {
    let ok = |node: &Server, command: &[&str]| {
        let answer = node.command(command);
        assert!(
            matches!(answer, Value::Simple(_)),
            "{command:?}: {answer:?}"
        );
    };
    let id = |at: usize| nodes[at].command(&["CLUSTER", "MYID"]).text().unwrap();
    let (from_id, to_id) = (id(from), id(to));
    ok(
        &nodes[to],
        &["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id],
    );
    ok(
        &nodes[from],
        &["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id],
    );
    let Value::Array(keys) = nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", slot, "1000"])
    else {
        panic!("no keys");
    };
    let port = nodes[to].port().to_string();
    for key in keys {
        let key = key.text().unwrap();
        ok(
            &nodes[from],
            &["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"],
        );
    }
    for node in [to, from, 3 - to - from] {
        ok(&nodes[node], &["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
    }
}

/// How often the server was given something to read.
fn reads(server: &Server) -> u64 {
    let stats = server.command(&["INFO", "stats"]).text().unwrap();
    let mut lines = stats.lines();
    let reads = lines.find_map(|line| line.strip_prefix("total_reads_processed:"));
    reads.unwrap().parse().unwrap()
}

#[tokio::test]
async fn thousands_of_keys_cost_few_round_trips() {
    let server = Server::plain();
    let store = patient(&server.url()).await;
    fill(&store, 0..5000).await;
    let before = reads(&server);
    assert_eq!(store.of::<User>().count().await.unwrap(), 5000);
    assert_eq!(ids(&store).await.len(), 5000);
    let between = reads(&server);
    assert_eq!(store.of::<User>().purge().await.unwrap(), 5000);
    let costs = (between - before, reads(&server) - between);
    assert!(costs.0 <= 200 && costs.1 <= 200, "{costs:?}");
}

#[tokio::test]
async fn a_silent_server_is_an_error_in_time() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = Store::builder().url(&proxy.url()).namespace("own");
    let store = store.command_timeout(Duration::from_secs(2));
    let store = store.connect().await.unwrap();
    fill(&store, 0..1000).await;
    let mut scan = store.of::<User>().scan_with(ScanOptions::new().page(50));
    scan.next().await.unwrap().unwrap();
    proxy.stall();
    let mut last = None;
    while let Some(found) = scan.next().await {
        last = Some(found);
    }
    let error = last.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    store.of::<User>().count().await.unwrap_err();
    store.purge().await.unwrap_err();
}

/// A restarted node of a cluster has the keys of a slot in another order.
#[tokio::test]
async fn a_restarted_node_is_scanned_again() {
    let cluster = Server::cluster();
    let store = Store::builder().url(&cluster.url());
    let store = store.command_timeout(PATIENCE).connect().await.unwrap();
    let members = (0..900).map(|id| Member {
        org: Org("one".into()),
        id,
        color: Color::Red,
    });
    Member::set_many(&store, &members.collect::<Vec<_>>())
        .await
        .unwrap();
    let has_keys = |node: &&Server| node.command(&["DBSIZE"]) == Value::Integer(900);
    let node = cluster.nodes().iter().find(has_keys).unwrap();
    let mut scan = store.of::<Member>().scan_with(ScanOptions::new().page(20));
    let mut found = BTreeSet::new();
    for _ in 0..300 {
        let ((_, id, _), _) = scan.next().await.unwrap().unwrap();
        found.insert(id);
    }
    node.command(&["SAVE"]);
    node.restart();
    cluster.wait_until_ok();
    while let Some(item) = scan.next().await {
        let ((_, id, _), _) = item.unwrap();
        found.insert(id);
    }
    assert_eq!(found.len(), 900);
}

/// A user needs the right to `INFO` to notice that a node was restarted. A scan without that right
/// works too.
#[tokio::test]
async fn a_user_who_may_not_ask_scans_a_cluster() {
    let cluster = Server::cluster();
    for node in cluster.nodes() {
        node.command(&["ACL", "SETUSER", "default", "-info"]);
    }
    let store = Store::builder().url(&cluster.url());
    let store = store.command_timeout(PATIENCE).connect().await.unwrap();
    fill(&store, 0..100).await;
    assert_eq!(ids(&store).await.len(), 100);
    assert_eq!(store.of::<User>().purge().await.unwrap(), 100);
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = patient(&proxy.url()).await;
    fill(&store, 0..1000).await;
    let options = ScanOptions::new().page(50);
    let mut scan = store.of::<User>().scan_with(options);
    scan.next().await.unwrap().unwrap();
    proxy.cut();
    // Another connection may be another server's, of which the scan would not have seen all.
    until("connected again", async || store.ping().await.is_ok()).await;
    let mut last = None;
    while let Some(found) = scan.next().await {
        last = Some(found);
    }
    let error = last.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.operation()),
        (ErrorKind::Connection, Some("scan"))
    );
    assert!(error.is_transient());

    proxy.refuse();
    proxy.cut();
    store.of::<User>().count().await.unwrap_err();
    store.of::<User>().purge().await.unwrap_err();
    let refused = store.of::<User>().count().await.unwrap_err();
    assert!(refused.is_refused(), "the breaker is open: {refused}");
    assert!(
        store
            .of::<User>()
            .scan()
            .next()
            .await
            .unwrap()
            .unwrap_err()
            .is_refused()
    );
    proxy.accept();
    until("connected again", async || store.ping().await.is_ok()).await;
    assert_eq!(store.of::<User>().purge().await.unwrap(), 1000);
}

/// The type and the time are kept of a deletion that was lost. A purge ends that.
#[tokio::test]
async fn after_a_purge_a_type_whose_deletions_were_lost_is_read_again() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = patient(&proxy.url()).await;
    let key = "own:user:1";
    for id in [1, 2] {
        User { id, row: 1 }.set(&store).await.unwrap();
    }
    let Value::Bulk(entry) = server.command(&["GET", key]) else {
        panic!("no entry");
    };
    let put = || server.command(&[b"SET", key.as_bytes(), &entry]);
    proxy.refuse();
    proxy.cut();
    User::del_many(&store, 100..10_100).await.unwrap_err();
    User::del(&store, 1).await.unwrap_err();
    assert_eq!(store.stats().lost_deletions(), 1);
    store.of::<User>().purge().await.unwrap_err();
    proxy.accept();
    until("all is delivered", async || store.undelivered() == 0).await;

    let gone = async || {
        let read = User::get(&store, 1).await.unwrap();
        let count = store.of::<User>().count().await.unwrap();
        let scanned = store.of::<User>().scan().next().await.is_some();
        (read, count, scanned)
    };
    assert_eq!(
        gone().await,
        (None, 0, false),
        "a purge in vain settles nothing"
    );
    // Nor does another type's.
    assert_eq!(store.of::<Thing>().purge().await.unwrap(), 0);
    assert_eq!(gone().await, (None, 0, false));
    assert_eq!(store.of::<User>().purge().await.unwrap(), 2);
    assert_eq!(gone().await, (None, 0, false));
    // It can't be from before any more, whatever its stamp says.
    put();
    assert_eq!(gone().await, (Some(user(1)), 1, true));
}

#[tokio::test]
async fn an_undelivered_deletion_hides_its_entry_and_a_purge_delivers_it() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = Store::builder().url(&proxy.url()).namespace("own");
    let store = store
        .command_timeout(Duration::from_secs(1))
        .connect()
        .await
        .unwrap();
    fill(&store, 0..3).await;
    // Refused for one key, by a user who may not touch it: the server is there, and the deletion
    // waits.
    let rule = "ACL SETUSER default resetkeys %R~* ~own:user:0 ~own:user:2";
    server.command(&rule.split(' ').collect::<Vec<_>>());
    User::del(&store, 1).await.unwrap_err();
    assert_eq!(store.undelivered(), 1);
    assert_eq!(store.of::<User>().count().await.unwrap(), 2);
    assert_eq!(ids(&store).await, [0, 2]);
    store.of::<User>().purge().await.unwrap_err();
    server.command(&["ACL", "SETUSER", "default", "allkeys"]);
    store.of::<User>().purge().await.unwrap();
    assert_eq!(store.undelivered(), 0, "settled");
}
