//! Allocations: how many a hit makes, and how much is allocated at most for bytes that ask for
//! more.
//!
//! A program of its own, because it counts the allocations of the whole program. The counts are
//! those of one thread, which is also that of the runtime and its connections.

#![cfg(unix)]

use std::collections::{BTreeMap, HashMap, HashSet};

use allocation_counter::{AllocationInfo, measure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "1h")]
struct User {
    #[cached(key)]
    id: u64,
    logins: u64,
    active: bool,
}

const ADA: User = User {
    id: 42,
    logins: 7,
    active: true,
};

/// A text of its own is one allocation.
#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "1h")]
struct Page {
    #[cached(key)]
    id: u64,
    text: String,
}

/// Takes a byte in an entry and 240 in memory.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    wide: Option<[u64; 29]>,
}

/// With either algorithm, under the same keys.
#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "text", ttl = "1h", compress = "zstd")]
struct Zstd {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "text", ttl = "1h", compress = "lz4")]
struct Lz4 {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "sparse", ttl = "1h")]
struct Bomb {
    #[cached(key)]
    id: u64,
    rows: Vec<Sparse>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

const TIMES: u64 = 100;

/// The allocations of one run, where all are alike.
fn each(runtime: &Runtime, mut run: impl AsyncFnMut()) -> f64 {
    runtime.block_on(async {
        for _ in 0..TIMES {
            run().await;
        }
    });
    let info = measure(|| {
        runtime.block_on(async {
            for _ in 0..TIMES {
                run().await;
            }
        });
    });
    info.count_total as f64 / TIMES as f64
}

#[test]
fn a_hit_allocates_its_key_and_its_value() {
    let (runtime, server) = (runtime(), Server::plain());
    for (store, least, most) in [
        (Store::memory(), 1.0, MOST_IN_PROCESS),
        (runtime.block_on(server.store()), 1.0, MOST_ON_SERVER),
    ] {
        store.faults().set_yielding(false);
        let page = Page {
            id: 1,
            text: "x".repeat(100),
        };
        runtime.block_on(async {
            ADA.set(&store).await.unwrap();
            page.set(&store).await.unwrap();
        });
        let plain = each(&runtime, async || {
            assert_eq!(User::get(&store, 42).await.unwrap(), Some(ADA));
        });
        let text = each(&runtime, async || {
            assert!(Page::get(&store, 1).await.unwrap().is_some());
        });
        assert!((least..=most).contains(&plain), "{plain}");
        assert!((text - plain - 1.0).abs() < 0.1, "{text} {plain}");
    }
}

/// The key; and over a server the channel for the answer.
const MOST_IN_PROCESS: f64 = 1.1;
const MOST_ON_SERVER: f64 = 2.1;

/// An entry may make a reader allocate at most 32 times its size.
#[test]
fn an_entry_does_not_decode_to_more_than_its_size_allows() {
    const ROWS: usize = 1 << 20;
    let (runtime, server) = (runtime(), Server::plain());
    let (bytes, read): (usize, AllocationInfo) = {
        let lenient = server.store_builder().max_expansion(1000);
        let lenient = runtime.block_on(lenient.connect()).unwrap();
        let bomb = Bomb {
            id: 1,
            rows: vec![Sparse::default(); ROWS],
        };
        runtime.block_on(bomb.set(&lenient)).unwrap();
        drop(bomb);
        assert_eq!(
            runtime
                .block_on(Bomb::get(&lenient, 1))
                .unwrap()
                .map(|bomb| bomb.rows.len()),
            Some(ROWS)
        );
        let bytes = server.cli(&["STRLEN", "sparse:1"]).parse().unwrap();
        let store = runtime.block_on(server.store());
        // The first use of a type on a store allocates for the type.
        runtime.block_on(Bomb::get(&store, 2)).unwrap();
        let read = measure(|| {
            assert_eq!(runtime.block_on(Bomb::get(&store, 1)).unwrap(), None);
        });
        (bytes, read)
    };
    assert!((ROWS..ROWS + 100).contains(&bytes), "{bytes}");
    let most = 34 * bytes as u64;
    assert!(read.bytes_max < most, "{} of {most}", read.bytes_max);
    assert!(read.bytes_max > bytes as u64, "the entry itself was read");
}

/// A compressed entry makes a reader allocate at most its limit, whatever length it declares and
/// however large it would become.
#[test]
fn a_compressed_entry_does_not_expand_beyond_the_limit() {
    const LIMIT: u64 = 1 << 20;
    let (runtime, server) = (runtime(), Server::plain());
    let builder = || server.store_builder();
    let lenient = runtime.block_on(builder().max_expansion(100_000).connect());
    let lenient = lenient.unwrap();
    let small = builder().max_size(LIMIT as usize).max_expansion(100_000);
    let small = runtime.block_on(small.connect()).unwrap();
    // The first use of a type on a store allocates for the type.
    runtime.block_on(Zstd::get(&small, 9)).unwrap();
    let get = |server: &Server| match server.command(&["GET", "text:1"]) {
        valkey_tests::resp::Value::Bulk(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    for lz4 in [false, true] {
        let text = "x".repeat(8 << 20);
        runtime.block_on(async {
            match lz4 {
                true => Lz4 { id: 1, text }.set(&lenient).await,
                false => Zstd { id: 1, text }.set(&lenient).await,
            }
            .unwrap()
        });
        let honest = get(&server);
        assert!(honest.len() < 64 << 10, "{}", honest.len());
        // What it is; 4 GiB; and just what the limit allows.
        for declared in [None, Some(u32::MAX), Some(LIMIT as u32)] {
            let mut entry = honest.clone();
            if let Some(declared) = declared {
                entry[40..44].copy_from_slice(&declared.to_be_bytes());
                let key = u32::from_be_bytes(entry[21..25].try_into().unwrap());
                let seed = u64::from(entry[30]) << 56 | 1 << 32 | u64::from(key);
                let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&entry[35..], seed) as u32;
                entry[26..30].copy_from_slice(&sum.to_be_bytes());
            }
            server.command(&[b"SET".as_slice(), b"text:1", &entry]);
            let corrupt = small.stats().corrupt();
            let read = measure(|| {
                assert_eq!(runtime.block_on(Zstd::get(&small, 1)).unwrap(), None);
            });
            assert_eq!(small.stats().corrupt(), corrupt + 1);
            let most = LIMIT + 4 * entry.len() as u64 + 4096;
            assert!(
                read.bytes_max < most,
                "{declared:?}: {} of {most}",
                read.bytes_max
            );
        }
    }
}

/// A part that takes anything a payload can hold.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
enum List {
    #[default]
    Nil,
    Cons(Box<List>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "hostile", ttl = "1h", alias = "name")]
struct Hostile {
    #[cached(key)]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    list: List,
    #[serde(default)]
    any: Option<Value>,
    #[serde(default)]
    numbers: Vec<u64>,
    #[serde(default)]
    by_name: HashMap<String, u64>,
    #[serde(default)]
    by_number: BTreeMap<u64, String>,
    #[serde(default)]
    set: HashSet<u64>,
}

/// An entry of `hostile:1` with this payload, and whether its value is read.
struct Case {
    what: String,
    entry: Vec<u8>,
    is_read: bool,
}

/// The entry whose elements after the header are these bytes. `clock` is that of an entry with tags.
fn sealed(rest: &[u8], clock: Option<u64>) -> Vec<u8> {
    let key = xxh3_64(b"hostile:1") as u32;
    let sum = xxh3_64_with_seed(rest, 1 << 32 | u64::from(key)) as u32;
    let stamp = 1_767_225_600_000_000_u64 << 12;
    let mut entry = b"\x9d\x01\x00\xcd\x00\x01\xce\x00\x00\x00\x00\xcf".to_vec();
    entry.extend_from_slice(&stamp.to_be_bytes());
    for hash in [key, sum] {
        entry.push(0xce);
        entry.extend_from_slice(&hash.to_be_bytes());
    }
    entry.extend_from_slice(&[0xc0; 3]);
    match clock {
        None => entry.extend_from_slice(&[0xc0; 2]),
        Some(clock) => {
            entry.push(0xcf);
            entry.extend_from_slice(&clock.to_be_bytes());
        }
    }
    entry.extend_from_slice(rest);
    entry
}

/// The payload of a `Hostile` with this field.
fn with(field: &str, content: &[u8]) -> Vec<u8> {
    let name = [&[0xa0 | field.len() as u8], field.as_bytes()].concat();
    [b"\x82\xa2id\x01", &name[..], content].concat()
}

fn hostile() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |what: &str, payload: Vec<u8>, is_read: bool| {
        let (what, entry) = (what.to_owned(), sealed(&payload, None));
        cases.push(Case {
            what,
            entry,
            is_read,
        });
    };
    add("nothing odd", with("name", b"\xa3Ada"), true);
    const DEEP: usize = 100_000;
    for (field, level) in [
        ("list", &b"\x81\xa4Cons"[..]),
        ("any", b"\x91"),
        ("any", b"\x81\xa1a"),
        ("unknown", b"\x91"),
        ("unknown", b"\x81\xa1a"),
    ] {
        let deep = [&level.repeat(DEEP), &b"\xa3Nil"[..]].concat();
        add(
            &format!("100,000 levels in `{field}`"),
            with(field, &deep),
            false,
        );
        let cut = with(field, &level.repeat(DEEP));
        add(
            &format!("100,000 levels without an end in `{field}`"),
            cut,
            false,
        );
    }
    for field in [
        "name",
        "list",
        "any",
        "numbers",
        "by_name",
        "by_number",
        "set",
        "unknown",
    ] {
        for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
            for rest in [&b"\x01"[..], &[0x01; 1000]] {
                let long = [&[marker, 0xff, 0xff, 0xff, 0xff], rest].concat();
                let what = format!("a length of 4 GiB after {marker:x} in `{field}`");
                add(&what, with(field, &long), false);
            }
        }
    }
    add(
        "a length of 4 GiB for all",
        b"\xdf\xff\xff\xff\xff\xa2id\x01".to_vec(),
        false,
    );
    add(
        "a text that is not UTF-8",
        with("name", b"\xa4\xff\xfe\xc0\x80"),
        false,
    );
    add(
        "a part that is not UTF-8",
        with("any", b"\x91\xa2\xed\xa0"),
        false,
    );
    add(
        "a key that is not UTF-8",
        with("by_name", b"\x81\xa1\xff\x01"),
        false,
    );
    add(
        "a variant that is not UTF-8",
        with("list", b"\xa3\xff\xff\xff"),
        false,
    );
    // An unknown field is skipped, whatever its texts are.
    add(
        "an unknown text that is not UTF-8",
        with("unknown", b"\xa1\xff"),
        true,
    );
    add("a field twice", b"\x82\xa2id\x01\xa2id\x02".to_vec(), false);
    add(
        "an unknown field twice",
        b"\x83\xa2id\x01\xa1x\x01\xa1x\x02".to_vec(),
        true,
    );
    let many: u32 = 100_000;
    let map = |entry: &[u8]| {
        [
            &[0xdf][..],
            &many.to_be_bytes(),
            &entry.repeat(many as usize),
        ]
        .concat()
    };
    add("100,000 fields alike", map(b"\xa2id\x01"), false);
    // Room for a map is counted before it is known that its keys are alike.
    add(
        "100,000 keys alike",
        with("by_name", &map(b"\xa1a\x01")),
        false,
    );
    add(
        "100,000 numbers alike",
        with("by_number", &map(b"\x01\xa0")),
        false,
    );
    add(
        "100,000 keys alike in any",
        with("any", &map(b"\xa1a\x90")),
        false,
    );
    let list = [&[0xdd][..], &many.to_be_bytes(), &vec![0x01; many as usize]].concat();
    add("100,000 elements alike", with("set", &list), true);
    for (what, tags) in [
        ("65,535 tags of none", &b"\xdc\xff\xff"[..]),
        ("a tag of 65,535 bytes of none", b"\x91\xda\xff\xff"),
        ("a tag that is not UTF-8", b"\x91\xa2\xff\xff"),
    ] {
        let rest = [tags, &with("name", b"\xa3Ada")].concat();
        cases.push(Case {
            what: what.to_owned(),
            entry: sealed(&rest, Some(1_767_225_600_000_000)),
            is_read: false,
        });
    }
    cases
}

/// Every way to read such an entry ends, and allocates in proportion to its bytes.
#[test]
fn hostile_entries_neither_abort_nor_allocate_above_the_limit() {
    let (runtime, server) = (runtime(), Server::plain());
    let store = runtime.block_on(server.store());
    let put = |case: &Case| {
        server.command(&[&b"SET"[..], b"hostile:1", &case.entry]);
    };
    // The first use of a type on a store allocates for the type.
    runtime.block_on(Hostile::get(&store, 2)).unwrap();
    let (mut most, mut of) = (0.0, String::new());
    for case in hostile() {
        put(&case);
        let read = measure(|| {
            let read = runtime.block_on(Hostile::get(&store, 1)).unwrap();
            assert_eq!(read.is_some(), case.is_read, "{}", case.what);
        });
        let len = case.entry.len() as u64;
        let limit = 32 * len + (64 << 10);
        assert!(
            read.bytes_max < limit,
            "{}: {} of {limit}",
            case.what,
            read.bytes_max
        );
        let share = read.bytes_max as f64 / limit as f64;
        if share > most {
            (most, of) = (share, case.what.clone());
        }

        put(&case);
        let many = runtime.block_on(Hostile::get_many(&store, [1, 2])).unwrap();
        let many = many.iter().flatten().count();
        assert_eq!(many, usize::from(case.is_read), "{}", case.what);
        put(&case);
        let load = async || Ok::<_, ()>(None);
        let loaded = runtime
            .block_on(Hostile::get_or_load(&store, 1, load))
            .unwrap();
        assert_eq!(loaded.is_some(), case.is_read, "{}", case.what);
    }
    eprintln!("at most {:.0} % of the limit, by {of}", 100.0 * most);
}
