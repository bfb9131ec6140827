//! The ways to read a price.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Entry, LoadOptions, Source, Store};

use crate::database::{Database, Down};

/// As most caches have it.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "price", ttl = "1s", jitter = "0%")]
struct Price {
    #[cached(key)]
    article: u32,
    cents: u64,
}

/// Loaded anew before its time is over.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "hot-price", ttl = "1s", jitter = "0%", refresh_ahead = "60%")]
struct HotPrice {
    #[cached(key)]
    article: u32,
    cents: u64,
}

/// And kept for when the database is down, or slow.
#[derive(Serialize, Deserialize, Cached)]
#[cached(
    prefix = "sure-price",
    ttl = "1s",
    jitter = "0%",
    refresh_ahead = "60%",
    stale_if_error = "1h",
    retry_after = "500ms",
    load_timeout = "50ms"
)]
struct SurePrice {
    #[cached(key)]
    article: u32,
    cents: u64,
}

/// What a caller was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It lay in the cache.
    Hit,
    /// It was loaded, by this caller or another, and the caller waited.
    Waited,
    /// It lay in the cache, and its time was over.
    Stale,
    Error,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    ByHand,
    ByHandOnce,
    Load,
    Refresh,
    RefreshOrStale,
}

pub(crate) const WAYS: &[(&str, Way)] = &[
    ("By hand: get; on a miss load, and set", Way::ByHand),
    ("By hand, one load a key and process", Way::ByHandOnce),
    (
        "get_or_load: one load a key, whatever the process",
        Way::Load,
    ),
    ("get_or_refresh, with refresh_ahead", Way::Refresh),
    (
        "get_or_refresh, with stale_if_error and load_timeout too",
        Way::RefreshOrStale,
    ),
];

/// A process of the application, with what its callers share.
pub(crate) struct Process {
    store: Store,
    database: Arc<Database>,
    /// One a key: who loads by hand holds it.
    loading: Mutex<HashMap<u32, Arc<tokio::sync::Mutex<()>>>>,
}

impl Process {
    pub(crate) fn new(store: Store, database: Arc<Database>) -> Self {
        let loading = Mutex::default();
        Self {
            store,
            database,
            loading,
        }
    }

    pub(crate) async fn call(&self, way: Way, article: u32) -> Answer {
        match way {
            Way::ByHand => match self.get(article).await {
                Some(_) => Answer::Hit,
                None => self.load_and_set(article).await,
            },
            Way::ByHandOnce => self.by_hand_once(article).await,
            Way::Load => {
                let load = async || {
                    let cents = self.database.price(article).await?;
                    Ok::<_, Down>(Price { article, cents })
                };
                let options = LoadOptions::new();
                answer(Price::get_or_load_entry(&self.store, article, options, load).await)
            }
            Way::Refresh => {
                let database = self.database.clone();
                let load = move |_| async move {
                    let cents = database.price(article).await?;
                    Ok::<_, Down>(HotPrice { article, cents })
                };
                answer(HotPrice::get_or_refresh_entry(&self.store, article, load).await)
            }
            Way::RefreshOrStale => {
                let database = self.database.clone();
                let load = move |_| async move {
                    let cents = database.price(article).await?;
                    Ok::<_, Down>(SurePrice { article, cents })
                };
                answer(SurePrice::get_or_refresh_entry(&self.store, article, load).await)
            }
        }
    }

    /// A cache that fails is a miss.
    async fn get(&self, article: u32) -> Option<Price> {
        Price::get(&self.store, article).await.unwrap_or(None)
    }

    async fn load_and_set(&self, article: u32) -> Answer {
        let Ok(cents) = self.database.price(article).await else {
            return Answer::Error;
        };
        // Where it is not stored the next caller loads again.
        let _ = Price { article, cents }.set(&self.store).await;
        Answer::Waited
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
            Some(_) => Answer::Waited,
            None => self.load_and_set(article).await,
        }
    }
}

fn answer<T>(found: Result<Option<Entry<T>>, Down>) -> Answer {
    match found {
        Ok(Some(entry)) => match entry.source() {
            Source::Server => Answer::Hit,
            Source::Stale => Answer::Stale,
            _ => Answer::Waited,
        },
        Ok(None) | Err(Down) => Answer::Error,
    }
}
