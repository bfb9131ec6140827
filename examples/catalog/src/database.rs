//! The database: the rows of `data/products.csv`, and counters of its queries.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};

use serde::Deserialize;

use crate::types::{Category, Price, Product, Stock};

/// A row.
#[derive(Clone, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) supplier: String,
    pub(crate) cents: u64,
    pub(crate) pieces: u32,
}

impl Row {
    pub(crate) fn product(&self) -> Product {
        let Self {
            id,
            name,
            category,
            supplier,
            ..
        } = self.clone();
        Product {
            id,
            name,
            category,
            supplier,
        }
    }

    pub(crate) fn price(&self) -> Price {
        let (product, cents) = (self.id, self.cents);
        Price { product, cents }
    }
}

pub(crate) struct Database(Mutex<Inner>);

struct Inner {
    rows: BTreeMap<u32, Row>,
    asked: Asked,
}

/// Counters of its queries.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked {
    pub(crate) queries: u64,
    pub(crate) rows: u64,
}

/// No query fails: the rows are in memory.
type Result<T> = std::result::Result<T, Infallible>;

impl Database {
    /// Loads the rows of the file, which is part of the program.
    pub(crate) fn open() -> csv::Result<Self> {
        let rows = csv::Reader::from_reader(&include_bytes!("../data/products.csv")[..])
            .into_deserialize()
            .map(|row| row.map(|row: Row| (row.id, row)))
            .collect::<csv::Result<_>>()?;
        let asked = Asked::default();
        Ok(Self(Mutex::new(Inner { rows, asked })))
    }

    pub(crate) async fn first(&self, count: usize) -> Vec<Row> {
        self.query(|row| (row.id as usize <= count).then(|| row.clone()))
    }

    pub(crate) async fn product(&self, id: u32) -> Result<Option<Product>> {
        Ok(self
            .query(|row| (row.id == id).then(|| row.product()))
            .pop())
    }

    pub(crate) async fn products(&self, ids: Vec<u32>) -> Result<Vec<(u32, Product)>> {
        Ok(self.query(|row| ids.contains(&row.id).then(|| (row.id, row.product()))))
    }

    pub(crate) async fn prices(&self, ids: Vec<u32>) -> Result<Vec<(u32, Price)>> {
        Ok(self.query(|row| ids.contains(&row.id).then(|| (row.id, row.price()))))
    }

    pub(crate) async fn stock(&self, product: u32) -> Result<Option<Stock>> {
        let stock = |row: &Row| Stock {
            product,
            pieces: row.pieces,
        };
        Ok(self
            .query(|row| (row.id == product).then(|| stock(row)))
            .pop())
    }

    pub(crate) async fn category(&self, name: &str) -> Result<Option<Category>> {
        let products = self.query(|row| (row.category == name).then_some(row.id));
        let name = name.to_owned();
        Ok((!products.is_empty()).then_some(Category { name, products }))
    }

    pub(crate) async fn insert(&self, row: Row) -> Result<()> {
        self.lock().rows.insert(row.id, row);
        Ok(())
    }

    pub(crate) async fn change(&self, mut change: impl FnMut(&mut Row)) {
        self.lock().rows.values_mut().for_each(&mut change);
    }

    pub(crate) fn asked(&self) -> Asked {
        self.lock().asked
    }

    /// The result of a query on the rows.
    fn query<T>(&self, find: impl FnMut(&Row) -> Option<T>) -> Vec<T> {
        let mut inner = self.lock();
        let found: Vec<T> = inner.rows.values().filter_map(find).collect();
        inner.asked.queries += 1;
        inner.asked.rows += found.len() as u64;
        found
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nothing panics under it")
    }
}
