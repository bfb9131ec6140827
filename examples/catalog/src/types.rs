//! The cached types.

use serde::{Deserialize, Serialize};
use valkey_runtime::Cached;

/// A product. "Not found" is cached for a minute: links to discontinued products are followed for
/// years.
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

/// Its price. All prices change in one night, and none at other times.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "price", ttl = "1d", tag = "prices")]
pub(crate) struct Price {
    #[cached(key)]
    pub(crate) product: u32,
    pub(crate) cents: u64,
}

/// The number in stock. It is at most two seconds old. For a product that is read all the time, no
/// caller waits for a load.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "stock", ttl = "2s", jitter = "0%", refresh_ahead = "25%")]
pub(crate) struct Stock {
    #[cached(key)]
    pub(crate) product: u32,
    pub(crate) pieces: u32,
}

/// The products of a category. It has the same tag as they have.
#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "category", ttl = "1h", tag = "category:{name}")]
pub(crate) struct Category {
    #[cached(key)]
    pub(crate) name: String,
    pub(crate) products: Vec<u32>,
}
