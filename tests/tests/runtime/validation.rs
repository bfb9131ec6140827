//! Values that break the rules of their type, over every backend: neither stored nor read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use valkey_runtime::{Cached, Error, ErrorKind, Invalid, Loaded, SetOptions, Source, Stale, Store};
use valkey_tests::resp::Value;

use crate::database::until;
use crate::faults::Log;
use crate::stores::On;

suite! {
    @alone [crate::validation]
    an_invalid_value_is_removed_though_its_claim_was_renewed
}

suite! {
    crate::validation =>
    an_invalid_value_is_not_stored
    one_invalid_value_of_many_stores_none
    an_invalid_value_in_a_batch_leaves_the_others
    an_invalid_value_that_is_written_through_is_deleted
    an_invalid_entry_is_a_miss_and_is_removed
    an_invalid_entry_is_loaded_again
    invalid_entries_are_kept_where_the_type_says_so
    invalid_entries_are_errors_where_the_type_says_so
    a_scan_skips_invalid_entries_or_gives_them_as_errors
    a_value_that_is_found_by_an_alias_is_validated
    a_loaded_value_that_is_invalid_is_for_its_caller_alone
    all_callers_that_share_a_load_are_given_its_invalid_value
    an_invalid_value_of_many_is_not_stored
    a_load_that_gives_what_is_invalid_removes_what_it_claimed
    an_invalid_value_is_not_served_where_its_loader_fails
    an_invalid_value_is_not_served_while_nobody_loads
    many_are_not_served_invalid_values
    an_invalid_value_is_not_served_before_a_slow_load_is_over
    an_invalid_value_is_not_shown_to_a_loader
    a_valid_value_with_tags_is_stored_and_an_invalid_one_is_not
}

/// A text that must be seen nowhere. It breaks all rules below.
const SECRET: &str = "hunter2";

/// The rules are garde's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, garde::Validate)]
#[cached(prefix = "user", validate)]
struct User {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(length(max = 5))]
    name: String,
}

/// The rules are validator's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, validator::Validate)]
#[cached(prefix = "user", validate)]
struct Validator {
    #[cached(key)]
    id: u64,
    #[validate(length(max = 5, message = "hunter2 is too long"))]
    name: String,
}

/// The rule is a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", validate = short)]
struct Function {
    #[cached(key)]
    id: u64,
    name: String,
}

fn short(function: &Function) -> Result<(), Invalid> {
    match function.name.len() {
        0..=5 => Ok(()),
        _ => Err(Invalid::new("name", "length")),
    }
}

/// Of both kinds: it says which counts.
#[derive(
    Clone, Debug, PartialEq, Serialize, Deserialize, Cached, garde::Validate, validator::Validate,
)]
#[cached(prefix = "user", validate = garde::Validate::validate)]
struct Both {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(length(max = 5))]
    #[validate(length(max = 1))]
    name: String,
}

/// The rules depend on something that the function knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, garde::Validate)]
#[garde(context(Longest as ctx))]
#[cached(prefix = "user", validate = Contextual::within_limits)]
struct Contextual {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(length(max = ctx.0))]
    name: String,
}

struct Longest(usize);

impl Contextual {
    fn within_limits(&self) -> Result<(), garde::Report> {
        garde::Validate::validate_with(self, &Longest(5))
    }
}

/// The same keys and no rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", stale_if_error = "1h", retry_after = "1h")]
struct Anything {
    #[cached(key)]
    id: u64,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, garde::Validate)]
#[cached(prefix = "user", validate, on_corrupt = "error")]
struct Strict {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(length(max = 5))]
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, garde::Validate)]
#[cached(prefix = "user", validate, keep_corrupt)]
struct Keeping {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(length(max = 5))]
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, validator::Validate)]
#[cached(
    prefix = "user",
    validate,
    stale_if_error = "1h",
    retry_after = "1h",
    load_timeout = "1ms"
)]
struct Lasting {
    #[cached(key)]
    id: u64,
    #[validate(length(max = 5))]
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, garde::Validate)]
#[cached(prefix = "user", validate, tag = "team:{team}")]
struct Member {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(length(max = 5))]
    team: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached, garde::Validate)]
#[cached(prefix = "user", validate, alias = "email")]
struct Mailed {
    #[cached(key)]
    #[garde(skip)]
    id: u64,
    #[garde(skip)]
    email: String,
    #[garde(length(max = 5))]
    name: String,
}

macro_rules! person {
    ($of:ident $id:expr, $name:expr) => {
        $of {
            id: $id,
            name: $name.into(),
        }
    };
}

fn bad<const N: usize>(ids: [u64; N]) -> [Anything; N] {
    ids.map(|id| person!(Anything id, SECRET))
}

async fn with_bad<const N: usize>(on: On, namespace: &str, ids: [u64; N]) -> Store {
    let store = on.store(namespace).await;
    Anything::set_many(&store, &bad(ids)).await.unwrap();
    store
}

/// As [`with_bad`], and they are no longer fresh.
async fn with_stale<const N: usize>(on: On, namespace: &str, ids: [u64; N]) -> Store {
    let store = with_bad(on, namespace, ids).await;
    for id in ids {
        assert!(store.of::<Anything>().mark_stale(id).await.unwrap());
    }
    store
}

async fn is_there(store: &Store, id: u64) -> bool {
    Anything::exists(store, id).await.unwrap()
}

/// How many entries were found invalid, and how many values refused.
fn counted(store: &Store) -> (u64, u64) {
    let stats = store.stats();
    (stats.corrupt(), stats.errors(ErrorKind::Invalid))
}

fn names_no_value(text: &str) {
    assert!(!text.contains(SECRET), "{text}");
}

/// It names the field and the rule, and nothing of the value.
fn is_refusal(error: &Error) {
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ErrorKind::Invalid, false)
    );
    let broken = error.invalid().unwrap().violations();
    let broken: Vec<_> = broken.iter().map(|one| (one.field(), one.rule())).collect();
    assert_eq!(broken, [("name", "length")]);
    assert!(
        error.to_string().ends_with("invalid: `name`: length"),
        "{error}"
    );
    names_no_value(&format!("{error} {error:?}"));
}

async fn an_invalid_value_is_not_stored(on: On) {
    macro_rules! refused {
        ($store:ident $($of:ident)*) => {
            $({
                let (good, bad) = (person!($of 1, "Ada"), person!($of 1, SECRET));
                for error in [
                    bad.set(&$store).await.unwrap_err(),
                    bad.set_with(&$store, SetOptions::new().if_absent()).await.unwrap_err(),
                    bad.set_at(&$store, 1).await.unwrap_err(),
                    $store.of::<$of>().set_at_with(1, &bad, SetOptions::new()).await.unwrap_err(),
                    $store.of::<$of>().set(&bad).await.unwrap_err(),
                ] {
                    is_refusal(&error);
                    assert_eq!(error.operation(), Some("set"));
                    assert!(error.key().unwrap().ends_with("user:1"));
                }
                assert!(!is_there(&$store, 1).await);
                good.set(&$store).await.unwrap();
                is_refusal(&bad.set_with(&$store, SetOptions::new().if_present()).await.unwrap_err());
                is_refusal(&bad.set(&$store).await.unwrap_err());
                assert_eq!($of::get(&$store, 1).await.unwrap(), Some(good));
                assert!($of::del(&$store, 1).await.unwrap());
            })*
        };
    }
    let store = on.store("valid-set").await;
    refused! { store User Validator Function Both Contextual Lasting Strict Keeping }
    assert_eq!(counted(&store), (0, 8 * 7));
}

async fn one_invalid_value_of_many_stores_none(on: On) {
    let store = on.store("valid-set-many").await;
    let users = [
        person!(User 1, "Ada"),
        person!(User 2, SECRET),
        person!(User 3, "Bob"),
    ];
    let error = User::set_many(&store, &users).await.unwrap_err();
    is_refusal(&error);
    assert_eq!(
        (error.operation(), error.key()),
        (Some("set_many"), Some("valid-set-many:user:2"))
    );
    for id in [1, 2, 3] {
        assert!(!is_there(&store, id).await, "{id}");
    }
}

async fn an_invalid_value_in_a_batch_leaves_the_others(on: On) {
    let store = on.store("valid-batch").await;
    let mut batch = store.batch();
    batch
        .set(&person!(User 1, SECRET))
        .set(&person!(User 2, "Ada"));
    let results = batch.send().await;
    is_refusal(results[0].as_ref().unwrap_err());
    assert!(matches!(results[1], Ok(true)));
    assert!(!is_there(&store, 1).await && is_there(&store, 2).await);
    assert_eq!(counted(&store), (0, 1));
}

async fn an_invalid_value_that_is_written_through_is_deleted(on: On) {
    let store = on.store("valid-through").await;
    person!(User 1, "Ada").set(&store).await.unwrap();
    let bad = person!(User 1, SECRET);
    // The row is written all the same.
    let written = User::write_through(&store, &bad, async || Ok::<_, ()>(7)).await;
    assert_eq!(written, Ok(7));
    assert!(!is_there(&store, 1).await);
    let written = store
        .of::<User>()
        .write_through(&bad)
        .run(async || Ok::<_, ()>(8))
        .await;
    assert_eq!(written.unwrap(), 8);
    assert_eq!(counted(&store), (0, 2));
    // The guard is gone: what is loaded now is stored.
    let load = async || Ok::<_, ()>(person!(User 1, "Ada"));
    assert!(User::get_or_load(&store, 1, load).await.is_ok());
    assert!(is_there(&store, 1).await);
}

async fn an_invalid_entry_is_a_miss_and_is_removed(on: On) {
    let store = with_bad(on, "valid-get", [1, 2, 3, 4, 5, 6]).await;
    assert!(
        User::exists(&store, 1).await.unwrap(),
        "as far as the header tells"
    );
    assert_eq!(User::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.of::<User>().get_entry(2).await.unwrap(), None);
    assert_eq!(User::get_many(&store, [3, 4]).await.unwrap(), [None, None]);
    assert_eq!(Validator::get(&store, 5).await.unwrap(), None);
    assert_eq!(Function::get(&store, 6).await.unwrap(), None);
    for id in 1..=6 {
        assert!(!is_there(&store, id).await, "{id}");
    }
    assert_eq!((counted(&store), store.stats().misses()), ((6, 0), 6));
    assert_eq!((store.stats().hits(), store.stats().errors_total()), (0, 0));
}

async fn an_invalid_entry_is_loaded_again(on: On) {
    let store = with_bad(on, "valid-again", [1, 2, 3]).await;
    let ada = |id| person!(User id, "Ada");
    let loaded = User::get_or_load(&store, 1, async || Ok::<_, ()>(ada(1))).await;
    assert_eq!(loaded, Ok(ada(1)));
    let load = async |ids: Vec<u64>| {
        Ok::<_, ()>(ids.into_iter().map(|id| (id, ada(id))).collect::<Vec<_>>())
    };
    let loaded = User::get_or_load_many(&store, [1, 2], load).await;
    assert_eq!(loaded, Ok(vec![Some(ada(1)), Some(ada(2))]));
    let refreshed = store
        .of::<User>()
        .load(3)
        .in_background()
        .run(move || async move { Ok::<_, ()>(ada(3)) })
        .await;
    assert_eq!(refreshed, Ok(ada(3)));
    for id in [1, 2, 3] {
        assert_eq!(User::get(&store, id).await.unwrap(), Some(ada(id)));
    }
    assert_eq!((counted(&store), store.stats().loads()), ((3, 0), 3));
}

async fn invalid_entries_are_kept_where_the_type_says_so(on: On) {
    let store = with_bad(on, "valid-keep", [1]).await;
    assert_eq!(Keeping::get(&store, 1).await.unwrap(), None);
    let load = async || Ok::<_, ()>(person!(Keeping 1, "Ada"));
    assert!(Keeping::get_or_load(&store, 1, load).await.is_ok());
    assert!(is_there(&store, 1).await);
    assert_eq!(counted(&store), (2, 0));
}

async fn invalid_entries_are_errors_where_the_type_says_so(on: On) {
    let store = with_bad(on, "valid-strict", [1, 2, 3, 4]).await;
    let error = Strict::get(&store, 1).await.unwrap_err();
    is_refusal(&error);
    assert_eq!(
        (error.operation(), error.key()),
        (Some("get"), Some("valid-strict:user:1"))
    );
    is_refusal(&Strict::get_many(&store, [2]).await.unwrap_err());
    is_refusal(&store.of::<Strict>().get_entry(3).await.unwrap_err());
    // A verb that loads has the loader's errors alone.
    let load = async || Ok::<_, ()>(person!(Strict 4, "Ada"));
    assert!(Strict::get_or_load(&store, 4, load).await.is_ok());
    for id in [1, 2, 3] {
        assert_eq!(
            Strict::get(&store, id).await.unwrap(),
            None,
            "{id} was removed"
        );
    }
    assert_eq!(counted(&store), (4, 3));
}

async fn a_scan_skips_invalid_entries_or_gives_them_as_errors(on: On) {
    let store = with_bad(on, "valid-scan", [1, 2]).await;
    person!(User 3, "Ada").set(&store).await.unwrap();
    let mut scan = store.of::<Strict>().scan();
    let (mut found, mut errors) = (BTreeSet::new(), BTreeSet::new());
    while let Some(item) = scan.next().await {
        match item {
            Ok((id, _)) => assert!(found.insert(id)),
            Err(error) => {
                is_refusal(&error);
                errors.insert(error.key().unwrap().to_owned());
            }
        }
    }
    assert_eq!((found, errors.len()), ([3].into(), 2));
    Anything::set_many(&store, &bad([1, 2])).await.unwrap();
    let found: HashMap<u64, User> = store.of::<User>().scan().try_collect().await.unwrap();
    assert_eq!(found, [(3, person!(User 3, "Ada"))].into());
    assert!(!is_there(&store, 1).await && !is_there(&store, 2).await);
}

async fn a_value_that_is_found_by_an_alias_is_validated(on: On) {
    let store = on.store("valid-alias").await;
    let mailed = |name: &str| Mailed {
        id: 1,
        email: "ada@example.org".into(),
        name: name.into(),
    };
    let find = async || {
        let (key, row) = (async || Ok::<_, ()>(Some(1)), async |_| Ok(mailed("Ada")));
        Mailed::load_by_email(&store, "ada@example.org")
            .run(key, row)
            .await
    };
    assert_eq!(find().await, Ok(Some(mailed("Ada"))));
    #[derive(Serialize, Deserialize, Cached)]
    #[cached(prefix = "user")]
    struct Anyone {
        #[cached(key)]
        id: u64,
        email: String,
        name: String,
    }
    let Mailed { id, email, name } = mailed(SECRET);
    let bad = Anyone { id, email, name };
    bad.set(&store).await.unwrap();
    assert_eq!(
        Mailed::get_by_email(&store, "ada@example.org")
            .await
            .unwrap(),
        None
    );
    assert!(!is_there(&store, 1).await);
    bad.set(&store).await.unwrap();
    assert_eq!(find().await, Ok(Some(mailed("Ada"))));
    assert_eq!(counted(&store), (2, 0));
}

/// Whether there is nothing at all under the key, not even a lease.
async fn is_empty(on: On, key: &str) -> bool {
    on == On::Memory || on.raw(&["EXISTS", key]) == Value::Integer(0)
}

async fn a_loaded_value_that_is_invalid_is_for_its_caller_alone(on: On) {
    let store = on.store("valid-load").await;
    let bad = person!(User 1, SECRET);
    let loads = [
        Loaded::value(bad.clone()),
        Loaded::value(bad.clone()).ttl(Duration::from_secs(60)),
    ];
    for loaded in loads {
        let load = async || Ok::<_, ()>(loaded);
        let entry = store.of::<User>().load(1).entry().run(load).await;
        let entry = entry.unwrap().unwrap();
        assert_eq!((entry.source(), entry.expires_in()), (Source::Loaded, None));
        assert_eq!(entry.into_value(), bad);
        assert!(!is_there(&store, 1).await);
        assert!(
            is_empty(on, "valid-load:user:1").await,
            "the lease was given back"
        );
    }
    let load = async || Ok::<_, ()>(bad.clone());
    assert_eq!(
        store.of::<User>().load(1).fresh().run(load).await,
        Ok(bad.clone())
    );
    let refreshed = store.of::<User>().load(1).in_background().revalidate({
        let bad = bad.clone();
        move |_| async move { Ok::<_, ()>(bad) }
    });
    assert_eq!(refreshed.await, Ok(bad));
    assert!(!is_there(&store, 1).await);
    assert_eq!((counted(&store), store.stats().loads()), ((0, 4), 4));
    assert_eq!(
        (store.stats().failed_loads(), store.stats().refused_fills()),
        (0, 0)
    );
}

async fn all_callers_that_share_a_load_are_given_its_invalid_value(on: On) {
    let store = on.store("valid-shared").await;
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (store, begun, gate) = (store.clone(), begun.clone(), gate.clone());
            tokio::spawn(async move {
                let load = async || {
                    begun.add_permits(1);
                    drop(gate.acquire().await.unwrap());
                    Ok::<_, ()>(person!(User 1, SECRET))
                };
                User::get_or_load(&store, 1, load).await
            })
        })
        .collect();
    until("the load begins", async || begun.available_permits() > 0).await;
    until("the others have come", async || {
        store.stats().misses() == 20
    })
    .await;
    gate.add_permits(1);
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(person!(User 1, SECRET)));
    }
    let (loads, stats) = (begun.available_permits() as u64, store.stats());
    assert_eq!((stats.loads(), stats.coalesced()), (loads, 20 - loads));
    assert_eq!(counted(&store), (0, loads));
    assert!(!is_there(&store, 1).await);
}

async fn an_invalid_value_of_many_is_not_stored(on: On) {
    let store = on.store("valid-load-many").await;
    let row = |id| match id {
        2 => person!(User 2, SECRET),
        id => person!(User id, "Ada"),
    };
    let load = async |ids: Vec<u64>| {
        Ok::<_, ()>(ids.into_iter().map(|id| (id, row(id))).collect::<Vec<_>>())
    };
    // One key is asked for twice.
    let loaded = User::get_or_load_many(&store, [1, 2, 3, 2], load)
        .await
        .unwrap();
    assert!(loaded.into_iter().eq([1, 2, 3, 2].map(|id| Some(row(id)))));
    assert!(is_there(&store, 1).await && is_there(&store, 3).await);
    assert!(!is_there(&store, 2).await);
    assert!(
        is_empty(on, "valid-load-many:user:2").await,
        "the lease was given back"
    );
    assert_eq!((counted(&store), store.stats().loads()), ((0, 1), 1));
}

async fn a_load_that_gives_what_is_invalid_removes_what_it_claimed(on: On) {
    let store = on.store("valid-claim").await;
    person!(Lasting 1, "Ada").set(&store).await.unwrap();
    assert!(store.of::<Lasting>().mark_stale(1).await.unwrap());
    let bad = person!(Lasting 1, SECRET);
    let load = async || Ok::<_, ()>(bad.clone());
    assert_eq!(Lasting::get_or_load(&store, 1, load).await, Ok(bad.clone()));
    assert!(is_empty(on, "valid-claim:user:1").await);
    // There is nothing to be served any more.
    let failed = Lasting::get_or_load(&store, 1, async || Err::<Lasting, _>("no database"));
    assert_eq!(failed.await, Err("no database"));
    assert_eq!(counted(&store), (0, 1));
}

async fn an_invalid_value_is_not_served_where_its_loader_fails(on: On) {
    let store = with_stale(on, "valid-stale", [1]).await;
    let failed = Lasting::get_or_load(&store, 1, async || Err::<Lasting, _>("no database"));
    assert_eq!(failed.await, Err("no database"));
    assert_eq!((counted(&store), store.stats().stale()), ((1, 0), 0));
    assert!(is_empty(on, "valid-stale:user:1").await, "it was removed");
    // Nor is it found again.
    let failed = Anything::get_or_load(&store, 1, async || Err::<Anything, _>("no database"));
    assert_eq!(failed.await, Err("no database"));
}

/// A renewal changes the bytes of what is claimed.
async fn an_invalid_value_is_removed_though_its_claim_was_renewed() {
    let on = On::Plain;
    let store = with_stale(on, "valid-renewed", [1]).await;
    let bytes = || on.raw(&["GET", "valid-renewed:user:1"]);
    let (stale, gate) = (bytes(), Semaphore::new(0));
    let load = async || {
        drop(gate.acquire().await.unwrap());
        Err::<Lasting, _>("no database")
    };
    let let_go = async {
        until("the value is claimed", async || bytes() != stale).await;
        let claimed = bytes();
        until("the claim is renewed", async || bytes() != claimed).await;
        gate.add_permits(1);
    };
    let (failed, ()) = tokio::join!(Lasting::get_or_load(&store, 1, load), let_go);
    assert_eq!(failed, Err("no database"));
    assert_eq!(counted(&store), (1, 0));
    assert!(is_empty(on, "valid-renewed:user:1").await);
}

async fn an_invalid_value_is_not_served_while_nobody_loads(on: On) {
    let store = with_stale(on, "valid-pause", [1, 2]).await;
    for id in [1, 2] {
        let failed = Anything::get_or_load(&store, id, async || Err::<Anything, _>("no database"));
        assert_eq!(
            failed.await.unwrap().name,
            SECRET,
            "it is served from now on"
        );
    }
    let ada = |id| person!(Lasting id, "Ada");
    let loaded = Lasting::get_or_load(&store, 1, async || Ok::<_, ()>(ada(1)));
    assert_eq!(loaded.await, Ok(ada(1)));
    let load = async |ids: Vec<u64>| {
        Ok::<_, ()>(ids.into_iter().map(|id| (id, ada(id))).collect::<Vec<_>>())
    };
    let loaded = Lasting::get_or_load_many(&store, [2], load).await;
    assert_eq!(loaded, Ok(vec![Some(ada(2))]));
    assert_eq!((counted(&store), store.stats().stale()), ((2, 0), 2));
}

async fn many_are_not_served_invalid_values(on: On) {
    let store = with_stale(on, "valid-stale-many", [1]).await;
    person!(Lasting 2, "Ada").set(&store).await.unwrap();
    assert!(store.of::<Lasting>().mark_stale(2).await.unwrap());
    let fails = async |_| Err::<Vec<(u64, Lasting)>, _>("no database");
    let failed = Lasting::get_or_load_many(&store, [1, 2], fails).await;
    assert_eq!(failed, Err("no database"));
    assert!(
        is_empty(on, "valid-stale-many:user:1").await,
        "it was removed"
    );
    let served = Lasting::get_or_load_many(&store, [2], fails).await;
    assert_eq!(served, Ok(vec![Some(person!(Lasting 2, "Ada"))]));
    assert_eq!((counted(&store), store.stats().stale()), ((1, 0), 1));
}

async fn an_invalid_value_is_not_served_before_a_slow_load_is_over(on: On) {
    let store = with_stale(on, "valid-slow", [1]).await;
    // It takes longer than the type waits where there is something to be served.
    let load = |_| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, ()>(person!(Lasting 1, "Ada"))
    };
    let loaded = store
        .of::<Lasting>()
        .load(1)
        .in_background()
        .revalidate(load)
        .await;
    assert_eq!(loaded, Ok(person!(Lasting 1, "Ada")));
    assert_eq!(
        Lasting::get(&store, 1).await.unwrap(),
        Some(person!(Lasting 1, "Ada"))
    );
}

async fn an_invalid_value_is_not_shown_to_a_loader(on: On) {
    let store = with_stale(on, "valid-shown", [1]).await;
    let load = async |stale: Option<Stale<Lasting>>| {
        assert!(stale.is_none());
        Ok::<_, ()>(person!(Lasting 1, "Ada"))
    };
    let loaded = store.of::<Lasting>().load(1).revalidate(load).await;
    assert_eq!(loaded, Ok(person!(Lasting 1, "Ada")));
}

async fn a_valid_value_with_tags_is_stored_and_an_invalid_one_is_not(on: On) {
    let store = on.store("valid-tags").await;
    let member = |team: &str| Member {
        id: 1,
        team: team.into(),
    };
    let load =
        async |team| Member::get_or_load(&store, 1, async || Ok::<_, ()>(member(team))).await;
    assert_eq!(load(SECRET).await, Ok(member(SECRET)));
    assert!(is_empty(on, "valid-tags:user:1").await);
    assert_eq!(
        member(SECRET).set(&store).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(load("red").await, Ok(member("red")));
    assert_eq!(Member::get(&store, 1).await.unwrap(), Some(member("red")));
    assert_eq!(counted(&store), (0, 2));
}

/// Each rule of each kind is broken by a value that its message quotes.
#[tokio::test]
async fn no_value_gets_into_an_error_or_the_log() {
    mod quoting {
        use super::*;
        use validator::Validate as _;

        #[derive(Clone, Serialize, Deserialize, Cached, garde::Validate)]
        #[cached(prefix = "secret", validate)]
        pub(super) struct Garde {
            #[cached(key)]
            #[garde(skip)]
            pub(super) id: u64,
            #[garde(custom(refuse))]
            pub(super) labels: HashMap<String, Label>,
            #[garde(dive)]
            pub(super) others: HashMap<String, Label>,
        }

        #[derive(Clone, Debug, Serialize, Deserialize, garde::Validate, validator::Validate)]
        pub(super) struct Label {
            #[garde(length(max = 5))]
            #[validate(length(max = 5))]
            pub(super) text: String,
        }

        #[derive(Clone, Serialize, Deserialize, Cached, validator::Validate)]
        #[cached(prefix = "secret", validate)]
        pub(super) struct Validator {
            #[cached(key)]
            pub(super) id: u64,
            #[validate(custom(function = "quote"))]
            pub(super) labels: HashMap<String, Label>,
            #[validate(nested)]
            pub(super) others: HashMap<String, Label>,
        }

        fn refuse(labels: &HashMap<String, Label>, _: &()) -> garde::Result {
            Err(garde::Error::new(format!("no {labels:?}")))
        }

        fn quote(labels: &HashMap<String, Label>) -> Result<(), validator::ValidationError> {
            let mut error = validator::ValidationError::new("quote");
            error.add_param("labels".into(), labels);
            Err(error.with_message(format!("no {labels:?}").into()))
        }

        #[derive(Clone, Serialize, Deserialize, Cached)]
        #[cached(prefix = "secret")]
        pub(super) struct Anything {
            #[cached(key)]
            pub(super) id: u64,
            pub(super) labels: HashMap<String, Label>,
            pub(super) others: HashMap<String, Label>,
        }
    }
    let log = Log::default();
    let taken = log.takes();
    let store = On::Memory.store("valid-secret").await;
    let label = quoting::Label {
        text: SECRET.into(),
    };
    let labels = HashMap::from([(SECRET.to_owned(), label)]);
    let mut text = String::new();
    macro_rules! broken {
        ($of:ident: $($broken:literal)*) => {
            let (labels, others) = (labels.clone(), labels.clone());
            let anything = quoting::Anything { id: 1, labels: labels.clone(), others: others.clone() };
            let value = quoting::$of { id: 1, labels, others };
            let error = value.set(&store).await.unwrap_err();
            let broken = error.invalid().unwrap().violations();
            let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
            assert_eq!(broken, [$($broken),*]);
            text += &format!("{error} {error:?} {:?}", error.invalid());
            let loaded = quoting::$of::get_or_load(&store, 1, async || Ok::<_, ()>(value.clone()));
            loaded.await.unwrap();
            anything.set(&store).await.unwrap();
            assert!(quoting::$of::get(&store, 1).await.unwrap().is_none());
            let written = quoting::$of::write_through(&store, &value, async || Ok::<_, ()>(()));
            written.await.unwrap();
        };
    }
    broken!(Garde: "`labels`: custom" "`others.…`: length");
    broken!(Validator: "`labels`: quote" "`others[0].text`: length");
    drop(taken);
    let log = log.text();
    assert_eq!(log.matches("a loaded value could not be stored").count(), 2);
    assert_eq!(log.matches("a corrupt entry").count(), 2);
    assert_eq!(
        log.matches("the written value could not be stored").count(),
        2
    );
    assert_eq!(
        log.matches("`labels`: custom; `others.…`: length").count(),
        3,
        "{log}"
    );
    names_no_value(&log);
    names_no_value(&text);
}
