//! Whether spans, errors and log lines show keys.

use crate::base::error;
use crate::base::error::printable;
use std::hash::{BuildHasher, RandomState};

/// The places that show the keys of entries: spans, log lines, and the texts of errors.
///
/// A key may be a secret, such as a session token, or identify a person, such as an e-mail address.
/// By default its type and a hash are shown instead: `session#5a81f6b2c9d0e374`. Two lines with the
/// same hash are about the same key.
///
/// | | spans | log lines, text of errors | [`Error::key`](crate::base::error::Error::key) |
/// |---|---|---|---|
/// | [`Hidden`](Self::Hidden), the default | | type and hash | the key |
/// | [`Failures`](Self::Failures) | | the key | the key |
/// | [`Plain`](Self::Plain) | the key | the key | the key |
/// | [`Hashed`](Self::Hashed) | type and hash | type and hash | type and hash |
/// | [`Off`](Self::Off) | | | |
///
/// A type whose keys are no secret has `#[cached(show_keys)]`: under `Hidden` it is treated as
/// under `Failures`. The value of an alias is always a secret: its hash replaces the key.
///
/// Each store hashes with a random key of its own. So nobody can find a key by guessing, and
/// another process has other hashes.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, KeyTracing, Store};
///
/// # #[derive(Serialize, Deserialize, Cached)]
/// # struct User { #[cached(key)] id: u64 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let store = Store::builder().memory().trace_keys(KeyTracing::Failures).connect().await?;
/// store.close().await;
/// let error = User::get(&store, 42).await.err().unwrap();
/// assert_eq!(error.to_string(), "get user:42: closed: the store was closed");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyTracing {
    /// Nowhere, except for types that [allow it](crate::schema::policy::Policy::show_keys). Reports
    /// of failures and defects show the type and a hash.
    /// [`Error::key`](crate::base::error::Error::key) returns the key.
    #[default]
    Hidden,
    /// Only in reports of a failure, or of a defect of the entry.
    Failures,
    /// In spans, log lines and errors.
    Plain,
    /// Nowhere: a hash replaces the key everywhere. [`Error::key`](crate::base::error::Error::key)
    /// returns the hash, too.
    Hashed,
    /// Nowhere, not even as a hash. [`Error::key`](crate::base::error::Error::key) returns `None`.
    Off,
}

/// The visibility of the keys of a store, or of one of its types.
#[derive(Clone)]
pub(crate) struct ShownKeys {
    shown: KeyTracing,
    hasher: RandomState,
    /// The text before a hash.
    of: Box<str>,
    /// Whether the key is never shown in plain text.
    secret: bool,
}

impl ShownKeys {
    pub(crate) fn new(shown: KeyTracing) -> Self {
        let hasher = RandomState::new();
        Self {
            shown,
            hasher,
            of: "".into(),
            secret: false,
        }
    }

    /// For one type. It may allow more than the store, or its keys may be aliases.
    pub(crate) fn of_type(&self, name: &str, allows: bool, is_alias: bool) -> Self {
        let shown = match self.shown {
            KeyTracing::Hidden if allows => KeyTracing::Failures,
            shown => shown,
        };
        Self {
            shown,
            hasher: self.hasher.clone(),
            of: name.into(),
            secret: is_alias,
        }
    }

    /// For a log line, or the text of an error.
    pub(crate) fn of_failure(&self, key: &[u8]) -> Option<String> {
        match self.shown {
            KeyTracing::Failures | KeyTracing::Plain if !self.secret => Some(printable(key)),
            KeyTracing::Off => None,
            _ => Some(self.hashed(key)),
        }
    }

    /// For an error.
    pub(crate) fn told(&self, key: &[u8]) -> error::Told {
        let shown = self.of_failure(key).map(String::into_boxed_str);
        let key = match self.shown {
            KeyTracing::Hidden | KeyTracing::Failures | KeyTracing::Plain => {
                Some(String::from_utf8_lossy(key).into())
            }
            KeyTracing::Hashed | KeyTracing::Off => shown.clone(),
        };
        error::Told { key, shown }
    }

    pub(crate) fn in_span(&self, key: &[u8]) -> Option<String> {
        match self.shown {
            KeyTracing::Plain if !self.secret => Some(printable(key)),
            KeyTracing::Plain | KeyTracing::Hashed => Some(self.hashed(key)),
            KeyTracing::Hidden | KeyTracing::Failures | KeyTracing::Off => None,
        }
    }

    pub(crate) fn hashed(&self, key: &[u8]) -> String {
        format!("{}#{:016x}", self.of, self.hasher.hash_one(key))
    }
}
