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

mod backend;
mod cached;
mod clock;
mod codec;
mod config;
mod entry;
mod envelope;
mod error;
mod guard;
mod handle;
mod key;
mod loaded;
mod loading;
mod options;
mod policy;
mod prefix;
mod stats;
mod store;
mod transition;
mod ttl;
mod ttl_env;
mod undelivered;
mod verbs;

pub use cached::{Cached, Keyed};
pub use clock::{Clock, ManualClock, Random};
pub use config::Builder;
pub use entry::{Entry, Source};
pub use error::{Error, ErrorKind, Result};
pub use guard::{BestEffort, Guard, Guarding, Strict, UpdateError};
pub use handle::Handle;
pub use key::{KeyFrom, KeyOf, KeyPart, KeyWriter, OwnKey};
pub use loaded::{IntoLoaded, Loaded};
pub use options::{
    LoadError, LoadLimits, LoadOptions, NeverSure, SetOptions, SureIf, UpdateOptions,
};
pub use policy::{OnCorrupt, Policy};
pub use prefix::PrefixPart;
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
    pub use std::marker::{Send, Sync};
}
