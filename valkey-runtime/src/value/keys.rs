//! The keys that encrypt values, and the way that an encrypted payload is bound to its entry.
//!
//! The algorithm is XChaCha20-Poly1305. Its nonce has 24 bytes, so random ones from the operating
//! system do not repeat. The associated data is everything that makes the entry this entry: format,
//! kind, flags, version and shape, and the whole key. An attacker who can write to the server can
//! therefore not pass off the payload of one entry as that of another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chacha20poly1305::aead::{AeadInOut, Generate, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::base::error::{Error, ErrorKind, Result};
use crate::protocol::envelope::Header;

const NUMBER: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;
/// The bytes of a key.
const KEY: usize = 32;

/// The keys that encrypt the values of types with `#[cached(encrypt)]`: a key ring. Each key has a
/// number, which is stored with what it encrypts. The first key encrypts, and all of them decrypt.
///
/// `Debug` shows the numbers and nothing of the keys. Their memory is overwritten when the last
/// copy of the ring is dropped.
///
/// ```
/// use valkey_runtime::{EncryptionKeys, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let (new_key, old_key) = ([2; 32], [1; 32]);
/// let keys = EncryptionKeys::new(2, new_key).and(1, old_key);
/// let store = Store::builder().memory().encryption_keys(keys);
/// # store.connect().await?;
/// # Ok(())
/// # }
/// ```
///
/// From a text, as in the variable `VALKEY_ENCRYPTION_KEYS`: for each key its number, a colon and
/// 64 hexadecimal digits; commas between the keys.
///
/// ```
/// use valkey_runtime::EncryptionKeys;
///
/// # fn main() -> valkey_runtime::Result<()> {
/// # let (new, old) = ("0b".repeat(32), "0a".repeat(32));
/// let keys: EncryptionKeys = format!("2:{new},1:{old}").parse()?;
/// assert_eq!(format!("{keys:?}"), "EncryptionKeys([2, 1])");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct EncryptionKeys(Arc<[(u32, Arc<Secret>)]>);

/// A key. It stays where it is, so that no copy of it is left in memory.
type Secret = Zeroizing<[u8; KEY]>;

impl EncryptionKeys {
    /// A ring with one key, which encrypts. The number is free to choose; each new key has a higher
    /// one than those before it.
    pub fn new(number: u32, key: [u8; 32]) -> Self {
        Self([(number, Arc::new(Zeroizing::new(key)))].into())
    }

    /// Adds a key that only decrypts: an older one, or one that a later release of the application
    /// is going to encrypt with. A number that the ring already has is refused when the store is
    /// opened.
    pub fn and(self, number: u32, key: [u8; 32]) -> Self {
        let added = (number, Arc::new(Zeroizing::new(key)));
        Self(self.0.iter().cloned().chain([added]).collect())
    }

    /// Refuses a ring in which two keys have one number.
    pub(crate) fn checked(self) -> Result<Self> {
        let numbers = || self.0.iter().map(|(number, _)| *number);
        let twice = numbers().enumerate().find(|(at, number)| {
            let before = &mut numbers().take(*at);
            before.any(|earlier| earlier == *number)
        });
        match twice {
            None => Ok(self),
            Some((_, number)) => Err(Error::config(format!(
                "two encryption keys have the number {number}: give each key a number of its own"
            ))),
        }
    }

    fn get(&self, number: u32) -> Option<&Secret> {
        let found = self.0.iter().find(|(known, _)| *known == number);
        found.map(|(_, key)| &**key)
    }

    pub(crate) fn has(&self, number: u32) -> bool {
        self.get(number).is_some()
    }

    /// The highest number of the ring.
    pub(crate) fn highest(&self) -> u32 {
        let numbers = self.0.iter().map(|(number, _)| *number);
        numbers.max().unwrap_or(0)
    }

    /// Encrypts a document for the entry with this header and key: the number of the key, the
    /// nonce, the encrypted document and its tag.
    pub(crate) fn encrypt(&self, header: &Header, of: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let failed = |why: String| Error::new(ErrorKind::Encode, why);
        let (number, key) = &self.0[0];
        let nonce = XNonce::try_generate()
            .map_err(|why| failed(format!("the system gives no random bytes: {why}")))?;
        let mut content = Vec::with_capacity(NUMBER + NONCE + plain.len() + TAG);
        content.extend_from_slice(&number.to_be_bytes());
        content.extend_from_slice(&nonce);
        content.extend_from_slice(plain);
        let document = &mut content[NUMBER + NONCE..];
        let tag = cipher(key)
            .encrypt_inout_detached(&nonce, &bound(header, of), document.into())
            .map_err(|_| failed("the value is too long to be encrypted".to_owned()))?;
        content.extend_from_slice(&tag);
        Ok(content)
    }
}

fn cipher(key: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new_from_slice(&key[..]).expect("a key has 32 bytes")
}

/// The associated data of a value with this header and key.
fn bound(header: &Header, key: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(9 + key.len());
    // The format, and the kind of a value.
    bound.extend_from_slice(&[1, 0, header.flags.bits()]);
    bound.extend_from_slice(&header.version.to_be_bytes());
    bound.extend_from_slice(&header.shape.to_be_bytes());
    bound.extend_from_slice(key);
    bound
}

/// The number of the key in an encrypted payload.
pub(crate) fn number_in(content: &[u8]) -> Option<u32> {
    let number = content.first_chunk::<NUMBER>()?;
    Some(u32::from_be_bytes(*number))
}

/// What opens the encrypted payload of one entry.
pub(crate) struct Lock {
    keys: EncryptionKeys,
    bound: Vec<u8>,
}

/// Shows nothing.
impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl Lock {
    /// For the entry with this header under this key.
    pub(crate) fn new(keys: &EncryptionKeys, header: &Header, key: &[u8]) -> Self {
        Self {
            keys: keys.clone(),
            bound: bound(header, key),
        }
    }

    /// Decrypts the content of a payload. The error quotes nothing of it.
    pub(crate) fn open(&self, content: &[u8]) -> Result<Vec<u8>, &'static str> {
        const CUT: &str = "an encrypted payload that is too short";
        let number = number_in(content).ok_or(CUT)?;
        let key = self.keys.get(number);
        let key =
            key.ok_or("a payload that is encrypted with a key which the store does not have")?;
        let (nonce, rest) = content[NUMBER..].split_first_chunk::<NONCE>().ok_or(CUT)?;
        let (document, tag) = rest.split_last_chunk::<TAG>().ok_or(CUT)?;
        let mut document = document.to_vec();
        cipher(key)
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                &self.bound,
                document.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| {
                "an encrypted payload that was not made for this entry, or was changed; or two keys have one number"
            })?;
        Ok(document)
    }
}

impl FromStr for EncryptionKeys {
    type Err = Error;

    /// # Errors
    /// An error of kind [`Config`](ErrorKind::Config) that quotes nothing of the text.
    fn from_str(text: &str) -> Result<Self> {
        let mut keys = Vec::new();
        for (at, part) in text.split(',').enumerate() {
            let key = part.split_once(':').and_then(|(number, digits)| {
                let number = number.trim().parse().ok()?;
                Some((number, from_hex(digits.trim())?))
            });
            keys.push(key.ok_or_else(|| {
                Error::config(format!(
                    "encryption key {} of the list is not a number, a colon and {} hexadecimal digits, as in `1:` and \
                     the output of `openssl rand -hex {KEY}`",
                    at + 1,
                    2 * KEY
                ))
            })?);
        }
        Self(keys.into()).checked()
    }
}

fn from_hex(digits: &str) -> Option<Arc<Secret>> {
    let digits = digits.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut key = Arc::new(Zeroizing::new([0; KEY]));
    if digits.len() != 2 * KEY {
        return None;
    }
    let bytes = Arc::get_mut(&mut key)?;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(key)
}

impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<u32> = self.0.iter().map(|(number, _)| *number).collect();
        f.debug_tuple("EncryptionKeys").field(&numbers).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::envelope::flags::Flags;

    fn keys() -> EncryptionKeys {
        EncryptionKeys::new(2, [2; KEY]).and(1, [1; KEY])
    }

    #[test]
    fn the_first_key_encrypts_and_all_decrypt() {
        let header = Header::value(1, 7);
        let lock = |keys: &EncryptionKeys| Lock::new(keys, &header, b"user:42");
        let new = keys().encrypt(&header, b"user:42", b"secret").unwrap();
        assert_eq!(number_in(&new), Some(2));
        assert_eq!(new.len(), NUMBER + NONCE + 6 + TAG);
        let old = EncryptionKeys::new(1, [1; KEY]);
        let before = old.encrypt(&header, b"user:42", b"secret").unwrap();
        for content in [&new, &before] {
            assert_eq!(lock(&keys()).open(content).unwrap(), b"secret");
        }
        assert_eq!(lock(&old).open(&before).unwrap(), b"secret");
        assert!(lock(&old).open(&new).unwrap_err().contains("does not have"));
        assert_eq!(
            (keys().highest(), keys().has(1), keys().has(3)),
            (2, true, false)
        );
    }

    #[test]
    fn a_payload_is_of_one_entry_alone() {
        let header = Header::value(1, 7);
        let content = keys().encrypt(&header, b"user:42", b"secret").unwrap();
        let opens =
            |header: Header, key: &[u8]| Lock::new(&keys(), &header, key).open(&content).is_ok();
        assert!(opens(header, b"user:42"));
        // What scripts rewrite is not bound.
        assert!(opens(
            Header {
                stamp: 8,
                clock: Some(1),
                sum: 9,
                ..header
            },
            b"user:42"
        ));
        for other in [
            Header {
                version: 2,
                ..header
            },
            Header { shape: 1, ..header },
            Header {
                flags: Flags::ZSTD,
                ..header
            },
        ] {
            assert!(!opens(other, b"user:42"), "{other:?}");
        }
        assert!(!opens(header, b"user:43") && !opens(header, b"a:user:42") && !opens(header, b""));
    }

    #[test]
    fn no_text_shows_a_key() {
        let keys = EncryptionKeys::new(7, [0xab; KEY]);
        let lock = Lock::new(&keys, &Header::value(1, 7), b"user:42");
        assert_eq!(
            format!("{keys:?} {lock:?}"),
            "EncryptionKeys([7]) Lock { .. }"
        );
    }

    proptest! {
        #[test]
        fn nothing_else_opens(content: Vec<u8>, number in 0..3u32) {
            let lock = Lock::new(&keys(), &Header::value(1, 7), b"user:42");
            let numbered = [&number.to_be_bytes()[..], &content].concat();
            prop_assert!(lock.open(&content).is_err() && lock.open(&numbered).is_err());
        }
    }
}
