//! A typed object cache over Valkey.
//!
//! Annotate a struct and cache it:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use valkey_runtime::{Cached, Store};
//!
//! #[derive(Serialize, Deserialize, Cached, Debug)]
//! #[cached(prefix = "user", ttl = "5m", version = 2)]
//! struct User {
//!     #[cached(key)]
//!     id: u64,
//!     name: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> valkey_runtime::Result<()> {
//! let store = Store::memory(); // or Store::from_env().await?, or Store::connect("valkey://127.0.0.1").await?
//! User { id: 42, name: "Ada".into() }.set(&store).await?;
//! let found: Option<User> = User::get(&store, 42).await?;
//! assert_eq!(found.unwrap().name, "Ada");
//! # Ok(())
//! # }
//! ```
//!
//! [`Cached`] has the verbs; [`Store`] is where the entries lie. The same verbs are on a handle, [`Store::of`], which an
//! application's own method called `get` can't hide.
//!
//! # Loading
//!
//! A service reads by [`get_or_load`](Cached::get_or_load) and writes by [`update`](Cached::update):
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize, Cached, Clone)]
//! # #[cached(prefix = "user", ttl = "5m")]
//! # struct User { #[cached(key)] id: u64, name: String }
//! # #[derive(Debug)]
//! # struct DbError;
//! # #[derive(Clone)]
//! # struct Db;
//! # impl Db {
//! #     async fn find_user(&self, id: u64) -> Result<Option<User>, DbError> { Ok(Some(User { id, name: "Ada".into() })) }
//! #     async fn load_user(&self, id: u64) -> Result<User, DbError> { Ok(User { id, name: "Ada".into() }) }
//! #     async fn rename_user(&self, _: u64, _: &str) -> Result<(), DbError> { Ok(()) }
//! # }
//! use valkey_runtime::{Cached, Store};
//!
//! async fn show(store: &Store, db: &Db, id: u64) -> Result<String, DbError> {
//!     let user = User::get_or_load(store, id, || db.find_user(id)).await?;
//!     Ok(user.map_or("nobody".into(), |user| user.name))
//! }
//!
//! async fn rename(store: &Store, db: &Db, id: u64, name: &str) -> Result<(), DbError> {
//!     User::update(store, id, || db.rename_user(id, name)).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), DbError> {
//! # let (store, db) = (Store::memory(), Db);
//! assert_eq!(show(&store, &db, 42).await?, "Ada");
//! rename(&store, &db, 42, "Grace").await?;
//!
//! // A loader may give a value and no `Option`.
//! let user = User::get_or_load(&store, 42, || db.load_user(42)).await?;
//!
//! // After a `?` in the loader the compiler can't tell its error: the last line does.
//! let user = User::get_or_load(&store, 42, async || {
//!     let user = db.find_user(42).await?;
//!     Ok::<_, DbError>(user)
//! })
//! .await?;
//!
//! // In a task of its own: clones of the store and of what the loader needs.
//! let task = tokio::spawn({
//!     let (store, db) = (store.clone(), db.clone());
//!     async move { User::get_or_load(&store, 42, || db.find_user(42)).await }
//! });
//! # let _ = (user, task.await.unwrap()?);
//! # Ok(())
//! # }
//! ```
//!
//! The errors are the database's own: a cache that is down, slow or full fails neither a read nor a write. (A type with
//! `#[cached(strict)]` refuses writes that it can't guard; its updates fail with an [`UpdateError`].) Callers of one key
//! share a load, across processes, and what was loaded before a write is never stored after it. For writes that are
//! committed elsewhere there is a [`Guard`]. The page `docs/consistency.md` has the promises, the races and the recipes.
//!
//! | the compiler says | write |
//! |---|---|
//! | type annotations needed, of a loader with `?` in it | `Ok::<_, DbError>(…)` in its last line |
//! | `db` moved, of `\|\| async move { … }` | `async \|\| { … }`, which borrows |
//! | `store` does not live long enough, of a spawned call | clones, and `async move`, as above |
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `derive` | yes | `#[derive(Cached)]`, `#[derive(KeyPart)]` |
//! | `tls` | yes | `valkeys://` and `rediss://` by rustls with ring |
//! | `uuid` | | `uuid::Uuid` as part of a key |
//! | `chrono` | | `NaiveDate`, `NaiveDateTime`, `DateTime<Utc>` as parts of a key |
//! | `time` | | `Date`, `UtcDateTime`, `OffsetDateTime` (by its instant) as parts of a key |
//! | `jiff` | | `civil::Date`, `Timestamp` as parts of a key |

#[cfg(all(test, feature = "derive"))]
extern crate self as valkey_runtime;

mod backend;
mod background;
mod cached;
mod clock;
mod codec;
mod config;
mod entry;
mod envelope;
mod error;
mod front;
mod guard;
mod handle;
mod key;
mod loaded;
mod loading;
mod options;
mod policy;
mod prefix;
mod scan;
mod stats;
mod store;
#[cfg(test)]
mod table;
mod transition;
mod ttl;
mod ttl_env;
mod undelivered;
mod verbs;

pub use backend::BreakerState;
pub use cached::{Cached, Keyed};
pub use clock::{Clock, ManualClock, Random};
pub use config::Builder;
pub use entry::{Entry, Source};
pub use error::{Error, ErrorKind, Result};
pub use guard::{BestEffort, Guard, Guarding, Strict, UpdateError};
pub use handle::Handle;
pub use key::{KeyFrom, KeyOf, KeyPart, KeyReader, KeyWriter, OwnKey, ReadKey, ReadKeyOf};
pub use loaded::{IntoLoaded, Loaded, Stale};
pub use options::{
    LoadError, LoadLimits, LoadOptions, NeverSure, SetOptions, SureIf, UpdateOptions,
};
pub use policy::{OnCorrupt, Policy};
pub use prefix::PrefixPart;
pub use scan::{Purged, Scan, ScanOptions};
pub use stats::Stats;
pub use store::Store;
pub use ttl::{Ttl, TtlError};
#[cfg(feature = "derive")]
pub use valkey_derive::{Cached, KeyPart};

/// What generated code names. Not part of the public interface: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::key::{
        HashTag, ImpossibleKey, KeyPart, KeyWith, KeyWriter, Newtype, With, WithResult,
    };
    pub use crate::prefix::{Prefix, PrefixPart};
    pub use crate::{BestEffort, Cached, Keyed, OnCorrupt, Policy, Strict, Ttl};
    pub use serde::Serialize;
    pub use serde::de::DeserializeOwned;
    pub use std::marker::{PhantomData, Send, Sync};
}

/// The snippets of the page compile.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/loading.md")]
struct LoadingPage;
