//! Whether keys are shown in spans, errors and log lines.

use crate::base::error;
use crate::base::error::printable;
use std::hash::{BuildHasher, RandomState};

/// Where the keys of entries are shown: in spans, in log lines, and in the text of errors.
///
/// A key may be a secret, as a session's is, or say whom an entry is about, as one with an e-mail address does. So what is shown in
/// its place by default is its type and a hash, `session#5a81f6b2c9d0e374`, which tells that two lines are about one key.
///
/// | | spans | log lines, text of errors | [`Error::key`](crate::base::error::Error::key) |
/// |---|---|---|---|
/// | [`Hidden`](Self::Hidden), the default | | type and hash | the key |
/// | [`Failures`](Self::Failures) | | the key | the key |
/// | [`Plain`](Self::Plain) | the key | the key | the key |
/// | [`Hashed`](Self::Hashed) | type and hash | type and hash | type and hash |
/// | [`Off`](Self::Off) | | | |
///
/// A type whose keys are no secret says so by `#[cached(show_keys)]`: under `Hidden` it is treated as under `Failures`. The value that is
/// looked up by an alias is a secret always: where a key would be shown there is its hash.
///
/// The hash is one of this store: nobody finds out a key by trying, and another process has other hashes.
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
    /// Nowhere, but for types that [allow it](crate::schema::policy::Policy::show_keys). Where something has failed, or is wrong, there are the
    /// type and a hash. [`Error::key`](crate::base::error::Error::key) is the key.
    #[default]
    Hidden,
    /// Only where something has failed, or is wrong, with the entry under it.
    Failures,
    /// In all of them.
    Plain,
    /// In none of them, but a hash in its place in all. [`Error::key`](crate::base::error::Error::key) is the hash, too.
    Hashed,
    /// Nowhere, nor a hash. [`Error::key`](crate::base::error::Error::key) is `None`.
    Off,
}

/// How a store shows its keys, or those of one of its types.
#[derive(Clone)]
pub(crate) struct ShownKeys {
    shown: KeyTracing,
    hasher: RandomState,
    /// What stands before a hash.
    of: Box<str>,
    /// Never to be shown plainly.
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

    /// Those of a type, which may allow more than the store, or be one of aliases.
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

    /// In a log line, or the text of an error.
    pub(crate) fn of_failure(&self, key: &[u8]) -> Option<String> {
        match self.shown {
            KeyTracing::Failures | KeyTracing::Plain if !self.secret => Some(printable(key)),
            KeyTracing::Off => None,
            _ => Some(self.hashed(key)),
        }
    }

    /// In an error.
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
