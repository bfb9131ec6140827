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
//! application's own method called `get` can't hide. Several of them, of whatever types, go in one round trip as a [`Batch`].
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
//! # Values that are found by another field
//!
//! With `#[cached(alias = "email")]` a user is found by e-mail as well. What is cached besides is which key an e-mail leads to:
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! use valkey_runtime::{Cached, Store};
//!
//! #[derive(Serialize, Deserialize, Cached, Clone, Debug)]
//! #[cached(prefix = "user", ttl = "5m", alias = "email")]
//! struct User {
//!     #[cached(key)]
//!     id: u64,
//!     email: String,
//!     /// None for most; and `Ada` is `ada`.
//!     #[cached(alias(with = "lower"))]
//!     nick: Option<String>,
//! }
//!
//! fn lower(nick: &str) -> String {
//!     nick.to_lowercase()
//! }
//!
//! # #[derive(Debug)]
//! # struct DbError;
//! # struct Db(std::sync::Mutex<User>);
//! # impl Db {
//! #     fn row(&self) -> User { self.0.lock().unwrap().clone() }
//! #     async fn find_user(&self, id: u64) -> Result<Option<User>, DbError> { Ok(Some(self.row()).filter(|row| row.id == id)) }
//! #     async fn user_with_email(&self, email: &str) -> Result<Option<u64>, DbError> { Ok((self.row().email == email).then_some(42)) }
//! #     async fn set_email(&self, _: u64, email: &str) -> Result<(), DbError> { self.0.lock().unwrap().email = email.into(); Ok(()) }
//! # }
//! async fn by_email(store: &Store, db: &Db, email: &str) -> Result<Option<User>, DbError> {
//!     // SELECT id … WHERE email = …; then SELECT * … WHERE id = …, as in `get_or_load`.
//!     User::get_or_load_by_email(store, email, || db.user_with_email(email), |id| db.find_user(id)).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), DbError> {
//! # let row = User { id: 42, email: "ada@example.org".into(), nick: None };
//! # let (store, db) = (Store::memory(), Db(std::sync::Mutex::new(row)));
//! assert_eq!(by_email(&store, &db, "ada@example.org").await?.unwrap().id, 42);
//! assert!(User::get_by_email(&store, "ada@example.org").await.unwrap().is_some());
//!
//! // There is nothing to be done about the e-mails.
//! User::update(&store, 42, || db.set_email(42, "ada@example.com")).await?;
//! assert!(by_email(&store, &db, "ada@example.org").await?.is_none());
//! assert_eq!(by_email(&store, &db, "ada@example.com").await?.unwrap().id, 42);
//! # Ok(())
//! # }
//! ```
//!
//! - The value is cached under its key, once. So writes invalidate the key, as ever, and an e-mail that changes needs no
//!   more: the value that is read is compared, and where its e-mail is another, or it is gone, the key is looked up
//!   once more. What that leads to is the answer.
//! - A hit costs two reads, one after the other.
//! - `get_by_email` finds what was looked up by `get_or_load_by_email` before. `set` stores no e-mail.
//! - That there is no such user is not remembered, and each caller asks the database. A type with `ttl_absent` remembers
//!   it of keys alone.
//! - The database and `with` have to agree which e-mails are the same. If it ignores case and nothing says so here, the user
//!   whom it finds has another e-mail than the one that was asked for, and the answer is none.
//!
//! # Invalidating many at once
//!
//! Entries carry *tags*, and one call invalidates all that carry one, whatever their types and however many there are:
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! use valkey_runtime::{Cached, Store, UpdateOptions};
//!
//! #[derive(Serialize, Deserialize, Cached, Clone)]
//! #[cached(prefix = "user", tag = "org:{org_id}")]
//! struct User {
//!     #[cached(key)]
//!     id: u64,
//!     org_id: u64,
//! }
//!
//! // A tag that follows from the key is looked up together with the entry.
//! #[derive(Serialize, Deserialize, Cached, Clone)]
//! #[cached(prefix = "settings", tag = "org:{org_id}", clear)]
//! struct Settings {
//!     #[cached(key)]
//!     org_id: u64,
//!     theme: String,
//! }
//!
//! # struct Db;
//! # impl Db { async fn move_user(&self, _: u64, _: u64) -> valkey_runtime::Result<()> { Ok(()) } }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (store, db) = (Store::memory(), Db);
//! User { id: 1, org_id: 42 }.set(&store).await?;
//! Settings { org_id: 42, theme: "dark".into() }.set(&store).await?;
//!
//! User::tags().org(42).invalidate(&store).await?; // or store.invalidate_tag("org:42")
//! assert!(User::get(&store, 1).await?.is_none());
//! assert!(Settings::get(&store, 42).await?.is_none());
//!
//! // All of a type that says `clear`.
//! Settings::clear(&store).await?;
//!
//! // With a guarded write: no reader is given anything of the two that is older than it.
//! let options = UpdateOptions::new().invalidating([User::tags().org(42), User::tags().org(7)]);
//! User::update_with(&store, 1, options, || db.move_user(1, 7)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A tag may come from the row that was loaded, since what is compared is when the load began. An invalidation is two round
//! trips, a hit one, or two where a tag does not follow from the key. [`Store::expire_tag_over`] has entries fall due over a time in
//! place of all at once. The page `docs/tags.md` has the steps, the costs, and why other ways fail.
//!
//! # Limiting rates
//!
//! A [`RateLimiter`] says how much each client, user or address may take in a time:
//!
//! ```
//! use std::net::IpAddr;
//! use std::time::Duration;
//! use valkey_runtime::{RateLimiter, Result, Store, Subnet};
//!
//! /// Five attempts at once for a name, and one each three minutes; and more for an address, which many may share.
//! async fn may_log_in(store: &Store, name: &str, address: IpAddr) -> Result<bool> {
//!     // In a service these are made once.
//!     let hour = Duration::from_secs(60 * 60);
//!     let by_name = RateLimiter::builder("login").quota(20, hour).burst(5).build()?;
//!     let by_address = RateLimiter::builder("login-address").quota(500, hour).burst(50).build()?;
//!
//!     let asked = [by_name.request(name), by_address.request(Subnet::of(address))];
//!     let decision = RateLimiter::check_all(store, &asked).await?;
//!     Ok(decision.is_allowed())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! # let store = Store::memory();
//! let address = IpAddr::from([203, 0, 113, 7]);
//! for _ in 0..5 {
//!     assert!(may_log_in(&store, "ada", address).await?);
//! }
//! assert!(!may_log_in(&store, "ada", address).await?);
//! # Ok(())
//! # }
//! ```
//!
//! A check is one script in the server, so that processes together let through what one would. It goes by the server's clock.
//! Where the server does not answer, requests are let through, or refused, as the limiter was told to. With the feature `tower` a
//! `http::RateLimitLayer` asks limits before a service, and answers with 429 and the header fields for it; `http::CacheHeaders` are
//! the fields that an [`Entry`] tells of itself, from `ETag` to `Cache-Status`.
//!
//! # Validation
//!
//! With `#[cached(validate)]` values are validated before they are stored and after they are read, by the `Validate` that the type
//! has of garde or of validator (features of these names):
//!
#![cfg_attr(feature = "garde", doc = "```")]
#![cfg_attr(not(feature = "garde"), doc = "```ignore")]
//! # use serde::{Deserialize, Serialize};
//! use valkey_runtime::{Cached, ErrorKind, Store};
//!
//! #[derive(Serialize, Deserialize, Cached, garde::Validate)]
//! #[cached(prefix = "user", ttl = "5m", validate)]
//! struct User {
//!     #[cached(key)]
//!     #[garde(skip)]
//!     id: u64,
//!     #[garde(length(min = 1, max = 100))]
//!     name: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> valkey_runtime::Result<()> {
//! # let store = Store::memory();
//! let nobody = || User { id: 42, name: "".into() };
//! let error = nobody().set(&store).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Invalid);
//! assert!(error.to_string().ends_with(": invalid: `name`: length"));
//!
//! // What a loader found is for its caller to judge. It is not stored, and counted.
//! let user = User::get_or_load(&store, 42, async || Ok::<_, ()>(nobody())).await.unwrap();
//! assert!(user.is_some() && !User::exists(&store, 42).await?);
//! assert_eq!(store.stats().errors(ErrorKind::Invalid), 2);
//! # Ok(())
//! # }
//! ```
//!
#![cfg_attr(feature = "validator", doc = "```")]
#![cfg_attr(not(feature = "validator"), doc = "```ignore")]
//! # use serde::{Deserialize, Serialize};
//! # use valkey_runtime::Cached;
//! #[derive(Serialize, Deserialize, Cached, validator::Validate)]
//! #[cached(prefix = "user", validate)]
//! struct User {
//!     #[cached(key)]
//!     id: u64,
//!     #[validate(length(min = 1, max = 100))]
//!     name: String,
//! }
//! ```
//!
//! Rules may also be a function, `validate = path::to::function`, from `&User` to `Result<(), Invalid>` (see [`Invalid`]), or to
//! what `Validate` of garde or validator gives. So rules of garde's with a context, or of validator's with arguments, are
//! applied by a function that has these. A type with rules of both says which are meant: `validate = garde::Validate::validate`.
//!
//! | where an invalid value is met | what becomes of it |
//! |---|---|
//! | `set` and the like | an error of kind [`Invalid`](ErrorKind::Invalid); nothing is sent, and what is there stays. Of `set_many` nothing is stored, of a [`Batch`] the other items are carried out |
//! | [`write_through`](Cached::write_through) | the write is done, and its result returned; the value is not stored, the old one is gone. It is logged, and counted as an error of that kind |
//! | a loader's | it is returned to its caller, and to those who share that load; it is not stored, and what there was to be refreshed is removed. It is logged, and counted as an error of that kind |
//! | an entry that is read | as a corrupt one: a miss, counted ([`Stats::corrupt`]), logged, and removed; with `on_corrupt = "error"` an error of kind `Invalid`; with `keep_corrupt` it stays |
//! | an entry whose time is over | the same where it was to be served; it is not shown to a loader |
//!
//! - An error and the log name the field and the rule, and never the value: neither garde's and validator's messages, which may
//!   quote it, nor keys of maps in it. `Invalid` takes texts of the program alone.
//! - `exists`, `ttl` and `count` read no values, and do not validate.
//! - While two releases with different rules run side by side, each finds what the other stored invalid, and removes it. Raise the
//!   `version` with the rules: then each leaves the other's entries alone.
//! - It costs what the rules cost, at each read. A type without `validate` pays nothing.
//!
//! # Telemetry
//!
//! `store.stats()` prints as a table, a row a type: requests, hit ratio, loads and their time. Verbs and loads have `tracing` spans
//! with OpenTelemetry's names, which cost nothing to speak of where nobody records them. Log lines and errors show a key as its type and
//! a hash, unless [`Builder::trace_keys`] says otherwise; [`Error::key`] is the key. The page `docs/telemetry.md` has the fields, the names of the metrics, and what they cost.
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
//! | `garde` | | `#[cached(validate)]` by garde 0.23 |
//! | `validator` | | `#[cached(validate)]` by validator 0.21 |
//! | `testing` | | the test kit: `Store::faults`, `Store::record`, `Store::settled`, `testing::memory` with a clock, `testing::TestServer` |
//! | `metrics` | | `Store::publish_metrics`: the statistics for the `metrics` facade |
//! | `tower` | | the module `http`: rate limits as a layer of tower, header fields from entries |

#[cfg(all(test, feature = "derive"))]
extern crate self as valkey_runtime;

mod alias;
mod backend;
mod background;
mod batch;
mod cached;
mod clock;
mod cloning;
mod codec;
mod config;
#[cfg(test)]
mod damaged;
mod entry;
mod envelope;
mod error;
#[cfg(test)]
mod explore;
mod front;
mod guard;
mod handle;
#[cfg(feature = "tower")]
pub mod http;
mod invalidations;
mod key;
mod limiter;
mod loaded;
mod loading;
#[cfg(feature = "metrics")]
mod metrics;
mod options;
mod policy;
mod prefix;
mod runtime;
mod scan;
mod stats;
mod store;
#[cfg(test)]
mod table;
mod tags;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trace;
mod tracking;
mod transition;
mod ttl;
mod ttl_env;
mod types;
mod undelivered;
mod validation;
mod verbs;
mod warnings;

pub use backend::BreakerState;
pub use batch::{Batch, BatchResults};
pub use cached::{Cached, Keyed};
pub use clock::{Clock, ManualClock, Random};
pub use config::Builder;
pub use entry::{Entry, Source};
pub use error::{Error, ErrorKind, Result};
pub use guard::{BestEffort, Guard, Guarding, Strict, UpdateError};
pub use handle::Handle;
pub use invalidations::Invalidations;
pub use key::{KeyFrom, KeyOf, KeyPart, KeyReader, KeyWriter, OwnKey, ReadKey, ReadKeyOf};
pub use limiter::{
    Decision, Hashed, LimitKey, LimitRequest, RateLimiter, RateLimiterBuilder, Subnet,
};
pub use loaded::{IntoLoaded, Loaded, Stale};
pub use options::{
    LoadError, LoadLimits, LoadOptions, NeverSure, SetOptions, SureIf, UpdateOptions, UpdateReport,
};
pub use policy::{OnCorrupt, Policy};
pub use prefix::PrefixPart;
pub use scan::{Purged, Scan, ScanOptions};
pub use stats::{Stats, TypeStats};
pub use store::Store;
#[doc(hidden)]
pub use tags::TagWriter;
pub use tags::{Clearable, Tag, Tagged};
pub use trace::KeyTracing;
pub use tracking::{InvalidatedKey, InvalidatedTag, InvalidatedType, Invalidation};
pub use ttl::{Ttl, TtlError};
pub use validation::{Invalid, Violation};
#[cfg(feature = "derive")]
pub use valkey_derive::{Cached, KeyPart};

/// What generated code names. Not part of the public interface: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::alias::{AliasField, AliasRef, Aliased, get_by, get_or_load_by};
    pub use crate::cloning::{Cloning, clones};
    pub use crate::key::{
        HashTag, ImpossibleKey, KeyPart, KeyWith, KeyWriter, Newtype, With, WithResult,
    };
    pub use crate::prefix::{Prefix, PrefixPart};
    pub use crate::validation::{Rules, validated, validators};
    pub use crate::{
        BestEffort, Cached, Clearable, IntoLoaded, Invalid, KeyOf, Keyed, LimitKey, OnCorrupt,
        Policy, Result, Store, Strict, Tag, TagWriter, Tagged, Ttl,
    };
    pub use serde::Serialize;
    pub use serde::de::DeserializeOwned;
    pub use std::default::Default;
    pub use std::future::Future;
    pub use std::marker::{PhantomData, Send, Sync};
    pub use std::ops::FnMut;
    pub use std::option::Option;
}

/// The snippets of the pages compile.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/loading.md")]
struct LoadingPage;

/// So do those of this one.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/tags.md")]
struct TagsPage;

#[cfg(all(doctest, feature = "derive", feature = "metrics"))]
#[doc = include_str!("../../docs/telemetry.md")]
struct TelemetryPage;

#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/invalidations.md")]
struct InvalidationsPage;

#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../docs/operations.md")]
struct OperationsPage;
