//! A process of the application: the cached types, and the code for each way to read a price.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, CachedType, Entry, Source, Store};

use crate::ARTICLES;
use crate::database::{Database, Down};
use crate::ways::{Answer, Application, Way};

/// A plain TTL, as in most caches.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "price", ttl = "400ms", jitter = "0%")]
struct Price {
    #[cached(key)]
    article: u32,
    cents: u64,
}

/// Loaded again before its TTL is over.
#[derive(Serialize, Deserialize, Cached)]
#[cached(
    prefix = "hot-price",
    ttl = "400ms",
    jitter = "0%",
    refresh_ahead = "50%"
)]
struct HotPrice {
    #[cached(key)]
    article: u32,
    cents: u64,
}

/// Kept for when the database is down, or slow.
#[derive(Serialize, Deserialize, Cached)]
#[cached(
    prefix = "kept-price",
    ttl = "400ms",
    jitter = "0%",
    stale_if_error = "1h",
    retry_after = "200ms",
    load_timeout = "50ms"
)]
struct KeptPrice {
    #[cached(key)]
    article: u32,
    cents: u64,
}

/// Both.
#[derive(Serialize, Deserialize, Cached)]
#[cached(
    prefix = "sure-price",
    ttl = "400ms",
    jitter = "0%",
    refresh_ahead = "50%",
    stale_if_error = "1h",
    retry_after = "200ms",
    load_timeout = "50ms"
)]
struct SurePrice {
    #[cached(key)]
    article: u32,
    cents: u64,
}

pub(crate) struct Process {
    store: Store,
    database: Arc<Database>,
    /// One lock per key, held during a load by hand.
    loading: Mutex<HashMap<u32, Arc<tokio::sync::Mutex<()>>>>,
}

impl Application for Process {
    fn new(store: Store, database: Arc<Database>) -> Self {
        let loading = Mutex::default();
        Self {
            store,
            database,
            loading,
        }
    }

    async fn forget(&self) -> valkey_runtime::Result<()> {
        Price::del_many(&self.store, 0..ARTICLES).await?;
        HotPrice::del_many(&self.store, 0..ARTICLES).await?;
        KeptPrice::del_many(&self.store, 0..ARTICLES).await?;
        SurePrice::del_many(&self.store, 0..ARTICLES).await?;
        Ok(())
    }

    async fn call(&self, way: Way, article: u32) -> Answer {
        let (store, database) = (&self.store, self.database.clone());
        match way {
            Way::ByHand => match self.get(article).await {
                Some(_) => Answer::Hit,
                None => self.load_and_set(article).await,
            },
            Way::ByHandOnce => self.by_hand_once(article).await,
            Way::Load => {
                let load = async || {
                    let cents = database.price(article).await?;
                    Ok::<_, Down>(Price { article, cents })
                };
                answer(store.of::<Price>().load(article).entry().run(load).await)
            }
            Way::Refresh => {
                let price = |article, cents| HotPrice { article, cents };
                in_background(store, database, article, price).await
            }
            Way::OrStale => {
                let price = |article, cents| KeptPrice { article, cents };
                in_background(store, database, article, price).await
            }
            Way::RefreshOrStale => {
                let price = |article, cents| SurePrice { article, cents };
                in_background(store, database, article, price).await
            }
        }
    }
}

impl Process {
    /// A cache that fails is a miss.
    async fn get(&self, article: u32) -> Option<Price> {
        Price::get(&self.store, article).await.unwrap_or(None)
    }

    async fn load_and_set(&self, article: u32) -> Answer {
        let Ok(cents) = self.database.price(article).await else {
            return Answer::Error;
        };
        // If the value is not stored, the next caller loads again.
        let _ = Price { article, cents }.set(&self.store).await;
        Answer::Loaded
    }

    async fn by_hand_once(&self, article: u32) -> Answer {
        if self.get(article).await.is_some() {
            return Answer::Hit;
        }
        let turn = {
            let mut loading = self.loading.lock().expect("nothing panics under it");
            loading.entry(article).or_default().clone()
        };
        let _turn = turn.lock().await;
        match self.get(article).await {
            Some(_) => Answer::Loaded,
            None => self.load_and_set(article).await,
        }
    }
}

/// A load that may outlive its call.
async fn in_background<T>(
    store: &Store,
    database: Arc<Database>,
    article: u32,
    price: fn(u32, u64) -> T,
) -> Answer
where
    T: for<'k> CachedType<Key<'k> = u32>,
{
    let load = store.of::<T>().load(article).in_background().entry();
    let loaded = load.run(move || async move {
        let cents = database.price(article).await?;
        Ok::<_, Down>(price(article, cents))
    });
    answer(loaded.await)
}

fn answer<T>(found: Result<Entry<T>, Down>) -> Answer {
    match found {
        Ok(entry) => match entry.source() {
            Source::Cached => Answer::Hit,
            Source::Stale => Answer::Stale,
            _ => Answer::Loaded,
        },
        Err(Down) => Answer::Error,
    }
}
