//! Which key an entry is for, and whether it is whole: two hashes in the header of a value and of an absence.
//!
//! Both are the lower 32 bits of XXH3-64. They find accidents: an entry that a tool copied to another key, a flipped bit, a
//! part that was overwritten. They find nobody who means to forge an entry: who can write to the server can compute them.
//!
//! The checksum is of what no script rewrites: kind, version and key by its seed, and all that follows upon the clock, which is
//! the tags and the payload. Stamp, freshness, claim and clock are not in it.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::protocol::envelope::{ARRAY, FORMAT, HEADER, Head, Header, KEY, Kind, SUM, head};

/// What the header says of the key of its entry: the whole key, as the server has it.
pub(crate) fn of_key(key: &[u8]) -> u32 {
    xxh3_64(key) as u32
}

/// The checksum of an entry with this header. `content` is all that follows upon the header.
pub(crate) fn of_content(header: &Header, content: &[u8]) -> u32 {
    let kind = match header.kind {
        Kind::Value => 0,
        Kind::Absence => 1,
        Kind::Lease => 2,
        Kind::Guard => 3,
    };
    let seed = kind << 48 | u64::from(header.version) << 32 | u64::from(header.key);
    xxh3_64_with_seed(content, seed) as u32
}

/// Why an entry is none of the key that it was found under.
pub(crate) const MISPLACED: &str = "an entry of another key";
/// Why one is not what was stored.
pub(crate) const NOT_WHOLE: &str = "its content does not match its checksum";

/// The bytes in which an entry says its key.
pub(crate) fn key_in(entry: &[u8]) -> Option<[u8; 4]> {
    entry.get(KEY + 1..)?.first_chunk().copied()
}

/// Whether this is a value or an absence, and for another key than this.
pub(crate) fn is_misplaced(entry: &[u8], key: &[u8]) -> bool {
    let Some(header) = entry.first_chunk::<HEADER>() else {
        return false;
    };
    matches!(header[..3], [ARRAY, FORMAT, 0 | 1])
        && header[KEY + 1..SUM] != of_key(key).to_be_bytes()
        // What is newer or damaged is that first.
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

    /// Puts its checksum into a whole entry that begins with this header.
    pub(crate) fn seal(&self, entry: &mut [u8]) {
        let (header, content) = entry.split_at_mut(self.len());
        header[SUM + 1..SUM + 5].copy_from_slice(&of_content(self, content).to_be_bytes());
    }

    /// Whether the entry with this header is what was sealed.
    pub(crate) fn is_seal_of(&self, entry: &[u8]) -> bool {
        let content = entry.get(self.len()..).unwrap_or_default();
        of_content(self, content) == self.sum
    }
}
