//! Near copies: they answer while nothing has changed, and no longer.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Invalidation, ManualClock, Source, Store};
use valkey_tests::{Proxy, Server};

use crate::database::{PATIENCE, until};
use crate::stores::{On, connect, patient};

/// Its copies end with a change alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "1h", ttl_absent = "1h", near = "1h")]
#[cached(tag = "site:{site}", clear, alias = "slug")]
struct Page {
    #[cached(key)]
    id: u64,
    site: u64,
    slug: String,
    row: u32,
}

/// Nobody tells of its changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "rate", ttl = "1h", near = "5s")]
struct Rate {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// Without a near cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "plain", ttl = "1h")]
struct Plain {
    #[cached(key)]
    id: u64,
}

fn page(row: u32) -> Page {
    let slug = "start".to_owned();
    Page {
        id: 1,
        site: 7,
        slug,
        row,
    }
}

async fn row(store: &Store) -> Option<u32> {
    let found = Page::get(store, 1).await.unwrap();
    found.map(|page| page.row)
}

fn near_hits(store: &Store) -> u64 {
    store.stats().near_hits()
}

/// Reads the page until a copy answers.
async fn is_near(store: &Store) {
    until("a near copy answers", async || {
        let before = near_hits(store);
        row(store).await;
        near_hits(store) > before
    })
    .await;
}

suite! {
    crate::near =>
        a_copy_answers_until_another_process_changes_its_key
        an_own_write_ends_the_copy_before_its_verb_returns
        an_invalidated_tag_ends_the_copies_under_it
        a_cleared_type_has_no_copies
        a_row_that_is_being_written_is_not_read_from_a_copy
        an_absence_is_copied_and_ends_with_a_value
        bulk_reads_ask_for_what_has_no_copy
        loads_are_answered_by_copies
        look_ups_by_alias_are_answered_by_copies
        a_shared_value_is_decoded_once
        a_read_that_skips_near_copies_asks_the_store
        a_store_that_is_closed_has_no_copies
}

suite! {
    @alone [crate::near]
    a_copy_costs_the_server_nothing
    only_the_prefixes_of_near_types_are_tracked
    a_stream_and_a_near_cache_share_a_connection
    a_lost_connection_ends_all_copies
    nothing_is_copied_while_changes_are_not_reported
    without_tracking_a_copy_ends_with_its_time
    a_connection_that_is_silent_costs_at_most_the_time_of_a_copy
    the_copies_of_a_type_are_bounded_in_bytes
    while_the_store_can_not_be_asked_stale_copies_serve_loads_that_fail
    a_type_may_serve_stale_copies_to_its_reads
    a_copy_that_is_known_to_be_old_is_not_served_as_stale
}

async fn a_copy_answers_until_another_process_changes_its_key(on: On) {
    if on == On::Memory {
        // No other process has its store.
        return;
    }
    let (store, other) = (on.store("near-other").await, on.store("near-other").await);
    for n in 0..20 {
        page(n).set(&other).await.unwrap();
        until("the change arrives", async || row(&store).await == Some(n)).await;
        is_near(&store).await;
        assert_eq!(row(&store).await, Some(n));
    }
    Page::del(&other, 1).await.unwrap();
    until("the deletion arrives", async || row(&store).await.is_none()).await;
}

async fn an_own_write_ends_the_copy_before_its_verb_returns(on: On) {
    let store = on.store("near-own").await;
    for n in 0..50 {
        page(n).set(&store).await.unwrap();
        assert_eq!(row(&store).await, Some(n));
        is_near(&store).await;
        Page::del(&store, 1).await.unwrap();
        assert_eq!(row(&store).await, None);
        Page::set_many(&store, [&page(n + 100)]).await.unwrap();
        assert_eq!(row(&store).await, Some(n + 100));
        is_near(&store).await;
        Page::update(&store, 1, async || Ok::<_, ()>(()))
            .await
            .unwrap();
        assert_eq!(row(&store).await, None);
        Page::write_through(&store, &page(n + 200), async || Ok::<_, ()>(()))
            .await
            .unwrap();
        assert_eq!(row(&store).await, Some(n + 200));
        is_near(&store).await;
        store.of::<Page>().mark_stale(1).await.unwrap();
        assert_eq!(row(&store).await, None);
    }
}

async fn an_invalidated_tag_ends_the_copies_under_it(on: On) {
    let (store, other) = (on.store("near-tags").await, on.store("near-tags").await);
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    store
        .invalidate_tag(Page::cache_tags().site(8))
        .await
        .unwrap();
    let before = near_hits(&store);
    // A message of the server about another tag ends no copy of this one.
    assert_eq!(
        (row(&store).await, near_hits(&store)),
        (Some(1), before + 1)
    );
    store
        .invalidate_tag(Page::cache_tags().site(7))
        .await
        .unwrap();
    assert_eq!(row(&store).await, None);
    if on != On::Memory {
        page(2).set(&store).await.unwrap();
        is_near(&store).await;
        other
            .invalidate_tag(Page::cache_tags().site(7))
            .await
            .unwrap();
        until("the tag arrives", async || row(&store).await.is_none()).await;
    }
}

async fn a_cleared_type_has_no_copies(on: On) {
    let store = on.store("near-clear").await;
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    store.of::<Page>().clear().await.unwrap();
    assert_eq!(row(&store).await, None);
}

async fn a_row_that_is_being_written_is_not_read_from_a_copy(on: On) {
    let store = on.store("near-guard").await;
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    let during = Page::update(&store, 1, async || {
        // The guard was placed before: no copy from here on.
        let read = [row(&store).await, row(&store).await];
        Ok::<_, ()>(read)
    });
    assert_eq!(during.await.unwrap(), [None, None]);
}

async fn an_absence_is_copied_and_ends_with_a_value(on: On) {
    let store = on.store("near-absent").await;
    let load = async || Page::get_or_load(&store, 1, async || Ok::<_, ()>(None::<Page>)).await;
    assert_eq!(load().await, Ok(None));
    until("a near copy answers", async || {
        let before = near_hits(&store);
        assert_eq!(load().await, Ok(None));
        near_hits(&store) > before
    })
    .await;
    page(1).set(&store).await.unwrap();
    assert_eq!(load().await, Ok(Some(page(1))));
}

async fn bulk_reads_ask_for_what_has_no_copy(on: On) {
    let store = on.store("near-bulk").await;
    let pages: Vec<_> = (0..10).map(|id| Page { id, ..page(3) }).collect();
    Page::set_many(&store, &pages).await.unwrap();
    let half: Vec<u64> = (0..10).step_by(2).collect();
    until("half of them are near", async || {
        let before = near_hits(&store);
        Page::get_many(&store, &half).await.unwrap();
        near_hits(&store) - before == half.len() as u64
    })
    .await;
    let before = near_hits(&store);
    let all = Page::get_many(&store, 0..12).await.unwrap();
    assert_eq!(all.iter().flatten().cloned().collect::<Vec<_>>(), pages);
    assert_eq!((all.len(), &all[10..]), (12, &[None, None][..]));
    assert_eq!(near_hits(&store) - before, half.len() as u64);
}

async fn loads_are_answered_by_copies(on: On) {
    let store = on.store("near-loads").await;
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    let before = near_hits(&store);
    let never = async || -> Result<Option<Page>, ()> { panic!("it is cached") };
    assert_eq!(Page::get_or_load(&store, 1, never).await, Ok(Some(page(1))));
    let many = Page::get_or_load_many(&store, [1], async |_: Vec<u64>| -> Result<Vec<Page>, ()> {
        panic!("it is cached")
    });
    assert_eq!(
        many.await
            .unwrap()
            .into_iter()
            .flatten()
            .collect::<Vec<_>>(),
        [page(1)]
    );
    assert_eq!(near_hits(&store) - before, 2);
}

async fn look_ups_by_alias_are_answered_by_copies(on: On) {
    let store = on.store("near-alias").await;
    page(1).set(&store).await.unwrap();
    let found = Page::load_by_slug(&store, "start")
        .run(async || Ok(Some(1)), async |_| Ok::<_, ()>(Some(page(1))));
    assert_eq!(found.await, Ok(Some(page(1))));
    is_near(&store).await;
    let before = near_hits(&store);
    let found = Page::get_by_slug(&store, "start").await.unwrap();
    assert_eq!(found, Some(page(1)));
    assert!(near_hits(&store) > before);
}

async fn a_shared_value_is_decoded_once(on: On) {
    let store = on.store("near-shared").await;
    assert_eq!(Page::get_shared(&store, 1).await.unwrap(), None);
    page(1).set(&store).await.unwrap();
    until("a value is shared", async || {
        let first = Page::get_shared(&store, 1).await.unwrap().unwrap();
        let again = Page::get_shared(&store, 1).await.unwrap().unwrap();
        assert_eq!((&*first, &*again), (&page(1), &page(1)));
        Arc::ptr_eq(&first, &again)
    })
    .await;
    let stats = store.stats();
    let (hits, near) = (stats.hits(), near_hits(&store));
    Page::get_shared(&store, 1).await.unwrap().unwrap();
    assert_eq!(
        (store.stats().hits(), near_hits(&store)),
        (hits + 1, near + 1)
    );
    page(2).set(&store).await.unwrap();
    let shared = Page::get_shared(&store, 1).await.unwrap().unwrap();
    assert_eq!(*shared, page(2));
    let plain = Plain { id: 1 };
    plain.set(&store).await.unwrap();
    assert_eq!(*Plain::get_shared(&store, 1).await.unwrap().unwrap(), plain);
}

async fn a_read_that_skips_near_copies_asks_the_store(on: On) {
    let store = on.store("near-skip").await;
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    let before = near_hits(&store);
    let handle = store.of::<Page>().skip_near();
    assert_eq!(handle.get(1).await.unwrap(), Some(page(1)));
    assert_eq!(handle.get_many([1]).await.unwrap(), [Some(page(1))]);
    assert_eq!(*handle.get_shared(1).await.unwrap().unwrap(), page(1));
    let load = handle.load(1).run(async || Ok::<_, ()>(None::<Page>));
    assert_eq!(load.await, Ok(Some(page(1))));
    assert_eq!(near_hits(&store), before);
}

async fn a_store_that_is_closed_has_no_copies(on: On) {
    let store = on.store("near-closed").await;
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    Page::get_shared(&store, 1).await.unwrap();
    store.close().await;
    assert!(Page::get(&store, 1).await.is_err());
    assert!(Page::get_shared(&store, 1).await.is_err());
}

async fn a_copy_costs_the_server_nothing() {
    let server = Server::plain();
    let store = connect(&server.url()).await;
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    let reads = || server.command_count("get") + server.command_count("mget");
    let before = reads();
    for _ in 0..1000 {
        assert_eq!(row(&store).await, Some(1));
    }
    // A type without tags and one with tags alike: nothing is read.
    assert_eq!(reads(), before);
}

async fn only_the_prefixes_of_near_types_are_tracked() {
    let server = Server::plain();
    let store = patient(Store::builder().url(&server.url()));
    let store = store.namespace("ns").connect().await.unwrap();
    let prefixes = || {
        let info = server.cli(&["INFO", "stats"]);
        let mut lines = info.lines();
        let line = lines.find_map(|line| line.strip_prefix("tracking_total_prefixes:"));
        line.unwrap().trim().parse::<u32>().unwrap()
    };
    Plain { id: 1 }.set(&store).await.unwrap();
    Plain::get(&store, 1).await.unwrap();
    assert_eq!(prefixes(), 0, "no near type was read");
    page(1).set(&store).await.unwrap();
    is_near(&store).await;
    assert_eq!(prefixes(), 3, "tags, types, and pages");
    let rate = Rate { id: 1, row: 1 };
    rate.set(&store).await.unwrap();
    until("rates are near", async || {
        let before = near_hits(&store);
        Rate::get(&store, 1).await.unwrap();
        near_hits(&store) > before
    })
    .await;
    assert_eq!(prefixes(), 4, "and rates, on the same connection");
    let before = near_hits(&store);
    assert_eq!(
        (row(&store).await, near_hits(&store)),
        (Some(1), before + 1)
    );
}

async fn a_stream_and_a_near_cache_share_a_connection() {
    let server = Server::plain();
    let (store, other) = (connect(&server.url()).await, connect(&server.url()).await);
    page(1).set(&other).await.unwrap();
    is_near(&store).await;
    let mut told = store.invalidations().await.unwrap();
    assert!(told.is_live());
    Plain { id: 1 }.set(&other).await.unwrap();
    let next = tokio::time::timeout(PATIENCE, told.next()).await.unwrap();
    assert!(matches!(next, Some(Invalidation::Key(key)) if key.is_of::<Plain>()));
    is_near(&store).await;
    page(2).set(&other).await.unwrap();
    until("the change arrives", async || row(&store).await == Some(2)).await;
    is_near(&store).await;
    let list = server.cli(&["CLIENT", "LIST"]);
    let tracks = |line: &&str| line.contains("flags=") && line.contains("resp=3");
    let broadcasts = list.lines().filter(tracks).filter(|line| {
        let mut fields = line.split(' ');
        fields.any(|field| {
            field
                .strip_prefix("flags=")
                .is_some_and(|flags| flags.contains('B'))
        })
    });
    assert_eq!(broadcasts.count(), 1);
}

async fn a_lost_connection_ends_all_copies() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let (store, other) = (connect(&proxy.url()).await, connect(&server.url()).await);
    page(1).set(&other).await.unwrap();
    is_near(&store).await;
    proxy.refuse();
    proxy.cut();
    page(2).set(&other).await.unwrap();
    proxy.accept();
    // The store's own connection may fail once; an old row would be a fault.
    until("the new row is read", async || {
        match Page::get(&store, 1).await {
            Ok(Some(page)) => page.row == 2,
            Ok(None) => panic!("it is cached"),
            Err(_) => false,
        }
    })
    .await;
    is_near(&store).await;
    assert_eq!(row(&store).await, Some(2));
}

async fn nothing_is_copied_while_changes_are_not_reported() {
    let server = Server::plain();
    let behind = Proxy::to(server.addr());
    let store = connect(&behind.url()).await;
    page(1).set(&store).await.unwrap();
    // The store has its connection, and the tracking gets none.
    behind.refuse();
    for _ in 0..100 {
        assert_eq!(row(&store).await, Some(1));
    }
    assert_eq!(near_hits(&store), 0);
    behind.accept();
    is_near(&store).await;
}

async fn without_tracking_a_copy_ends_with_its_time() {
    let server = Server::plain();
    let rights = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        "nopass",
        "~*",
        "+@all",
        "-client|tracking",
    ];
    assert_eq!(server.cli(&rights), "OK");
    let clock = Arc::new(ManualClock::new());
    let url = format!("redis://app:any@127.0.0.1:{}", server.port());
    let store = patient(Store::builder().url(&url)).clock(clock.clone());
    let store = store.connect().await.unwrap();
    let other = connect(&server.url()).await;
    let read = async || Rate::get(&store, 1).await.unwrap().unwrap().row;
    Rate { id: 1, row: 1 }.set(&other).await.unwrap();
    until("rates are near", async || {
        let before = near_hits(&store);
        read().await;
        near_hits(&store) > before
    })
    .await;
    // Begins a copy of its own.
    Rate { id: 1, row: 1 }.set(&store).await.unwrap();
    assert_eq!(read().await, 1);
    Rate { id: 1, row: 2 }.set(&other).await.unwrap();
    clock.advance(Duration::from_millis(4999));
    assert_eq!(read().await, 1, "nobody reports the change");
    clock.advance(Duration::from_millis(1));
    assert_eq!(read().await, 2);
    // An own write is seen at once.
    Rate { id: 1, row: 3 }.set(&store).await.unwrap();
    assert_eq!(read().await, 3);
}

async fn a_connection_that_is_silent_costs_at_most_the_time_of_a_copy() {
    let server = Server::plain();
    let proxy = Proxy::to(server.addr());
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder().url(&proxy.url()).clock(clock.clone());
    let store = store.command_timeout(Duration::from_secs(2));
    let store = store.connect().await.unwrap();
    let other = connect(&server.url()).await;
    let read = async || Rate::get(&store, 1).await;
    Rate { id: 1, row: 1 }.set(&other).await.unwrap();
    until("rates are near", async || {
        let before = near_hits(&store);
        // A busy machine may cost a read its time.
        let _ = read().await;
        near_hits(&store) > before
    })
    .await;
    proxy.stall();
    Rate { id: 1, row: 2 }.set(&other).await.unwrap();
    assert_eq!(read().await.unwrap().unwrap().row, 1, "nobody knows yet");
    clock.advance(Duration::from_secs(5));
    let late = read().await;
    assert!(
        late.is_err(),
        "an old row, or an answer from nowhere: {late:?}"
    );
    proxy.resume();
    until("the new row is read", async || match read().await {
        Ok(Some(rate)) => {
            assert_eq!(rate.row, 2);
            true
        }
        Ok(None) | Err(_) => false,
    })
    .await;
}

async fn the_copies_of_a_type_are_bounded_in_bytes() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
    #[cached(prefix = "blob", near(ttl = "1h", max_bytes = "64KiB"), ttl = "1h")]
    struct Blob {
        #[cached(key)]
        id: u64,
        bytes: String,
    }
    let store = Store::memory();
    let bytes = "x".repeat(1000);
    for id in 0..200 {
        let blob = Blob {
            id,
            bytes: bytes.clone(),
        };
        blob.set(&store).await.unwrap();
        Blob::get(&store, id).await.unwrap();
    }
    let before = near_hits(&store);
    for id in 0..200 {
        assert!(Blob::get(&store, id).await.unwrap().is_some());
    }
    let copies = near_hits(&store) - before;
    // A copy takes about 2.3 KiB: its entry, as much for its value, and the rest.
    assert!(copies <= 64 / 2, "{copies} copies were kept");
    let large = Blob {
        id: 1000,
        bytes: "x".repeat(100_000),
    };
    large.set(&store).await.unwrap();
    let read = async || Blob::get(&store, 1000).await.unwrap() == Some(large.clone());
    assert!(
        read().await && read().await,
        "a value larger than the bound is read as before"
    );
}

/// Serves stale copies to loads alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "kept", ttl = "1d", near(ttl = "5s", stale = "1h"))]
struct Kept {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// Serves them to reads as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "shown",
    ttl = "1d",
    near(ttl = "5s", stale = "1h", get_stale)
)]
struct Shown {
    #[cached(key)]
    id: u64,
    row: u32,
}

async fn kept(clock: &Arc<ManualClock>) -> Store {
    let store = Store::builder().memory().clock(clock.clone());
    let store = store.connect().await.unwrap();
    Kept { id: 1, row: 1 }.set(&store).await.unwrap();
    Shown { id: 1, row: 1 }.set(&store).await.unwrap();
    assert!(Kept::get(&store, 1).await.unwrap().is_some());
    assert!(Shown::get(&store, 1).await.unwrap().is_some());
    store
}

async fn while_the_store_can_not_be_asked_stale_copies_serve_loads_that_fail() {
    let clock = Arc::new(ManualClock::new());
    let store = kept(&clock).await;
    let loaded = async |loader: Result<Option<Kept>, &'static str>| {
        let load = store.of::<Kept>().load(1).entry();
        load.run(async || loader).await
    };
    clock.advance(Duration::from_secs(3590));
    assert_eq!(
        loaded(Err("down")).await.unwrap().unwrap().source(),
        Source::Cached
    );
    store.faults().take_down();
    clock.advance(Duration::from_secs(5));
    assert!(Kept::get(&store, 1).await.is_err(), "`get` serves none");
    let served = loaded(Err("down")).await;
    let served = served.map(|entry| entry.map(|entry| (entry.source(), entry.into_value())));
    assert_eq!(served, Ok(Some((Source::Stale, Kept { id: 1, row: 1 }))));
    let row = Kept { id: 1, row: 2 };
    let loaded_now = loaded(Ok(Some(row.clone()))).await.unwrap().unwrap();
    assert_eq!(
        (loaded_now.source(), loaded_now.into_value()),
        (Source::Loaded, row)
    );
    let many = Kept::get_or_load_many(&store, [1], async |_: Vec<u64>| Err::<Vec<Kept>, _>("down"));
    assert_eq!(many.await, Ok(vec![Some(Kept { id: 1, row: 1 })]));
    let stats = store.stats();
    let of_kept = stats.types().find(|of| of.name() == "kept").unwrap();
    assert_eq!(of_kept.stale(), 2);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(loaded(Err("down")).await, Err("down"), "too old");
}

async fn a_type_may_serve_stale_copies_to_its_reads() {
    let clock = Arc::new(ManualClock::new());
    let store = kept(&clock).await;
    store.faults().take_down();
    clock.advance(Duration::from_secs(3599));
    let row = Some(Shown { id: 1, row: 1 });
    assert_eq!(Shown::get(&store, 1).await.unwrap(), row);
    assert_eq!(Shown::get_many(&store, [1]).await.unwrap(), [row]);
    assert!(Shown::get(&store, 2).await.is_err());
    assert!(Shown::get_many(&store, [1, 2]).await.is_err());
    let stats = store.stats();
    let of_shown = stats.types().find(|of| of.name() == "shown").unwrap();
    assert_eq!(of_shown.stale(), 2);
    clock.advance(Duration::from_secs(1));
    assert!(Shown::get(&store, 1).await.is_err(), "too old");
}

async fn a_copy_that_is_known_to_be_old_is_not_served_as_stale() {
    let clock = Arc::new(ManualClock::new());
    let store = kept(&clock).await;
    clock.advance(Duration::from_secs(5));
    store.faults().take_down();
    // The deletion waits, and the copy is old from now on.
    assert!(Shown::del(&store, 1).await.is_err());
    assert_ne!(
        Shown::get(&store, 1).await.ok().flatten(),
        Some(Shown { id: 1, row: 1 })
    );
    assert!(Kept::del(&store, 1).await.is_err());
    let load = Kept::get_or_load(&store, 1, async || Err::<Option<Kept>, _>("down"));
    assert_eq!(load.await, Err("down"));
}
