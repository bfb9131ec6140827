//! The same as a handwritten cache would do it. Each of these loses something.

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Store};

use crate::Carts;

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "naive-cart")]
struct Cart {
    #[cached(key)]
    customer: u64,
    lines: Vec<u32>,
}

/// Reads, adds and writes.
pub(crate) struct GetAndSet;

impl Carts for GetAndSet {
    async fn add(store: &Store, customer: u64, product: u32) {
        let cart = Cart::get(store, customer).await.unwrap();
        let mut lines = cart.map_or_else(Vec::new, |cart| cart.lines);
        lines.push(product);
        Cart { customer, lines }.set(store).await.unwrap();
    }

    async fn products(store: &Store, customer: u64) -> usize {
        let cart = Cart::get(store, customer).await.unwrap();
        cart.map_or(0, |cart| cart.lines.len())
    }
}

/// A field of it has another name, and the version is the same.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "naive-cart")]
struct Renamed {
    #[cached(key)]
    customer: u64,
    items: Vec<u32>,
}

pub(crate) async fn a_field_of_a_cart_is_renamed(store: &Store) {
    let cart = Cart {
        customer: 1,
        lines: vec![7],
    };
    cart.set(store).await.unwrap();
    let read = Renamed::get(store, 1).await.unwrap();
    let read = read.map(|cart| cart.items);
    // The release is taken back.
    let back = Cart::get(store, 1).await.unwrap();
    let found = read.or(back.map(|cart| cart.lines));
    assert_eq!(found, Some(vec![7]), "the cart is gone");
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "naive-product", ttl = "1h")]
struct WithName {
    #[cached(key)]
    id: u32,
    name: String,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "naive-product", ttl = "1h")]
struct WithTitle {
    #[cached(key)]
    id: u32,
    title: String,
}

pub(crate) async fn name(store: &Store, row: impl AsyncFn() -> String) -> String {
    let product = match WithName::get(store, 1).await.unwrap() {
        Some(product) => product,
        None => {
            let name = row().await;
            let product = WithName { id: 1, name };
            product.set(store).await.unwrap();
            product
        }
    };
    product.name
}

pub(crate) async fn title(store: &Store, row: impl AsyncFn() -> String) -> String {
    let product = match WithTitle::get(store, 1).await.unwrap() {
        Some(product) => product,
        None => {
            let title = row().await;
            let product = WithTitle { id: 1, title };
            product.set(store).await.unwrap();
            product
        }
    };
    product.title
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "naive-views")]
struct Views {
    #[cached(key)]
    product: u32,
    views: i64,
}

pub(crate) async fn views(store: &Store) -> i64 {
    let views = Views::get(store, 1).await.unwrap();
    views.map_or(0, |views| views.views)
}

pub(crate) async fn count(store: &Store) {
    let views = views(store).await + 1;
    Views { product: 1, views }.set(store).await.unwrap();
}
