//! Rate limits, over every backend. The test of two processes together is in `processes.rs`.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use valkey_runtime::limit::{Decision, RateLimiter, RateLimiterBuilder};
use valkey_runtime::{BreakerState, Cached, ErrorKind, Store};
use valkey_tests::resp::Value;
use valkey_tests::{Proxy, Reply, Server};

use crate::database::until;
use crate::relay::{BEHIND, Relay};
use crate::stores::{On, connect, patient};

suite! {
    crate::limiter =>
    exactly_the_quota_is_let_through
    a_reset_and_a_peek_are_as_said
    several_limits_are_asked_at_once
    a_store_that_is_off_limits_and_one_that_is_closed_does_not
}

const DAY: Duration = Duration::from_secs(86_400);

/// A period that does not end while a test runs: windows begin with the clock's own.
fn period() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    let periods = [300, 347].map(|days| days * DAY.as_secs());
    let longest = periods.into_iter().max_by_key(|all| all - now % all);
    Duration::from_secs(longest.unwrap())
}

fn all(name: &str, quota: u32) -> [RateLimiter; 3] {
    let builder = || RateLimiter::builder(name).quota(quota, period());
    let built = |builder: RateLimiterBuilder| builder.build().unwrap();
    [
        built(builder()),
        built(builder().fixed_window()),
        built(builder().sliding_window()),
    ]
}

const QUOTA: u32 = 100;

/// How many of 256 requests are let through that 64 tasks make on two stores, as two processes have
/// them.
async fn let_through<F>(stores: [&Store; 2], check: impl Fn(Store) -> F) -> u32
where
    F: Future<Output = bool> + Send + 'static,
{
    let tasks = (0..64).map(|task| {
        let checks: Vec<F> = (0..4).map(|_| check(stores[task % 2].clone())).collect();
        tokio::spawn(async move {
            let mut allowed = 0;
            for check in checks {
                allowed += u32::from(check.await);
            }
            allowed
        })
    });
    join_all(tasks).await.into_iter().map(Result::unwrap).sum()
}

pub(crate) async fn exactly_the_quota_is_let_through(on: On) {
    for (at, limiter) in all("exact", QUOTA).into_iter().enumerate() {
        let one = on.store("limit-exact").await;
        let other = match on {
            On::Memory => one.clone(),
            _ => on.store("limit-exact").await,
        };
        let check = |store: Store| {
            let limiter = limiter.clone();
            async move {
                let decision = limiter.check(&store, at as u64).await.unwrap();
                assert_eq!(decision.failure(), None);
                decision.is_allowed()
            }
        };
        let allowed = let_through([&one, &other], check).await;
        assert_eq!(allowed, QUOTA, "{on:?} {limiter:?}");
        let limited = one.stats().rate_limited() + other.stats().rate_limited();
        assert_eq!(limited, if on == On::Memory { 2 * 156 } else { 156 });
    }
}

/// A counter that is no limiter.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "count", ttl = "1h")]
struct Count {
    #[cached(key)]
    id: u64,
    taken: u32,
}

/// The control: the test above can tell a limiter from a plain counter.
async fn a_get_and_a_set_let_more_through(on: On) {
    let (one, other) = (on.store("limit-naive").await, on.store("limit-naive").await);
    let check = |store: Store| async move {
        let taken = Count::get(&store, 1).await.unwrap();
        let taken = taken.map_or(0, |count| count.taken);
        if taken < QUOTA {
            let count = Count {
                id: 1,
                taken: taken + 1,
            };
            count.set(&store).await.unwrap();
        }
        taken < QUOTA
    };
    let allowed = let_through([&one, &other], check).await;
    assert!(allowed > QUOTA, "{allowed}");
}

#[tokio::test]
async fn a_get_and_a_set_on_a_server_let_more_through() {
    a_get_and_a_set_let_more_through(On::Plain).await;
}

#[tokio::test]
async fn a_get_and_a_set_on_a_cluster_let_more_through() {
    a_get_and_a_set_let_more_through(On::Cluster).await;
}

pub(crate) async fn a_reset_and_a_peek_are_as_said(on: On) {
    let store = on.store("limit-reset").await;
    let allows = |decision: valkey_runtime::Result<Decision>| decision.unwrap().is_allowed();
    for limiter in all("reset", 3) {
        limiter.reset(&store, ("a:", 1)).await.unwrap();
        for remaining in [3, 3] {
            let peeked = limiter.peek(&store, ("a:", 1)).await.unwrap();
            assert_eq!((peeked.is_allowed(), peeked.remaining()), (true, remaining));
        }
        assert!(allows(limiter.check_n(&store, ("a:", 1), 3).await));
        let refused = limiter.check(&store, ("a:", 1)).await.unwrap();
        assert!(!refused.is_allowed() && !refused.retry_after().is_zero());
        assert_eq!((refused.limit(), refused.remaining()), (3, 0));
        assert!(refused.reset() >= refused.retry_after());
        assert!(!allows(limiter.peek(&store, ("a:", 1)).await));
        assert!(allows(limiter.peek(&store, ("a", 1)).await));
        limiter.reset(&store, ("a:", 1)).await.unwrap();
        assert!(allows(limiter.check(&store, ("a:", 1)).await));
        for cost in [0, 4] {
            let error = limiter.check_n(&store, 1, cost).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
    assert_eq!(store.stats().rate_limited(), 3, "a peek is no request");
}

pub(crate) async fn several_limits_are_asked_at_once(on: On) {
    let store = on.store("limit-several").await;
    let [wide, _, _] = all("wide", 100);
    let [narrow, _, _] = all("narrow", 2);
    for remaining in [1, 0] {
        let asked = [wide.request("address"), narrow.request(42)];
        let decision = RateLimiter::check_all(&store, &asked).await.unwrap();
        assert!(decision.is_allowed());
        assert_eq!(
            (decision.name(), decision.remaining()),
            ("narrow", remaining)
        );
    }
    let asked = [wide.request("address"), narrow.request(42)];
    for _ in 0..2 {
        let decision = RateLimiter::check_all(&store, &asked).await.unwrap();
        assert_eq!((decision.is_allowed(), decision.name()), (false, "narrow"));
    }
    // The first refusal was counted by the other, and the second asked nobody.
    assert_eq!(wide.peek(&store, "address").await.unwrap().remaining(), 97);
    let stats = store.stats();
    assert_eq!((stats.rate_limited(), stats.rate_limited_locally()), (2, 1));
    let error = RateLimiter::check_all(&store, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let dear = [wide.request("address").cost(101)];
    let error = RateLimiter::check_all(&store, &dear).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

pub(crate) async fn a_store_that_is_off_limits_and_one_that_is_closed_does_not(on: On) {
    let store = on.store("limit-off").await;
    let open = RateLimiter::builder("open").quota(1, DAY).build().unwrap();
    let closed = RateLimiter::builder("closed").quota(1, DAY).fail_closed();
    let closed = closed.build().unwrap();
    store.set_enabled(false);
    for allowed in [true, false] {
        let decision = open.check(&store, 1).await.unwrap();
        assert_eq!((decision.is_allowed(), decision.failure()), (allowed, None));
    }
    store.close().await;
    for (limiter, allowed) in [(&open, true), (&closed, false)] {
        let checked = limiter.check(&store, 2).await.unwrap();
        let peeked = limiter.peek(&store, 2).await.unwrap();
        let asked = [limiter.request(2)];
        let all = RateLimiter::check_all(&store, &asked).await.unwrap();
        for decision in [checked, peeked, all] {
            assert_eq!(decision.failure(), Some(ErrorKind::Closed));
            assert_eq!(decision.is_allowed(), allowed);
        }
        let error = limiter.reset(&store, 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    let stats = store.stats();
    assert_eq!((stats.rate_limit_failures(), stats.rate_limited()), (6, 1));
}

/// Under its own name, for as long as it says something.
async fn a_limit_is_stored_under_its_own_key_until_its_reset(on: On) {
    let store = on.store("limit-bytes").await;
    for (letter, limiter) in ["g", "f", "s"].into_iter().zip(all("a:b", 10)) {
        let key = "limit-bytes:::limit:a%3Ab:7:x%7B%7D";
        limiter.reset(&store, (7, "x{}")).await.unwrap();
        assert_eq!(on.raw(&["EXISTS", key]), Value::Integer(0));
        let decision = limiter.check_n(&store, (7, "x{}"), 3).await.unwrap();
        let Value::Bulk(state) = on.raw(&["GET", key]) else {
            panic!("there is no state")
        };
        assert_eq!((&state[..1], state.len()), (letter.as_bytes(), 49));
        let Value::Integer(life) = on.raw(&["PTTL", key]) else {
            panic!("there is no life")
        };
        // The decision is of a moment before, and the test may have been held up since.
        let (life, reset) = (life as u128, decision.reset().as_millis());
        assert!(
            life <= reset + 1 && life + 60_000 > reset,
            "{life} {reset} {limiter:?}"
        );
        // Bytes that are no state of the limit count as none.
        on.raw(&["SET", key, "what?"]);
        assert_eq!(
            limiter.peek(&store, (7, "x{}")).await.unwrap().remaining(),
            10
        );
    }
}

#[tokio::test]
async fn the_state_on_a_server_is_a_string_that_expires() {
    a_limit_is_stored_under_its_own_key_until_its_reset(On::Plain).await;
}

#[tokio::test]
async fn the_state_on_a_cluster_is_a_string_that_expires() {
    a_limit_is_stored_under_its_own_key_until_its_reset(On::Cluster).await;
}

#[tokio::test]
async fn a_check_is_one_script_and_a_flood_is_none() {
    let relay = Relay::to(&BEHIND);
    let store = patient(Store::builder().url(&relay.url())).namespace("limit-count");
    let store = store.connect().await.unwrap();
    let [limiter, _, _] = all("count", 1);
    assert!(limiter.check(&store, "other").await.unwrap().is_allowed());
    relay.take();
    assert!(limiter.check(&store, "a").await.unwrap().is_allowed());
    assert!(!limiter.check(&store, "a").await.unwrap().is_allowed());
    assert_eq!(relay.take(), [("limit", 2)].into());
    let flood = (0..1000).map(|_| limiter.check(&store, "a"));
    let local = join_all(flood)
        .await
        .into_iter()
        .filter(|one| !one.as_ref().unwrap().is_allowed());
    assert_eq!(local.count(), 1000);
    let asked = relay.take().get("limit").copied().unwrap_or(0);
    assert_eq!(store.stats().rate_limited_locally() as usize, 1000 - asked);
    assert!(asked < 100, "{asked}");
}

/// Nothing is answered, and all is asked nevertheless: the second did not wait for the first.
#[tokio::test]
async fn several_limits_are_one_round_trip() {
    let relay = Relay::meddling(&BEHIND, |purpose, pass_on| match purpose {
        "limit" => Reply::Nothing,
        _ => pass_on(),
    });
    // The server knows the script.
    let direct = connect(&BEHIND.url()).await;
    let [address, user, tenant] = all("trip", 1);
    assert!(address.check(&direct, "known").await.unwrap().is_allowed());
    let patience = Duration::from_secs(60);
    let builder = Store::builder().url(&relay.url()).command_timeout(patience);
    let store = builder.operation_timeout(patience).connect().await.unwrap();
    relay.take();
    let asked = [address.request(1), user.request(2), tenant.request(3)];
    let mut sent = 0;
    let all_sent = until("all three are sent", async || {
        sent += relay.take().get("limit").copied().unwrap_or(0);
        sent == 3
    });
    tokio::select! {
        decision = RateLimiter::check_all(&store, &asked) => panic!("{decision:?}"),
        () = all_sent => {}
    }
}

/// As where a client gets no answer and sends it again.
#[tokio::test]
async fn a_check_that_is_sent_twice_counts_twice_and_allows_no_more() {
    let relay = Relay::meddling(&BEHIND, |purpose, pass_on| {
        if purpose == "limit" {
            pass_on();
        }
        pass_on()
    });
    let store = patient(Store::builder().url(&relay.url())).namespace("limit-twice");
    let store = store.connect().await.unwrap();
    for limiter in all("twice", 6) {
        limiter.reset(&store, ()).await.unwrap();
        let mut remaining = Vec::new();
        for _ in 0..6 {
            let decision = limiter.check(&store, ()).await.unwrap();
            if decision.is_allowed() {
                remaining.push(decision.remaining());
            }
        }
        assert_eq!(remaining, [4, 2, 0], "{limiter:?}");
    }
}

#[tokio::test]
async fn without_the_server_it_is_as_the_limiter_was_told() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let store = connect(&proxy.url()).await;
    let open = RateLimiter::builder("open").quota(1, DAY).build().unwrap();
    let closed = RateLimiter::builder("closed").quota(1, DAY).fail_closed();
    let closed = closed.build().unwrap();
    proxy.refuse();
    proxy.cut();
    for round in 1..=3 {
        for (limiter, allowed) in [(&open, true), (&closed, false)] {
            let decision = limiter.check(&store, 7).await.unwrap();
            assert_eq!(decision.is_allowed(), allowed);
            assert!(decision.failure().is_some());
            assert_eq!(decision.retry_after().is_zero(), allowed);
        }
        assert_eq!(store.stats().rate_limit_failures(), 2 * round);
    }
    assert_eq!(store.stats().rate_limited(), 0);
}

#[tokio::test]
async fn while_the_breaker_is_open_nothing_is_sent() {
    let server = Server::plain();
    let patience = Duration::from_secs(1);
    let builder = Store::builder()
        .url(&server.url())
        .command_timeout(patience);
    let store = builder.connect().await.unwrap();
    let [limiter, _, _] = all("breaker", 1);
    server.pause();
    until("the breaker opens", async || {
        assert!(store.ping().await.is_err());
        store.breaker() != BreakerState::Closed
    })
    .await;
    let before = store.stats();
    for _ in 0..100 {
        let decision = limiter.check(&store, 7).await.unwrap();
        assert_eq!(
            decision.failure(),
            Some(ErrorKind::Timeout),
            "what opened it"
        );
        assert!(decision.is_allowed());
    }
    let stats = store.stats();
    assert_eq!(stats.refused() - before.refused(), 100);
    assert_eq!(stats.rate_limit_failures(), 100);
    server.resume();
}

#[tokio::test]
async fn a_server_at_its_memory_limit_counts_the_keys_that_it_has() {
    let server = Server::plain();
    let store = connect(&server.url()).await;
    let [open, _, _] = all("open", 2);
    let closed = RateLimiter::builder("closed").quota(1, DAY).fail_closed();
    let closed = closed.build().unwrap();
    assert!(open.check(&store, "known").await.unwrap().is_allowed());
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for allowed in [true, false] {
        let decision = open.check(&store, "known").await.unwrap();
        assert_eq!((decision.is_allowed(), decision.failure()), (allowed, None));
    }
    for (limiter, allowed) in [(&open, true), (&closed, false)] {
        let decision = limiter.check(&store, "new").await.unwrap();
        assert_eq!(decision.failure(), Some(ErrorKind::OutOfMemory));
        assert_eq!(decision.is_allowed(), allowed);
    }
    let stats = store.stats();
    assert_eq!((stats.rate_limit_failures(), stats.rate_limited()), (2, 1));
    assert_eq!(stats.errors(ErrorKind::OutOfMemory), 2);
}
