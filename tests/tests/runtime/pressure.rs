//! Loading under pressure, over every backend: absences, jitter, what a loader decides, what a call
//! decides, the switch.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use valkey_runtime::{Cached, LoadError, Loaded, ManualClock, SetOptions, Source, Store, Ttl};

use crate::stores::On;

suite! {
    crate::pressure =>
    an_absence_is_remembered
    an_absence_is_no_value
    an_absence_ends_with_a_set_a_deletion_and_an_update
    absences_of_many_are_remembered
    a_type_without_ttl_absent_loads_over_an_absence
    a_bare_value_is_a_loaders_answer
    a_loader_decides_how_long_its_value_is_kept
    a_loader_decides_that_its_value_is_not_kept
    a_call_decides_how_long_what_it_loads_is_kept
    a_fresh_load_replaces_what_is_there
    a_fresh_load_spares_a_guard_and_a_newer_version
    a_bypass_leaves_the_cache_alone
    while_it_is_off_nothing_is_read_or_stored_and_nothing_old_is_left
    ttls_are_jittered_and_never_longer
    a_ttl_of_a_call_is_not_jittered
    an_entry_tells_where_it_comes_from
    a_hung_load_ends_at_its_deadline_and_frees_what_it_held
    a_caller_queues_no_longer_than_it_says
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "item",
    ttl = "5m",
    ttl_absent = "1m",
    jitter = "0%",
    version = 2
)]
struct Item {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// The same keys, without absences.
#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "item", version = 2)]
struct Plain {
    #[cached(key)]
    id: u64,
    row: u32,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "item", version = 1)]
struct Older {
    #[cached(key)]
    id: u64,
}

#[derive(Debug, Serialize, Deserialize, Cached)]
#[cached(ttl = "100s", jitter = "20%")]
struct Jittered {
    #[cached(key)]
    id: u64,
}

fn row(row: u32) -> Item {
    Item { id: 1, row }
}

/// Loads this, and tells whether the loader was run.
async fn load(store: &Store, found: Option<Item>) -> (Option<Item>, bool) {
    let before = store.stats().loads();
    let loaded = Item::get_or_load(store, 1, async || Ok::<_, ()>(found))
        .await
        .unwrap();
    (loaded, store.stats().loads() > before)
}

async fn an_absence_is_remembered(on: On) {
    let store = on.store("absence").await;
    assert_eq!(load(&store, None).await, (None, true));
    assert_eq!(load(&store, Some(row(7))).await, (None, false));
    assert_eq!((store.stats().absences(), store.stats().misses()), (1, 1));
}

async fn an_absence_is_no_value(on: On) {
    let store = on.store("absence-none").await;
    load(&store, None).await;
    assert_eq!(Item::get(&store, 1).await.unwrap(), None);
    assert!(!Item::exists(&store, 1).await.unwrap());
    assert_eq!(store.of::<Item>().ttl(1).await.unwrap(), None);
    assert!(!Item::touch(&store, 1).await.unwrap());
    assert!(!Item::del(&store, 1).await.unwrap());
    load(&store, None).await;
    assert!(
        !row(1)
            .set_with(&store, SetOptions::new().if_present())
            .await
            .unwrap()
    );
    assert!(
        row(1)
            .set_with(&store, SetOptions::new().if_absent())
            .await
            .unwrap()
    );
}

async fn an_absence_ends_with_a_set_a_deletion_and_an_update(on: On) {
    let store = on.store("absence-ends").await;
    load(&store, None).await;
    row(7).set(&store).await.unwrap();
    assert_eq!(load(&store, None).await, (Some(row(7)), false));
    Item::del(&store, 1).await.unwrap();
    assert_eq!(load(&store, None).await, (None, true));
    Item::del(&store, 1).await.unwrap();
    assert_eq!(load(&store, None).await, (None, true));
    Item::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    assert_eq!(load(&store, Some(row(8))).await, (Some(row(8)), true));
}

async fn absences_of_many_are_remembered(on: On) {
    let store = on.store("absence-many").await;
    let load = || {
        Item::get_or_load_many(&store, 1..=3, async |_| {
            Ok::<_, ()>(vec![(2, Item { id: 2, row: 7 })])
        })
    };
    for _ in 0..2 {
        let found = load().await.unwrap();
        assert_eq!(
            found.iter().map(Option::is_some).collect::<Vec<_>>(),
            [false, true, false]
        );
    }
    assert_eq!((store.stats().loads(), store.stats().absences()), (1, 2));
}

async fn a_type_without_ttl_absent_loads_over_an_absence(on: On) {
    let store = on.store("absence-plain").await;
    load(&store, None).await;
    let loaded = Plain::get_or_load(&store, 1, async || {
        Ok::<_, ()>(Some(Plain { id: 1, row: 7 }))
    })
    .await;
    assert_eq!(loaded.unwrap().unwrap().row, 7);
    assert_eq!(load(&store, None).await, (Some(row(7)), false));
}

async fn a_bare_value_is_a_loaders_answer(on: On) {
    let store = on.store("bare").await;
    let loaded = Item::get_or_load(&store, 1, async || Ok::<_, ()>(row(7))).await;
    assert_eq!(loaded, Ok(row(7)));
    assert_eq!(Item::get(&store, 1).await.unwrap(), Some(row(7)));
}

fn seconds(ttl: Option<Ttl>) -> u64 {
    match ttl {
        Some(Ttl::After(left)) => left.as_millis().div_ceil(1000) as u64,
        Some(Ttl::Never) => u64::MAX,
        None => 0,
    }
}

async fn a_loader_decides_how_long_its_value_is_kept(on: On) {
    let store = on.store("adaptive").await;
    for (ttl, kept) in [
        (Ttl::After(Duration::from_secs(40)), 40),
        (Ttl::Never, u64::MAX),
    ] {
        Item::del(&store, 1).await.unwrap();
        let loaded = Item::get_or_load(&store, 1, async || {
            Ok::<_, ()>(Loaded::value(row(7)).ttl(ttl))
        });
        assert_eq!(loaded.await, Ok(Some(row(7))));
        let seconds = seconds(store.of::<Item>().ttl(1).await.unwrap());
        assert!(
            seconds == kept || (kept < 100 && (30..=kept).contains(&seconds)),
            "{seconds}"
        );
    }
    // A time of nothing stores nothing, and is no mistake.
    Item::del(&store, 1).await.unwrap();
    let zero = Item::get_or_load(&store, 1, async || {
        Ok::<_, ()>(Loaded::value(row(7)).ttl(Duration::ZERO))
    });
    assert_eq!(zero.await, Ok(Some(row(7))));
    assert!(!Item::exists(&store, 1).await.unwrap());
    assert_eq!(store.stats().errors_total(), 0);
}

async fn a_loader_decides_that_its_value_is_not_kept(on: On) {
    let store = on.store("not-kept").await;
    for answer in [
        Loaded::value(row(7)).dont_store(),
        Loaded::absent().dont_store(),
    ] {
        let loaded = Item::get_or_load(&store, 1, async || Ok::<_, ()>(answer.clone()))
            .await
            .unwrap();
        assert_eq!(
            loaded.is_some(),
            answer == Loaded::value(row(7)).dont_store()
        );
        assert_eq!(Item::get(&store, 1).await.unwrap(), None);
    }
    assert_eq!(
        load(&store, Some(row(8))).await,
        (Some(row(8)), true),
        "nothing is left that it waits for"
    );
    assert!(Item::exists(&store, 1).await.unwrap());
}

async fn a_call_decides_how_long_what_it_loads_is_kept(on: On) {
    let store = on.store("call-ttl").await;
    store
        .of::<Item>()
        .load(1)
        .ttl(Duration::from_secs(40))
        .run(async || Ok::<_, ()>(row(7)))
        .await
        .unwrap();
    assert!((30..=40).contains(&seconds(store.of::<Item>().ttl(1).await.unwrap())));
}

async fn a_fresh_load_replaces_what_is_there(on: On) {
    let store = on.store("fresh").await;
    row(7).set(&store).await.unwrap();
    let fresh = || {
        store
            .of::<Item>()
            .load(1)
            .fresh()
            .run(async || Ok::<_, ()>(row(8)))
    };
    assert_eq!(fresh().await, Ok(row(8)));
    assert_eq!(Item::get(&store, 1).await.unwrap(), Some(row(8)));
    Item::del(&store, 1).await.unwrap();
    assert_eq!(fresh().await, Ok(row(8)));
    assert_eq!(Item::get(&store, 1).await.unwrap(), Some(row(8)));

    // A load that began before is not stored after it.
    Item::del(&store, 1).await.unwrap();
    let older = Item::get_or_load(&store, 1, async || {
        fresh().await.unwrap();
        Ok::<_, ()>(row(6))
    });
    assert_eq!(older.await, Ok(row(6)));
    assert_eq!(Item::get(&store, 1).await.unwrap(), Some(row(8)));
}

async fn a_fresh_load_spares_a_guard_and_a_newer_version(on: On) {
    let store = on.store("fresh-spares").await;
    row(7).set(&store).await.unwrap();
    store
        .of::<Older>()
        .load(1)
        .fresh()
        .run(async || Ok::<_, ()>(Older { id: 1 }))
        .await
        .unwrap();
    assert_eq!(Item::get(&store, 1).await.unwrap(), Some(row(7)));
    let guard = store.of::<Item>().update(1).guard().await.unwrap();
    let loaded = store
        .of::<Item>()
        .load(1)
        .fresh()
        .run(async || Ok::<_, ()>(row(8)))
        .await;
    assert_eq!(loaded, Ok(row(8)));
    assert!(guard.still_held().await.unwrap());
    guard.release().await.unwrap();
    assert_eq!(Item::get(&store, 1).await.unwrap(), None);
}

async fn a_bypass_leaves_the_cache_alone(on: On) {
    let store = on.store("bypass").await;
    row(7).set(&store).await.unwrap();
    let loaded = store
        .of::<Item>()
        .load(1)
        .bypass()
        .run(async || Ok::<_, ()>(row(8)))
        .await;
    assert_eq!(loaded, Ok(row(8)));
    assert_eq!(Item::get(&store, 1).await.unwrap(), Some(row(7)));
}

async fn while_it_is_off_nothing_is_read_or_stored_and_nothing_old_is_left(on: On) {
    let store = on.store("switch").await;
    let ids = 1..=7u64;
    let fill = async || {
        let items: Vec<_> = ids.clone().map(|id| Item { id, row: 7 }).collect();
        Item::set_many(&store, &items).await.unwrap();
    };
    fill().await;
    store.set_enabled(false);
    assert!(!store.is_enabled());
    assert_eq!(Item::get(&store, 1).await.unwrap(), None);
    assert_eq!(Item::get_many(&store, [1, 2]).await.unwrap(), [None, None]);
    assert!(!Item::exists(&store, 1).await.unwrap());
    assert_eq!(store.of::<Item>().ttl(1).await.unwrap(), None);
    assert!(!Item::touch(&store, 1).await.unwrap());
    // Each of these would have stored something, and leaves nothing.
    Item { id: 1, row: 8 }.set(&store).await.unwrap();
    Item::set_many(&store, &[Item { id: 2, row: 8 }])
        .await
        .unwrap();
    assert!(
        !Item { id: 3, row: 8 }
            .set_with(&store, SetOptions::new().if_present())
            .await
            .unwrap()
    );
    let loaded = Item::get_or_load(&store, 4, async || Ok::<_, ()>(Item { id: 4, row: 8 })).await;
    assert_eq!(loaded.unwrap().row, 8);
    let loaded = Item::get_or_load_many(&store, [5], async |_| {
        Ok::<_, ()>(vec![(5, Item { id: 5, row: 8 })])
    })
    .await;
    assert_eq!(loaded.unwrap()[0].as_ref().unwrap().row, 8);
    Item::write_through(&store, &Item { id: 6, row: 8 }, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    Item::del(&store, 7).await.unwrap();
    store.set_enabled(true);
    let left = Item::get_many(&store, ids.clone()).await.unwrap();
    assert_eq!(left.into_iter().flatten().count(), 0, "nothing old is left");
    fill().await;
    assert_eq!(
        Item::get_many(&store, ids)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .count(),
        7
    );
}

async fn ttls_are_jittered_and_never_longer(on: On) {
    let store = on.store("jitter").await;
    let items: Vec<_> = (0..40).map(|id| Jittered { id }).collect();
    Jittered::set_many(&store, &items[..20]).await.unwrap();
    for item in &items[20..30] {
        item.set(&store).await.unwrap();
    }
    for id in 30..40 {
        Jittered::get_or_load(&store, id, async || Ok::<_, ()>(Jittered { id }))
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    for id in 0..40 {
        seen.push(seconds(store.of::<Jittered>().ttl(id).await.unwrap()));
    }
    assert!(
        seen.iter().all(|seconds| (70..=100).contains(seconds)),
        "{seen:?}"
    );
    for part in [&seen[..20], &seen[20..30], &seen[30..]] {
        assert!(part.iter().any(|seconds| seconds != &part[0]), "{part:?}");
    }
}

async fn a_ttl_of_a_call_is_not_jittered(on: On) {
    let store = on.store("no-jitter").await;
    for id in 0..20 {
        Jittered { id }
            .set_with(&store, SetOptions::new().ttl(Duration::from_secs(1000)))
            .await
            .unwrap();
        assert!(seconds(store.of::<Jittered>().ttl(id).await.unwrap()) > 990);
    }
}

async fn an_entry_tells_where_it_comes_from(on: On) {
    let store = on.store("entry").await;
    assert!(store.of::<Item>().get_entry(1).await.unwrap().is_none());
    let load = || {
        store
            .of::<Item>()
            .load(1)
            .entry()
            .run(async || Ok::<_, ()>(row(7)))
    };
    let loaded = load().await.unwrap();
    assert_eq!(
        (loaded.source(), loaded.row, loaded.version()),
        (Source::Loaded, 7, 2)
    );
    assert_eq!(
        loaded.expires_in(),
        Some(Ttl::After(Duration::from_secs(300)))
    );
    let found = load().await.unwrap();
    assert_eq!(
        (found.source(), found.stamp()),
        (Source::Cached, loaded.stamp())
    );
    let seen = store.of::<Item>().get_entry(1).await.unwrap().unwrap();
    assert_eq!(
        (seen.source(), seen.stamp()),
        (Source::Cached, loaded.stamp())
    );
    assert!(
        (290..=300).contains(&seconds(seen.expires_in())),
        "{:?}",
        seen.expires_in()
    );
    assert!(seen.age() < Duration::from_secs(20), "{:?}", seen.age());
    row(8).set(&store).await.unwrap();
    assert_ne!(
        store
            .of::<Item>()
            .get_entry(1)
            .await
            .unwrap()
            .unwrap()
            .stamp(),
        loaded.stamp()
    );

    let aside = store
        .of::<Item>()
        .load(2)
        .entry()
        .run(async || Ok::<_, ()>(Loaded::value(row(9)).dont_store()));
    assert_eq!(aside.await.unwrap().unwrap().expires_in(), None);
    let guard = store.of::<Item>().update(1).guard().await.unwrap();
    assert_eq!(
        load().await.unwrap().expires_in(),
        None,
        "it was not stored"
    );
    guard.release().await.unwrap();
}

async fn a_hung_load_ends_at_its_deadline_and_frees_what_it_held(on: On) {
    let store = on.store("deadline").await;
    let hung = || {
        store
            .of::<Item>()
            .load(1)
            .timeout(Duration::from_millis(20))
            .run(std::future::pending::<Result<Item, ()>>)
    };
    let (first, second) = tokio::join!(hung(), hung());
    assert_eq!(
        (first, second),
        (Err(LoadError::Deadline), Err(LoadError::Deadline))
    );
    assert_eq!(load(&store, Some(row(7))).await, (Some(row(7)), true));
    assert_eq!(
        Item::get(&store, 1).await.unwrap(),
        Some(row(7)),
        "its lease was free"
    );
    Item::del(&store, 1).await.unwrap();
    let quick = store
        .of::<Item>()
        .load(1)
        .timeout(Duration::from_millis(20))
        .run(async || Ok::<_, ()>(row(8)))
        .await;
    assert_eq!(quick, Ok(row(8)));
    Item::del(&store, 1).await.unwrap();
    let failed = store
        .of::<Item>()
        .load(1)
        .timeout(Duration::from_millis(20))
        .run(async || Err::<Item, _>("no database"))
        .await;
    assert_eq!(failed, Err(LoadError::Load("no database")));
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(max_loads = 1)]
struct Single {
    #[cached(key)]
    id: u64,
}

async fn a_caller_queues_no_longer_than_it_says(on: On) {
    let store = on.store("queue").await;
    let (running, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = {
        let (store, running, end) = (store.clone(), running.clone(), end.clone());
        tokio::spawn(async move {
            Single::get_or_load(&store, 1, async || {
                running.notify_one();
                end.notified().await;
                Ok::<_, ()>(Single { id: 1 })
            })
            .await
        })
    };
    running.notified().await;
    let second = || {
        store
            .of::<Single>()
            .load(2)
            .queue_timeout(Duration::from_millis(10))
            .run(async || Ok::<_, ()>(Single { id: 2 }))
    };
    assert_eq!(second().await, Err(LoadError::Queue));
    end.notify_one();
    first.await.unwrap().unwrap();
    assert_eq!(second().await, Ok(Single { id: 2 }));
    assert_eq!(
        Single::get(&store, 2).await.unwrap(),
        Some(Single { id: 2 })
    );
}

/// By a clock that the test moves.
#[tokio::test]
async fn an_absence_runs_out() {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder()
        .memory()
        .clock(clock.clone())
        .connect()
        .await
        .unwrap();
    assert_eq!(load(&store, None).await, (None, true));
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(load(&store, Some(row(7))).await, (None, false));
    clock.advance(Duration::from_millis(1));
    assert_eq!(load(&store, Some(row(7))).await, (Some(row(7)), true));
}

#[tokio::test]
async fn the_environment_can_switch_the_cache_off() {
    let variables = |name: &str| match name {
        "VALKEY_URL" => Some("memory:".to_owned()),
        "VALKEY_CACHE" => Some("off".to_owned()),
        _ => None,
    };
    let store = valkey_runtime::Builder::from_variables(variables)
        .unwrap()
        .open()
        .await
        .unwrap();
    assert!(!store.is_enabled());
    row(7).set(&store).await.unwrap();
    store.set_enabled(true);
    assert_eq!(Item::get(&store, 1).await.unwrap(), None);
}
