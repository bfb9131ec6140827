//! Entries that a store can't decrypt, or must not read in plain text.
//!
//! None of them is corrupt: another process may read them. A read leaves them where they are. A
//! load treats them by the number of their key, as it treats versions: it stores over an older one,
//! and leaves a newer one alone.

use std::fmt;

use crate::base::error::{Error, ErrorKind};
use crate::protocol::envelope::flags::Flags;
use crate::protocol::envelope::{Header, Kind};
use crate::value::keys::EncryptionKeys;
use crate::value::pack::number_of_key;

/// The reason why an intact entry is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locked {
    /// Its key has this number, which is above those of the store's keys, or the store has none.
    Newer(u32),
    /// Its key has this number, which is below the highest of the store's keys: it was retired.
    Older(u32),
    /// Its type is encrypted, and the entry is in plain text.
    Plain,
}

impl Locked {
    /// `entry` may end behind the number of the key. One that ends before it is not locked, but
    /// damaged.
    #[cold]
    pub(crate) fn of(
        header: &Header,
        entry: &[u8],
        keys: Option<&EncryptionKeys>,
        accepts_plaintext: bool,
    ) -> Option<Self> {
        if !header.flags.has(Flags::ENCRYPTED) {
            let is_plain = header.kind == Kind::Value && !accepts_plaintext;
            return is_plain.then_some(Self::Plain);
        }
        let payload = entry.get(header.payload_at(entry)?..)?;
        let number = number_of_key(payload)?;
        match keys {
            Some(keys) if keys.has(number) => None,
            Some(keys) if number < keys.highest() => Some(Self::Older(number)),
            _ => Some(Self::Newer(number)),
        }
    }

    /// Whether a load stores over it.
    pub(crate) fn is_replaceable(self) -> bool {
        matches!(self, Self::Older(_) | Self::Plain)
    }

    /// The beginning of a log line.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Newer(_) | Self::Older(_) => {
                "an entry is encrypted with a key that this store does not have"
            }
            Self::Plain => "an entry of an encrypted type is in plain text",
        }
    }
}

/// The rest of a log line.
impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(number) => write!(
                f,
                "number {number}, above those of its keys: it is a miss, and nothing is stored over it; add the key"
            ),
            Self::Older(number) => write!(
                f,
                "number {number}, below the highest of its keys: it is a miss, and the next load replaces it"
            ),
            Self::Plain => f.write_str(
                "it is a miss, and the next load replaces it; `Builder::accept_plaintext` reads such entries",
            ),
        }
    }
}

/// A store without keys is used for a type that is encrypted.
#[cold]
pub(crate) fn without_keys(type_name: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "`{type_name}` is encrypted, and the store has no key: set VALKEY_ENCRYPTION_KEYS, or call \
             `Builder::encryption_keys`"
        ),
    )
}
