//! A catalog with many reads and few writes: bulk reads, batches, tags, and a night on which all
//! prices change.
//!
//! ```sh
//! cargo run -p catalog                             # in this process, on a clock of its own: at once
//! VALKEY_HOST=127.0.0.1 cargo run -p catalog       # on a Valkey server, in real time: 3 s
//! ```

mod database;
mod report;
mod types;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use valkey_runtime::{Builder, Cached, ManualClock, Random, Store};

use database::{Database, Row};
use report::Report;
use types::{Category, Price, Product, Stock};

const PRODUCTS: u32 = 240;
/// The number of products that are stored in advance.
const WARM: usize = 40;
/// The time over which prices become stale.
const NIGHT: Duration = Duration::from_secs(1);

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
    let shop = Shop::open().await?;
    let mut report = Report::begin(&shop.store, &shop.database);

    shop.warm_up().await?;
    report.line(format!("{WARM} products and prices, stored in a batch"));
    shop.list().await;
    report.line("All products");
    shop.list().await;
    report.line("… again");
    shop.prices().await;
    report.line("All prices");

    for _ in 0..100 {
        shop.product(999).await;
    }
    report.line("A product that is not there, 100 times");
    let before = shop.category("lamps").await;
    report.line("The lamps");
    shop.add_lamp(999).await?;
    report.line("Another lamp is added");
    shop.list().await;
    report.line("All products: the lamps are loaded");
    let after = shop.category("lamps").await;
    report.line(format!("The lamps: {after}, {before} before"));
    let found = shop.product(999).await;
    report.line(found.unwrap_or("The new lamp is not there".into()));

    shop.rename_supplier("Brandt", "Brandt & Daughters").await?;
    report.line("A supplier is renamed");
    shop.list().await;
    report.line("All products: those of the supplier are loaded");

    shop.stock(1).await;
    report.line("How many there are of one");
    shop.pass(Duration::from_millis(600)).await;
    shop.stock(1).await;
    report.line("… after 600 ms of 2 s: given at once");
    shop.settle().await;
    report.line("… and loaded in the background");
    shop.pass(Duration::from_millis(600)).await;
    shop.stock(1).await;
    report.line("… after another 600 ms");
    shop.settle().await;
    report.line("… and loaded in the background");

    let before = shop.prices().await;
    report.line("All prices");
    shop.raise_prices().await?;
    report.line("They are raised, and fall due over a second");
    for fifth in 1..=5 {
        shop.pass(NIGHT / 5).await;
        shop.prices().await;
        report.line(format!("All prices, after {fifth}/5 of it"));
    }
    let after = shop.prices().await;
    report.line(format!("All prices: {after} in all, {before} before"));

    shop.store.close().await;
    Ok(())
}

/// The random numbers of a store in this process: the same in each run.
#[derive(Debug, Default)]
struct Numbers(AtomicU64);

impl Random for Numbers {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

/// The shop: what it reads and what it writes.
struct Shop {
    store: Store,
    database: Arc<Database>,
    /// The store's clock, if we can move it.
    clock: Option<Arc<ManualClock>>,
}

impl Shop {
    async fn open() -> Result<Self, Box<dyn Error>> {
        let database = Arc::new(Database::open()?);
        let (store, clock) = match Builder::from_env_if_set()? {
            Some(server) => (server.namespace("catalog").open().await?, None),
            None => {
                let clock = Arc::new(ManualClock::new());
                let builder = Store::builder().memory().namespace("catalog");
                let builder = builder
                    .clock(clock.clone())
                    .random(Arc::new(Numbers::default()));
                (builder.open().await?, Some(clock))
            }
        };
        // Removes the entries of an earlier run.
        store.purge().await?;
        Ok(Self {
            store,
            database,
            clock,
        })
    }

    /// Stores the most popular products and their prices in advance, in one batch. (With other
    /// writers at work, such a value might be old. Then load it instead.)
    async fn warm_up(&self) -> valkey_runtime::Result<()> {
        let mut batch = self.store.batch();
        for row in self.database.first(WARM).await {
            batch.set(&row.product()).set(&row.price());
        }
        batch.send().await.all()?;
        Ok(())
    }

    /// Returns all products: one read for all, and one query for the missing ones.
    async fn list(&self) -> usize {
        let load = |missing| self.database.products(missing);
        let Ok(found) = Product::get_or_load_many(&self.store, 1..=PRODUCTS, load).await;
        found.into_iter().flatten().count()
    }

    async fn product(&self, id: u32) -> Option<String> {
        let load = || self.database.product(id);
        let Ok(found) = Product::get_or_load(&self.store, id, load).await;
        found.map(|product| product.name)
    }

    /// The number of products of a category.
    async fn category(&self, name: &str) -> usize {
        let load = || self.database.category(name);
        let Ok(found) = Category::get_or_load(&self.store, name, load).await;
        found.map_or(0, |category| category.products.len())
    }

    /// The number of products. The load may outlive this call, so it takes a clone along.
    async fn stock(&self, product: u32) -> Option<u32> {
        let database = self.database.clone();
        let load = move |_| async move { database.stock(product).await };
        let Ok(found) = self
            .store
            .of::<Stock>()
            .load(product)
            .in_background()
            .revalidate(load)
            .await;
        found.map(|stock| stock.pieces)
    }

    /// The sum of all prices, in cents.
    async fn prices(&self) -> u64 {
        let load = |missing| self.database.prices(missing);
        let Ok(found) = Price::get_or_load_many(&self.store, 1..=PRODUCTS, load).await;
        found.into_iter().flatten().map(|price| price.cents).sum()
    }

    /// Writes a row. A new row is written like any other, because its absence may be cached. The
    /// write invalidates all entries with the tag, such as the category's page.
    async fn add_lamp(&self, id: u32) -> Result<(), Box<dyn Error>> {
        let row = Row {
            id,
            name: "Desk lamp, copper".into(),
            category: "lamps".into(),
            supplier: "Castell".into(),
            cents: 9_990,
            pieces: 12,
        };
        self.store
            .of::<Product>()
            .update(id)
            .invalidating([Product::cache_tags().category(&row.category)])
            .run(|| self.database.insert(row))
            .await?;
        Ok(())
    }

    /// First the database, then the tag: older values are then neither returned nor stored.
    async fn rename_supplier(&self, from: &str, to: &str) -> valkey_runtime::Result<()> {
        let rename = |row: &mut Row| {
            if row.supplier == from {
                row.supplier = to.into();
            }
        };
        self.database.change(rename).await;
        Product::cache_tags()
            .supplier(from)
            .invalidate(&self.store)
            .await
    }

    /// New prices need not be visible at the same moment, and the database should not get all
    /// queries at once.
    async fn raise_prices(&self) -> valkey_runtime::Result<()> {
        self.database
            .change(|row| row.cents += row.cents / 20)
            .await;
        self.store.mark_tag_stale_over("prices", NIGHT).await
    }

    /// Waits until the background loads have ended.
    async fn settle(&self) {
        while self.store.stats().background_running() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets time pass: on the store's clock if we can move it, otherwise by waiting.
    async fn pass(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }
}
