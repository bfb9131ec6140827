//! A database that counts its queries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::products::Product;

const PRODUCTS: u32 = 60;
const CATEGORIES: u32 = 3;

/// The products of the shop.
#[derive(Debug)]
pub struct Database {
    products: Mutex<BTreeMap<u32, Product>>,
    queries: AtomicU64,
}

impl Default for Database {
    fn default() -> Self {
        let product = |id| Product {
            id,
            category: id % CATEGORIES,
            title: format!("product {id}"),
        };
        Self {
            products: Mutex::new((1..=PRODUCTS).map(|id| (id, product(id))).collect()),
            queries: AtomicU64::new(0),
        }
    }
}

impl Database {
    /// The queries so far.
    pub fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    fn query(&self) -> MutexGuard<'_, BTreeMap<u32, Product>> {
        self.queries.fetch_add(1, Relaxed);
        self.products.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All products of a category.
    pub async fn in_category(&self, category: u32) -> Vec<Product> {
        let products = self.query();
        let of_it = products.values().filter(|row| row.category == category);
        of_it.cloned().collect()
    }

    /// The products with these ids, by one query.
    pub async fn by_ids(&self, ids: &[u32]) -> Vec<Product> {
        let products = self.query();
        ids.iter()
            .filter_map(|id| products.get(id))
            .cloned()
            .collect()
    }

    /// The product with this id.
    pub async fn by_id(&self, id: u32) -> Option<Product> {
        self.query().get(&id).cloned()
    }

    /// Renames a product. Returns its category, if the product is there.
    pub async fn rename(&self, id: u32, title: &str) -> Option<u32> {
        let mut products = self.query();
        let product = products.get_mut(&id)?;
        title.clone_into(&mut product.title);
        Some(product.category)
    }
}
