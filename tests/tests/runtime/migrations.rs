//! Entries of older versions, which their types convert.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::testing::{Fault, Request};
use valkey_runtime::{Cached, ErrorKind, Invalid, Loaded, SetOptions, Stale, Store, Ttl};

use crate::steady::writes_into;
use crate::stores::On;

suite! {
    crate::migrations =>
    every_read_of_an_older_entry_converts_it
    what_was_converted_is_written_back_with_the_same_life
    a_conversion_that_fails_is_a_miss_and_is_loaded
    conditions_count_an_older_entry_as_present
    a_scan_converts_and_writes_nothing_back
    an_old_instance_neither_reads_nor_replaces_what_was_written_back
    a_stale_older_value_is_served_and_confirmed
    tags_of_the_older_entry_decide
    an_alias_of_an_older_version_is_found
    nothing_is_written_back_under_a_guard
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "1h", jitter = "0%")]
struct UserV1 {
    #[cached(key)]
    id: u64,
    #[cached(alias)]
    email: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "1h", version = 2, migrate_from = UserV1)]
struct UserV2 {
    #[cached(key)]
    id: u64,
    email: String,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m", version = 4, migrate_from = UserV2, validate = User::check)]
struct User {
    #[cached(key)]
    id: u64,
    #[cached(alias)]
    email: String,
    first: String,
    last: String,
}

impl User {
    fn check(&self) -> Result<(), Invalid> {
        match self.first == "Nobody" {
            true => Err(Invalid::new("first", "nobody")),
            false => Ok(()),
        }
    }
}

impl From<UserV1> for UserV2 {
    fn from(old: UserV1) -> Self {
        Self {
            id: old.id,
            email: old.email,
            names: old.name.split(' ').map(str::to_owned).collect(),
        }
    }
}

impl TryFrom<UserV2> for User {
    type Error = &'static str;

    fn try_from(old: UserV2) -> Result<Self, Self::Error> {
        let UserV2 { id, email, names } = old;
        let [first, last] = <[String; 2]>::try_from(names).map_err(|_| "not two names")?;
        Ok(Self {
            id,
            email,
            first,
            last,
        })
    }
}

fn first(id: u64, name: &str) -> UserV1 {
    UserV1 {
        id,
        email: format!("{id}@example.com"),
        name: name.into(),
    }
}

fn ada(id: u64) -> User {
    User {
        id,
        email: format!("{id}@example.com"),
        first: "Ada".into(),
        last: "Lovelace".into(),
    }
}

/// A store that writes back at once.
async fn hasty(on: On, namespace: &str) -> Store {
    writes_into(on.nodes(), namespace);
    let builder = on.builder().namespace(namespace);
    let builder = builder.newer_wins_for(Duration::ZERO);
    builder.connect().await.unwrap()
}

async fn store_with(on: On, namespace: &str, count: u64) -> Store {
    let store = hasty(on, namespace).await;
    for id in 1..=count {
        first(id, "Ada Lovelace").set(&store).await.unwrap();
    }
    store
}

async fn every_read_of_an_older_entry_converts_it(on: On) {
    let store = store_with(on, "migrate-reads", 8).await;
    // Nothing is written back, so that each read finds the old entry.
    store
        .faults()
        .fail_all(Fault::error(ErrorKind::OutOfMemory).on(Request::Store));
    assert!(User::exists(&store, 1).await.unwrap());
    assert!(store.of::<User>().ttl(1).await.unwrap().is_some());
    assert_eq!(store.of::<User>().count().await.unwrap(), 8);
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(ada(1)));
    let many = User::get_many(&store, [1, 2, 9]).await.unwrap();
    assert_eq!(many, [Some(ada(1)), Some(ada(2)), None]);
    let entry = store.of::<User>().get_entry(3).await.unwrap().unwrap();
    assert_eq!(*entry, ada(3));
    let loaded = User::get_or_load(&store, 4, async || -> Result<Option<User>, ()> {
        panic!("it is there")
    });
    assert_eq!(loaded.await.unwrap(), Some(ada(4)));
    let shared = store.of::<User>().get_shared(5).await.unwrap();
    assert_eq!(shared.as_deref(), Some(&ada(5)));
    store.settled().await;
    assert_eq!(UserV1::get(&store, 1).await.unwrap().unwrap().id, 1);
    assert!(store.stats().migrations() >= 6);
    assert_eq!(store.stats().corrupt(), 0);
}

async fn what_was_converted_is_written_back_with_the_same_life(on: On) {
    let store = store_with(on, "migrate-back", 1).await;
    let before = store.of::<UserV1>().get_entry(1).await.unwrap().unwrap();
    for _ in 0..3 {
        assert_eq!(User::get(&store, 1).await.unwrap(), Some(ada(1)));
        store.settled().await;
    }
    assert_eq!(store.stats().migrations(), 1, "it was written back");
    let entry = store.of::<User>().get_entry(1).await.unwrap().unwrap();
    let minutes = |ttl: Option<Ttl>| match ttl {
        Some(Ttl::After(left)) => left.as_secs().div_ceil(60),
        other => panic!("{other:?}"),
    };
    assert_eq!(minutes(entry.expires_in()), 60, "not the type's 5 minutes");
    assert_eq!(entry.stamp() >> 12, before.stamp() >> 12);
}

async fn a_conversion_that_fails_is_a_miss_and_is_loaded(on: On) {
    let store = store_with(on, "migrate-fails", 0).await;
    first(1, "Plato").set(&store).await.unwrap();
    first(2, "Nobody Known").set(&store).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert_eq!(User::get(&store, 2).await.unwrap(), None, "it is invalid");
    assert_eq!(store.stats().failed_migrations(), 2);
    assert!(UserV1::exists(&store, 1).await.unwrap(), "it is left");
    let load = async || Ok::<_, ()>(Some(ada(1)));
    let loaded = User::get_or_load(&store, 1, load).await.unwrap();
    assert_eq!(loaded, Some(ada(1)));
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(ada(1)));
    let stats = store.stats();
    assert_eq!((stats.corrupt(), stats.migrations()), (0, 0));
}

async fn conditions_count_an_older_entry_as_present(on: On) {
    let store = store_with(on, "migrate-conditions", 3).await;
    let if_absent = SetOptions::new().if_absent();
    assert!(!ada(1).set_with(&store, if_absent).await.unwrap());
    assert!(store.of::<User>().touch(2).await.unwrap());
    let left = store.of::<UserV1>().ttl(2).await.unwrap();
    assert!(matches!(left, Some(Ttl::After(left)) if left <= Duration::from_secs(300)));
    let if_present = SetOptions::new().if_present();
    assert!(ada(3).set_with(&store, if_present).await.unwrap());
    assert_eq!(store.stats().migrations(), 0);
}

async fn a_scan_converts_and_writes_nothing_back(on: On) {
    let store = store_with(on, "migrate-scan", 3).await;
    let scan = store.of::<User>().scan();
    let mut found: Vec<(u64, User)> = scan.try_collect().await.unwrap();
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, [(1, ada(1)), (2, ada(2)), (3, ada(3))]);
    store.settled().await;
    assert!(UserV1::exists(&store, 1).await.unwrap());
}

async fn an_old_instance_neither_reads_nor_replaces_what_was_written_back(on: On) {
    if on == On::Memory {
        // Two stores in a process share nothing.
        return;
    }
    let hasty = store_with(on, "migrate-old", 1).await;
    let store = on.store("migrate-old").await;
    User::get(&store, 1).await.unwrap();
    store.settled().await;
    assert!(UserV1::exists(&store, 1).await.unwrap(), "it is young");
    User::get(&hasty, 1).await.unwrap();
    hasty.settled().await;
    assert_eq!(UserV1::get(&store, 1).await.unwrap(), None);
    let old = async || Ok::<_, ()>(Some(first(1, "Ada Lovelace")));
    UserV1::get_or_load(&store, 1, old).await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), Some(ada(1)));
    assert_eq!(store.stats().migrations(), 1);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "price",
    ttl = "1h",
    stale_if_error = "1h",
    retry_after = "1ms"
)]
struct PriceV1 {
    #[cached(key)]
    id: u64,
    euros: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "price",
    ttl = "1h",
    stale_if_error = "1h",
    retry_after = "1ms"
)]
#[cached(version = 2, migrate_from = PriceV1)]
struct Price {
    #[cached(key)]
    id: u64,
    cents: u32,
}

impl From<PriceV1> for Price {
    fn from(old: PriceV1) -> Self {
        Self {
            id: old.id,
            cents: old.euros * 100,
        }
    }
}

async fn a_stale_older_value_is_served_and_confirmed(on: On) {
    let store = hasty(on, "migrate-stale").await;
    PriceV1 { id: 1, euros: 7 }.set(&store).await.unwrap();
    store.of::<PriceV1>().mark_stale(1).await.unwrap();
    let price = Price { id: 1, cents: 700 };
    assert_eq!(Price::get(&store, 1).await.unwrap(), None, "it is stale");
    let failed = Price::get_or_load(&store, 1, async || Err::<Option<Price>, _>("down"));
    assert_eq!(failed.await, Ok(Some(price.clone())));
    store.settled().await;

    // A pause may still hold for a moment.
    loop {
        let unchanged = async |stale: Option<Stale<Price>>| {
            Ok::<_, ()>(stale.map_or_else(Loaded::absent, Stale::unchanged))
        };
        let loaded = store.of::<Price>().load(1).revalidate(unchanged).await;
        assert_eq!(loaded, Ok(Some(price.clone())));
        if Price::get(&store, 1).await.unwrap() == Some(price.clone()) {
            break;
        }
    }
    let migrated = store.stats().migrations();
    Price::get(&store, 1).await.unwrap();
    assert_eq!(store.stats().migrations(), migrated, "it was stored");
    assert_eq!(store.stats().corrupt(), 0);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "member", tag = "org:{org}")]
struct MemberV1 {
    #[cached(key)]
    id: u64,
    org: u64,
    team: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "member", tag = "org:{org}", version = 2, migrate_from = MemberV1)]
struct Member {
    #[cached(key)]
    id: u64,
    org: u64,
    squad: u64,
}

/// It has a tag more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "member", tag = "org:{org}", tag = "squad:{squad}")]
#[cached(version = 3, migrate_from = Member)]
struct Tagged {
    #[cached(key)]
    id: u64,
    org: u64,
    squad: u64,
}

impl From<MemberV1> for Member {
    fn from(MemberV1 { id, org, team }: MemberV1) -> Self {
        let squad = team;
        Self { id, org, squad }
    }
}

impl From<Member> for Tagged {
    fn from(Member { id, org, squad }: Member) -> Self {
        Self { id, org, squad }
    }
}

async fn tags_of_the_older_entry_decide(on: On) {
    let store = hasty(on, "migrate-tags").await;
    let old = MemberV1 {
        id: 1,
        org: 5,
        team: 6,
    };
    old.set(&store).await.unwrap();
    assert_eq!(
        Tagged::get(&store, 1).await.unwrap(),
        None,
        "nothing shows whether its squad was invalidated"
    );
    let member = Member {
        id: 1,
        org: 5,
        squad: 6,
    };
    assert_eq!(Member::get(&store, 1).await.unwrap(), Some(member.clone()));
    store.settled().await;
    assert_eq!(Member::get(&store, 1).await.unwrap(), Some(member.clone()));
    assert_eq!(store.stats().migrations(), 1);
    Member::cache_tags()
        .org(5)
        .invalidate(&store)
        .await
        .unwrap();
    assert_eq!(Member::get(&store, 1).await.unwrap(), None);

    old.set(&store).await.unwrap();
    MemberV1::cache_tags()
        .org(5)
        .invalidate(&store)
        .await
        .unwrap();
    assert_eq!(Member::get(&store, 1).await.unwrap(), None);
}

async fn an_alias_of_an_older_version_is_found(on: On) {
    let store = hasty(on, "migrate-alias").await;
    UserV1::load_by_email(&store, "1@example.com")
        .run(
            async || Ok::<_, ()>(Some(1)),
            async |id| Ok(Some(first(id, "Ada Lovelace"))),
        )
        .await
        .unwrap();
    for _ in 0..2 {
        let found = User::get_by_email(&store, "1@example.com").await.unwrap();
        assert_eq!(found, Some(ada(1)));
        store.settled().await;
    }
    assert_eq!(
        store.stats().migrations(),
        2,
        "of the alias and of the value"
    );
}

async fn nothing_is_written_back_under_a_guard(on: On) {
    let store = store_with(on, "migrate-guard", 1).await;
    let held = store.faults().hold_next(Request::Store);
    User::get(&store, 1).await.unwrap();
    held.reached().await;
    let guard = store.of::<UserV1>().update(1).guard().await.unwrap();
    held.release();
    store.settled().await;
    assert!(guard.still_held().await.unwrap());
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    guard.release().await.unwrap();
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
}
