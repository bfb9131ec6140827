//! Guarded writes, and tags, where a step of theirs fails or is dropped: what is old is taken away
//! all the same.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::testing::{Fault, Request};
use valkey_runtime::{Cached, ErrorKind, Store, Tag, UpdateError};
use valkey_tests::resp::Value;

use crate::database::until;
use crate::stores::On;

suite! {
    @alone [crate::guard_faults]
    a_tag_is_held_for_the_longest_that_anyone_asks_for
    a_tag_whose_clock_was_not_advanced_is_held_when_it_is_delivered
    a_tag_that_was_lost_is_invalidated_though_the_clock_was_not_advanced
    a_list_in_place_of_the_clock_and_of_an_epoch_gives_way
}

suite! {
    crate::guard_faults =>
    a_write_whose_clock_is_not_advanced_ends_the_guard_of_its_key
    a_value_is_written_through_although_the_clock_is_not_advanced
    a_write_through_whose_clock_is_not_read_stores_nothing
    a_write_through_whose_end_is_refused_leaves_a_deletion
    an_end_that_is_dropped_half_way_leaves_deletions_of_all_its_keys
    tags_whose_clock_was_not_advanced_are_not_guarded
    a_guard_that_was_not_placed_is_made_up_for_when_it_is_dropped
    a_strict_write_that_is_refused_leaves_nothing
    a_guard_says_whether_it_is_held
    a_guard_that_was_lost_is_not_left_without_a_deletion
    a_write_through_that_another_writer_shared_stores_nothing
    an_expiry_of_a_type_with_a_hold_leaves_a_guard
    a_batch_that_was_sent_keeps_nothing
    the_limit_that_refuses_for_the_longest_is_reported
    tags_have_bounds
}

/// Its entries have the tags that loaders say, if any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "1h", tags)]
struct Page {
    #[cached(key)]
    id: u64,
    row: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "held", ttl = "1h", hold = "30s", tag = "of:{owner}")]
struct Held {
    #[cached(key)]
    id: u64,
    owner: u64,
}

const HOLD: Duration = Duration::from_secs(30);
/// How much longer a tag is held: the longest load, and its lease.
const LOAD: Duration = Duration::from_secs(11);

fn page(id: u64, row: u32) -> Page {
    Page { id, row }
}

/// Advances of the clock of the tags, of which none is done.
fn clock_stands() -> Fault {
    Fault::error(ErrorKind::Timeout)
        .on(Request::Delete)
        .at("::clock")
}

/// A process's store, and another's.
async fn two(on: On, namespace: &str) -> (Store, Store) {
    let store = on.store(namespace).await;
    let other = match on {
        On::Memory => store.clone(),
        _ => on.store(namespace).await,
    };
    (store, other)
}

async fn delivered(store: &Store) {
    store.faults().recover();
    until("all is delivered", async || store.undelivered() == 0).await;
}

async fn given(store: &Store, row: u32) -> u32 {
    let load = async || Ok::<_, ()>(Some(page(1, row)));
    let given = Page::get_or_load(store, 1, load).await;
    given.unwrap().unwrap().row
}

/// The guard is lost during the write, and another process stores the row that it still finds.
async fn a_write_whose_clock_is_not_advanced_ends_the_guard_of_its_key(on: On) {
    let (store, other) = two(on, "ends").await;
    for through in [false, true] {
        page(1, 1).set(&other).await.unwrap();
        let write = async || {
            page(1, 1).set(&other).await.unwrap();
            store.faults().fail_all(clock_stands());
            Ok::<_, ()>(())
        };
        let written = match through {
            false => {
                store
                    .of::<Page>()
                    .update(1)
                    .invalidating(["x"])
                    .run(write)
                    .await
            }
            true => {
                store
                    .of::<Page>()
                    .write_through(&page(1, 2))
                    .invalidating(["x"])
                    .run(write)
                    .await
            }
        };
        assert!(written.is_ok(), "through: {through}");
        assert_eq!(
            Page::get(&other, 1).await.unwrap(),
            None,
            "through: {through}"
        );
        assert_eq!(store.undelivered(), 1, "the tag's; through: {through}");
        delivered(&store).await;
        assert_eq!(
            Page::get(&store, 1).await.unwrap(),
            None,
            "through: {through}"
        );
        assert_eq!(given(&other, 2).await, 2);
        assert_eq!(Page::get(&other, 1).await.unwrap(), Some(page(1, 2)));
    }
}

/// It has none of the tags that are invalidated.
async fn a_value_is_written_through_although_the_clock_is_not_advanced(on: On) {
    let (store, other) = two(on, "through").await;
    let write = async || {
        store.faults().fail_all(clock_stands());
        Ok::<_, ()>(())
    };
    let written = store
        .of::<Page>()
        .write_through(&page(1, 2))
        .invalidating(["x"])
        .run(write);
    written.await.unwrap();
    assert_eq!(Page::get(&other, 1).await.unwrap(), Some(page(1, 2)));
    assert_eq!(store.undelivered(), 1, "the tag's");
    delivered(&store).await;
}

/// Nobody could tell whether a tag of it was invalidated since.
async fn a_write_through_whose_clock_is_not_read_stores_nothing(on: On) {
    let (store, other) = two(on, "unread").await;
    page(1, 1).set(&other).await.unwrap();
    let unread = Fault::error(ErrorKind::Timeout).on(Request::Read);
    store.faults().fail_next(unread.at("::clock"));
    let write = async || Ok::<_, ()>(());
    let written = Page::write_through(&store, &page(1, 2), write).await;
    written.unwrap();
    assert_eq!(store.faults().pending(), 0);
    assert_eq!(Page::get(&other, 1).await.unwrap(), None);
    assert_eq!(store.undelivered(), 0);
    Page::write_through(&store, &page(1, 2), write)
        .await
        .unwrap();
    assert_eq!(Page::get(&other, 1).await.unwrap(), Some(page(1, 2)));
}

async fn a_write_through_whose_end_is_refused_leaves_a_deletion(on: On) {
    let (store, other) = two(on, "refused").await;
    let write = async || {
        page(1, 1).set(&other).await.unwrap();
        let store_through = Fault::error(ErrorKind::Timeout).on(Request::Store);
        store.faults().fail_next(store_through.at("page:1"));
        let deletion = Fault::error(ErrorKind::Timeout).on(Request::Delete);
        store.faults().fail_all(deletion.at("page:1"));
        Ok::<_, ()>(())
    };
    let written = Page::write_through(&store, &page(1, 2), write).await;
    written.unwrap();
    assert_eq!(store.undelivered(), 1);
    assert_eq!(Page::get(&store, 1).await.unwrap(), None);
    delivered(&store).await;
    assert_eq!(Page::get(&other, 1).await.unwrap(), None);
}

/// The write is committed by then.
async fn an_end_that_is_dropped_half_way_leaves_deletions_of_all_its_keys(on: On) {
    let (store, other) = two(on, "dropped").await;
    for through in [false, true] {
        let (tell, told) = oneshot::channel();
        let writing = tokio::spawn({
            let (store, other) = (store.clone(), other.clone());
            async move {
                let write = async || {
                    // The guard is lost.
                    page(1, 1).set(&other).await.unwrap();
                    let held = store.faults().hold_next(Request::Delete);
                    tell.send(held).unwrap();
                    Ok::<_, ()>(())
                };
                match through {
                    false => {
                        store
                            .of::<Page>()
                            .update(1)
                            .invalidating(["x"])
                            .run(write)
                            .await
                    }
                    true => {
                        store
                            .of::<Page>()
                            .write_through(&page(1, 2))
                            .invalidating(["x"])
                            .run(write)
                            .await
                    }
                }
            }
        });
        let held = told.await.unwrap();
        held.reached().await;
        store
            .faults()
            .fail_all(Fault::error(ErrorKind::Timeout).on(Request::Delete));
        writing.abort();
        assert!(writing.await.is_err(), "it was dropped");
        assert_eq!(
            store.undelivered(),
            2,
            "the key and the tag; through: {through}"
        );
        drop(held);
        delivered(&store).await;
        assert_eq!(
            Page::get(&other, 1).await.unwrap(),
            None,
            "through: {through}"
        );
    }
}

async fn tags_whose_clock_was_not_advanced_are_not_guarded(on: On) {
    let (store, _) = two(on, "unguarded").await;
    store.faults().fail_all(clock_stands());
    let guard = store
        .of::<Page>()
        .update(1)
        .invalidating(["x"])
        .guard()
        .await
        .unwrap();
    assert!(!guard.is_placed());
    assert_eq!(store.undelivered(), 1, "the tag's");
    assert!(guard.release().await.is_err(), "the clock stands still");
    delivered(&store).await;

    let guard = store
        .of::<Page>()
        .update(1)
        .invalidating(["x"])
        .guard()
        .await
        .unwrap();
    assert!(guard.is_placed());
    assert!(guard.release().await.unwrap());
    assert_eq!(store.undelivered(), 0);
}

/// A deletion is kept when the guard is placed, and delivered. Values that others store after that
/// may still be made old by the write.
async fn a_guard_that_was_not_placed_is_made_up_for_when_it_is_dropped(on: On) {
    let (store, other) = two(on, "unplaced").await;
    let unplaced = Fault::error(ErrorKind::Timeout).on(Request::Guard);
    store.faults().fail_next(unplaced);
    let guard = store.of::<Page>().update(1).guard().await.unwrap();
    assert!(!guard.is_placed());
    assert_eq!(store.undelivered(), 1);
    until("it is delivered", async || store.undelivered() == 0).await;
    page(1, 1).set(&other).await.unwrap();
    drop(guard);
    assert_eq!(store.undelivered(), 1);
    delivered(&store).await;
    assert_eq!(Page::get(&other, 1).await.unwrap(), None);

    // One that was placed runs out, and one that was ended is over.
    let guard = store.of::<Page>().update(1).guard().await.unwrap();
    assert!(guard.is_placed());
    drop(guard);
    assert_eq!(store.undelivered(), 0);
    let guard = store.of::<Page>().update(2).guard().await.unwrap();
    assert!(guard.release().await.unwrap());
    assert_eq!(store.undelivered(), 0);
}

/// Neither a guard that nobody needs, nor a deletion of what was not written.
async fn a_strict_write_that_is_refused_leaves_nothing(on: On) {
    let (store, other) = two(on, "strict").await;
    for fails in ["::clock", "page:1"] {
        let request = match fails {
            "::clock" => Request::Delete,
            _ => Request::Guard,
        };
        let fault = Fault::error(ErrorKind::Timeout).on(request);
        store.faults().fail_next(fault.at(fails));
        let never = async || -> Result<(), ()> { panic!("it is refused") };
        let refused = store
            .of::<Page>()
            .update(1)
            .invalidating(["x"])
            .strict()
            .run(never)
            .await;
        let Err(UpdateError::Refused(error)) = refused else {
            panic!("{fails}: {refused:?}")
        };
        assert_eq!(error.kind(), ErrorKind::Timeout, "{fails}");
        assert_eq!(store.undelivered(), 0, "{fails}");
        assert_eq!(store.faults().pending(), 0, "{fails}");
        given(&other, 1).await;
        assert!(
            Page::exists(&other, 1).await.unwrap(),
            "{fails}: not guarded"
        );
        let loaded = valkey_runtime::Loaded::value(page(2, 1)).tags(["x"]);
        let load = async || Ok::<_, ()>(loaded);
        Page::get_or_load(&other, 2, load).await.unwrap();
        assert!(
            Page::exists(&other, 2).await.unwrap(),
            "{fails}: nor is the tag"
        );
        Page::del_many(&other, [1, 2]).await.unwrap();
    }
}

async fn a_guard_says_whether_it_is_held(on: On) {
    let (store, other) = two(on, "held").await;
    let guard = store.of::<Page>().update(1).guard().await.unwrap();
    assert!(guard.still_held().await.unwrap());
    let away = Fault::error(ErrorKind::Connection).on(Request::Guard);
    store.faults().fail_next(away);
    let unknown = guard.still_held().await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Connection);
    assert!(guard.still_held().await.unwrap());
    page(1, 1).set(&other).await.unwrap();
    assert!(!guard.still_held().await.unwrap(), "it was replaced");
    assert!(!guard.release().await.unwrap());
    assert_eq!(Page::get(&other, 1).await.unwrap(), None, "it is deleted");

    // All of it is, or it is not.
    let guard = store
        .of::<Page>()
        .update(1)
        .invalidating(["x"])
        .guard()
        .await
        .unwrap();
    page(1, 1).set(&other).await.unwrap();
    assert!(!guard.still_held().await.unwrap(), "the key's is lost");
    assert!(!guard.abandon().await.unwrap());
    let unplaced = Fault::error(ErrorKind::Timeout).on(Request::Guard);
    store.faults().fail_next(unplaced);
    let guard = store.of::<Page>().update(3).guard().await.unwrap();
    assert!(!guard.still_held().await.unwrap(), "it never was");
    assert!(!guard.release().await.unwrap());
}

/// Its end is not confirmed: the key's deletion is kept, and so are those of the tags.
async fn a_guard_that_was_lost_is_not_left_without_a_deletion(on: On) {
    let (store, other) = two(on, "lost").await;
    let guard = store
        .of::<Page>()
        .update(1)
        .invalidating(["x"])
        .guard()
        .await
        .unwrap();
    page(1, 1).set(&other).await.unwrap();
    let fault = |request| Fault::error(ErrorKind::Timeout).on(request);
    store.faults().fail_next(fault(Request::Guard));
    store.faults().fail_all(fault(Request::Delete).at("page:1"));
    assert!(guard.release().await.is_err());
    assert!((1..=2).contains(&store.undelivered()));
    assert_eq!(Page::get(&store, 1).await.unwrap(), None);
    delivered(&store).await;
    assert_eq!(Page::get(&other, 1).await.unwrap(), None);

    // Nothing is for one whose write was abandoned but for what was asked.
    let guard = store.of::<Page>().update(1).guard().await.unwrap();
    assert!(guard.abandon().await.unwrap());
    assert_eq!(store.undelivered(), 0);
}

async fn a_write_through_that_another_writer_shared_stores_nothing(on: On) {
    let (store, other) = two(on, "shared").await;
    let write = async || {
        let guard = other.of::<Page>().update(1).guard().await.unwrap();
        assert!(guard.release().await.unwrap());
        Ok::<_, ()>(())
    };
    Page::write_through(&store, &page(1, 2), write)
        .await
        .unwrap();
    assert_eq!(Page::get(&other, 1).await.unwrap(), None);
    assert_eq!(store.stats().written_bytes(), 0);
    let write = async || Ok::<_, ()>(());
    Page::write_through(&store, &page(1, 2), write)
        .await
        .unwrap();
    assert_eq!(Page::get(&other, 1).await.unwrap(), Some(page(1, 2)));
    assert!(store.stats().written_bytes() > 0);
}

async fn an_expiry_of_a_type_with_a_hold_leaves_a_guard(on: On) {
    let store = on.store("expiry").await;
    let row = || Held { id: 1, owner: 2 };
    let load = async || {
        let load = async || Ok::<_, ()>(Some(row()));
        Held::get_or_load(&store, 1, load).await.unwrap();
        Held::exists(&store, 1).await.unwrap()
    };
    assert!(load().await);
    assert!(store.of::<Held>().mark_stale(1).await.unwrap());
    assert!(!load().await, "it is held");
    row().set(&store).await.unwrap();
    assert_eq!(
        store
            .batch()
            .mark_stale::<Held>(1)
            .send()
            .await
            .all()
            .unwrap(),
        [true]
    );
    assert!(!load().await, "it is held");
}

async fn a_batch_that_was_sent_keeps_nothing(on: On) {
    let store = on.store("sent").await;
    page(1, 1).set(&store).await.unwrap();
    let mut batch = store.batch();
    batch
        .set(&page(2, 1))
        .del::<Page>(1)
        .mark_stale::<Held>(3)
        .invalidate_tag("x");
    batch.send().await.all().unwrap();
    let stats = store.stats();
    assert_eq!((stats.queued_deletions(), store.undelivered()), (0, 0));
    assert!(Page::exists(&store, 2).await.unwrap());
}

/// In any order, and whichever has less left.
async fn the_limit_that_refuses_for_the_longest_is_reported(on: On) {
    let store = on.store("longest").await;
    let limiter = |name: &str, quota, hours: u64| {
        let period = Duration::from_secs(3600 * hours);
        let builder = RateLimiter::builder(name).quota(quota, period).burst(2);
        builder.build().unwrap()
    };
    let (short, long) = (limiter("short", 60, 1), limiter("long", 2, 1));
    for (at, asked) in [[&short, &long], [&long, &short]].into_iter().enumerate() {
        for limiter in asked {
            assert!(
                limiter
                    .check_n(&store, at as u64, 2)
                    .await
                    .unwrap()
                    .is_allowed()
            );
        }
        let asked = asked.map(|limiter| limiter.request(at as u64));
        let decision = RateLimiter::check_all(&store, &asked).await.unwrap();
        assert_eq!((decision.is_allowed(), decision.name()), (false, "long"));
        assert!(decision.retry_after() > Duration::from_secs(60));
    }
    // One that refuses goes before one that allows, though that has as little left.
    let once = limiter("once", 1, 1);
    assert!(once.check_n(&store, 9, 2).await.unwrap().is_allowed());
    let asked = [short.request(9).cost(2), once.request(9)];
    let decision = RateLimiter::check_all(&store, &asked).await.unwrap();
    assert_eq!((decision.is_allowed(), decision.name()), (false, "once"));
}

/// A thousand bytes each, `tag:` among them, and a hundred of them.
async fn tags_have_bounds(on: On) {
    let store = on.store("bounds").await;
    let load = async |tags: Vec<String>| {
        Page::del(&store, 1).await.unwrap();
        let loaded = valkey_runtime::Loaded::value(page(1, 1)).tags(tags);
        let load = async || Ok::<_, ()>(loaded);
        Page::get_or_load(&store, 1, load).await.unwrap();
        Page::exists(&store, 1).await.unwrap()
    };
    assert!(load(vec!["x".repeat(996)]).await);
    assert!(!load(vec!["x".repeat(997)]).await);
    let many = |count: usize| (0..count).map(|tag| tag.to_string()).collect();
    assert!(load(many(100)).await);
    assert!(!load(many(101)).await);
}

/// How long the guard at a tag lasts, in a namespace of the plain server.
fn left_at(namespace: &str, tag: &str) -> Option<Duration> {
    match On::Plain.raw(&["PTTL", &format!("{namespace}:::tag:{tag}")]) {
        Value::Integer(-2) => None,
        Value::Integer(left) => Some(Duration::from_millis(left.try_into().unwrap())),
        other => panic!("{other:?}"),
    }
}

/// As long as the hold and any load that begins within it; less what the test itself takes.
#[track_caller]
fn is_held(left: Option<Duration>) {
    let left = left.expect("there is a guard");
    assert!(left <= HOLD + LOAD && left > HOLD + LOAD / 2, "{left:?}");
}

/// The longest of the type's that is written, of the call's, and of those whose tags are
/// invalidated.
async fn a_tag_is_held_for_the_longest_that_anyone_asks_for() {
    let (store, _) = two(On::Plain, "tag-hold").await;
    let write = async || Ok::<_, ()>(());
    store
        .of::<Held>()
        .update(1)
        .invalidating(["x"])
        .run(write)
        .await
        .unwrap();
    is_held(left_at("tag-hold", "x"));
    let of_held: Tag = Held::cache_tags().of(7);
    store
        .of::<Page>()
        .update(1)
        .invalidating([of_held.clone()])
        .run(write)
        .await
        .unwrap();
    is_held(left_at("tag-hold", "of:7"));
    store
        .of::<Page>()
        .update(1)
        .invalidating(["y"])
        .hold(HOLD)
        .run(write)
        .await
        .unwrap();
    is_held(left_at("tag-hold", "y"));
    store
        .of::<Page>()
        .update(1)
        .invalidating(["z"])
        .run(write)
        .await
        .unwrap();
    assert_eq!(left_at("tag-hold", "z"), None);
    Held::cache_tags().of(8).invalidate(&store).await.unwrap();
    is_held(left_at("tag-hold", "of:8"));
}

/// When it is delivered, and not only where it went well.
async fn a_tag_whose_clock_was_not_advanced_is_held_when_it_is_delivered() {
    let (store, _) = two(On::Plain, "late-hold").await;
    let namespace = "late-hold";
    let stands = async || {
        store.faults().fail_all(clock_stands());
        Ok::<_, ()>(())
    };
    store
        .of::<Held>()
        .update(1)
        .invalidating(["end"])
        .run(stands)
        .await
        .unwrap();
    delivered(&store).await;
    is_held(left_at(namespace, "end"));

    // From its beginning on.
    store.faults().fail_all(clock_stands());
    let write = async || Ok::<_, ()>(());
    store
        .of::<Held>()
        .update(1)
        .invalidating(["begin"])
        .run(write)
        .await
        .unwrap();
    delivered(&store).await;
    is_held(left_at(namespace, "begin"));

    stands().await.unwrap();
    let mut batch = store.batch();
    batch.invalidate_tag(Held::cache_tags().of(1));
    assert!(batch.send().await.all().is_err());
    delivered(&store).await;
    is_held(left_at(namespace, "of:1"));

    stands().await.unwrap();
    assert!(Held::cache_tags().of(2).invalidate(&store).await.is_err());
    delivered(&store).await;
    is_held(left_at(namespace, "of:2"));
}

/// The tag's guard is lost too: what was loaded under it during the write is not read any more.
async fn a_tag_that_was_lost_is_invalidated_though_the_clock_was_not_advanced() {
    let (store, other) = two(On::Plain, "tag-lost").await;
    let loaded = async |row| {
        let loaded = valkey_runtime::Loaded::value(page(2, row)).tags(["x"]);
        let load = async || Ok::<_, ()>(loaded);
        let loaded = Page::get_or_load(&other, 2, load).await.unwrap();
        loaded.unwrap().row
    };
    let write = async || {
        On::Plain.raw(&["DEL", "tag-lost:::tag:x"]);
        assert_eq!(loaded(1).await, 1);
        assert!(Page::exists(&other, 2).await.unwrap());
        store.faults().fail_all(clock_stands());
        Ok::<_, ()>(())
    };
    store
        .of::<Page>()
        .update(1)
        .invalidating(["x"])
        .run(write)
        .await
        .unwrap();
    assert_eq!(store.undelivered(), 1);
    assert_eq!(Page::get(&store, 2).await.unwrap(), None, "not known here");
    delivered(&store).await;
    assert_eq!(Page::get(&other, 2).await.unwrap(), None);
    assert_eq!(loaded(2).await, 2);
}

/// An epoch's key and the clock's are nobody else's: what does not belong there goes.
async fn a_list_in_place_of_the_clock_and_of_an_epoch_gives_way() {
    let (store, other) = two(On::Plain, "lists").await;
    let plant = |key: &str| {
        On::Plain.raw(&["DEL", key]);
        On::Plain.raw(&["RPUSH", key, "x"]);
    };
    let loaded = async |row| {
        let loaded = valkey_runtime::Loaded::value(page(1, row)).tags(["x"]);
        let load = async || Ok::<_, ()>(loaded);
        Page::get_or_load(&other, 1, load).await.unwrap();
        Page::get(&other, 1).await.unwrap().map(|page| page.row)
    };
    for key in ["lists:::clock", "lists:::tag:x"] {
        plant(key);
        assert_eq!(loaded(1).await, Some(1), "{key}: it is stored");
        plant(key);
        store.invalidate_tag("x").await.unwrap();
        assert_eq!(Page::get(&other, 1).await.unwrap(), None, "{key}");
        assert_eq!(loaded(2).await, Some(2), "{key}");
        plant(key);
        let write = async || {
            assert_eq!(loaded(2).await, None, "{key}: it is guarded");
            Ok::<_, ()>(())
        };
        store
            .of::<Page>()
            .update(7)
            .invalidating(["x"])
            .strict()
            .run(write)
            .await
            .unwrap();
        assert_eq!(loaded(3).await, Some(3), "{key}");
        plant(key);
        let mut batch = store.batch();
        batch.invalidate_tag("x").send().await.all().unwrap();
        assert_eq!(Page::get(&other, 1).await.unwrap(), None, "{key}");
    }
    assert_eq!(store.undelivered(), 0);
}
