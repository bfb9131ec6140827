//! Types whose only copy is in the store: nothing that can't be read is lost, and nothing that was
//! not confirmed is undone later.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use valkey_runtime::testing::{Fault, Request};
use valkey_runtime::{
    Cached, EncryptionKeys, Error, ErrorKind, Invalid, ManualClock, SetOptions, Store, Ttl,
};

use crate::steady::writes_into;
use crate::stores::On;

suite! {
    crate::only_copy =>
    no_read_removes_what_it_can_not_read
    an_entry_of_a_newer_version_is_an_error_of_each_verb
    a_set_does_not_replace_what_a_later_release_wrote
    a_set_for_an_absent_value_leaves_what_it_can_not_read
    an_older_entry_is_converted_and_written_back
    an_unconfirmed_write_is_an_error_and_nothing_follows_it
    a_dropped_write_leaves_nothing_to_deliver
    a_store_that_is_off_or_away_is_an_error
    a_value_lives_for_its_whole_ttl
    what_a_cache_has_left_is_no_value
    near_copies_hide_nothing
    another_shape_or_key_is_an_error
    a_change_keeps_what_it_can_not_read
}

suite! {
    @alone [crate::only_copy]
    what_a_server_says_is_unreadable_stays
    an_expired_entry_is_absent
}

/// The release before the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "10h", only_copy)]
struct CartV1 {
    #[cached(key)]
    id: u64,
    articles: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "10h", only_copy, version = 2, migrate_from = CartV1, validate = Cart::check)]
struct Cart {
    #[cached(key)]
    id: u64,
    counts: BTreeMap<u32, u32>,
}

impl Cart {
    fn check(&self) -> Result<(), Invalid> {
        match self.counts.values().any(|count| *count > 99) {
            true => Err(Invalid::new("counts", "over 99")),
            false => Ok(()),
        }
    }
}

impl TryFrom<CartV1> for Cart {
    type Error = ();

    /// Article 13 is not converted.
    fn try_from(CartV1 { id, articles }: CartV1) -> Result<Self, ()> {
        let mut counts = BTreeMap::new();
        for article in articles {
            *counts.entry(article).or_insert(0) += 1;
        }
        match counts.contains_key(&13) {
            true => Err(()),
            false => Ok(Self { id, counts }),
        }
    }
}

/// The release after this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "cart",
    ttl = "10h",
    only_copy,
    version = 3,
    oldest_version = 3
)]
struct Later {
    #[cached(key)]
    id: u64,
    note: String,
}

/// Somebody has forgotten to raise the version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "cart",
    ttl = "10h",
    only_copy,
    version = 2,
    oldest_version = 2
)]
struct Changed {
    #[cached(key)]
    id: u64,
    coupon: String,
}

/// Without the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "cart",
    ttl = "10h",
    only_copy,
    version = 2,
    oldest_version = 2
)]
struct Unchecked {
    #[cached(key)]
    id: u64,
    counts: BTreeMap<u32, u32>,
}

/// A release for which it was a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "cart", ttl = "10h", ttl_absent = "1h", version = 2)]
struct Cache {
    #[cached(key)]
    id: u64,
    counts: BTreeMap<u32, u32>,
}

fn cart(id: u64, article: u32) -> Cart {
    let counts = BTreeMap::from([(article, 1)]);
    Cart { id, counts }
}

fn later(id: u64) -> Later {
    let note = "in a hurry".to_owned();
    Later { id, note }
}

fn changed(id: u64) -> Changed {
    let coupon = "half".to_owned();
    Changed { id, coupon }
}

fn unchecked(id: u64) -> Unchecked {
    let counts = BTreeMap::from([(1, 100)]);
    Unchecked { id, counts }
}

fn refused(id: u64) -> CartV1 {
    let articles = vec![13];
    CartV1 { id, articles }
}

/// The error of each read that returns values, for the entry with this id.
async fn reads(store: &Store, id: u64) -> Vec<(&'static str, Error)> {
    let carts = store.of::<Cart>();
    let get = Cart::get(store, id).await.map(|found| found.is_some());
    let shared = Cart::get_shared(store, id).await.map(|f| f.is_some());
    let entry = carts.get_entry(id).await.map(|found| found.is_some());
    let many = Cart::get_many(store, [id]).await;
    let many = many.map(|found| found[0].is_some());
    let mut scan = carts.scan();
    let scanned = scan.next().await.expect("it is there");
    let reads = [
        ("get", get),
        ("get_shared", shared),
        ("get_entry", entry),
        ("get_many", many),
        ("scan", scanned.map(|_| true)),
    ];
    let failed = |(verb, read): (_, Result<bool, Error>)| (verb, read.expect_err(verb));
    reads.into_iter().map(failed).collect()
}

/// Each is put alone into a namespace, so that a scan finds no other.
async fn no_read_removes_what_it_can_not_read(on: On) {
    let kinds = [
        ("changed", ErrorKind::Corrupt, "missing field"),
        ("unchecked", ErrorKind::Invalid, "over 99"),
        ("refused", ErrorKind::Unreadable, "could not be migrated"),
        ("later", ErrorKind::Unreadable, "has version 3"),
    ];
    for (name, kind, text) in kinds {
        let store = on.store(&format!("only-copy-{name}")).await;
        match name {
            "changed" => changed(1).set(&store).await.unwrap(),
            "unchecked" => unchecked(1).set(&store).await.unwrap(),
            "refused" => refused(1).set(&store).await.unwrap(),
            _ => later(1).set(&store).await.unwrap(),
        }
        for (verb, error) in reads(&store, 1).await {
            assert_eq!(error.kind(), kind, "{name}, {verb}: {error}");
            let told = error.to_string();
            assert!(told.contains(text) && told.contains("stays"), "{told}");
            assert!(!told.contains("half") && !told.contains("hurry"), "{told}");
            assert_eq!(error.key().map(|key| key.ends_with("cart:1")), Some(true));
        }
        let still = match name {
            "changed" => Changed::get(&store, 1).await.unwrap() == Some(changed(1)),
            "unchecked" => Unchecked::get(&store, 1).await.unwrap() == Some(unchecked(1)),
            "refused" => CartV1::get(&store, 1).await.unwrap() == Some(refused(1)),
            _ => Later::get(&store, 1).await.unwrap() == Some(later(1)),
        };
        assert!(still, "{name}");
        assert_eq!(store.of::<Cart>().count().await.unwrap(), 1, "{name}");
        store.settled().await;
        let stats = store.stats();
        assert_eq!(stats.misses(), 0, "{name}: an error is no miss");
        assert_eq!(stats.errors(kind), 5, "{name}");
        assert_eq!(store.undelivered(), 0);
        // The store keeps it for a process that can read it; a plain `set` still replaces what this
        // release knows.
        if name != "later" {
            cart(1, 7).set(&store).await.unwrap();
            assert_eq!(Cart::get(&store, 1).await.unwrap(), Some(cart(1, 7)));
        }
    }
}

async fn an_entry_of_a_newer_version_is_an_error_of_each_verb(on: On) {
    let store = on.store("only-copy-newer").await;
    later(1).set(&store).await.unwrap();
    let carts = store.of::<Cart>();
    let present = SetOptions::new().if_present();
    let mut errors = vec![
        ("exists", Cart::exists(&store, 1).await.unwrap_err()),
        ("ttl", carts.ttl(1).await.unwrap_err()),
        ("touch", Cart::touch(&store, 1).await.unwrap_err()),
        (
            "set",
            cart(1, 7).set_with(&store, present).await.unwrap_err(),
        ),
    ];
    let batched = store.batch().set_with(&cart(1, 7), present).send().await;
    errors.push(("set", batched[0].clone().unwrap_err()));
    for (verb, error) in errors {
        assert_eq!(error.kind(), ErrorKind::Unreadable, "{error}");
        assert_eq!(error.operation(), Some(verb));
    }
    assert_eq!(Later::get(&store, 1).await.unwrap(), Some(later(1)));
    // Of what is not there they say so.
    assert!(!Cart::exists(&store, 2).await.unwrap());
    assert_eq!(carts.ttl(2).await.unwrap(), None);
    assert!(!Cart::touch(&store, 2).await.unwrap());
    assert!(!cart(2, 7).set_with(&store, present).await.unwrap());
    // A deletion is meant, whatever is there.
    assert!(Cart::del(&store, 1).await.unwrap());
    assert_eq!(Later::get(&store, 1).await.unwrap(), None);
}

async fn a_set_does_not_replace_what_a_later_release_wrote(on: On) {
    // However old the entry is.
    writes_into(on.nodes(), "only-copy-set");
    let builder = on.builder().namespace("only-copy-set");
    let store = builder.newer_wins_for(Duration::ZERO);
    let store = store.connect().await.unwrap();
    later(1).set(&store).await.unwrap();
    let set = cart(1, 7).set(&store).await.unwrap_err();
    let many = Cart::set_many(&store, &[cart(2, 7), cart(1, 7), cart(3, 7)]).await;
    let batched = store.batch().set(&cart(1, 7)).set(&cart(4, 7)).send().await;
    for error in [set, many.unwrap_err(), batched[0].clone().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unreadable, "{error}");
        assert!(error.to_string().contains("nothing was stored"), "{error}");
    }
    let absent = SetOptions::new().if_absent();
    assert!(!cart(1, 7).set_with(&store, absent).await.unwrap());
    assert_eq!(Later::get(&store, 1).await.unwrap(), Some(later(1)));
    // The others of one call are stored.
    for id in 2..=4 {
        assert_eq!(Cart::get(&store, id).await.unwrap(), Some(cart(id, 7)));
    }
    // The later release replaces its own, and older ones.
    later(1).set(&store).await.unwrap();
    later(2).set(&store).await.unwrap();
    assert_eq!(Later::get(&store, 2).await.unwrap(), Some(later(2)));
}

async fn a_set_for_an_absent_value_leaves_what_it_can_not_read(on: On) {
    let store = on.store("only-copy-absent").await;
    let absent = SetOptions::new().if_absent();
    refused(1).set(&store).await.unwrap();
    changed(2).set(&store).await.unwrap();
    // This type migrates from no version.
    assert!(!unchecked(1).set_with(&store, absent).await.unwrap());
    for id in [1, 2] {
        assert!(!cart(id, 7).set_with(&store, absent).await.unwrap());
    }
    assert_eq!(CartV1::get(&store, 1).await.unwrap(), Some(refused(1)));
    assert_eq!(Changed::get(&store, 2).await.unwrap(), Some(changed(2)));
    assert!(cart(3, 7).set_with(&store, absent).await.unwrap());
    assert!(!cart(3, 8).set_with(&store, absent).await.unwrap());
    assert_eq!(Cart::get(&store, 3).await.unwrap(), Some(cart(3, 7)));
    let batched = store.batch().set_with(&cart(3, 8), absent).send().await;
    assert_eq!(batched.all().unwrap(), [false]);
}

async fn an_older_entry_is_converted_and_written_back(on: On) {
    writes_into(on.nodes(), "only-copy-older");
    let builder = on.builder().namespace("only-copy-older");
    let store = builder.newer_wins_for(Duration::ZERO);
    let store = store.connect().await.unwrap();
    for id in 1..=3 {
        let articles = vec![7];
        CartV1 { id, articles }.set(&store).await.unwrap();
    }
    assert!(Cart::exists(&store, 1).await.unwrap() && Cart::touch(&store, 1).await.unwrap());
    assert_eq!(Cart::get(&store, 1).await.unwrap(), Some(cart(1, 7)));
    store.settled().await;
    let error = CartV1::get(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable, "it was written back");
    let present = SetOptions::new().if_present();
    assert!(cart(2, 8).set_with(&store, present).await.unwrap());
    assert_eq!(Cart::get(&store, 2).await.unwrap(), Some(cart(2, 8)));
    let absent = SetOptions::new().if_absent();
    assert!(!cart(3, 8).set_with(&store, absent).await.unwrap());
    assert_eq!(Cart::get(&store, 3).await.unwrap(), Some(cart(3, 7)));
    assert_eq!(store.stats().misses(), 0);
}

async fn an_unconfirmed_write_is_an_error_and_nothing_follows_it(on: On) {
    let store = on.store("only-copy-unconfirmed").await;
    let (present, absent) = (
        SetOptions::new().if_present(),
        SetOptions::new().if_absent(),
    );
    let timeout = || Fault::error(ErrorKind::Timeout);
    for (id, carried_out) in [(1, false), (2, true)] {
        let fault = |on| match carried_out {
            true => store.faults().fail_next(Fault::lost_reply().on(on)),
            false => store.faults().fail_next(timeout().on(on)),
        };
        let mut was = cart(id, 7);
        was.set(&store).await.unwrap();
        for (way, article) in (0..).zip([10, 11, 12, 14]) {
            let next = cart(id, article);
            fault(Request::Store);
            let answer = match way {
                0 => next.set(&store).await.map(drop),
                1 => Cart::set_many(&store, [&next]).await.map(drop),
                2 => store.batch().set(&next).send().await.all().map(drop),
                _ => next.set_with(&store, present).await.map(drop),
            };
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout, "{way}");
            assert_eq!(store.undelivered(), 0, "{way}");
            if carried_out {
                was = next;
            }
            // The next read asks the server.
            assert_eq!(Cart::get(&store, id).await.unwrap().as_ref(), Some(&was));
        }
        fault(Request::Store);
        let first = cart(id + 10, 7).set_with(&store, absent).await;
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(Cart::exists(&store, id + 10).await.unwrap(), carried_out);

        for way in 0..4 {
            // A purge deletes all that are there.
            Cart::del_many(&store, [1, 2, 11, 12]).await.unwrap();
            was.set(&store).await.unwrap();
            fault(Request::Delete);
            let answer = match way {
                0 => Cart::del(&store, id).await.map(drop),
                1 => Cart::del_many(&store, [id]).await.map(drop),
                2 => store.batch().del::<Cart>(id).send().await.all().map(drop),
                _ => store.of::<Cart>().purge().await.map(drop),
            };
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout, "{way}");
            assert_eq!(store.undelivered(), 0, "{way}");
            let there = Cart::get(&store, id).await.unwrap().is_some();
            assert_eq!(there, !carried_out, "{way}");
        }
    }
    assert_eq!(store.faults().pending(), 0);
    assert_eq!(store.stats().misses(), 4, "those that were deleted");
}

async fn a_dropped_write_leaves_nothing_to_deliver(on: On) {
    let store = on.store("only-copy-dropped").await;
    cart(1, 7).set(&store).await.unwrap();
    for request in [Request::Store, Request::Delete] {
        let held = store.faults().hold_next(request);
        let dropped = match request {
            Request::Store => cart(1, 8).set(&store).map(drop).boxed(),
            _ => Cart::del(&store, 1).map(drop).boxed(),
        };
        {
            let mut dropped = pin!(dropped);
            tokio::select! {
                () = held.reached() => {}
                () = &mut dropped => panic!("it waits"),
            }
        }
        held.release();
        assert_eq!(store.undelivered(), 0);
    }
    assert_eq!(Cart::get(&store, 1).await.unwrap(), Some(cart(1, 7)));
}

/// Each verb, and whether it failed.
async fn every_verb(store: &Store) -> Vec<Result<(), Error>> {
    let carts = store.of::<Cart>();
    let present = SetOptions::new().if_present();
    let batched = store.batch().set(&cart(1, 8)).del::<Cart>(1).send().await;
    let mut results = vec![
        Cart::get(store, 1).await.map(drop),
        Cart::get_shared(store, 1).await.map(drop),
        carts.get_entry(1).await.map(drop),
        Cart::get_many(store, [1]).await.map(drop),
        Cart::exists(store, 1).await.map(drop),
        carts.ttl(1).await.map(drop),
        Cart::touch(store, 1).await.map(drop),
        cart(1, 8).set(store).await,
        cart(1, 8).set_with(store, present).await.map(drop),
        Cart::set_many(store, &[cart(1, 8)]).await,
        Cart::del(store, 1).await.map(drop),
        Cart::del_many(store, [1]).await.map(drop),
        carts.scan().try_collect::<Vec<_>>().await.map(drop),
        carts.count().await.map(drop),
        carts.purge().await.map(drop),
    ];
    results.extend(batched.into_iter().map(|result| result.map(drop)));
    results
}

async fn a_store_that_is_off_or_away_is_an_error(on: On) {
    let store = on.store("only-copy-off").await;
    cart(1, 7).set(&store).await.unwrap();
    store.set_enabled(false);
    for (at, result) in every_verb(&store).await.into_iter().enumerate() {
        let error = result.expect_err("it is off");
        assert_eq!(error.kind(), ErrorKind::Disabled, "{at}: {error}");
    }
    store.set_enabled(true);
    store.faults().take_down();
    for (at, result) in every_verb(&store).await.into_iter().enumerate() {
        // A server hears of a scan or a purge only by its pages, which this fault strikes too.
        let error = result.expect_err("it is away");
        assert_eq!(error.kind(), ErrorKind::Connection, "{at}: {error}");
    }
    store.faults().recover();
    assert_eq!(store.undelivered(), 0);
    assert_eq!(Cart::get(&store, 1).await.unwrap(), Some(cart(1, 7)));
    assert_eq!(store.stats().misses(), 0);
}

async fn a_value_lives_for_its_whole_ttl(on: On) {
    let store = on.store("only-copy-ttl").await;
    for id in 1..=20 {
        cart(id, 7).set(&store).await.unwrap();
        let left = store.of::<Cart>().ttl(id).await.unwrap();
        // A jitter of 5 % would take up to half an hour.
        let Some(Ttl::After(left)) = left else {
            panic!("{left:?}");
        };
        assert!(left > Duration::from_secs(10 * 3600 - 60), "{left:?}");
    }
}

/// A lease, and a cached "not found".
async fn what_a_cache_has_left_is_no_value(on: On) {
    let store = on.store("only-copy-cache").await;
    let absent = SetOptions::new().if_absent();
    Cache::get_or_load(&store, 1, async || Ok::<Option<Cache>, ()>(None))
        .await
        .unwrap();
    assert_eq!(Cart::get(&store, 1).await.unwrap(), None);
    assert!(cart(1, 7).set_with(&store, absent).await.unwrap());

    let load = Cache::get_or_load(&store, 2, async || {
        assert_eq!(Cart::get(&store, 2).await.unwrap(), None, "a lease");
        assert!(cart(2, 7).set_with(&store, absent).await.unwrap());
        Ok::<Option<Cache>, ()>(None)
    });
    load.await.unwrap();
    assert_eq!(Cart::get(&store, 2).await.unwrap(), Some(cart(2, 7)));

    let guard = store.of::<Cache>().update(3).guard().await.unwrap();
    assert_eq!(Cart::get(&store, 3).await.unwrap(), None, "a guard");
    assert!(!cart(3, 7).set_with(&store, absent).await.unwrap());
    cart(3, 7).set(&store).await.unwrap();
    assert_eq!(Cart::get(&store, 3).await.unwrap(), Some(cart(3, 7)));
    drop(guard);
    store.settled().await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "flag", ttl = "never", near = "1h", only_copy)]
struct FlagV1 {
    #[cached(key)]
    id: u64,
    on: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "flag", ttl = "never", near = "1h", only_copy, version = 2, migrate_from = FlagV1)]
struct Flag {
    #[cached(key)]
    id: u64,
    share: u8,
}

impl TryFrom<FlagV1> for Flag {
    type Error = ();

    fn try_from(old: FlagV1) -> Result<Self, ()> {
        match old.on {
            true => Err(()),
            false => Ok(flag(old.id, 0)),
        }
    }
}

fn flag(id: u64, share: u8) -> Flag {
    Flag { id, share }
}

async fn near_copies_hide_nothing(on: On) {
    let store = on.store("only-copy-near").await;
    let other = on.builder().namespace("only-copy-near");
    let other = other.connect().await.unwrap();
    let old = |id, on| FlagV1 { id, on };
    old(1, false).set(&store).await.unwrap();
    old(2, true).set(&store).await.unwrap();
    for _ in 0..3 {
        assert_eq!(Flag::get(&store, 1).await.unwrap(), Some(flag(1, 0)));
        let error = Flag::get(&store, 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreadable, "{error}");
        let many = Flag::get_many(&store, [1, 2]).await.unwrap_err();
        assert_eq!(many.kind(), ErrorKind::Unreadable, "{many}");
    }
    let misses = store.stats().misses();
    flag(1, 50).set(&store).await.unwrap();
    assert_eq!(Flag::get(&store, 1).await.unwrap(), Some(flag(1, 50)));
    // The memory of another store is another one.
    if on != On::Memory {
        assert_eq!(Flag::get(&other, 1).await.unwrap(), Some(flag(1, 50)));
    }
    assert_eq!((misses, store.stats().misses()), (0, 0));
    store.set_enabled(false);
    let error = Flag::get_shared(&store, 1).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Disabled,
        "also where there is a copy"
    );
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "note", ttl = "1h", layout = "compact", only_copy, encrypt)]
struct Note {
    #[cached(key)]
    id: u64,
    text: String,
}

/// With a field more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "note", ttl = "1h", layout = "compact", only_copy, encrypt)]
struct LongNote {
    #[cached(key)]
    id: u64,
    text: String,
    title: String,
}

async fn another_shape_or_key_is_an_error(on: On) {
    let opened = async |namespace: &str, number: u32| {
        writes_into(on.nodes(), namespace);
        let keys = EncryptionKeys::new(number, [number as u8; 32]);
        let builder = on.builder().namespace(namespace).encryption_keys(keys);
        builder.connect().await.unwrap()
    };
    let store = opened("only-copy-shape", 1).await;
    let note = Note {
        id: 1,
        text: "remember".into(),
    };
    note.set(&store).await.unwrap();
    let error = LongNote::get(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    assert!(error.to_string().contains("another shape"), "{error}");
    assert!(LongNote::exists(&store, 1).await.is_err());
    assert_eq!(Note::get(&store, 1).await.unwrap(), Some(note.clone()));

    // A store without that key. In memory a store is its own server.
    if on == On::Memory {
        return;
    }
    let other = opened("only-copy-shape", 2).await;
    let error = Note::get(&other, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    assert!(error.to_string().contains("key number 1"), "{error}");
    assert!(Note::exists(&other, 1).await.is_err());
    assert_eq!(other.stats().undecrypted(), 1);
    assert_eq!(Note::get(&store, 1).await.unwrap(), Some(note));
}

/// Bytes that no release writes, entries of a later release, and other types of the server's.
async fn what_a_server_says_is_unreadable_stays() {
    let on = On::Plain;
    let store = on.store("only-copy-raw").await;
    let key = |id: u64| format!("only-copy-raw:cart:{id}");
    cart(1, 7).set(&store).await.unwrap();
    cart(2, 7).set(&store).await.unwrap();
    cart(3, 7).set(&store).await.unwrap();
    // A format, and an element, that this release does not know; a byte of the payload; no envelope.
    on.raw(&["SETRANGE", &key(1), "1", "\u{2}"]);
    on.raw(&["SETRANGE", &key(2), "31", "\u{1}"]);
    on.raw(&["SETRANGE", &key(3), "40", "x"]);
    on.raw(&["SET", &key(4), "anything"]);
    on.raw(&["LPUSH", &key(5), "anything"]);
    let cases = [
        (1, ErrorKind::Unreadable),
        (2, ErrorKind::Unreadable),
        (3, ErrorKind::Corrupt),
        (4, ErrorKind::Corrupt),
        (5, ErrorKind::Corrupt),
    ];
    let absent = SetOptions::new().if_absent();
    for (id, kind) in cases {
        let bytes = on.raw(&["DUMP", &key(id)]);
        let error = Cart::get(&store, id).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{id}: {error}");
        assert!(!cart(id, 8).set_with(&store, absent).await.unwrap(), "{id}");
        assert_eq!(on.raw(&["DUMP", &key(id)]), bytes, "{id}");
    }
    // Only a later release is protected from a plain `set`.
    for (id, is_replaced) in [(1, false), (2, false), (3, true), (4, true), (5, true)] {
        let stored = cart(id, 8).set(&store).await;
        assert_eq!(stored.is_ok(), is_replaced, "{id}");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "login", ttl = "30m", sliding, max_age = "1h", only_copy)]
struct Login {
    #[cached(key)]
    token: String,
}

/// Expiry is no loss.
async fn an_expired_entry_is_absent() {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().memory().clock(clock.clone());
    let store = store.connect().await.unwrap();
    let token = || "a".to_owned();
    Login { token: token() }.set(&store).await.unwrap();
    for _ in 0..3 {
        clock.advance(Duration::from_secs(19 * 60));
        assert!(Login::get(&store, "a").await.unwrap().is_some());
        store.settled().await;
    }
    clock.advance(Duration::from_secs(19 * 60));
    assert_eq!(Login::get(&store, "a").await.unwrap(), None);
    assert!(!Login::exists(&store, "a").await.unwrap());
    let absent = SetOptions::new().if_absent();
    let again = Login { token: token() };
    assert!(again.set_with(&store, absent).await.unwrap());
}

async fn a_change_keeps_what_it_can_not_read(on: On) {
    writes_into(on.nodes(), "only-copy-modify");
    let builder = on.builder().namespace("only-copy-modify");
    let store = builder.newer_wins_for(Duration::ZERO);
    let store = store.connect().await.unwrap();
    let add = |id, article| {
        Cart::modify(&store, id, move |cart: Option<Cart>| {
            let mut cart = cart.unwrap_or_else(|| Cart {
                id,
                counts: BTreeMap::new(),
            });
            *cart.counts.entry(article).or_insert(0) += 1;
            cart
        })
    };
    // One that is not there, and one of an older version.
    assert_eq!(add(1, 7).await.unwrap(), cart(1, 7));
    let old = CartV1 {
        id: 2,
        articles: vec![7],
    };
    old.set(&store).await.unwrap();
    let counts = add(2, 7).await.unwrap().counts;
    assert_eq!(counts, BTreeMap::from([(7, 2)]));

    // A newer one, however old; one of another struct; and one that can't be converted.
    later(3).set(&store).await.unwrap();
    changed(4).set(&store).await.unwrap();
    refused(5).set(&store).await.unwrap();
    for (id, kind) in [
        (3, ErrorKind::Unreadable),
        (4, ErrorKind::Corrupt),
        (5, ErrorKind::Unreadable),
    ] {
        let error = add(id, 7).await.unwrap_err();
        assert_eq!(error.store_error().unwrap().kind(), kind, "{id}");
        let read = store.of::<Cart>().get_entry(id).await.unwrap_err();
        let of_read = SetOptions::new().if_unchanged(1);
        assert_eq!(read.kind(), kind, "{id}");
        let set = cart(id, 7).set_with(&store, of_read).await;
        assert!(!set.unwrap_or(false), "{id}");
    }
    assert_eq!(Later::get(&store, 3).await.unwrap(), Some(later(3)));
    assert_eq!(Changed::get(&store, 4).await.unwrap(), Some(changed(4)));
    assert_eq!(CartV1::get(&store, 5).await.unwrap(), Some(refused(5)));

    store.set_enabled(false);
    let error = add(1, 7).await.unwrap_err();
    assert_eq!(error.store_error().unwrap().kind(), ErrorKind::Disabled);
}
