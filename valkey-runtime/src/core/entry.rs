//! A value with what is known of its entry.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::base::ttl::Ttl;

/// A value with what is known of its entry: where it came from, how old it is, how long it will still live. For who wants to
/// tell others, as an HTTP layer does with `Age`, `ETag` and `Cache-Status`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use valkey_runtime::{Cached, Source, Store};
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct User { #[cached(key)] id: u64, name: String }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// User { id: 42, name: "Ada".into() }.set(&store).await?;
/// let user = store.of::<User>().get_entry(42).await?.unwrap();
/// assert_eq!((user.source(), user.name.as_str()), (Source::Server, "Ada"));
/// let etag = format!("\"{:x}\"", user.stamp());
/// # let _ = etag;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
    pub(crate) stamp: u64,
    pub(crate) age: Duration,
    pub(crate) expires: Option<Ttl>,
    pub(crate) version: u16,
}

/// What a verb knows of a value without asking for the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) source: Source,
    pub(crate) stamp: u64,
    pub(crate) expires: Option<Ttl>,
}

impl Origin {
    /// The entry of a value, as it is seen at this time of the server's, in microseconds.
    pub(crate) fn entry<T>(self, value: T, version: u16, now: u64) -> Entry<T> {
        let Self {
            source,
            stamp,
            expires,
        } = self;
        let age = Duration::from_micros(now.saturating_sub(stamp >> 12));
        Entry {
            value,
            source,
            stamp,
            age,
            expires,
            version,
        }
    }
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// It lay in the store.
    Server,
    /// This call loaded it.
    Loaded,
    /// Another call loaded it while this one waited.
    Joined,
    /// It lay in the store and its time was over: a load failed, or took too long.
    Stale,
}

impl<T> Entry<T> {
    /// The value alone.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// A number that is another for each value that is stored under the key: the time of its storing, or of the beginning of
    /// its load, with a few random bits. Of a value that is not stored it is this load's.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// How long ago it was stored, or its load begun, by the server's time.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// How long it will still live in the store; `None` where that is not known, or where it is not stored.
    pub fn expires_in(&self) -> Option<Ttl> {
        self.expires
    }

    /// The version of the schema that it was stored under.
    pub fn version(&self) -> u16 {
        self.version
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl Source {
    /// The name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Server => "server",
            Source::Loaded => "loaded",
            Source::Joined => "joined",
            Source::Stale => "stale",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
