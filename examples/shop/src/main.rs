//! A shop whose carts and sessions are in the store alone.
//!
//! ```sh
//! cargo run -p shop                               # in this process
//! VALKEY_HOST=127.0.0.1 cargo run -p shop         # on a Valkey server
//! ```

#![allow(clippy::print_stdout, reason = "output is what this program is for")]

use std::error::Error;
use std::process::ExitCode;

use shop::carts::{self, Cart, CartV1, Line};
use shop::database::Database;
use shop::products::{self, Product};
use shop::{sessions, views};
use valkey_runtime::{Builder, Cached, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let builder = match Builder::from_env_if_set()? {
        Some(server) => server,
        None => Store::builder().memory(),
    };
    let store = builder.namespace("shop").open().await?;
    // Removes the entries of an earlier run.
    store.purge().await?;
    let database = Database::default();

    let (customer, token) = (7, "a-random-token");
    sessions::log_in(&store, token.into(), customer).await?;
    let found = sessions::customer(&store, token).await?;
    println!("logged in: customer {}", found.unwrap_or_default());

    let old = CartV1 {
        customer,
        lines: vec![Line {
            product: 1,
            pieces: 1,
        }],
    };
    old.set(&store).await?;
    let (left, right) = tokio::join!(
        carts::add(&store, customer, 1, 2),
        carts::add(&store, customer, 2, 1)
    );
    left.and(right)?;
    let cart = Cart::get(&store, customer).await?;
    let items = cart.map_or_else(Vec::new, |cart| cart.items);
    println!("a cart of the last release, after two additions at once:");
    for Line { product, pieces } in &items {
        println!("  {pieces} of product {product}");
    }

    let ids: Vec<u32> = (1..=50).collect();
    for what in ["a page of 50 products", "the same page"] {
        let before = database.queries();
        let page = products::page(&store, &database, &ids).await;
        let queries = database.queries() - before;
        println!("{what}: {} products, {queries} queries", page.len());
    }

    let before = database.queries();
    for _ in 0..100 {
        products::in_category(&store, &database, 1).await;
    }
    let queries = database.queries() - before;
    println!("the list of a category, 100 times: {queries} queries");
    let of_it = products::in_category(&store, &database, 1).await;
    let first = of_it.first().ok_or("the category is empty")?;
    products::rename(&store, &database, first, "tea").await?;
    let of_it = products::in_category(&store, &database, 1).await;
    let title = of_it.first().map_or("nothing", |product| &product.title);
    println!("after a rename the list begins with: {title}");
    let product = Product::get_or_load(&store, first.id, async || {
        Ok::<_, Box<dyn Error + Send + Sync>>(database.by_id(first.id).await)
    });
    let title = product.await.map_err(|error| error.to_string())?;
    println!(
        "and the product is: {}",
        title.map_or_else(String::new, |product| product.title)
    );

    views::reset(&store, first.id).await?;
    for _ in 0..3 {
        views::count(&store, first.id).await?;
    }
    println!("views this hour: {}", views::of(&store, first.id).await?);

    sessions::log_out(&store, token).await?;
    carts::remove(&store, customer, 1).await?;
    carts::remove(&store, customer, 2).await?;
    println!("logged out, and the cart is empty");
    Ok(())
}
