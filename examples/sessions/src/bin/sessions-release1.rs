//! The release before this one: the same application, whose sessions have their first form. The
//! test `upgrade` runs both beside each other, as a rolling deployment does.
//!
//! It is short of what the test does not need: ids that are taken, and an end by a signal.

#![allow(clippy::print_stdout, reason = "that is how it names its address")]

use std::collections::HashMap;
use std::error::Error as StdError;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sessions::{app, failed, key, life};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result};
use valkey_runtime::{Cached, SetOptions, Store};

/// As it was.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "session", key = String, only_copy, ttl = "30m", sliding, max_age = "14d")]
struct Session {
    data: HashMap<String, Value>,
    ends: OffsetDateTime,
}

#[derive(Clone, Debug)]
struct Sessions(Store);

impl Sessions {
    async fn set(&self, record: &Record, options: SetOptions) -> Result<()> {
        let (data, ends) = (record.data.clone(), record.expiry_date);
        let options = options.ttl(life(record).unwrap_or_default());
        let sessions = self.0.of::<Session>();
        let stored = sessions.set_at_with(&key(&record.id), &Session { data, ends }, options);
        match stored.await.map_err(failed)? {
            true => Ok(()),
            false => Err(Error::Backend("it was not stored".into())),
        }
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.set(record, SetOptions::new().if_absent()).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.set(record, SetOptions::new().if_present()).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let found = Session::get(&self.0, &key(id)).await.map_err(failed)?;
        Ok(found.map(|Session { data, ends }| Record {
            id: *id,
            data,
            expiry_date: ends,
        }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let deleted = Session::del(&self.0, &key(id)).await;
        deleted.map(drop).map_err(failed)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let store = Store::from_env().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}, release 1", listener.local_addr()?);
    axum::serve(listener, app(Sessions(store))).await?;
    Ok(())
}
