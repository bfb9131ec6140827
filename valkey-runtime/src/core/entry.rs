//! A value with the metadata of its entry.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::base::ttl::Ttl;
use crate::schema::cached_type::CachedType;
use crate::value::shown::Redacted;

/// A value with the metadata of its entry: its origin, its age, and its remaining life. It is for
/// code that passes these on, such as an HTTP layer with `Age`, `ETag` and `Cache-Status`.
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
/// assert_eq!((user.source(), user.name.as_str()), (Source::Cached, "Ada"));
/// let etag = format!("\"{:x}\"", user.stamp());
/// # let _ = etag;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Entry<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
    pub(crate) stamp: u64,
    pub(crate) age: Duration,
    pub(crate) expires: Option<Ttl>,
    pub(crate) version: u16,
}

/// The metadata that a verb knows without reading the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) source: Source,
    pub(crate) stamp: u64,
    pub(crate) expires: Option<Ttl>,
}

impl Origin {
    /// The entry of a value at this server time, in microseconds.
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

/// The stamp of an [`Entry`], as a condition: the change is made only if the value under the key is
/// still the one that was read. From an entry, or from the number that [`Entry::stamp`] returned,
/// such as one that came back in `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(pub(crate) u64);

impl From<u64> for Stamp {
    fn from(stamp: u64) -> Self {
        Self(stamp)
    }
}

impl<T> From<&Entry<T>> for Stamp {
    fn from(entry: &Entry<T>) -> Self {
        Self(entry.stamp)
    }
}

/// The origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The store had it.
    Cached,
    /// This call loaded it.
    Loaded,
    /// Another call loaded it while this one waited.
    Coalesced,
    /// The store had it as a stale value, for example after a load that failed or took too long.
    Stale,
}

impl<T> Entry<T> {
    /// Returns the value alone.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Returns the origin of the value.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns a number that differs for each value stored under the key: the time when the value
    /// was stored or its load began, with a few random bits. For a value that is not stored, it
    /// belongs to this load.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Returns the time since the value was stored or its load began, by the server's clock.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns the remaining life of the entry in the store; `None` if it is unknown, or if the
    /// value is not stored.
    pub fn expires_in(&self) -> Option<Ttl> {
        self.expires
    }

    /// Returns the schema version of the entry.
    pub fn version(&self) -> u16 {
        self.version
    }
}

/// Shows no field that the type marks with `#[cached(redact)]`.
impl<T: CachedType + fmt::Debug> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted = Redacted(&self.value);
        let value: &dyn fmt::Debug = match T::REDACTED {
            [] => &self.value,
            _ => &redacted,
        };
        f.debug_struct("Entry")
            .field("value", value)
            .field("source", &self.source)
            .field("stamp", &self.stamp)
            .field("age", &self.age)
            .field("expires", &self.expires)
            .field("version", &self.version)
            .finish()
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl Source {
    /// Returns the name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Cached => "cached",
            Source::Loaded => "loaded",
            Source::Coalesced => "coalesced",
            Source::Stale => "stale",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
