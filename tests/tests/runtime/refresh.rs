//! Values that outlive their time, over every backend: served where a load fails or takes too long,
//! confirmed, refreshed ahead; and lives that hits extend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use valkey_runtime::{Cached, Loaded, ManualClock, SetOptions, Source, Stale, Store, Ttl};

use valkey_tests::resp::Value;

use crate::database::{PATIENCE, undisturbed, until};
use crate::faults::Log;
use crate::steady::writes_into;
use crate::stores::On;

suite! {
    @alone [crate::refresh]
    a_sliding_life_ends_at_its_ceiling
    a_loader_that_borrows_is_logged_once
}

suite! {
    crate::refresh =>
    an_expired_value_is_no_value
    a_stale_value_is_served_where_the_loader_fails
    a_failed_load_is_tried_again_after_a_pause
    callers_of_a_failed_load_are_served_the_stale_value
    many_are_served_stale_values_where_their_loader_fails
    many_stale_values_are_loaded_again
    a_value_written_through_is_fresh
    a_value_without_stale_if_error_is_not_served
    a_deleted_value_is_not_served
    an_updated_value_is_not_served
    a_stale_absence_is_never_served
    an_unchanged_value_gets_a_new_ttl
    a_stale_value_that_its_loader_serves_is_not_loaded_for_a_while
    a_stale_value_is_not_kept_after_a_load_that_stores_none
    a_load_that_an_expiry_overtook_is_not_stored
    a_hot_value_is_refreshed_once
    two_stores_refresh_a_hot_value_once
    a_failed_refresh_is_tried_again_after_a_pause
    a_refresh_that_an_update_overtook_is_not_stored
    a_refresh_takes_over_from_one_that_died
    a_refresh_ends_with_its_store_and_gives_its_claim_back
    a_loader_that_borrows_does_not_refresh_ahead
    a_slow_load_goes_on_beside_its_caller
    a_caller_that_waits_for_a_slow_load_is_served_the_stale_value
    a_hit_extends_a_sliding_life
    hits_extend_a_sliding_life_once_an_eighth
    a_touch_extends_freshness
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "page",
    ttl = "20s",
    jitter = "0%",
    ttl_absent = "20s",
    stale_if_error = "1h",
    retry_after = "1h"
)]
struct Page {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// The same keys. A failed load is tried again at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "page",
    ttl = "20s",
    stale_if_error = "1h",
    retry_after = "1ms"
)]
struct Eager {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// The same keys. Nothing is served after its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "page", ttl = "20s", jitter = "0%", refresh_ahead = "80%")]
struct Hot {
    #[cached(key)]
    id: u64,
    row: u32,
}

/// The same keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "page",
    ttl = "20s",
    stale_if_error = "1h",
    load_timeout = "20ms"
)]
struct Slow {
    #[cached(key)]
    id: u64,
    row: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(ttl = "20s", jitter = "0%", sliding, max_age = "50s")]
struct Session {
    #[cached(key)]
    id: u64,
}

const FAILS: Result<Option<Page>, &str> = Err("no database");

fn page(row: u32) -> Page {
    Page { id: 1, row }
}

/// A store on which this page is no longer fresh.
async fn with_stale_page(on: On, namespace: &str, row: u32) -> Store {
    let store = on.store(namespace).await;
    page(row).set(&store).await.unwrap();
    assert!(store.of::<Page>().mark_stale(1).await.unwrap());
    store
}

/// A store whose time the test moves: its view of the server's time, and in the process all of it.
async fn on_clock(on: On, namespace: &str) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    writes_into(on.nodes(), namespace);
    let store = on.builder().namespace(namespace).clock(clock.clone());
    let store = store.command_timeout(PATIENCE).connect().await.unwrap();
    (store, clock)
}

/// How many tasks run beside its callers.
fn running(store: &Store) -> u64 {
    store.stats().background_running()
}

fn seconds(ttl: Option<Ttl>) -> u64 {
    match ttl {
        Some(Ttl::After(left)) => (left.as_millis() as u64).div_ceil(1000),
        other => panic!("{other:?}"),
    }
}

/// Loads that begin are counted, and end when the test lets them go.
#[derive(Default)]
struct Loads {
    begun: AtomicUsize,
    gate: Option<Semaphore>,
}

impl Loads {
    fn open() -> Arc<Self> {
        Arc::default()
    }

    fn closed() -> Arc<Self> {
        let (begun, gate) = (AtomicUsize::new(0), Some(Semaphore::new(0)));
        Arc::new(Self { begun, gate })
    }

    fn let_go(&self) {
        self.gate.iter().for_each(|gate| gate.add_permits(1));
    }

    fn count(&self) -> usize {
        self.begun.load(SeqCst)
    }

    async fn load<T>(self: Arc<Self>, given: T) -> T {
        self.begun.fetch_add(1, SeqCst);
        if let Some(gate) = &self.gate {
            drop(gate.acquire().await.unwrap());
        }
        given
    }

    /// The row that a call is given whose loader would give this one.
    async fn hot(self: &Arc<Self>, store: &Store, row: u32) -> u32 {
        let loads = self.clone();
        let load = move |_| loads.load(Ok::<_, ()>(Hot { id: 1, row }));
        store
            .of::<Hot>()
            .load(1)
            .in_background()
            .revalidate(load)
            .await
            .unwrap()
            .row
    }

    async fn slow(self: &Arc<Self>, store: &Store, row: u32) -> (u32, Source) {
        let loads = self.clone();
        let load = move |_| loads.load(Ok::<_, ()>(Slow { id: 1, row }));
        let entry = store
            .of::<Slow>()
            .load(1)
            .in_background()
            .entry()
            .revalidate(load)
            .await
            .unwrap();
        (entry.row, entry.source())
    }
}

/// Waits until the page is this one, as anyone reads it.
async fn until_row(store: &Store, row: u32) {
    until("the row is stored", async || {
        Page::get(store, 1).await.unwrap() == Some(page(row))
    })
    .await;
}

async fn an_expired_value_is_no_value(on: On) {
    let store = with_stale_page(on, "stale-none", 1).await;
    assert_eq!(Page::get(&store, 1).await.unwrap(), None);
    assert_eq!(store.of::<Page>().get_entry(1).await.unwrap(), None);
    assert_eq!(Page::get_many(&store, [1]).await.unwrap(), [None]);
    assert!(!Page::exists(&store, 1).await.unwrap());
    assert_eq!(store.of::<Page>().ttl(1).await.unwrap(), None);
    assert!(!Page::touch(&store, 1).await.unwrap());
    assert!(!store.of::<Page>().mark_stale(1).await.unwrap());
    assert!(!Page::del(&store, 1).await.unwrap());
}

async fn a_stale_value_is_served_where_the_loader_fails(on: On) {
    let store = with_stale_page(on, "stale-served", 1).await;
    let entry = store.of::<Page>().load(1).entry().run(async || FAILS);
    let entry = entry.await.unwrap().unwrap();
    assert_eq!((entry.row, entry.source()), (1, Source::Stale));
    let stats = store.stats();
    assert_eq!(
        (stats.stale(), stats.failed_loads(), stats.loads()),
        (1, 1, 1)
    );
    // Nobody tries again for an hour.
    let unused = async || panic!("it is not loaded") as Result<Option<Page>, &str>;
    assert_eq!(
        Page::get_or_load(&store, 1, unused).await,
        Ok(Some(page(1)))
    );
    assert_eq!(Page::get(&store, 1).await.unwrap(), None);
    // But for who wants it fresh.
    let loaded = store
        .of::<Page>()
        .load(1)
        .fresh()
        .run(async || Ok::<_, ()>(page(2)));
    assert_eq!(loaded.await, Ok(page(2)));
    assert_eq!(Page::get(&store, 1).await.unwrap(), Some(page(2)));
}

async fn a_failed_load_is_tried_again_after_a_pause(on: On) {
    let store = with_stale_page(on, "stale-again", 1).await;
    let load = async |given: Result<u32, ()>| {
        let load = async || given.map(|row| Eager { id: 1, row });
        Eager::get_or_load(&store, 1, load).await.unwrap().row
    };
    assert_eq!(load(Err(())).await, 1);
    until("the next try", async || load(Ok(2)).await == 2).await;
    assert_eq!(Page::get(&store, 1).await.unwrap(), Some(page(2)));
}

async fn callers_of_a_failed_load_are_served_the_stale_value(on: On) {
    let store = with_stale_page(on, "stale-herd", 1).await;
    let loads = Loads::closed();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (store, loads) = (store.clone(), loads.clone());
            tokio::spawn(async move {
                let load = async || loads.clone().load(FAILS).await;
                Page::get_or_load(&store, 1, load).await
            })
        })
        .collect();
    until("the load begins", async || loads.count() > 0).await;
    loads.let_go();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(Some(page(1))));
    }
    assert_eq!((loads.count(), store.stats().stale()), (1, 100));
}

async fn many_are_served_stale_values_where_their_loader_fails(on: On) {
    let store = on.store("stale-many").await;
    let pages: Vec<_> = (1..=3).map(|id| Page { id, row: 7 }).collect();
    Page::set_many(&store, &pages).await.unwrap();
    for id in [1, 2] {
        assert!(store.of::<Page>().mark_stale(id).await.unwrap());
    }
    let load = async |_| Err::<Vec<(u64, Page)>, _>("no database");
    let found = Page::get_or_load_many(&store, 1..=3, load).await.unwrap();
    assert!(found.into_iter().eq(pages.into_iter().map(Some)));
    assert_eq!((store.stats().stale(), store.stats().loads()), (2, 1));
    // Where one of them has none to serve it is the loader's error.
    let load = async |_| Err::<Vec<(u64, Page)>, _>("no database");
    let found = Page::get_or_load_many(&store, [1, 4], load).await;
    assert_eq!(found, Err("no database"));
}

async fn many_stale_values_are_loaded_again(on: On) {
    let store = on.store("stale-many-again").await;
    let pages = |row| [1, 2, 3].map(|id| Page { id, row });
    Page::set_many(&store, &pages(1)).await.unwrap();
    for id in [1, 2] {
        assert!(store.of::<Page>().mark_stale(id).await.unwrap());
    }
    let load = async |ids: Vec<u64>| {
        let pages = ids.into_iter().map(|id| (id, Page { id, row: 2 }));
        Ok::<_, ()>(pages.collect::<Vec<_>>())
    };
    let rows = |found: Vec<Option<Page>>| found.into_iter().map(|page| page.unwrap().row);
    let found = Page::get_or_load_many(&store, 1..=3, load).await.unwrap();
    assert!(rows(found).eq([2, 2, 1]));
    let found = Page::get_many(&store, 1..=3).await.unwrap();
    assert!(rows(found).eq([2, 2, 1]), "they are stored");
    assert_eq!(store.stats().refused_fills(), 0);
}

async fn a_value_written_through_is_fresh(on: On) {
    let store = with_stale_page(on, "stale-through", 1).await;
    let written = Page::write_through(&store, &page(2), async || Ok::<_, ()>(()));
    written.await.unwrap();
    let entry = store.of::<Page>().get_entry(1).await.unwrap().unwrap();
    assert_eq!(entry.row, 2);
    assert!(seconds(entry.expires_in()) > 10);
}

async fn a_value_without_stale_if_error_is_not_served(on: On) {
    let (store, clock) = on_clock(on, "stale-not-kept").await;
    let loads = Loads::open();
    assert_eq!(loads.hot(&store, 1).await, 1);
    assert_eq!(Hot::get(&store, 1).await.unwrap().unwrap().row, 1);
    clock.advance(Duration::from_secs(20));
    assert_eq!(Hot::get(&store, 1).await.unwrap(), None);
    let failed = Hot::get_or_load(&store, 1, async || Err::<Hot, _>("no database"));
    assert_eq!(failed.await, Err("no database"));
    assert_eq!(loads.hot(&store, 2).await, 2);
}

async fn a_deleted_value_is_not_served(on: On) {
    let store = with_stale_page(on, "stale-deleted", 1).await;
    Page::del(&store, 1).await.unwrap();
    let loaded = Page::get_or_load(&store, 1, async || FAILS).await;
    assert_eq!(loaded, FAILS);
}

async fn an_updated_value_is_not_served(on: On) {
    let store = with_stale_page(on, "stale-updated", 1).await;
    let fails_meanwhile = async || {
        let loaded = Page::get_or_load(&store, 1, async || FAILS).await;
        assert_eq!(loaded, FAILS);
        Ok::<_, ()>(())
    };
    Page::update(&store, 1, fails_meanwhile).await.unwrap();
    let loaded = Page::get_or_load(&store, 1, async || FAILS).await;
    assert_eq!(loaded, FAILS);
}

async fn a_stale_absence_is_never_served(on: On) {
    let store = on.store("stale-absence").await;
    let absent = async || Ok::<Option<Page>, &str>(None);
    assert_eq!(Page::get_or_load(&store, 1, absent).await, Ok(None));
    assert_eq!(Page::get_or_load(&store, 1, async || FAILS).await, Ok(None));
    store.of::<Page>().mark_stale(1).await.unwrap();
    assert_eq!(Page::get_or_load(&store, 1, async || FAILS).await, FAILS);
}

async fn an_unchanged_value_gets_a_new_ttl(on: On) {
    let store = with_stale_page(on, "stale-unchanged", 1).await;
    let entry = async || store.of::<Page>().get_entry(1).await.unwrap();
    let load = async |stale: Option<Stale<Page>>| {
        let stale = stale.expect("the value that is there");
        assert_eq!(*stale, page(1));
        Ok::<_, ()>(stale.unchanged())
    };
    let loaded = store.of::<Page>().load(1).revalidate(load).await;
    assert_eq!(loaded, Ok(Some(page(1))));
    let fresh = entry().await.unwrap();
    assert_eq!(fresh.row, 1);
    assert!(seconds(fresh.expires_in()) > 10 && fresh.age() < Duration::from_secs(10));
    // A loader is shown nothing where there is nothing, or nothing that it could keep.
    Page::del(&store, 1).await.unwrap();
    let load = async |stale: Option<Stale<Page>>| {
        assert!(stale.is_none());
        Ok::<_, ()>(page(2))
    };
    let loaded = store.of::<Page>().load(1).revalidate(load).await;
    assert_eq!(loaded, Ok(page(2)));
}

async fn a_stale_value_that_its_loader_serves_is_not_loaded_for_a_while(on: On) {
    let store = with_stale_page(on, "stale-serves", 1).await;
    let load = async |stale: Option<Stale<Page>>| stale.map(Stale::serve).ok_or("no database");
    let loaded = store.of::<Page>().load(1).revalidate(load).await;
    assert_eq!(loaded, Ok(Some(page(1))));
    let unused = async |_| panic!("it is not loaded") as Result<Option<Page>, &str>;
    let loaded = store.of::<Page>().load(1).revalidate(unused).await;
    assert_eq!(loaded, Ok(Some(page(1))));
    assert_eq!((store.stats().stale(), store.stats().loads()), (2, 1));
    Page::del(&store, 1).await.unwrap();
    let loaded = store.of::<Page>().load(1).revalidate(load).await;
    assert_eq!(loaded, Err("no database"));
}

async fn a_stale_value_is_not_kept_after_a_load_that_stores_none(on: On) {
    let nothing = || Loaded::absent();
    let not_stored = || Loaded::value(Eager { id: 1, row: 2 }).dont_store();
    let ways: [(&str, &dyn Fn() -> Loaded<Eager>); 2] =
        [("stale-gone", &nothing), ("stale-unstored", &not_stored)];
    for (namespace, given) in ways {
        let store = with_stale_page(on, namespace, 1).await;
        let given = given();
        let row = Eager::get_or_load(&store, 1, async || Ok::<_, ()>(given)).await;
        assert_ne!(row.unwrap().map(|page| page.row), Some(1));
        let failed = Eager::get_or_load(&store, 1, async || Err::<Eager, _>("no database"));
        assert_eq!(failed.await, Err("no database"), "{namespace}");
    }
}

async fn a_load_that_an_expiry_overtook_is_not_stored(on: On) {
    let store = with_stale_page(on, "stale-overtaken", 1).await;
    let load = async || {
        store.of::<Page>().mark_stale(1).await.unwrap();
        Ok::<_, ()>(page(2))
    };
    assert_eq!(Page::get_or_load(&store, 1, load).await, Ok(page(2)));
    assert_eq!(store.stats().refused_fills(), 1);
    assert_eq!(Page::get(&store, 1).await.unwrap(), None);
    // The previous value is still there, in case loads fail.
    assert_eq!(
        Page::get_or_load(&store, 1, async || FAILS).await,
        Ok(Some(page(1)))
    );
}

async fn a_hot_value_is_refreshed_once(on: On) {
    let (store, clock) = on_clock(on, "ahead-once").await;
    Loads::open().hot(&store, 1).await;
    clock.advance(Duration::from_millis(15_900));
    let loads = Loads::closed();
    assert_eq!(loads.hot(&store, 2).await, 1);
    assert_eq!(running(&store), 0, "it is not due yet");
    clock.advance(Duration::from_millis(200));
    for _ in 0..100 {
        assert_eq!(loads.hot(&store, 2).await, 1);
    }
    until("the refresh begins", async || loads.count() > 0).await;
    for _ in 0..100 {
        assert_eq!(loads.hot(&store, 3).await, 1);
    }
    loads.let_go();
    until_row(&store, 2).await;
    assert_eq!(loads.hot(&store, 3).await, 2);
    store.settled().await;
    let stats = store.stats();
    assert_eq!(
        (loads.count(), stats.refreshes(), stats.misses()),
        (1, 1, 1)
    );
}

async fn two_stores_refresh_a_hot_value_once(on: On) {
    let (store, clock) = on_clock(on, "ahead-two").await;
    let other = match on {
        On::Memory => store.clone(),
        _ => {
            let other = on.builder().namespace("ahead-two").clock(clock.clone());
            other.command_timeout(PATIENCE).connect().await.unwrap()
        }
    };
    Loads::open().hot(&store, 1).await;
    clock.advance(Duration::from_secs(17));
    let loads = Loads::closed();
    assert_eq!(loads.hot(&store, 2).await, 1);
    until("the refresh begins", async || loads.count() > 0).await;
    for _ in 0..10 {
        assert_eq!(loads.hot(&other, 3).await, 1);
    }
    until("what it asked is answered", async || {
        running(&other) <= u64::from(on == On::Memory)
    })
    .await;
    loads.let_go();
    until_row(&other, 2).await;
    assert_eq!(loads.count(), 1);
}

async fn a_failed_refresh_is_tried_again_after_a_pause(on: On) {
    let (store, clock) = on_clock(on, "ahead-fails").await;
    page(1).set(&store).await.unwrap();
    clock.advance(Duration::from_secs(17));
    let loads = Loads::open();
    let failing = async |store: &Store| {
        let loads = loads.clone();
        let load = move |_| loads.load(Err::<Hot, _>("no database"));
        store
            .of::<Hot>()
            .load(1)
            .in_background()
            .revalidate(load)
            .await
            .unwrap()
            .row
    };
    assert_eq!(failing(&store).await, 1);
    store.settled().await;
    assert_eq!(store.stats().failed_loads(), 1);
    for _ in 0..20 {
        assert_eq!(failing(&store).await, 1);
    }
    assert_eq!((loads.count(), store.stats().stale()), (1, 0));
}

async fn a_refresh_that_an_update_overtook_is_not_stored(on: On) {
    let (store, clock) = on_clock(on, "ahead-overtaken").await;
    Loads::open().hot(&store, 1).await;
    clock.advance(Duration::from_secs(17));
    let loads = Loads::closed();
    assert_eq!(loads.hot(&store, 1).await, 1);
    until("the refresh begins", async || loads.count() > 0).await;
    Hot::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    loads.let_go();
    until("it has ended", async || store.stats().refused_fills() == 1).await;
    assert_eq!(Loads::open().hot(&store, 2).await, 2);
}

async fn a_refresh_takes_over_from_one_that_died(on: On) {
    let (store, clock) = on_clock(on, "ahead-died").await;
    Loads::open().hot(&store, 1).await;
    // Its runtime ends in mid-load, and with it the task that could give the claim back.
    let in_process = (on == On::Memory).then(|| store.clone());
    let died = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let other = match in_process {
                Some(store) => store,
                None => {
                    let other = on.builder().namespace("ahead-died").clock(clock.clone());
                    other.command_timeout(PATIENCE).connect().await.unwrap()
                }
            };
            clock.advance(Duration::from_secs(17));
            let loads = Loads::closed();
            assert_eq!(loads.hot(&other, 2).await, 1);
            until("the refresh begins", async || loads.count() > 0).await;
        });
        clock
    });
    let (clock, loads) = (died.await.unwrap(), Loads::open());
    // In the process the claim runs out as the test has it, in a server by itself.
    clock.advance(Duration::from_secs(u64::from(on == On::Memory)));
    until("another takes over", async || {
        loads.hot(&store, 3).await;
        loads.count() > 0
    })
    .await;
    until_row(&store, 3).await;
}

async fn a_refresh_ends_with_its_store_and_gives_its_claim_back(on: On) {
    let (store, clock) = on_clock(on, "ahead-closed").await;
    Loads::open().hot(&store, 1).await;
    clock.advance(Duration::from_secs(17));
    let loads = Loads::closed();
    assert_eq!(loads.hot(&store, 2).await, 1);
    until("the refresh begins", async || loads.count() > 0).await;
    let claim = || on.raw(&["GETRANGE", "ahead-closed:page:1", "41", "48"]);
    let nobody = Value::Bulk(vec![0; 8]);
    if on != On::Memory {
        assert_ne!(claim(), nobody);
    }
    store.close().await;
    assert_eq!(running(&store), 0);
    if on != On::Memory {
        assert_eq!(claim(), nobody);
    }
}

async fn a_loader_that_borrows_does_not_refresh_ahead(on: On) {
    let (store, clock) = on_clock(on, "ahead-borrows").await;
    Loads::open().hot(&store, 1).await;
    clock.advance(Duration::from_secs(17));
    let unused = async || panic!("it is not loaded") as Result<Option<Hot>, ()>;
    let hit = Hot::get_or_load(&store, 1, unused).await.unwrap();
    assert_eq!(hit, Some(Hot { id: 1, row: 1 }));
}

async fn a_slow_load_goes_on_beside_its_caller(on: On) {
    let store = with_stale_page(on, "slow-on", 1).await;
    let loads = Loads::closed();
    assert_eq!(loads.slow(&store, 2).await, (1, Source::Stale));
    assert_eq!(loads.slow(&store, 3).await, (1, Source::Stale));
    loads.let_go();
    until_row(&store, 2).await;
    assert_eq!(loads.count(), 1);
    // One that is not slow is waited for.
    store.of::<Page>().mark_stale(1).await.unwrap();
    let (row, source) = Loads::open().slow(&store, 4).await;
    assert!((row, source) == (4, Source::Loaded) || (row, source) == (2, Source::Stale));
    until_row(&store, 4).await;
    // And where there is nothing to serve, all are.
    Page::del(&store, 1).await.unwrap();
    let (waiting, loads) = (store.clone(), Loads::closed());
    let call = tokio::spawn({
        let loads = loads.clone();
        async move { loads.slow(&waiting, 5).await }
    });
    until("the load begins", async || loads.count() > 0).await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert!(!call.is_finished());
    loads.let_go();
    assert_eq!(call.await.unwrap(), (5, Source::Loaded));
}

async fn a_caller_that_waits_for_a_slow_load_is_served_the_stale_value(on: On) {
    let store = on.store("slow-waits").await;
    let other = match on {
        On::Memory => store.clone(),
        _ => on.store("slow-waits").await,
    };
    // The claim of a loader that has no turn runs out after a second.
    let followed = undisturbed(&store, Duration::from_millis(600), async || {
        page(1).set(&store).await.unwrap();
        assert!(store.of::<Page>().mark_stale(1).await.unwrap());
        served_while_another_loads(&store, &other).await
    });
    assert_eq!(followed.await, (1, 1));
    assert_eq!(Page::get(&store, 1).await.unwrap(), Some(page(2)));
}

/// The rows that two callers are given while a load is under way, by this store and by another.
async fn served_while_another_loads(store: &Store, other: &Store) -> (u32, u32) {
    let loads = Loads::closed();
    let load = async || Ok::<_, ()>(loads.clone().load(Slow { id: 1, row: 2 }).await);
    let mut leader = std::pin::pin!(Slow::get_or_load(store, 1, load));
    let begun = until("the load begins", async || loads.count() > 0);
    tokio::select! {
        loaded = &mut leader => panic!("{loaded:?}"),
        () = begun => {}
    }
    // It borrows its loader, so it waits; another in this process, and one in another, do not.
    let follow = async |store: &Store| {
        // It is not loaded.
        let unused = async || Ok::<_, ()>(Slow { id: 1, row: 3 });
        let served = Slow::get_or_load(store, 1, unused).await;
        served.unwrap().row
    };
    let followed = async { (follow(store).await, follow(other).await) };
    let followed = tokio::select! {
        loaded = &mut leader => panic!("{loaded:?}"),
        followed = followed => followed,
    };
    loads.let_go();
    assert_eq!(leader.await.unwrap().row, 2);
    followed
}

/// How many seconds the session still has, as a hit leaves it.
async fn hit(store: &Store) -> u64 {
    assert!(Session::get(store, 1).await.unwrap().is_some());
    store.settled().await;
    seconds(store.of::<Session>().ttl(1).await.unwrap())
}

async fn a_hit_extends_a_sliding_life(on: On) {
    let store = on.store("sliding").await;
    let short = SetOptions::new().ttl(Duration::from_secs(5));
    let session = Session { id: 1 };
    let set = async || assert!(session.set_with(&store, short).await.unwrap());
    set().await;
    let left = hit(&store).await;
    // By the store's estimate of the server's time, which is off by half of the answer that it was
    // made by.
    assert!((11..=25).contains(&left), "{left}");
    // So does a hit of any other verb.
    set().await;
    Session::get_many(&store, [1]).await.unwrap();
    assert!(hit(&store).await > 10);
    set().await;
    let unused = async || panic!("it is not loaded") as Result<Option<Session>, ()>;
    Session::get_or_load(&store, 1, unused).await.unwrap();
    assert!(hit(&store).await > 10);
}

async fn a_sliding_life_ends_at_its_ceiling() {
    let (store, clock) = on_clock(On::Memory, "ceiling").await;
    Session { id: 1 }.set(&store).await.unwrap();
    for (after, left) in [(0, 20), (2, 18), (1, 20), (15, 20), (15, 17), (10, 7)] {
        clock.advance(Duration::from_secs(after));
        assert_eq!(hit(&store).await, left);
    }
    clock.advance(Duration::from_secs(7));
    assert_eq!(Session::get(&store, 1).await.unwrap(), None);
}

async fn hits_extend_a_sliding_life_once_an_eighth(on: On) {
    let store = on.store("sliding-once").await;
    // Of the 20 s an eighth is not over.
    let (before, after, running) = undisturbed(&store, Duration::from_secs(1), async || {
        Session { id: 1 }.set(&store).await.unwrap();
        let before = store.of::<Session>().get_entry(1).await.unwrap().unwrap();
        for _ in 0..50 {
            Session::get(&store, 1).await.unwrap();
        }
        let after = store.of::<Session>().get_entry(1).await.unwrap().unwrap();
        (before, after, running(&store))
    })
    .await;
    assert_eq!(before.stamp(), after.stamp());
    assert_eq!(running, 0);
    assert!(seconds(after.expires_in()) <= seconds(before.expires_in()));
}

async fn a_touch_extends_freshness(on: On) {
    let (store, clock) = on_clock(on, "touch-fresh").await;
    page(1).set(&store).await.unwrap();
    if on == On::Memory {
        clock.advance(Duration::from_secs(15));
        assert_eq!(seconds(store.of::<Page>().ttl(1).await.unwrap()), 5);
    }
    assert!(Page::touch(&store, 1).await.unwrap());
    let left = seconds(store.of::<Page>().ttl(1).await.unwrap());
    assert!((11..=25).contains(&left), "{left}");
}

async fn a_loader_that_borrows_is_logged_once() {
    let log = Log::default();
    let _logging = log.takes();
    let (store, clock) = on_clock(On::Memory, "said").await;
    Loads::open().hot(&store, 1).await;
    let hit = async || {
        let unused = async || panic!("it is not loaded") as Result<Option<Hot>, ()>;
        Hot::get_or_load(&store, 1, unused).await.unwrap()
    };
    hit().await;
    assert!(!log.text().contains("in_background"), "{}", log.text());
    clock.advance(Duration::from_secs(17));
    for _ in 0..3 {
        hit().await;
    }
    let text = log.text();
    assert_eq!(text.matches("in_background").count(), 1, "{text}");
}
