//! The key hash and the checksum in the header of a value and of an absence. They show whether an
//! entry belongs to its key, and whether it is intact.
//!
//! Both are the lower 32 bits of XXH3-64. They find accidents: an entry that a tool copied to
//! another key, a flipped bit, an overwritten part. They are no protection against forgery: any
//! client that can write to the server can compute them.
//!
//! The checksum covers the parts that no script rewrites. Flags, kind, version and key are in its
//! seed.
//! The content is all that follows the clock: the tags and the payload. Stamp, freshness, claim and
//! clock are not covered.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::protocol::envelope::{ARRAY, FORMAT, HEADER, Head, Header, KEY, Kind, SUM, head};

/// The hash of an entry's key in its header: of the whole key, as the server has it.
pub(crate) fn of_key(key: &[u8]) -> u32 {
    xxh3_64(key) as u32
}

/// The checksum of an entry with this header. `content` is everything after the header.
pub(crate) fn of_content(header: &Header, content: &[u8]) -> u32 {
    let kind = match header.kind {
        Kind::Value => 0,
        Kind::Absence => 1,
        Kind::Lease => 2,
        Kind::Guard => 3,
    };
    let kind = u64::from(header.flags.bits()) << 8 | kind;
    let seed = kind << 48 | u64::from(header.version) << 32 | u64::from(header.key);
    xxh3_64_with_seed(content, seed) as u32
}

/// The reason why an entry does not belong to the key that holds it.
pub(crate) const MISPLACED: &str = "an entry of another key";
/// The reason why an entry is not intact.
pub(crate) const NOT_WHOLE: &str = "its content does not match its checksum";

/// The bytes of the key hash in an entry.
pub(crate) fn key_in(entry: &[u8]) -> Option<[u8; 4]> {
    entry.get(KEY + 1..)?.first_chunk().copied()
}

/// Whether this is a value or an absence of another key.
pub(crate) fn is_misplaced(entry: &[u8], key: &[u8]) -> bool {
    let Some(header) = entry.first_chunk::<HEADER>() else {
        return false;
    };
    matches!(header[..3], [ARRAY, FORMAT, 0 | 1])
        && header[KEY + 1..SUM] != of_key(key).to_be_bytes()
        // A newer or damaged entry counts as newer or damaged.
        && matches!(head(entry), Head::Known(_))
}

impl Header {
    /// The header of an entry of this key.
    pub(crate) fn of(self, key: &[u8]) -> Self {
        Self {
            key: of_key(key),
            ..self
        }
    }

    /// Writes the checksum into a whole entry with this header.
    pub(crate) fn seal(&self, entry: &mut [u8]) {
        let (header, content) = entry.split_at_mut(self.len());
        header[SUM + 1..SUM + 5].copy_from_slice(&of_content(self, content).to_be_bytes());
    }

    /// Whether the entry with this header is intact.
    pub(crate) fn is_seal_of(&self, entry: &[u8]) -> bool {
        let content = entry.get(self.len()..).unwrap_or_default();
        of_content(self, content) == self.sum
    }
}
