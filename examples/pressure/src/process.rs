//! A process of the application: the cached types, and for each way to read a price the code that does it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Entry, LoadOptions, Source, Store};

use crate::ARTICLES;
use crate::database::{Database, Down};
use crate::ways::{Answer, Application, Way};

/// As most caches have it.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "price", ttl = "400ms", jitter = "0%")]
struct Price {
    #[cached(key)]
    article: u32,
    cents: u64,
}

/// Loaded anew before its time is over.
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
    /// One a key: who loads by hand holds it.
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
                let options = LoadOptions::new();
                answer(Price::get_or_load_entry(store, article, options, load).await)
            }
            Way::Refresh => {
                let load = move |_| async move {
                    let cents = database.price(article).await?;
                    Ok::<_, Down>(HotPrice { article, cents })
                };
                answer(HotPrice::get_or_refresh_entry(store, article, load).await)
            }
            Way::OrStale => {
                let load = move |_| async move {
                    let cents = database.price(article).await?;
                    Ok::<_, Down>(KeptPrice { article, cents })
                };
                answer(KeptPrice::get_or_refresh_entry(store, article, load).await)
            }
            Way::RefreshOrStale => {
                let load = move |_| async move {
                    let cents = database.price(article).await?;
                    Ok::<_, Down>(SurePrice { article, cents })
                };
                answer(SurePrice::get_or_refresh_entry(store, article, load).await)
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
        // Where it is not stored the next caller loads again.
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

fn answer<T>(found: Result<Option<Entry<T>>, Down>) -> Answer {
    match found {
        Ok(Some(entry)) => match entry.source() {
            Source::Server => Answer::Hit,
            Source::Stale => Answer::Stale,
            _ => Answer::Loaded,
        },
        Ok(None) | Err(Down) => Answer::Error,
    }
}
