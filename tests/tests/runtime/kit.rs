//! The runtime's test kit, tested: a test is worth no more than what it is made with.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::testing::{self, Fault, Outcome, Request, TestServer};
use valkey_runtime::{BreakerState, Cached, Error, ErrorKind, SetOptions, Store};

use crate::database::{PATIENCE, settle};
use crate::stores::On;

suite! { crate::kit =>
    a_request_fails_as_it_was_told_to
    a_fault_strikes_what_it_is_meant_for
    a_bulk_request_fails_as_one
    a_lost_reply_is_that_of_a_request_carried_out
    a_request_is_held_until_it_is_released
    a_deletion_that_failed_is_delivered
    a_store_that_is_down_says_so_and_recovers
    calls_are_recorded
    a_batch_is_recorded_by_its_items
    loads_say_where_their_values_are_from
    background_work_is_over_once_settled
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m", tag = "users")]
struct User {
    #[cached(key)]
    id: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user-group")]
struct Group {
    #[cached(key)]
    id: u64,
}

const ADA: User = User { id: 42 };

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

async fn load(store: &Store) -> Result<Option<User>, &'static str> {
    User::get_or_load(store, 42, async || Ok::<_, &str>(Some(ADA))).await
}

/// Waits until no deletion waits, which a task sees to.
async fn delivered(store: &Store) {
    let all = store.settled();
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(store.undelivered(), 0);
}

async fn a_request_fails_as_it_was_told_to(on: On) {
    let store = on.store("kit-next").await;
    for wanted in [
        ErrorKind::Connection,
        ErrorKind::Timeout,
        ErrorKind::Loading,
        ErrorKind::OutOfMemory,
    ] {
        store.faults().fail_next(wanted);
        let error = ADA.set(&store).await.unwrap_err();
        assert_eq!((error.kind(), error.is_refused()), (wanted, false));
        delivered(&store).await;
        assert_eq!(User::get(&store, 42).await.unwrap(), None, "{wanted}");
    }
    store.faults().fail_times(2, ErrorKind::Unavailable);
    for wanted in [
        Some(ErrorKind::Unavailable),
        Some(ErrorKind::Unavailable),
        None,
    ] {
        assert_eq!(kind(User::get(&store, 42).await), wanted);
    }
    store.faults().fail_all(ErrorKind::Auth);
    for _ in 0..3 {
        let failed = kind(User::get(&store, 42).await);
        assert_eq!(failed, Some(ErrorKind::Auth));
    }
    store.faults().recover();
    assert_eq!(User::get(&store, 42).await.unwrap(), None);
    assert_eq!(store.stats().errors(ErrorKind::Auth), 3);
}

async fn a_fault_strikes_what_it_is_meant_for(on: On) {
    let store = on.store("kit-meant").await;
    let faults = store.faults();
    let out_of_memory = Fault::error(ErrorKind::OutOfMemory);

    faults.fail_next(out_of_memory.clone().on(Request::Delete));
    assert!(ADA.set(&store).await.is_ok());
    assert!(User::get(&store, 42).await.unwrap().is_some());
    assert_eq!(faults.pending(), 1);
    assert!(store.invalidate_tag("users").await.is_err());
    assert_eq!(faults.pending(), 0);
    delivered(&store).await;

    faults.fail_next(out_of_memory.clone().at("user:42"));
    assert!(User { id: 4 }.set(&store).await.is_ok());
    assert!(User::get(&store, 42).await.is_err());

    // The prefix of the one begins like that of the other.
    faults.fail_next(out_of_memory.of::<User>());
    assert!(Group { id: 42 }.set(&store).await.is_ok());
    assert!(User::get(&store, 4).await.is_err());

    // Steps of a load and of a guarded write.
    faults.fail_next(Fault::error(ErrorKind::Timeout).on(Request::Lease));
    assert_eq!(load(&store).await, Ok(Some(ADA)));
    assert_eq!(faults.pending(), 0);
    assert_eq!(User::get(&store, 42).await.unwrap(), None);
    faults.fail_next(Fault::error(ErrorKind::Timeout).on(Request::Store));
    assert_eq!(load(&store).await, Ok(Some(ADA)));
    assert_eq!(faults.pending(), 0);
    assert_eq!(User::get(&store, 42).await.unwrap(), None);
    faults.fail_next(Fault::error(ErrorKind::Timeout).on(Request::Guard));
    let guard = store.of::<User>().update(42).guard().await.unwrap();
    assert!(!guard.is_placed());
    assert!(!guard.abandon().await.unwrap(), "there was none");
}

async fn a_bulk_request_fails_as_one(on: On) {
    let store = on.store("kit-bulk").await;
    let users = [User { id: 1 }, User { id: 2 }, User { id: 3 }];
    User::set_many(&store, &users).await.unwrap();
    let second = Fault::error(ErrorKind::Timeout).at("user:2");
    store.faults().fail_next(second.clone());
    let failed = kind(User::get_many(&store, [1, 2, 3]).await);
    assert_eq!(failed, Some(ErrorKind::Timeout));
    store.faults().fail_next(second.clone().on(Request::Delete));
    let results = store.batch().set(&ADA).del::<User>(2).send().await;
    assert!(results.iter().all(Result::is_err), "{results:?}");
    delivered(&store).await;
    let found = User::get_many(&store, [1, 2, 42]).await.unwrap();
    assert_eq!(found, [Some(User { id: 1 }), None, None]);
    store
        .faults()
        .fail_next(Fault::error(ErrorKind::Timeout).on(Request::Read));
    assert!(store.of::<User>().count().await.is_err());
}

async fn a_lost_reply_is_that_of_a_request_carried_out(on: On) {
    let store = on.store("kit-lost").await;
    let if_absent = SetOptions::new().if_absent();
    store.faults().fail_next(Fault::lost_reply());
    let stored = Group { id: 1 }.set_with(&store, if_absent).await;
    assert_eq!(kind(stored), Some(ErrorKind::Timeout));
    assert!(Group::exists(&store, 1).await.unwrap());

    // One that was not is not.
    store.faults().fail_next(ErrorKind::Timeout);
    let stored = Group { id: 2 }.set_with(&store, if_absent).await;
    assert_eq!(kind(stored), Some(ErrorKind::Timeout));
    assert!(!Group::exists(&store, 2).await.unwrap());
}

async fn a_request_is_held_until_it_is_released(on: On) {
    let store = on.store("kit-held").await;
    let held = store.faults().hold_next(Request::Store);
    let loading = tokio::spawn({
        let store = store.clone();
        async move { load(&store).await }
    });
    held.reached().await;
    User::del(&store, 42).await.unwrap();
    assert!(!loading.is_finished());
    held.release();
    assert_eq!(loading.await.unwrap(), Ok(Some(ADA)));
    assert_eq!(User::get(&store, 42).await.unwrap(), None);

    // One that nobody came to holds nobody.
    drop(store.faults().hold_next(Request::Store));
    ADA.set(&store).await.unwrap();
}

async fn a_deletion_that_failed_is_delivered(on: On) {
    let (store, other) = (on.store("kit-kept").await, on.store("kit-kept").await);
    ADA.set(&store).await.unwrap();
    let held = store.faults().hold_next(Request::Delete);
    let lost = Fault::error(ErrorKind::Connection).on(Request::Delete);
    let deleting = tokio::spawn({
        let store = store.clone();
        async move { User::del(&store, 42).await }
    });
    held.reached().await;
    // The next one is that of the task that delivers.
    store.faults().fail_next(lost);
    held.release();
    assert!(deleting.await.unwrap().unwrap());
    User::del(&store, 42).await.unwrap_err();
    assert_eq!(User::get(&store, 42).await.unwrap(), None);
    delivered(&store).await;
    assert_eq!(User::get(&other, 42).await.unwrap(), None);
}

async fn a_store_that_is_down_says_so_and_recovers(on: On) {
    let store = on.store("kit-down").await;
    ADA.set(&store).await.unwrap();
    store.faults().take_down();
    assert_eq!(store.breaker(), BreakerState::Open);
    let error = store.ping().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_refused()),
        (ErrorKind::Connection, true)
    );
    assert!(User::get(&store, 42).await.unwrap_err().is_refused());
    assert!(store.invalidations().await.is_err());
    assert_eq!(load(&store).await, Ok(Some(ADA)));
    let written = User::update(&store, 42, async || Ok::<_, &str>("written")).await;
    assert_eq!(written, Ok("written"));
    assert!(store.undelivered() > 0);
    store.faults().recover();
    assert_eq!(store.breaker(), BreakerState::Closed);
    delivered(&store).await;
    assert_eq!(User::get(&store, 42).await.unwrap(), None, "it was written");
}

async fn calls_are_recorded(on: On) {
    let store = on.store("kit-record").await;
    User::get(&store, 42).await.unwrap();
    let record = store.record();
    ADA.set(&store).await.unwrap();
    let if_absent = SetOptions::new().if_absent();
    assert!(!ADA.set_with(&store, if_absent).await.unwrap());
    User::get(&store, 42).await.unwrap();
    User::get(&store, 7).await.unwrap();
    User::get_many(&store, [42, 7]).await.unwrap();
    User::exists(&store, 42).await.unwrap();
    let calls = record.take();
    assert_eq!(
        calls,
        [
            "set user:42: stored",
            "set user:42: not stored",
            "get user:42: hit",
            "get user:7: miss",
            "get_many user:42 user:7: 1",
            "exists user:42: there",
        ]
    );
    let call = &calls[4];
    assert_eq!((call.verb(), call.type_name()), ("get_many", Some("user")));
    assert_eq!(call.keys(), ["user:42", "user:7"]);
    assert_eq!(call.outcome(), Outcome::Count(1));

    store.of::<User>().count().await.unwrap();
    User::del(&store, 42).await.unwrap();
    User::del(&store, 42).await.unwrap();
    store.invalidate_tag("users").await.unwrap();
    store.faults().fail_next(ErrorKind::Timeout);
    let _ = User::get(&store, 42).await;
    store.ping().await.unwrap();
    assert_eq!(
        record.take(),
        [
            "count user: 1",
            "del user:42: there",
            "del user:42: not there",
            "invalidate_tag users: done",
            "get user:42: failed: timeout",
            "ping: done",
        ]
    );

    // Each has its own, and one that is dropped is none.
    let other = store.record();
    drop(record);
    User::get(&store, 42).await.unwrap();
    assert_eq!(other.take(), ["get user:42: miss"]);
    assert!(other.take().is_empty());
}

async fn a_batch_is_recorded_by_its_items(on: On) {
    let store = on.store("kit-batch").await;
    let record = store.record();
    let group = Group { id: 1 };
    let mut batch = store.batch();
    batch.set(&ADA).set(&group).del::<Group>(7);
    batch.invalidate_tag("users").send().await.all().unwrap();
    assert_eq!(
        record.take(),
        [
            "set user:42: stored",
            "set user-group:1: stored",
            "del user-group:7: not there",
            "invalidate_tag users: done",
        ]
    );
}

async fn loads_say_where_their_values_are_from(on: On) {
    let store = on.store("kit-loads").await;
    let record = store.record();
    let held = store.faults().hold_next(Request::Store);
    let begin = || {
        let store = store.clone();
        tokio::spawn(async move { load(&store).await })
    };
    let leader = begin();
    held.reached().await;
    held.release();
    leader.await.unwrap().unwrap();
    load(&store).await.unwrap();
    let nobody = User::get_or_load(&store, 7, async || Ok::<_, &str>(None::<User>)).await;
    assert_eq!(nobody, Ok(None));
    let failed = User::get_or_load(&store, 7, async || Err::<Option<User>, _>("no database"));
    assert_eq!(failed.await, Err("no database"));
    User::update(&store, 42, async || Ok::<_, &str>(()))
        .await
        .unwrap();
    load(&store).await.unwrap();
    assert_eq!(
        record.take(),
        [
            "get_or_load user:42: loaded",
            "get_or_load user:42: hit",
            "get_or_load user:7: nothing",
            "get_or_load user:7: failed: &str",
            "update user:42: written",
            "get_or_load user:42: loaded",
        ]
    );
}

#[test]
#[should_panic(expected = "no request fails with an error of kind corrupt")]
fn a_kind_that_no_server_gives_is_refused() {
    Store::memory().faults().fail_next(ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_rate_limit_goes_by_the_clock_and_can_fail() {
    let (store, clock) = testing::memory();
    let quota = RateLimiter::builder("kit").quota(1, Duration::from_secs(60));
    let limiter = quota.fail_closed().build().unwrap();
    let check = async || limiter.check(&store, "ada").await;
    assert!(check().await.unwrap().is_allowed());
    assert!(!check().await.unwrap().is_allowed());
    clock.advance(Duration::from_secs(60));
    store
        .faults()
        .fail_next(Fault::error(ErrorKind::Timeout).on(Request::Limit));
    let decision = check().await.unwrap();
    assert_eq!(decision.failure(), Some(ErrorKind::Timeout));
    assert!(check().await.unwrap().is_allowed());
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(ttl = "5m", jitter = "0%", tag = "org:{org_id}", hold = "10s")]
struct Member {
    #[cached(key)]
    id: u64,
    org_id: u64,
}

#[tokio::test]
async fn the_clock_of_a_store_moves_all_that_has_a_time() {
    let (store, clock) = testing::memory();
    let member = Member { id: 1, org_id: 7 };
    member.set(&store).await.unwrap();
    clock.advance(Duration::from_secs(299));
    assert!(Member::get(&store, 1).await.unwrap().is_some());
    clock.advance(Duration::from_secs(1));
    assert!(Member::get(&store, 1).await.unwrap().is_none());

    // A guard that stays for its hold.
    let load = async || {
        let row = Member { id: 1, org_id: 7 };
        Member::get_or_load(&store, 1, async || Ok::<_, ()>(Some(row))).await
    };
    Member::del(&store, 1).await.unwrap();
    load().await.unwrap();
    assert!(!Member::exists(&store, 1).await.unwrap(), "not stored");
    clock.advance(Duration::from_secs(10));
    load().await.unwrap();
    assert!(Member::exists(&store, 1).await.unwrap(), "stored");

    // A value that is stored after an invalidation is stamped by the clock.
    store.invalidate_tag("org:7").await.unwrap();
    assert!(!Member::exists(&store, 1).await.unwrap());
    clock.advance(Duration::from_secs(60));
    member.set(&store).await.unwrap();
    let entry = store.of::<Member>().get_entry(1).await.unwrap().unwrap();
    assert_eq!(entry.age(), Duration::ZERO);
    clock.advance(Duration::from_secs(42));
    let entry = store.of::<Member>().get_entry(1).await.unwrap().unwrap();
    assert_eq!(entry.age(), Duration::from_secs(42));
}

#[tokio::test]
async fn a_store_of_a_test_server_knows_its_tls_and_its_user() {
    let server = TestServer::tls();
    let store = server.store().await;
    ADA.set(&store).await.unwrap();
    assert_eq!(server.cli(&["EXISTS", "user:42"]), "1");

    // Others are not let in.
    let url = server.url();
    let stranger = Store::builder().url(&url).connect().await;
    assert_eq!(kind(stranger), Some(ErrorKind::Tls));
    let wrong = server.store_builder().password("guess").connect().await;
    assert_eq!(kind(wrong), Some(ErrorKind::Auth));

    server.flush();
    assert_eq!(User::get(&store, 42).await.unwrap(), None);
    drop(server);
    assert!(User::get(&store, 42).await.is_err());
}

#[tokio::test]
async fn stores_with_namespaces_share_a_server_and_no_keys() {
    let server = &*crate::stores::PLAIN;
    let (one, other) = (
        server.store_in("kit-one").await,
        server.store_in("kit-other").await,
    );
    ADA.set(&one).await.unwrap();
    assert_eq!(User::get(&other, 42).await.unwrap(), None);
    assert_eq!(server.cli(&["EXISTS", "kit-one:user:42"]), "1");
}

#[test]
fn a_server_that_is_not_installed_is_asked_for() {
    const WITHOUT: &str = "VALKEY_TESTS_WITHOUT_A_SERVER";
    let name = "kit::a_server_that_is_not_installed_is_asked_for";
    if std::env::var_os(WITHOUT).is_some() {
        TestServer::plain();
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(WITHOUT, "1")
        .env("VALKEY_SERVER", "/nowhere/valkey-server")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    for part in [
        "`/nowhere/valkey-server` is not there",
        "install Valkey",
        "VALKEY_SERVER",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[tokio::test]
async fn the_outcomes_of_a_rate_limit_are_recorded() {
    let store = Store::memory();
    let limiter = RateLimiter::builder("login").quota(1, Duration::from_secs(60));
    let limiter = limiter.build().unwrap();
    let record = store.record();
    assert!(limiter.check(&store, "ada").await.unwrap().is_allowed());
    assert!(!limiter.check(&store, "ada").await.unwrap().is_allowed());
    limiter.reset(&store, "ada").await.unwrap();
    let outcomes: Vec<_> = record.take().iter().map(|call| call.outcome()).collect();
    assert_eq!(
        outcomes,
        [Outcome::Allowed, Outcome::Refused, Outcome::Done]
    );
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart")]
struct Cart {
    #[cached(key)]
    id: u64,
    items: Vec<u64>,
}

/// Like a server, a store in the process does not answer a read and the write that follows from it
/// at once.
#[tokio::test]
async fn a_lost_update_shows_in_the_process() {
    let add = async |store: &Store, item| {
        let cart = Cart::get(store, 1).await.unwrap();
        let mut items = cart.map_or(Vec::new(), |cart| cart.items);
        items.push(item);
        Cart { id: 1, items }.set(store).await.unwrap();
    };
    for store in [Store::memory(), testing::memory().0] {
        for (yields, found) in [(true, 100), (false, 200)] {
            store.faults().set_yielding(yields);
            Cart::del(&store, 1).await.unwrap();
            for round in 0..100 {
                tokio::join!(add(&store, round), add(&store, round));
            }
            let cart = Cart::get(&store, 1).await.unwrap().unwrap();
            assert_eq!(cart.items.len(), found, "{yields}");
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "session",
    ttl = "30m",
    jitter = "0%",
    sliding,
    max_age = "7d",
    refresh_ahead = "50%"
)]
struct Session {
    #[cached(key)]
    id: u64,
}

async fn background_work_is_over_once_settled(on: On) {
    let store = on.store("kit-settled").await;
    let session = Session { id: 1 };
    // A load that goes on beside its caller.
    session
        .set_with(&store, SetOptions::new().ttl(Duration::from_secs(60)))
        .await
        .unwrap();
    store.settled().await;
    // A deletion that waits for the store.
    store.faults().take_down();
    assert!(Session::del(&store, 1).await.is_err());
    assert_eq!(store.undelivered(), 1);
    store.faults().recover();
    store.settled().await;
    assert_eq!(store.undelivered(), 0);
    assert_eq!(Session::get(&store, 1).await.unwrap(), None);
    // Guards and streams that a test holds are not waited for.
    let guard = store.of::<Session>().update(2).guard().await.unwrap();
    let stream = store.invalidations().await.unwrap();
    store.settled().await;
    assert!(
        store.stats().background_running() >= 1,
        "the guard is renewed"
    );
    guard.release().await.unwrap();
    drop(stream);
}

/// In the process, where its clock moves it into the time of its refresh.
#[tokio::test]
async fn a_load_beside_its_caller_is_over_once_settled() {
    let (store, clock) = testing::memory();
    Session { id: 1 }.set(&store).await.unwrap();
    clock.advance(Duration::from_secs(20 * 60));
    let load = |_| async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        Ok::<_, &str>(Some(Session { id: 1 }))
    };
    store
        .of::<Session>()
        .load(1)
        .in_background()
        .revalidate(load)
        .await
        .unwrap();
    assert!(store.stats().background_running() > 0);
    store.settled().await;
    let stats = store.stats();
    assert_eq!(
        (stats.background_running(), stats.refreshes(), stats.loads()),
        (0, 1, 1)
    );
    clock.advance(Duration::from_secs(20 * 60));
    assert!(
        Session::get(&store, 1).await.unwrap().is_some(),
        "it was loaded again"
    );
}

/// In the process, where a caller that waits for nothing else has joined.
#[tokio::test]
async fn a_caller_that_joins_a_load_is_recorded_as_coalesced() {
    let store = Store::memory();
    let record = store.record();
    let (row, wanted) = tokio::sync::oneshot::channel();
    let leader = tokio::spawn({
        let store = store.clone();
        let load = async || Ok::<_, &str>(wanted.await.unwrap());
        async move { User::get_or_load(&store, 42, load).await }
    });
    settle(&store).await;
    let follower = tokio::spawn({
        let store = store.clone();
        let load = async || Ok::<_, &str>(None);
        async move { User::get_or_load(&store, 42, load).await }
    });
    settle(&store).await;
    row.send(Some(ADA)).unwrap();
    assert_eq!(leader.await.unwrap(), Ok(Some(ADA)));
    assert_eq!(follower.await.unwrap(), Ok(Some(ADA)));
    let mut calls = record.take();
    calls.retain(|call| call.verb() == "get_or_load");
    calls.sort_by_key(ToString::to_string);
    let joined = "get_or_load user:42: coalesced";
    assert_eq!(calls, [joined, "get_or_load user:42: loaded"]);
}
