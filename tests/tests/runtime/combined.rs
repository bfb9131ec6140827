//! Versions, layouts, compression, encryption and near copies, several at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, EncryptionKeys, Stale, Store};

use crate::database::until;
use crate::steady::writes_into;
use crate::stores::On;

suite! {
    crate::combined =>
    a_packed_older_entry_is_converted_and_packed_by_the_rules_of_its_type
    every_verb_reads_a_packed_older_entry
    a_near_copy_of_a_packed_older_entry_is_its_converted_value
    every_verb_reads_a_compact_entry
    a_stale_compact_value_is_served_and_confirmed
}

/// The first release: arrays, compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "diary",
    ttl = "1h",
    layout = "compact",
    compress = "lz4",
    compress_above = 0
)]
struct DiaryV1 {
    #[cached(key)]
    id: u64,
    text: String,
}

/// The second release: encrypted, with names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "diary",
    ttl = "1h",
    version = 2,
    migrate_from = DiaryV1,
    encrypt,
    compress = "zstd"
)]
struct DiaryV2 {
    #[cached(key)]
    id: u64,
    text: String,
    words: usize,
}

/// The third: arrays, encrypted, with near copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "diary",
    ttl = "1h",
    version = 3,
    migrate_from = DiaryV2,
    encrypt,
    layout = "compact",
    near = "1h"
)]
struct Diary {
    #[cached(key)]
    id: u64,
    words: usize,
    text: String,
}

impl From<DiaryV1> for DiaryV2 {
    fn from(DiaryV1 { id, text }: DiaryV1) -> Self {
        let words = text.split(' ').count();
        Self { id, text, words }
    }
}

impl From<DiaryV2> for Diary {
    fn from(DiaryV2 { id, text, words }: DiaryV2) -> Self {
        Self { id, words, text }
    }
}

fn first(id: u64) -> DiaryV1 {
    let text = "dear diary".repeat(100);
    DiaryV1 { id, text }
}

fn second(id: u64) -> DiaryV2 {
    first(id).into()
}

fn third(id: u64) -> Diary {
    second(id).into()
}

/// A store that writes back at once, and reads what was stored before encryption.
async fn hasty(on: On, namespace: &str) -> Store {
    writes_into(on.nodes(), namespace);
    let builder = on.builder().namespace(namespace);
    let builder = builder
        .newer_wins_for(Duration::ZERO)
        .encryption_keys(EncryptionKeys::new(1, [1; 32]))
        .accept_plaintext();
    builder.connect().await.unwrap()
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

async fn a_packed_older_entry_is_converted_and_packed_by_the_rules_of_its_type(on: On) {
    let store = hasty(on, "combined-back").await;
    first(1).set(&store).await.unwrap();
    assert_eq!(DiaryV2::get(&store, 1).await.unwrap(), Some(second(1)));
    store.settled().await;
    assert_eq!(Diary::get(&store, 1).await.unwrap(), Some(third(1)));
    store.settled().await;
    assert_eq!(store.stats().migrations(), 2);
    assert_eq!(Diary::get(&store, 1).await.unwrap(), Some(third(1)));
    assert_eq!(store.stats().migrations(), 2, "it was written back");
    assert_eq!(store.stats().corrupt(), 0);
    if on != On::Memory {
        let bytes = on.stored("combined-back:diary:1");
        assert!(!has(&bytes, b"dear diary"), "it is encrypted");
        assert!(bytes.len() > 1000, "this release does not compress");
    }

    // Two conversions in one read.
    first(2).set(&store).await.unwrap();
    assert_eq!(Diary::get(&store, 2).await.unwrap(), Some(third(2)));
    store.settled().await;
    assert_eq!(store.stats().migrations(), 3);
    assert_eq!(DiaryV2::get(&store, 2).await.unwrap(), None, "it is newer");
}

async fn every_verb_reads_a_packed_older_entry(on: On) {
    let store = hasty(on, "combined-verbs").await;
    for id in 1..=4 {
        first(id).set(&store).await.unwrap();
    }
    second(5).set(&store).await.unwrap();
    let mut found: Vec<(u64, Diary)> = store.of::<Diary>().scan().try_collect().await.unwrap();
    found.sort_by_key(|(id, _)| *id);
    let all: Vec<_> = (1..=5).map(|id| (id, third(id))).collect();
    assert_eq!(found, all);
    assert!(Diary::exists(&store, 1).await.unwrap());
    let many = Diary::get_many(&store, [1, 5, 6]).await.unwrap();
    assert_eq!(many, [Some(third(1)), Some(third(5)), None]);
    let loaded = Diary::get_or_load(&store, 2, async || -> Result<Option<Diary>, ()> {
        panic!("it is there")
    });
    assert_eq!(loaded.await, Ok(Some(third(2))));
    let entry = store.of::<Diary>().get_entry(3).await.unwrap().unwrap();
    assert_eq!(*entry, third(3));
    assert!(Diary::touch(&store, 4).await.unwrap());
    assert!(Diary::del(&store, 4).await.unwrap());
    assert_eq!(store.stats().corrupt(), 0);
}

async fn a_near_copy_of_a_packed_older_entry_is_its_converted_value(on: On) {
    let store = hasty(on, "combined-near").await;
    first(1).set(&store).await.unwrap();
    until("a near copy answers", async || {
        let before = store.stats().near_hits();
        assert_eq!(Diary::get(&store, 1).await.unwrap(), Some(third(1)));
        store.stats().near_hits() > before
    })
    .await;
    let shared = store.of::<Diary>().get_shared(1).await.unwrap();
    assert_eq!(shared.as_deref(), Some(&third(1)));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "point",
    ttl = "1h",
    stale_if_error = "1h",
    layout = "compact",
    near = "1h",
    tag = "line:{line}",
    ttl_absent = "1h"
)]
struct Point {
    #[cached(key)]
    id: u64,
    #[cached(alias)]
    name: String,
    line: u64,
    at: (f64, f64),
}

fn point(id: u64) -> Point {
    Point {
        id,
        name: format!("point {id}"),
        line: 7,
        at: (0.5, id as f64),
    }
}

async fn every_verb_reads_a_compact_entry(on: On) {
    let store = on.store("combined-compact").await;
    for id in 1..=3 {
        point(id).set(&store).await.unwrap();
    }
    let mut found: Vec<(u64, Point)> = store.of::<Point>().scan().try_collect().await.unwrap();
    found.sort_by_key(|(id, _)| *id);
    let all: Vec<_> = (1..=3).map(|id| (id, point(id))).collect();
    assert_eq!(found, all);
    assert_eq!(store.of::<Point>().count().await.unwrap(), 3);
    let many = Point::get_many(&store, [3, 4]).await.unwrap();
    assert_eq!(many, [Some(point(3)), None]);
    let entry = store.of::<Point>().get_entry(2).await.unwrap().unwrap();
    assert_eq!(*entry, point(2));
    let key = async || Ok::<_, ()>(Some(2));
    let load = async |_| -> Result<Option<Point>, ()> { panic!("it is there") };
    let named = Point::load_by_name(&store, "point 2").run(key, load);
    assert_eq!(named.await, Ok(Some(point(2))));
    let named = Point::get_by_name(&store, "point 2").await.unwrap();
    assert_eq!(named, Some(point(2)));
    until("a near copy answers", async || {
        let before = store.stats().near_hits();
        assert_eq!(Point::get(&store, 1).await.unwrap(), Some(point(1)));
        store.stats().near_hits() > before
    })
    .await;
    let shared = store.of::<Point>().get_shared(1).await.unwrap();
    assert_eq!(shared.as_deref(), Some(&point(1)));
    let absent = Point::get_or_load(&store, 9, async || Ok::<_, ()>(None)).await;
    assert_eq!(absent, Ok(None));
    let absent = Point::get_or_load(&store, 9, async || -> Result<Option<Point>, ()> {
        panic!("its absence is there")
    });
    assert_eq!(absent.await, Ok(None));
    let line = Point::cache_tags().line(7);
    store.invalidate_tag(line).await.unwrap();
    assert_eq!(Point::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.stats().corrupt(), 0);
}

async fn a_stale_compact_value_is_served_and_confirmed(on: On) {
    let store = on.store("combined-stale").await;
    point(1).set(&store).await.unwrap();
    store.of::<Point>().mark_stale(1).await.unwrap();
    assert_eq!(Point::get(&store, 1).await.unwrap(), None, "it is stale");
    let failed = Point::get_or_load(&store, 1, async || Err::<Option<Point>, _>("down"));
    assert_eq!(failed.await, Ok(Some(point(1))));
    store.settled().await;
    // The failed load may still put off the next one for a moment.
    until("the value is confirmed", async || {
        let unchanged = async |stale: Option<Stale<Point>>| {
            Ok::<_, ()>(stale.map(Stale::unchanged).expect("the value is there"))
        };
        let load = store.of::<Point>().load(1).revalidate(unchanged);
        assert_eq!(load.await, Ok(Some(point(1))));
        Point::get(&store, 1).await.unwrap() == Some(point(1))
    })
    .await;
    assert_eq!(store.stats().corrupt(), 0);
}
