//! Writes in an outage go on, and say so: in the log, in the counters, and to who asks.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, ManualClock, Store, UpdateReport};

use crate::log::Log;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m")]
struct User {
    #[cached(key)]
    id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "team", ttl = "5m")]
struct Team {
    #[cached(key)]
    id: u64,
}

async fn memory() -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    (store.connect().await.unwrap(), clock)
}

#[tokio::test]
async fn writes_without_a_guard_are_told_once_a_minute_by_type_also_while_the_breaker_is_open() {
    let log = Log::default();
    let _taken = log.takes();
    let (store, clock) = memory().await;
    store.faults().take_down();
    for id in 0..50 {
        User::update(&store, id, async || Ok::<_, ()>(()))
            .await
            .unwrap();
    }
    Team::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    let lines = |what: &str| {
        let lines = log.lines("WARN");
        lines
            .into_iter()
            .filter(|line| line.contains(what))
            .collect::<Vec<_>>()
    };
    for what in [
        "a guard could not be placed; the row is written without it",
        "the server did not confirm the end of a guard",
    ] {
        let told = lines(what);
        assert_eq!(told.len(), 2, "a line a type: {told:#?}");
        assert!(
            told[0].contains("\"user\"") && told[1].contains("\"team\""),
            "{told:#?}"
        );
    }
    clock.advance(Duration::from_secs(60));
    User::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    let told = lines("a guard could not be placed; the row is written without it");
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[2].contains("(49 more in 60 s)"), "{told:#?}");

    let stats = store.stats();
    assert_eq!(
        (stats.unguarded_writes(), stats.unconfirmed_writes()),
        (52, 52)
    );
    let teams = stats.types().find(|of| of.name() == "team").unwrap();
    assert_eq!(
        (teams.unguarded_writes(), teams.unconfirmed_writes()),
        (1, 1)
    );
    let text = stats.to_string();
    assert!(
        text.contains("writes without guard 52, writes not confirmed 52"),
        "{text}"
    );
}

#[tokio::test]
async fn a_report_says_whether_a_write_was_guarded_and_its_end_confirmed() {
    let (store, _) = memory().await;
    let report = UpdateReport::new();
    let told = || (report.was_guarded(), report.is_confirmed());
    assert_eq!(told(), (false, false));
    let update = |write: Result<(), ()>| {
        store
            .of::<User>()
            .update(1)
            .report(&report)
            .run(async move || write)
    };

    update(Ok(())).await.unwrap();
    assert_eq!(told(), (true, true));
    update(Err(())).await.unwrap_err();
    assert_eq!(told(), (true, false), "the guard is left to run out");
    store.faults().take_down();
    update(Ok(())).await.unwrap();
    assert_eq!(told(), (false, false));
    store.faults().recover();

    // The server comes back while the row is written.
    store.faults().take_down();
    let write = async || {
        store.faults().recover();
        Ok::<_, ()>(())
    };
    store
        .of::<User>()
        .update(2)
        .report(&report)
        .run(write)
        .await
        .unwrap();
    assert_eq!(told(), (false, true));
    // And goes away.
    let write = async || {
        store.faults().take_down();
        Ok::<_, ()>(())
    };
    store
        .of::<User>()
        .write_through(&User { id: 3 })
        .report(&report)
        .run(write)
        .await
        .unwrap();
    assert_eq!(told(), (true, false));
    assert!(store.undelivered() > 0);
}
