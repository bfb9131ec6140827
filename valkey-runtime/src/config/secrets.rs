//! The settings about encryption.

use crate::config::Builder;
use crate::value::keys::EncryptionKeys;

impl Builder {
    /// Sets the keys that encrypt the values of types with `#[cached(encrypt)]`, in place of those
    /// of `VALKEY_ENCRYPTION_KEYS`. The first key of the ring encrypts, and all of them decrypt.
    ///
    /// An entry under an unknown key is a miss, which is counted
    /// ([`TypeStats::undecrypted`](crate::TypeStats::undecrypted)) and logged once a minute. No
    /// read removes it. A load stores over it if its number is below the highest of the ring, since
    /// its key was retired then. Otherwise its key is newer, and the entry stays.
    pub fn encryption_keys(mut self, keys: EncryptionKeys) -> Self {
        match keys.checked() {
            Ok(keys) => self.encryption = Some(keys),
            Err(mistake) => self.note(mistake),
        }
        self
    }

    /// Also reads entries of encrypted types in plain text, for the time in which a type becomes
    /// encrypted. Without it such an entry is a miss, which the next load replaces: otherwise a
    /// client with write access to the server could replace an encrypted value by any other.
    pub fn accept_plaintext(mut self) -> Self {
        self.accepts_plaintext = true;
        self
    }
}
