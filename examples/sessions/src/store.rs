//! A store for the sessions of tower-sessions.
//!
//! A session store must be more reliable than a cache: a missing session is a visitor who is logged
//! out. So no failure here becomes "no such session", and an ended session never returns.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result};
use valkey_runtime::{Cached, CachedType, ErrorKind, SetOptions, Store, Ttl};

/// The stored data of a session.
///
/// - `only_copy`: no database has it. So a session that can't be read is an error, and not a visitor
///   without a session; it stays in the store. A save that was not confirmed ends no session.
/// - `ttl` and `sliding`: it ends half an hour after its last read or save. A read extends it
///   without writing it, so it can't undo the concurrent save of another request.
/// - `max_age`: however often it is read, it ends two weeks after its last save.
/// - `version` and `migrate_from`: sessions of the last release are read, and stay valid.
#[derive(Serialize, Deserialize, Cached)]
#[cached(
    prefix = "session",
    key = String,
    only_copy,
    ttl = "30m",
    sliding,
    max_age = "14d",
    version = 2,
    migrate_from = SessionV1
)]
struct Session {
    data: HashMap<String, Value>,
    /// The latest end of the session: the date that tower-sessions set when it was saved. Reads
    /// never extend it beyond.
    expires: OffsetDateTime,
}

/// The form that the last release has stored. It stays here until no such session can exist: two
/// weeks after the deployment. Then `oldest_version = 2` takes its place.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "session", key = String, only_copy, ttl = "30m", sliding, max_age = "14d")]
struct SessionV1 {
    data: HashMap<String, Value>,
    ends: OffsetDateTime,
}

impl From<SessionV1> for Session {
    fn from(SessionV1 { data, ends }: SessionV1) -> Self {
        let expires = ends;
        Self { data, expires }
    }
}

/// The number of attempts with a new id. If a second id is taken, ids are not random, or nothing is
/// stored for another reason.
const ATTEMPTS: usize = 3;

/// Sessions in a [`Store`], for `SessionManagerLayer::new`. Clones share the store.
///
/// The key of a session is a digest of its id. The id would let its holder in; the digest, which an
/// operator sees in keys, errors and logs, does not.
#[derive(Clone, Debug)]
pub struct ValkeySessions {
    store: Store,
}

impl ValkeySessions {
    /// Keeps sessions in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// True if it was stored.
    async fn set(&self, record: &Record, options: SetOptions) -> Result<bool> {
        let (data, expires) = (record.data.clone(), record.expiry_date);
        let sessions = self.store.of::<Session>();
        let stored = sessions.set_at_with(&key(&record.id), &Session { data, expires }, options);
        stored.await.map_err(failed)
    }
}

#[async_trait]
impl SessionStore for ValkeySessions {
    async fn create(&self, record: &mut Record) -> Result<()> {
        let Some(ttl) = life(record) else {
            return Ok(());
        };
        for _ in 0..ATTEMPTS {
            if self
                .set(record, SetOptions::new().ttl(ttl).if_absent())
                .await?
            {
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(Error::Backend("no id is free".into()))
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let Some(ttl) = life(record) else {
            return self.delete(&record.id).await;
        };
        // A visitor who logs out during another request of theirs stays logged out.
        if self
            .set(record, SetOptions::new().ttl(ttl).if_present())
            .await?
        {
            Ok(())
        } else {
            Err(Error::Backend("the session has ended meanwhile".into()))
        }
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let found = Session::get(&self.store, &key(id)).await.map_err(failed)?;
        let found = found.map(|Session { data, expires }| Record {
            id: *id,
            data,
            expiry_date: expires,
        });
        Ok(found.filter(|record| life(record).is_some()))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        Session::del(&self.store, &key(id)).await.map_err(failed)?;
        Ok(())
    }
}

/// The key of a session.
pub fn key(id: &Id) -> String {
    let digest = digest(&SHA256, &id.0.to_le_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Its life until it is read again: the type's TTL, but not beyond its date. `None` if the date has
/// passed.
pub fn life(record: &Record) -> Option<Duration> {
    let left = record.expiry_date - OffsetDateTime::now_utc();
    let left = Duration::try_from(left)
        .ok()
        .filter(|left| !left.is_zero())?;
    match Session::TTL {
        Ttl::After(idle) => Some(left.min(idle)),
        Ttl::Never => Some(left),
    }
}

/// None of these messages holds data of a session, nor its id.
pub fn failed(error: valkey_runtime::Error) -> Error {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Encode | ErrorKind::TooLarge => Error::Encode(message),
        ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unreadable => Error::Decode(message),
        _ => Error::Backend(message),
    }
}
