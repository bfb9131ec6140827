//! Cached functions, over every backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use valkey_runtime::{CachedType, KeyPart, Store, cached_fn};

use crate::database::until;
use crate::stores::On;

suite! {
    crate::functions =>
    a_function_runs_once
    each_argument_is_in_the_key
    callers_share_one_run
    a_result_is_invalidated_by_its_arguments
    a_refresh_runs_the_function_and_replaces_its_result
    an_error_is_returned_and_not_cached
    a_result_is_invalidated_by_a_tag_over_its_arguments
    none_is_cached_as_an_absence
    a_tuple_a_text_and_a_number_are_values
    the_store_may_be_in_the_context
    a_function_of_nothing_has_one_result
    a_stale_result_is_served_while_the_next_is_computed
    a_near_result_asks_no_server
    a_function_runs_where_the_cache_is_down
}

/// A database that counts its queries.
#[derive(Clone, Default)]
struct Db(Arc<State>);

struct State {
    runs: AtomicUsize,
    begun: Semaphore,
    gate: Semaphore,
    fails: AtomicUsize,
}

const OPEN: usize = 1 << 16;

impl Default for State {
    fn default() -> Self {
        State {
            runs: AtomicUsize::new(0),
            begun: Semaphore::new(0),
            gate: Semaphore::new(OPEN),
            fails: AtomicUsize::new(0),
        }
    }
}

#[derive(Debug, PartialEq)]
struct DbError;

impl Db {
    /// The number of this query, after the gate.
    async fn query(&self) -> Result<usize, DbError> {
        let number = self.0.runs.fetch_add(1, SeqCst) + 1;
        self.0.begun.add_permits(1);
        drop(self.0.gate.acquire().await.unwrap());
        match self.0.fails.load(SeqCst) {
            0 => Ok(number),
            _ => Err(DbError),
        }
    }

    /// The queries since this was last asked.
    fn take(&self) -> usize {
        self.0.runs.swap(0, SeqCst)
    }

    fn fail(&self, fails: bool) {
        self.0.fails.store(usize::from(fails), SeqCst);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    id: u32,
    name: String,
}

fn product(id: u32, query: usize) -> Product {
    let name = format!("product of query {query}");
    Product { id, name }
}

#[cached_fn(ttl = "5m", tag = "category:{category}")]
async fn products(
    store: &Store,
    #[context] db: &Db,
    category: u32,
) -> Result<Vec<Product>, DbError> {
    let query = db.query().await?;
    if category == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![product(category, query), product(category + 1, query)])
}

async fn a_function_runs_once(on: On) {
    let (store, db) = (on.store("fn-once").await, Db::default());
    let first = products(&store, &db, 7).await;
    assert_eq!(first, Ok(vec![product(7, 1), product(8, 1)]));
    assert_eq!(products(&store, &db, 7).await, first);
    assert_eq!(db.take(), 1);
    let cached = products::get(&store, 7).await.unwrap();
    assert_eq!(Ok(cached.unwrap()), first);
    assert_eq!(products::get(&store, 8).await.unwrap(), None);
    assert_eq!(products::PREFIX, "products");
}

#[derive(Clone, Debug, PartialEq, KeyPart)]
struct Currency(String);

#[cached_fn(prefix = "price-of", ttl = "1m")]
async fn price(
    store: &Store,
    #[context] db: &Db,
    article: &str,
    #[key(hash_tag)] amount: i64,
    currency: &Currency,
    #[key(with = "name_of")] kind: Kind,
) -> Result<String, DbError> {
    let query = db.query().await?;
    Ok(format!("{query}: {amount} {article} {currency:?} {kind:?}"))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Net,
    Gross,
}

fn name_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Net => "net",
        Kind::Gross => "gross",
    }
}

async fn each_argument_is_in_the_key(on: On) {
    let (store, db) = (on.store("fn-keys").await, Db::default());
    let (chf, eur) = (Currency("chf".into()), Currency("eur".into()));
    let calls = [
        ("a:b", 1, &chf, Kind::Net),
        ("a", 1, &chf, Kind::Net),
        ("a:b", -1, &chf, Kind::Net),
        ("a:b", 1, &eur, Kind::Net),
        ("a:b", 1, &chf, Kind::Gross),
    ];
    let mut found = Vec::new();
    for (article, amount, currency, kind) in calls {
        found.push(
            price(&store, &db, article, amount, currency, kind)
                .await
                .unwrap(),
        );
    }
    assert_eq!(db.take(), 5);
    for ((article, amount, currency, kind), found) in calls.into_iter().zip(found) {
        let again = price(&store, &db, article, amount, currency, kind).await;
        assert_eq!(again.unwrap(), found);
    }
    assert_eq!(db.take(), 0);
    assert!(
        price::invalidate(&store, "a", 1, &chf, &Kind::Net)
            .await
            .unwrap()
    );
    assert_eq!(
        price::get(&store, "a", 1, &chf, &Kind::Net).await.unwrap(),
        None
    );
    if on != On::Memory {
        let key = "fn-keys:price-of:a%3Ab:{-1}:chf:net";
        assert_eq!(
            on.raw(&["EXISTS", key]),
            valkey_tests::resp::Value::Integer(1)
        );
    }
}

async fn callers_share_one_run(on: On) {
    let (store, db) = (on.store("fn-shared").await, Db::default());
    db.0.gate.forget_permits(OPEN);
    let call = || {
        let (store, db) = (store.clone(), db.clone());
        tokio::spawn(async move { products(&store, &db, 3).await })
    };
    let calls: Vec<_> = (0..20).map(|_| call()).collect();
    until("all have missed", async || {
        store.stats().misses() == 20 && db.0.runs.load(SeqCst) > 0
    })
    .await;
    db.0.gate.add_permits(OPEN);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap()[0], product(3, 1));
    }
    assert_eq!(db.take(), 1);
}

async fn a_result_is_invalidated_by_its_arguments(on: On) {
    let (store, db) = (on.store("fn-invalidate").await, Db::default());
    for category in [1, 2] {
        products(&store, &db, category).await.unwrap();
    }
    assert!(products::invalidate(&store, 1).await.unwrap());
    assert!(!products::invalidate(&store, 1).await.unwrap());
    assert_eq!(products(&store, &db, 2).await.unwrap()[0], product(2, 2));
    assert_eq!(products(&store, &db, 1).await.unwrap()[0], product(1, 3));
}

async fn a_refresh_runs_the_function_and_replaces_its_result(on: On) {
    let (store, db) = (on.store("fn-refresh").await, Db::default());
    products(&store, &db, 1).await.unwrap();
    let refreshed = products::refresh(&store, &db, 1).await.unwrap();
    assert_eq!(refreshed[0], product(1, 2));
    assert_eq!(products(&store, &db, 1).await.unwrap(), refreshed);
    assert_eq!(db.take(), 2);
}

async fn an_error_is_returned_and_not_cached(on: On) {
    let (store, db) = (on.store("fn-error").await, Db::default());
    db.fail(true);
    for _ in 0..2 {
        assert_eq!(products(&store, &db, 1).await, Err(DbError));
    }
    db.fail(false);
    assert_eq!(products(&store, &db, 1).await.unwrap()[0], product(1, 3));
}

async fn a_result_is_invalidated_by_a_tag_over_its_arguments(on: On) {
    let (store, db) = (on.store("fn-tag").await, Db::default());
    for category in [1, 2] {
        products(&store, &db, category).await.unwrap();
    }
    store
        .invalidate_tag(products::tags().category(1))
        .await
        .unwrap();
    assert_eq!(products::get(&store, 1).await.unwrap(), None);
    assert!(products::get(&store, 2).await.unwrap().is_some());
    assert_eq!(products(&store, &db, 1).await.unwrap()[0], product(1, 3));
    assert_eq!(products(&store, &db, 1).await.unwrap()[0], product(1, 3));
    store.invalidate_tag("category:2").await.unwrap();
    assert_eq!(products(&store, &db, 2).await.unwrap()[0], product(2, 4));
    // Also those that are stored by another verb than a load.
    let handle = store.of::<products>();
    let value = handle.get(1).await.unwrap().unwrap();
    handle.set_at(5, &value).await.unwrap();
    store
        .batch()
        .set_at::<products>(6, &value)
        .send()
        .await
        .all()
        .unwrap();
    handle
        .write_through_at(7, &value)
        .run(async || Ok::<_, ()>(()))
        .await
        .unwrap();
    for category in [5, 6, 7] {
        assert!(
            products::get(&store, category).await.unwrap().is_some(),
            "{category}"
        );
        store
            .invalidate_tag(products::tags().category(category))
            .await
            .unwrap();
        assert_eq!(
            products::get(&store, category).await.unwrap(),
            None,
            "{category}"
        );
    }
}

#[cached_fn(ttl = "5m", ttl_absent = "5m")]
async fn product_named(
    store: &Store,
    #[context] db: &Db,
    name: &str,
) -> Result<Option<Product>, DbError> {
    let query = db.query().await?;
    Ok((name == "bread").then(|| product(1, query)))
}

async fn none_is_cached_as_an_absence(on: On) {
    let (store, db) = (on.store("fn-absent").await, Db::default());
    for _ in 0..3 {
        assert_eq!(product_named(&store, &db, "cake").await, Ok(None));
    }
    assert_eq!(db.take(), 1);
    for _ in 0..3 {
        assert_eq!(
            product_named(&store, &db, "bread").await,
            Ok(Some(product(1, 1)))
        );
    }
    assert_eq!(db.take(), 1);
    product_named::invalidate(&store, "cake").await.unwrap();
    assert_eq!(product_named::refresh(&store, &db, "cake").await, Ok(None));
    assert_eq!(db.take(), 1);
}

#[cached_fn(ttl = "5m")]
async fn pair(store: &Store, #[context] db: &Db, id: u64) -> (u64, String) {
    (id, db.query().await.unwrap().to_string())
}

#[cached_fn(ttl = "5m")]
async fn number(store: &Store, #[context] db: &Db, id: u64) -> Option<usize> {
    let query = db.query().await.unwrap();
    (id > 0).then_some(query)
}

async fn a_tuple_a_text_and_a_number_are_values(on: On) {
    let (store, db) = (on.store("fn-values").await, Db::default());
    for _ in 0..2 {
        assert_eq!(pair(&store, &db, 3).await, (3, "1".to_owned()));
        assert_eq!(number(&store, &db, 3).await, Some(2));
    }
    for absent in 3..5 {
        assert_eq!(number(&store, &db, 0).await, None);
        assert_eq!(db.0.runs.load(SeqCst), absent, "no `ttl_absent`");
    }
}

#[derive(Clone)]
struct Shop {
    store: Store,
    db: Db,
}

#[cached_fn(ttl = "5m", store = shop.store)]
async fn newest(#[context] shop: &Shop, count: u8) -> Result<Vec<usize>, DbError> {
    Ok(vec![shop.db.query().await?; count.into()])
}

#[cached_fn(prefix = "newest-destructured", ttl = "5m")]
async fn taken_apart(
    store: &Store,
    #[context] Shop { db, .. }: &Shop,
    mut count: u8,
) -> Result<Vec<usize>, DbError> {
    count += 1;
    Ok(vec![db.query().await?; count.into()])
}

async fn the_store_may_be_in_the_context(on: On) {
    let shop = Shop {
        store: on.store("fn-context").await,
        db: Db::default(),
    };
    for _ in 0..2 {
        assert_eq!(newest(&shop, 3).await, Ok(vec![1; 3]));
    }
    newest::invalidate(&shop.store, 3).await.unwrap();
    assert_eq!(newest(&shop, 3).await, Ok(vec![2; 3]));
    for _ in 0..2 {
        assert_eq!(taken_apart(&shop.store, &shop, 1).await, Ok(vec![3; 2]));
    }
}

#[cached_fn(ttl = "5m", clear)]
async fn total(store: &Store, #[context] db: &Db) -> Result<usize, DbError> {
    db.query().await
}

async fn a_function_of_nothing_has_one_result(on: On) {
    let (store, db) = (on.store("fn-nothing").await, Db::default());
    for _ in 0..2 {
        assert_eq!(total(&store, &db).await, Ok(1));
    }
    assert!(total::invalidate(&store).await.unwrap());
    assert_eq!(total(&store, &db).await, Ok(2));
    store.of::<total>().clear().await.unwrap();
    assert_eq!(total(&store, &db).await, Ok(3));
}

#[cached_fn(ttl = "5m", stale_if_error = "1h", load_timeout = "1ms")]
async fn ranking(store: &Store, #[context] db: &Db, league: &str) -> Result<String, DbError> {
    let query = db.query().await?;
    Ok(format!("{league} {query}"))
}

async fn a_stale_result_is_served_while_the_next_is_computed(on: On) {
    let (store, db) = (on.store("fn-stale").await, Db::default());
    assert_eq!(ranking(&store, &db, "a").await.unwrap(), "a 1");
    store.of::<ranking>().mark_stale("a").await.unwrap();
    db.0.gate.forget_permits(OPEN);
    assert_eq!(ranking(&store, &db, "a").await.unwrap(), "a 1");
    assert_eq!(db.take(), 2, "the second runs on");
    db.0.gate.add_permits(OPEN);
    until("the result of the second is cached", async || {
        ranking::get(&store, "a").await.unwrap().is_some()
    })
    .await;
    assert_eq!(ranking(&store, &db, "a").await.unwrap(), "a 2");
    db.fail(true);
    store.of::<ranking>().mark_stale("a").await.unwrap();
    assert_eq!(ranking(&store, &db, "a").await.unwrap(), "a 2");
}

#[cached_fn(ttl = "5m", near = "1m")]
async fn menu(store: &Store, #[context] db: &Db) -> Result<Vec<usize>, DbError> {
    Ok(vec![db.query().await?])
}

async fn a_near_result_asks_no_server(on: On) {
    let (store, db) = (on.store("fn-near").await, Db::default());
    menu(&store, &db).await.unwrap();
    until("a call is answered nearby", async || {
        assert_eq!(menu(&store, &db).await, Ok(vec![1]));
        store.stats().near_hits() > 0
    })
    .await;
    assert_eq!(db.take(), 1);
}

async fn a_function_runs_where_the_cache_is_down(on: On) {
    let (store, db) = (on.store("fn-down").await, Db::default());
    store.set_enabled(false);
    for query in 1..3 {
        assert_eq!(
            products(&store, &db, 1).await.unwrap()[0],
            product(1, query)
        );
    }
    store.set_enabled(true);
    store.faults().take_down();
    assert_eq!(products(&store, &db, 1).await.unwrap()[0], product(1, 3));
}
