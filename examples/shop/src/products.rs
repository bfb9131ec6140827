//! Products of the database: one by one, lists of them, and a page of fifty.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Error, Store, cached_fn};

use crate::database::Database;

/// The product of the first release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "product", ttl = "1h")]
pub struct ProductV1 {
    /// Its id.
    #[cached(key)]
    pub id: u32,
    /// The category that lists it.
    pub category: u32,
    /// Its name.
    pub name: String,
}

/// The product of the second one: `name` is now `title`. While both releases run, each reads what
/// it can of the other's entries, and neither takes them for damaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "product", ttl = "1h", version = 2, migrate_from = ProductV1)]
pub struct Product {
    /// Its id.
    #[cached(key)]
    pub id: u32,
    /// The category that lists it.
    pub category: u32,
    /// Its name: `name` before.
    pub title: String,
}

impl From<ProductV1> for Product {
    fn from(ProductV1 { id, category, name }: ProductV1) -> Self {
        Self {
            id,
            category,
            title: name,
        }
    }
}

impl From<Product> for ProductV1 {
    fn from(
        Product {
            id,
            category,
            title,
        }: Product,
    ) -> Self {
        Self {
            id,
            category,
            name: title,
        }
    }
}

/// The products of a category. The key is the category, and the value needs no type of its own.
#[cached_fn(ttl = "5m", tag = "category:{category}")]
pub async fn in_category(
    store: &Store,
    #[context] database: &Database,
    category: u32,
) -> Vec<Product> {
    database.in_category(category).await
}

/// A page of products. Those that are not cached are loaded by one query.
pub async fn page(store: &Store, database: &Database, ids: &[u32]) -> Vec<Product> {
    let load = async |ids: Vec<u32>| Ok::<_, Infallible>(database.by_ids(&ids).await);
    let Ok(found) = Product::get_or_load_many(store, ids, load).await;
    found.into_iter().flatten().collect()
}

/// Renames a product. No reader gets the old name after the commit: neither of the product, nor in
/// the list of its category.
pub async fn rename(
    store: &Store,
    database: &Database,
    product: &Product,
    title: &str,
) -> Result<(), Error> {
    let lists = in_category::tags().category(product.category);
    let update = store.of::<Product>().update(product.id);
    let update = update.invalidating([lists]);
    update
        .run(async || {
            database.rename(product.id, title).await;
            Ok(())
        })
        .await
}
