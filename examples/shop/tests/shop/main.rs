//! The shop on a server, and each of its promises in a naive form that breaks it.

mod naive;

use std::convert::Infallible;
use std::sync::LazyLock;

use shop::carts::{self, Cart, CartV1, Line};
use shop::database::Database;
use shop::products::{self, Product, ProductV1};
use shop::{sessions, views};
use valkey_runtime::{Cached, ErrorKind, Store};
use valkey_tests::Server;
use valkey_tests::example::{command, printed};

static SERVER: LazyLock<Server> = LazyLock::new(Server::plain);

async fn store(namespace: &str) -> Store {
    let builder = Store::builder().url(&SERVER.url()).namespace(namespace);
    builder.connect().await.unwrap()
}

/// The ways to put a product into a cart.
trait Carts {
    async fn add(store: &Store, customer: u64, product: u32);

    async fn products(store: &Store, customer: u64) -> usize;
}

struct Modified;

impl Carts for Modified {
    async fn add(store: &Store, customer: u64, product: u32) {
        carts::add(store, customer, product, 1).await.unwrap();
    }

    async fn products(store: &Store, customer: u64) -> usize {
        let cart = Cart::get(store, customer).await.unwrap();
        cart.map_or(0, |cart| cart.items.len())
    }
}

/// Two requests at once, then thirty.
async fn additions_are_kept<C: Carts>(namespace: &str) {
    let store = store(namespace).await;
    tokio::join!(C::add(&store, 1, 1), C::add(&store, 1, 2));
    assert_eq!(C::products(&store, 1).await, 2, "of 2 additions");
    // A group of calls that are polled in turn.
    let add = |group: u32| {
        let store = &store;
        async move {
            tokio::join!(
                C::add(store, 2, group),
                C::add(store, 2, 100 + group),
                C::add(store, 2, 200 + group),
                C::add(store, 2, 300 + group),
                C::add(store, 2, 400 + group),
            );
        }
    };
    tokio::join!(add(0), add(1), add(2), add(3), add(4), add(5));
    assert_eq!(C::products(&store, 2).await, 30, "of 30 additions");
}

#[tokio::test]
async fn each_addition_to_a_cart_is_kept() {
    additions_are_kept::<Modified>("carts").await;
}

#[tokio::test]
#[should_panic(expected = "of 2 additions")]
async fn with_get_and_set_additions_are_lost() {
    additions_are_kept::<naive::GetAndSet>("naive-carts").await;
}

#[tokio::test]
async fn a_cart_without_products_is_deleted() {
    let store = store("emptied").await;
    carts::add(&store, 1, 7, 2).await.unwrap();
    let cart = carts::add(&store, 1, 7, 3).await.unwrap();
    assert_eq!(
        cart.items,
        [Line {
            product: 7,
            pieces: 5
        }]
    );
    assert_eq!(carts::remove(&store, 1, 7).await.unwrap(), None);
    assert!(!Cart::exists(&store, 1).await.unwrap());
    assert_eq!(carts::remove(&store, 1, 7).await.unwrap(), None);
}

#[tokio::test]
async fn a_cart_of_the_last_release_is_read_and_changed() {
    let store = store("releases").await;
    let lines = vec![Line {
        product: 1,
        pieces: 1,
    }];
    let (customer, old) = (
        1,
        CartV1 {
            customer: 1,
            lines: lines.clone(),
        },
    );
    old.set(&store).await.unwrap();
    let cart = Cart::get(&store, customer).await.unwrap().unwrap();
    assert_eq!(cart.items, lines);
    let cart = carts::add(&store, customer, 2, 1).await.unwrap();
    assert_eq!(cart.items.len(), 2);
    // The release is taken back: what it can't read is an error, and not an empty cart.
    let error = CartV1::get(&store, customer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    let again = Cart::get(&store, customer).await.unwrap();
    assert_eq!(again, Some(cart));
}

#[tokio::test]
#[should_panic(expected = "the cart is gone")]
async fn without_a_version_a_cart_is_gone_after_a_rename() {
    naive::a_field_of_a_cart_is_renamed(&store("naive-releases").await).await;
}

#[tokio::test]
async fn an_outage_logs_nobody_out() {
    let store = store("sessions").await;
    let token = || "a-token".to_owned();
    assert!(sessions::log_in(&store, token(), 7).await.unwrap());
    assert!(!sessions::log_in(&store, token(), 8).await.unwrap());
    store.faults().take_down();
    assert!(sessions::customer(&store, "a-token").await.is_err());
    assert!(sessions::log_in(&store, token(), 9).await.is_err());
    store.faults().recover();
    let customer = sessions::customer(&store, "a-token").await.unwrap();
    assert_eq!(customer, Some(7));
    assert!(sessions::log_out(&store, "a-token").await.unwrap());
    assert_eq!(sessions::customer(&store, "a-token").await.unwrap(), None);
}

#[tokio::test]
async fn a_page_of_50_products_is_one_query() {
    let (store, database) = (store("page").await, Database::default());
    let ids: Vec<u32> = (1..=50).collect();
    for queries in [1, 1] {
        let page = products::page(&store, &database, &ids).await;
        assert_eq!(page.len(), 50);
        assert_eq!(database.queries(), queries);
    }
}

#[tokio::test]
async fn a_list_is_one_query_until_a_product_of_it_is_renamed() {
    let (store, database) = (store("list").await, Database::default());
    let list = async || products::in_category(&store, &database, 1).await;
    let before = list().await;
    for _ in 0..100 {
        assert_eq!(list().await, before);
    }
    assert_eq!(database.queries(), 1);
    products::rename(&store, &database, &before[0], "tea")
        .await
        .unwrap();
    assert_eq!(list().await[0].title, "tea");
    assert_eq!(list().await[1..], before[1..]);
}

/// Each release reads a product 20 times. The first had cached it.
async fn is_read_by_two_releases(
    old: impl AsyncFn() -> String,
    new: impl AsyncFn() -> String,
    database: &Database,
) {
    assert_eq!(old().await, "product 1");
    for _ in 0..20 {
        assert_eq!(old().await, "product 1");
        assert_eq!(new().await, "product 1");
    }
    assert_eq!(database.queries(), 1, "queries while both releases run");
}

#[tokio::test]
async fn two_releases_share_the_products_while_both_run() {
    let (store, database) = (store("two").await, Database::default());
    let load = async || Ok::<_, Infallible>(database.by_id(1).await.unwrap());
    let old = async || {
        let load = async || load().await.map(ProductV1::from);
        let Ok(product) = ProductV1::get_or_load(&store, 1, load).await;
        product.name
    };
    let new = async || {
        let Ok(product) = Product::get_or_load(&store, 1, load).await;
        product.title
    };
    is_read_by_two_releases(old, new, &database).await;
    assert_eq!(store.stats().corrupt(), 0);
}

#[tokio::test]
#[should_panic(expected = "queries while both releases run")]
async fn without_a_version_two_releases_load_each_time() {
    let (store, database) = (store("naive-two").await, Database::default());
    let title = async || database.by_id(1).await.unwrap().title;
    let old = async || naive::name(&store, &title).await;
    let new = async || naive::title(&store, &title).await;
    is_read_by_two_releases(old, new, &database).await;
}

/// Two requests at once, a hundred times.
async fn views_are_counted(add: impl AsyncFn(), views: impl AsyncFn() -> i64) {
    for _ in 0..100 {
        tokio::join!(add(), add());
    }
    assert_eq!(views().await, 200, "views");
}

#[tokio::test]
async fn each_view_is_counted() {
    let store = store("views").await;
    let add = async || {
        views::count(&store, 1).await.unwrap();
    };
    views_are_counted(add, async || views::of(&store, 1).await.unwrap()).await;
}

#[tokio::test]
#[should_panic(expected = "views")]
async fn with_get_and_set_views_are_lost() {
    let store = store("naive-views").await;
    let add = async || naive::count(&store).await;
    views_are_counted(add, async || naive::views(&store).await).await;
}

/// The page has what it prints, without a server and on one.
#[test]
fn it_prints_what_the_page_says() {
    let on_page = include_str!("../../README.md");
    for variable in [None, Some(("VALKEY_URL", SERVER.url()))] {
        let mut command = command(env!("CARGO_BIN_EXE_shop"));
        let printed = printed(command.envs(variable).output().expect("it can be run"));
        assert!(on_page.contains(&printed), "not on the page:\n{printed}");
    }
}
