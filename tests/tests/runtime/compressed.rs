//! Compressed values: smaller on the server, and otherwise as all others.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, ErrorKind, SetOptions, Source};
use valkey_tests::resp::Value;

use crate::database::until;
use crate::stores::On;

suite! {
    crate::compressed =>
    values_come_back_and_take_less_room
    types_that_compress_and_types_that_do_not_read_each_other
    a_stored_value_is_there_for_every_verb
    those_who_wait_for_a_load_get_its_value
    near_copies_are_unpacked_once
    the_limit_counts_before_compression
}

suite! {
    @alone [crate::compressed]
    a_bomb_is_corrupt_and_is_removed
    an_entry_with_an_unknown_flag_is_newer
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "page",
    ttl = "1h",
    stale_if_error = "1h",
    compress = "zstd",
    tag = "site:{site}"
)]
struct Page {
    #[cached(key)]
    id: u64,
    site: u64,
    text: String,
}

/// The same keys, with the other algorithm, and a threshold of zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "page",
    ttl = "1h",
    stale_if_error = "1h",
    compress = "lz4",
    compress_above = 0
)]
#[cached(tag = "site:{site}")]
struct Lz4Page {
    #[cached(key)]
    id: u64,
    site: u64,
    text: String,
}

/// The same keys, without compression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "page",
    ttl = "1h",
    stale_if_error = "1h",
    tag = "site:{site}"
)]
struct PlainPage {
    #[cached(key)]
    id: u64,
    site: u64,
    text: String,
}

/// Without tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "note", ttl = "1h", compress = "zstd", near = "1h")]
struct Note {
    #[cached(key)]
    id: u64,
    text: String,
}

fn text() -> String {
    "the same words again and again; ".repeat(200)
}

fn page(id: u64) -> Page {
    Page {
        id,
        site: 7,
        text: text(),
    }
}

fn note(id: u64) -> Note {
    Note { id, text: text() }
}

async fn values_come_back_and_take_less_room(on: On) {
    let store = on.store("compressed").await;
    let lz4 = Lz4Page {
        id: 2,
        site: 7,
        text: text(),
    };
    page(1).set(&store).await.unwrap();
    lz4.set(&store).await.unwrap();
    note(3).set(&store).await.unwrap();
    assert_eq!(Page::get(&store, 1).await.unwrap(), Some(page(1)));
    assert_eq!(Lz4Page::get(&store, 2).await.unwrap(), Some(lz4));
    assert_eq!(Note::get(&store, 3).await.unwrap(), Some(note(3)));
    if on == On::Memory {
        return;
    }
    for (key, flags) in [("page:1", 1), ("page:2", 2), ("note:3", 1)] {
        let bytes = on.stored(&format!("compressed:{key}"));
        assert_eq!(bytes[30], flags, "{key}");
        assert!(bytes.len() < text().len() / 10, "{key}: {}", bytes.len());
    }
    // What is small stays as it is.
    let small = Note {
        id: 4,
        text: "a".repeat(500),
    };
    small.set(&store).await.unwrap();
    assert_eq!(on.stored("compressed:note:4")[30], 0xc0);
}

async fn types_that_compress_and_types_that_do_not_read_each_other(on: On) {
    let store = on.store("both-ways").await;
    let texts = async |id: u64| {
        let zstd = Page::get(&store, id).await.unwrap().map(|page| page.text);
        let lz4 = Lz4Page::get(&store, id)
            .await
            .unwrap()
            .map(|page| page.text);
        let plain = PlainPage::get(&store, id)
            .await
            .unwrap()
            .map(|page| page.text);
        [zstd, lz4, plain]
    };
    let (site, text) = (7, text());
    page(1).set(&store).await.unwrap();
    Lz4Page {
        id: 2,
        site,
        text: text.clone(),
    }
    .set(&store)
    .await
    .unwrap();
    PlainPage {
        id: 3,
        site,
        text: text.clone(),
    }
    .set(&store)
    .await
    .unwrap();
    for id in 1..=3 {
        assert_eq!(
            texts(id).await,
            [(); 3].map(|()| Some(text.clone())),
            "{id}"
        );
    }
    assert_eq!(store.stats().corrupt(), 0);
}

async fn a_stored_value_is_there_for_every_verb(on: On) {
    let store = on.store("every-verb").await;
    let of = store.of::<Page>();
    let first = page(1);
    first.set(&store).await.unwrap();
    assert!(Page::exists(&store, 1).await.unwrap());
    let absent = SetOptions::new().if_absent();
    assert!(!first.set_with(&store, absent).await.unwrap());
    let present = SetOptions::new().if_present();
    assert!(first.set_with(&store, present).await.unwrap());
    assert!(Page::touch(&store, 1).await.unwrap());
    let many = Page::get_many(&store, [1, 2]).await.unwrap();
    assert_eq!(many, [Some(page(1)), None]);
    let entry = of.get_entry(1).await.unwrap().unwrap();
    assert_eq!(*entry, page(1));
    // A header that is written over an entry keeps its flags.
    assert!(of.mark_stale(1).await.unwrap());
    assert_eq!(Page::get(&store, 1).await.unwrap(), None);
    let failing = async || Err::<Option<Page>, _>("the database is down");
    let served = of.load(1).entry().run(failing).await.unwrap().unwrap();
    assert_eq!((served.source(), &*served), (Source::Stale, &page(1)));
    assert!(Page::del(&store, 1).await.is_ok());
    assert!(!Page::exists(&store, 1).await.unwrap());
}

async fn those_who_wait_for_a_load_get_its_value(on: On) {
    let store = on.store("waiting").await;
    let loads = AtomicUsize::new(0);
    let call = || {
        let load = async || {
            loads.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
            Ok::<_, ()>(page(1))
        };
        Page::get_or_load(&store, 1, load)
    };
    let given = futures_util::future::join_all((0..50).map(|_| call())).await;
    assert_eq!(given, vec![Ok(page(1)); 50]);
    assert_eq!(loads.load(SeqCst), 1);
    assert_eq!(Page::get(&store, 1).await.unwrap(), Some(page(1)));
}

async fn near_copies_are_unpacked_once(on: On) {
    let store = on.store("near-copies").await;
    note(1).set(&store).await.unwrap();
    until("a near copy answers", async || {
        let before = store.stats().near_hits();
        Note::get(&store, 1).await.unwrap();
        store.stats().near_hits() > before
    })
    .await;
    assert_eq!(Note::get(&store, 1).await.unwrap(), Some(note(1)));
    let shared = store.of::<Note>().get_shared(1).await.unwrap().unwrap();
    let again = store.of::<Note>().get_shared(1).await.unwrap().unwrap();
    assert_eq!(*shared, note(1));
    assert!(std::sync::Arc::ptr_eq(&shared, &again));
}

/// So no reader has to allocate more than its limit for an entry that another could store.
async fn the_limit_counts_before_compression(on: On) {
    let builder = on.builder().namespace("compressed-limit").max_size(1000);
    let store = builder.connect().await.unwrap();
    let error = note(1).set(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let loaded = Note::get_or_load(&store, 1, async || Ok::<_, ()>(note(1))).await;
    assert_eq!(loaded, Ok(note(1)));
    assert!(!Note::exists(&store, 1).await.unwrap());
    // What another store of a higher limit has stored is not decoded.
    if on != On::Memory {
        let large = on.builder().namespace("compressed-limit");
        note(1).set(&large.connect().await.unwrap()).await.unwrap();
        assert!(on.stored("compressed-limit:note:1").len() < 1000);
        assert_eq!(Note::get(&store, 1).await.unwrap(), None);
        assert_eq!(store.stats().corrupt(), 1);
    }
}

/// An entry that was made by hand: the header of a value under this key, and a payload.
fn forged(on: On, key: &str, flags: u8, payload: &[u8]) {
    let mut entry = on.stored(key);
    entry.truncate(35);
    entry[30] = flags;
    let of_key = u64::from(u32::from_be_bytes(entry[21..25].try_into().unwrap()));
    let version = u64::from(u16::from_be_bytes([entry[4], entry[5]]));
    let seed = u64::from(flags) << 56 | version << 32 | of_key;
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(payload, seed) as u32;
    entry[26..30].copy_from_slice(&sum.to_be_bytes());
    entry.extend_from_slice(payload);
    on.raw(&[b"SET", key.as_bytes(), &entry]);
}

async fn a_bomb_is_corrupt_and_is_removed() {
    let on = On::Plain;
    let store = on.store("bombs").await;
    let key = "bombs:note:1";
    for declared in [u32::MAX, 1 << 30, 4 << 20] {
        note(1).set(&store).await.unwrap();
        let honest = on.stored(key);
        // `c6`, the length of the `bin`, and the declared length.
        let mut payload = honest[35..].to_vec();
        payload[5..9].copy_from_slice(&declared.to_be_bytes());
        forged(on, key, 1, &payload);
        let before = store.stats().corrupt();
        assert_eq!(Note::get(&store, 1).await.unwrap(), None);
        assert_eq!(store.stats().corrupt(), before + 1);
        assert_eq!(on.raw(&["EXISTS", key]), Value::Integer(0));
    }
}

async fn an_entry_with_an_unknown_flag_is_newer() {
    let on = On::Plain;
    let store = on.store("unknown-flag").await;
    let key = "unknown-flag:note:1";
    for flags in [3, 8, 0x7f, 0xff] {
        note(1).set(&store).await.unwrap();
        forged(on, key, flags, b"\xc4\x01x");
        let before = on.stored(key);
        assert_eq!(Note::get(&store, 1).await.unwrap(), None);
        let loaded = Note::get_or_load(&store, 1, async || Ok::<_, ()>(note(1))).await;
        assert_eq!(loaded, Ok(note(1)));
        let absent = SetOptions::new().if_absent();
        assert!(!note(1).set_with(&store, absent).await.unwrap());
        assert_eq!(on.stored(key), before, "{flags}");
    }
    assert_eq!(store.stats().corrupt(), 0);
    // A whole `set` replaces whatever is there.
    note(1).set(&store).await.unwrap();
    assert_eq!(Note::get(&store, 1).await.unwrap(), Some(note(1)));
}
