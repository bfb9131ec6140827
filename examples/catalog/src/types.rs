//! What is cached.

use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

/// A product. That there is none under a number is remembered for a minute: links to what is not
/// sold any more are followed for years.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(
    prefix = "product",
    ttl = "1h",
    ttl_absent = "1m",
    tag = "category:{category}",
    tag = "supplier:{supplier}"
)]
pub(crate) struct Product {
    #[cached(key)]
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) supplier: String,
}

/// What it costs. All prices change in one night, and else none does.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "price", ttl = "1d", tag = "prices")]
pub(crate) struct Price {
    #[cached(key)]
    pub(crate) product: u32,
    pub(crate) cents: u64,
}

/// How many there are. It is two seconds old at most, and of a product that is looked at all the
/// time nobody waits for it.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "stock", ttl = "2s", jitter = "0%", refresh_ahead = "25%")]
pub(crate) struct Stock {
    #[cached(key)]
    pub(crate) product: u32,
    pub(crate) pieces: u32,
}

/// Which products a category has. It carries the same tag as they do.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "category", ttl = "1h", tag = "category:{name}")]
pub(crate) struct Category {
    #[cached(key)]
    pub(crate) name: String,
    pub(crate) products: Vec<u32>,
}
