//! Rate limits, over every backend.

use std::time::Duration;

use futures_util::future::join_all;
use valkey_runtime::{ErrorKind, RateLimiter, RateLimiterBuilder, Store};
use valkey_tests::{Proxy, Server};

use crate::relay::{BEHIND, Relay};
use crate::stores::On;

suite! {
    crate::limiter =>
    exactly_the_quota_is_let_through
    a_get_and_a_set_let_more_through
    a_reset_and_a_peek_are_as_said
    several_limits_are_asked_at_once
}

const DAY: Duration = Duration::from_secs(86_400);

fn all(name: &str, quota: u32) -> [RateLimiter; 3] {
    let builder = || RateLimiter::builder(name).quota(quota, 300 * DAY);
    let built = |builder: RateLimiterBuilder| builder.build().unwrap();
    [
        built(builder()),
        built(builder().fixed_window()),
        built(builder().sliding_window()),
    ]
}

/// 64 tasks on two stores, as two processes have them.
pub(crate) async fn exactly_the_quota_is_let_through(on: On) {
    for (at, limiter) in all("exact", 100).into_iter().enumerate() {
        let one = on.store("limit-exact").await;
        let other = match on {
            On::Memory => one.clone(),
            _ => on.store("limit-exact").await,
        };
        let tasks = (0..64).map(|task| {
            let (store, limiter) = ([&one, &other][task % 2].clone(), limiter.clone());
            tokio::spawn(async move {
                let mut allowed = 0;
                for _ in 0..4 {
                    let decision = limiter.check(&store, at as u64).await.unwrap();
                    assert_eq!(decision.failure(), None);
                    allowed += u32::from(decision.is_allowed());
                }
                allowed
            })
        });
        let allowed = join_all(tasks).await.into_iter().map(Result::unwrap);
        assert_eq!(allowed.sum::<u32>(), 100, "{on:?} {limiter:?}");
        let limited = one.stats().rate_limited() + other.stats().rate_limited();
        assert_eq!(limited, if on == On::Memory { 2 * 156 } else { 156 });
    }
}

/// What the count above would not show if it could not tell.
pub(crate) async fn a_get_and_a_set_let_more_through(on: On) {
    if on == On::Memory {
        return;
    }
    let key = "limit-naive:{n}";
    on.raw(&["DEL", key]);
    let read = || match on.raw(&["GET", key]) {
        valkey_tests::resp::Value::Bulk(count) => {
            String::from_utf8(count).unwrap().parse().unwrap()
        }
        _ => 0u32,
    };
    // Two callers that both look before either writes.
    let (one, other) = (read(), read());
    let mut allowed = 0;
    for count in [one, other] {
        if count < 1 {
            on.raw(&["SET", key, &(count + 1).to_string()]);
            allowed += 1;
        }
    }
    assert_eq!(allowed, 2, "of a quota of 1");
}

pub(crate) async fn a_reset_and_a_peek_are_as_said(on: On) {
    let store = on.store("limit-reset").await;
    for limiter in all("reset", 3) {
        limiter.reset(&store, ("a:", 1)).await.unwrap();
        for remaining in [3, 3] {
            let peeked = limiter.peek(&store, ("a:", 1)).await.unwrap();
            assert_eq!((peeked.is_allowed(), peeked.remaining()), (true, remaining));
        }
        assert!(
            limiter
                .check_n(&store, ("a:", 1), 3)
                .await
                .unwrap()
                .is_allowed()
        );
        let refused = limiter.check(&store, ("a:", 1)).await.unwrap();
        assert!(!refused.is_allowed() && !refused.retry_after().is_zero());
        assert!(!limiter.peek(&store, ("a:", 1)).await.unwrap().is_allowed());
        assert!(limiter.peek(&store, ("a", 1)).await.unwrap().is_allowed());
        store.set_enabled(false);
        assert!(!limiter.check(&store, ("a:", 1)).await.unwrap().is_allowed());
        store.set_enabled(true);
        limiter.reset(&store, ("a:", 1)).await.unwrap();
        assert!(limiter.check(&store, ("a:", 1)).await.unwrap().is_allowed());
    }
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
    let error = RateLimiter::check_all(&store, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_check_is_one_script_and_a_flood_is_none() {
    let relay = Relay::to(&BEHIND);
    let store = Store::builder().url(&relay.url()).namespace("limit-count");
    let store = store.connect().await.unwrap();
    let [limiter, _, _] = all("count", 1);
    let _ = limiter.check(&store, "other").await.unwrap();
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

#[tokio::test]
async fn without_the_server_it_is_as_the_limiter_was_told() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let patience = Duration::from_millis(300);
    let builder = Store::builder().url(&proxy.url()).command_timeout(patience);
    let store = builder.connect().await.unwrap();
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
        }
        assert_eq!(store.stats().rate_limit_failures(), 2 * round);
    }
    assert_eq!(store.stats().rate_limited(), 0);
    store.close().await;
    let decision = closed.check(&store, 7).await.unwrap();
    assert_eq!(decision.failure(), Some(ErrorKind::Closed));
}
