//! Packing: from the MessagePack of a value to the payload of its entry, and back.
//!
//! A packed payload is one MessagePack `bin`, so that the entry stays one document:
//!
//! ```text
//! c6 + u32                     the length of what follows
//!   u32 + compressed           the length of the MessagePack document, and the document, compressed
//! c6 + u32
//!   u32 + nonce + encrypted    the number of the key, 24 bytes, and either of the above without
//!                              the `bin`, encrypted, with its tag of 16 bytes
//! ```
//!
//! The flags of the header say which steps were taken. Declared lengths are checked before memory
//! is allocated, and the decompressor can't write beyond the declared length.

use std::borrow::Cow;
#[cfg(feature = "zstd")]
use std::cell::Cell;
#[cfg(feature = "zstd")]
use std::thread::LocalKey;

#[cfg(feature = "zstd")]
use zstd::bulk::{Compressor, Decompressor};

use crate::base::error::{Error, ErrorKind};
use crate::protocol::envelope::Header;
use crate::protocol::envelope::flags::Flags;
use crate::schema::policy::{Compression, Policy};
use crate::value::keys::{EncryptionKeys, Lock, number_in};
use crate::value::limits::{Limits, fits};

/// The marker and the length of the `bin`.
const BIN: usize = 5;
/// The length of a number in front of the content.
const LENGTH: usize = 4;

/// The steps that the value of an entry takes.
#[derive(Clone, Copy)]
pub(crate) struct Packing<'a> {
    compression: Option<Compression>,
    /// The size of the smallest payload that is compressed.
    above: usize,
    /// The keys that encrypt it, and the key of its entry.
    encryption: Option<(&'a EncryptionKeys, &'a [u8])>,
}

impl<'a> Packing<'a> {
    /// For values that stay in this process.
    pub(crate) const NONE: Self = Self {
        compression: None,
        above: 0,
        encryption: None,
    };

    /// For a value of a type with this policy, under this key. A type that encrypts stores nothing
    /// while the store has no keys.
    pub(crate) fn of(policy: &Policy, keys: Option<&'a EncryptionKeys>, key: &'a [u8]) -> Self {
        let keys = keys.filter(|_| policy.encrypt);
        Self {
            compression: policy.compression,
            above: policy.compress_above as usize,
            encryption: keys.map(|keys| (keys, key)),
        }
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.compression.is_none() && self.encryption.is_none()
    }
}

/// Packs the payload at this offset, and writes flags and checksum into the entry. A payload that
/// would not become smaller, or that a reader would take for a bomb, is not compressed.
pub(crate) fn pack(
    mut header: Header,
    entry: &mut Vec<u8>,
    at: usize,
    packing: Packing<'_>,
    limits: Limits,
) -> Result<(), Error> {
    let plain = &entry[at..];
    let mut content = packing.compression.and_then(|compression| {
        let large = plain.len() >= packing.above;
        let (flags, content) = large.then(|| compressed(compression, plain)).flatten()?;
        let is_worth_it = BIN + content.len() < plain.len()
            && plain.len() <= limits.unpacked(content.len() - LENGTH);
        is_worth_it.then(|| {
            header.flags = header.flags.with(flags);
            content
        })
    });
    if let Some((keys, key)) = packing.encryption {
        header.flags = header.flags.with(Flags::ENCRYPTED);
        let plain = content.as_deref().unwrap_or(plain);
        content = Some(keys.encrypt(&header, key, plain)?);
    }
    if let Some(content) = content {
        replace(entry, at, &content)?;
        fits(entry.len(), limits.size)?;
        let bytes = header.to_bytes();
        entry[..bytes.len()].copy_from_slice(&bytes);
    }
    header.seal(entry);
    Ok(())
}

/// Puts a `bin` in the place of the payload.
fn replace(entry: &mut Vec<u8>, at: usize, content: &[u8]) -> Result<(), Error> {
    let length = u32::try_from(content.len()).map_err(|_| {
        Error::new(
            ErrorKind::TooLarge,
            "a packed payload is at most 4 GiB long",
        )
    })?;
    entry.truncate(at);
    entry.push(0xc6);
    entry.extend_from_slice(&length.to_be_bytes());
    entry.extend_from_slice(content);
    Ok(())
}

/// The MessagePack document of a packed payload. The error quotes nothing of it.
pub(crate) fn unpack(
    payload: &[u8],
    flags: Flags,
    lock: Option<&Lock>,
    limits: Limits,
) -> Result<Vec<u8>, &'static str> {
    const DAMAGED: &str = "a packed payload with a damaged length";
    let (length, content) = match payload {
        [0xc6, a, b, c, d, content @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), content),
        _ => return Err("a packed payload that is not a `bin` of MessagePack"),
    };
    if length as usize != content.len() {
        return Err(DAMAGED);
    }
    let content = match lock {
        _ if !flags.has(Flags::ENCRYPTED) => Cow::Borrowed(content),
        Some(lock) => Cow::Owned(lock.open(content)?),
        None => return Err("an encrypted payload, for a store without keys"),
    };
    let compression = match flags {
        flags if flags.has(Flags::ZSTD) => Compression::Zstd,
        flags if flags.has(Flags::LZ4) => Compression::Lz4,
        _ => return Ok(content.into_owned()),
    };
    let Some((declared, compressed)) = content.split_first_chunk::<LENGTH>() else {
        return Err(DAMAGED);
    };
    let declared = u32::from_be_bytes(*declared) as usize;
    if declared > limits.unpacked(compressed.len()) {
        return Err("a compressed payload that expands beyond the limit");
    }
    decompressed(compression, compressed, declared)
        .filter(|plain| plain.len() == declared)
        .ok_or("a compressed payload that can't be decompressed to its declared length")
}

/// The number of the key in an encrypted payload, of which the first bytes suffice.
pub(crate) fn number_of_key(payload: &[u8]) -> Option<u32> {
    number_in(payload.get(BIN..)?)
}

/// The flag of an algorithm, and the length of a document with its compressed form. `None` if it
/// can't be compressed.
fn compressed(compression: Compression, plain: &[u8]) -> Option<(Flags, Vec<u8>)> {
    match compression {
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let most = zstd::zstd_safe::compress_bound(plain.len());
            let content = behind_its_length(plain, most, |room| {
                let make = || Compressor::new(ZSTD_LEVEL);
                with_kept(&COMPRESSOR, make, |context| {
                    context.compress_to_buffer(plain, room)
                })
            });
            Some((Flags::ZSTD, content?))
        }
        #[cfg(feature = "lz4")]
        Compression::Lz4 => {
            let most = lz4_flex::block::get_maximum_output_size(plain.len());
            let content = behind_its_length(plain, most, |room| {
                lz4_flex::block::compress_into(plain, room).ok()
            });
            Some((Flags::LZ4, content?))
        }
        #[cfg(not(all(feature = "zstd", feature = "lz4")))]
        _ => {
            let _ = plain;
            None
        }
    }
}

/// The length of a document, and what `compress` writes into room for `most` bytes.
#[cfg(any(feature = "zstd", feature = "lz4"))]
fn behind_its_length(
    plain: &[u8],
    most: usize,
    compress: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<Vec<u8>> {
    let mut content = vec![0; LENGTH + most];
    content[..LENGTH].copy_from_slice(&u32::try_from(plain.len()).ok()?.to_be_bytes());
    let length = compress(&mut content[LENGTH..])?;
    content.truncate(LENGTH + length);
    Some(content)
}

/// The level of zstd: its default.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

// Making a context costs more than to use it on a value of some kilobytes. One for compression
// takes about a megabyte in each thread that compresses.
#[cfg(feature = "zstd")]
thread_local! {
    static COMPRESSOR: Cell<Option<Compressor<'static>>> = const { Cell::new(None) };
    static DECOMPRESSOR: Cell<Option<Decompressor<'static>>> = const { Cell::new(None) };
}

/// Works with the thread's context. After an error it is not used again.
#[cfg(feature = "zstd")]
fn with_kept<C>(
    kept: &'static LocalKey<Cell<Option<C>>>,
    make: impl FnOnce() -> std::io::Result<C>,
    work: impl FnOnce(&mut C) -> std::io::Result<usize>,
) -> Option<usize> {
    let mut context = match kept.try_with(Cell::take).ok().flatten() {
        Some(context) => context,
        None => make().ok()?,
    };
    let length = work(&mut context).ok()?;
    // It is of no use to a thread that ends.
    let _ = kept.try_with(|kept| kept.set(Some(context)));
    Some(length)
}

/// At most `most` bytes, and `None` if there would be more. Nothing beyond them is allocated.
fn decompressed(compression: Compression, compressed: &[u8], most: usize) -> Option<Vec<u8>> {
    match compression {
        // In one step, for which zstd needs no window of its own, whatever the frame declares.
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let mut plain = vec![0; most];
            let length = with_kept(&DECOMPRESSOR, Decompressor::new, |context| {
                context.decompress_to_buffer(compressed, &mut plain[..])
            })?;
            plain.truncate(length);
            Some(plain)
        }
        #[cfg(feature = "lz4")]
        Compression::Lz4 => {
            let mut plain = vec![0; most];
            let length = lz4_flex::block::decompress_into(compressed, &mut plain).ok()?;
            plain.truncate(length);
            Some(plain)
        }
        #[cfg(not(all(feature = "zstd", feature = "lz4")))]
        _ => {
            let _ = (compressed, most);
            None
        }
    }
}

#[cfg(all(test, feature = "zstd", feature = "lz4"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::envelope::{Head, head};
    use crate::value::limits::EXPANSION;

    const LIMITS: Limits = Limits {
        size: 64 << 20,
        expansion: EXPANSION,
    };
    const BOTH: [Compression; 2] = [Compression::Zstd, Compression::Lz4];

    fn packing(compression: Compression) -> Packing<'static> {
        Packing::of(&Policy::new().compress(compression), None, b"")
    }

    /// A whole entry with this document.
    fn entry(plain: &[u8], packing: Packing<'_>, limits: Limits) -> Result<Vec<u8>, Error> {
        let header = Header::value(1, 7);
        let mut entry = [&header.to_bytes()[..], plain].concat();
        let at = header.len();
        pack(header, &mut entry, at, packing, limits).map(|()| entry)
    }

    /// The document of a packed entry.
    fn read(entry: &[u8], limits: Limits) -> Result<Vec<u8>, &'static str> {
        let Head::Known(header) = head(entry) else {
            panic!("{:?}", head(entry));
        };
        assert!(header.is_seal_of(entry));
        let bytes = &entry[header.len()..];
        match header.flags {
            Flags::NONE => Ok(bytes.to_vec()),
            flags => unpack(bytes, flags, None, limits),
        }
    }

    /// A payload that was made by hand.
    fn forged(flags: Flags, declared: u32, compressed: &[u8]) -> Result<Vec<u8>, &'static str> {
        let content = [&declared.to_be_bytes()[..], compressed].concat();
        let bytes = bin(&content);
        unpack(&bytes, flags, None, LIMITS)
    }

    fn bin(content: &[u8]) -> Vec<u8> {
        [&[0xc6][..], &(content.len() as u32).to_be_bytes(), content].concat()
    }

    fn flag(compression: Compression) -> Flags {
        match compression {
            Compression::Zstd => Flags::ZSTD,
            Compression::Lz4 => Flags::LZ4,
        }
    }

    #[test]
    fn a_large_document_that_repeats_itself_becomes_smaller() {
        let plain = b"the same words again and again; ".repeat(100);
        for compression in BOTH {
            let entry = entry(&plain, packing(compression), LIMITS).unwrap();
            assert!(entry.len() < plain.len() / 4, "{}", entry.len());
            assert_eq!(entry[30], flag(compression).bits());
            assert_eq!(read(&entry, LIMITS).unwrap(), plain);
        }
    }

    #[test]
    fn a_document_stays_plain_where_compression_is_of_no_use() {
        for compression in BOTH {
            let small = b"a".repeat(1023);
            assert_eq!(
                entry(&small, packing(compression), LIMITS).unwrap()[30],
                0xc0
            );
            let large = b"a".repeat(1024);
            assert_ne!(
                entry(&large, packing(compression), LIMITS).unwrap()[30],
                0xc0
            );
            let random: Vec<u8> = (0..9999).map(|_| fastrand::u8(..)).collect();
            assert_eq!(
                entry(&random, packing(compression), LIMITS).unwrap()[30],
                0xc0
            );
        }
    }

    /// No reader takes it for a bomb: it is stored as it is.
    #[test]
    fn a_document_that_shrinks_too_much_stays_plain() {
        for compression in BOTH {
            let plain = vec![0x90; 5 << 20];
            let bytes = entry(&plain, packing(compression), LIMITS).unwrap();
            assert_eq!(bytes[30], 0xc0);
            let lenient = Limits {
                expansion: 100_000,
                ..LIMITS
            };
            let bytes = entry(&plain, packing(compression), lenient).unwrap();
            assert_ne!(bytes[30], 0xc0);
            assert_eq!(
                read(&bytes, LIMITS).unwrap_err(),
                "a compressed payload that expands beyond the limit"
            );
        }
    }

    #[test]
    fn a_bomb_is_refused_whatever_length_it_declares() {
        const HUGE: usize = 100 << 20;
        for compression in BOTH {
            let (flags, bomb) = compressed(compression, &vec![0x90; HUGE]).unwrap();
            let bomb = &bomb[LENGTH..];
            assert!(bomb.len() < 1 << 20, "{}", bomb.len());
            for declared in [HUGE as u32, u32::MAX, 64 << 20] {
                let why = forged(flags, declared, bomb).unwrap_err();
                assert_eq!(why, "a compressed payload that expands beyond the limit");
            }
            for declared in [0, 1, 4 << 20] {
                let why = forged(flags, declared, bomb).unwrap_err();
                assert!(why.ends_with("its declared length"), "{declared}: {why}");
            }
        }
    }

    #[test]
    fn a_wrong_length_is_refused() {
        for compression in BOTH {
            let plain = b"abcdefgh".repeat(100);
            let (flags, content) = compressed(compression, &plain).unwrap();
            let compressed = &content[LENGTH..];
            let length = plain.len() as u32;
            assert_eq!(forged(flags, length, compressed).unwrap(), plain);
            for declared in [0, length - 1, length + 1] {
                assert!(forged(flags, declared, compressed).is_err(), "{declared}");
            }
            assert!(forged(flags, length, &compressed[1..]).is_err());
            assert!(forged(flags, length, &[]).is_err());
            let mut bytes = bin(&content);
            for wrong in [
                &bytes[..3],
                &bytes[..bytes.len() - 1],
                &bytes[1..],
                b"",
                b"\x80",
            ] {
                assert!(unpack(wrong, flags, None, LIMITS).is_err(), "{wrong:?}");
            }
            bytes.push(0);
            assert!(unpack(&bytes, flags, None, LIMITS).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_payload_makes_the_reader_panic_or_expand(
            bytes: Vec<u8>,
            content: Vec<u8>,
            flags in 1..8u8,
        ) {
            let Some(flags) = Flags::from_byte(flags) else {
                return Ok(());
            };
            for bytes in [bytes, bin(&content)] {
                if let Ok(plain) = unpack(&bytes, flags, None, LIMITS) {
                    prop_assert!(plain.len() <= LIMITS.unpacked(bytes.len()));
                }
            }
        }

        #[test]
        fn a_damaged_byte_is_no_panic(word: Vec<u8>, at: usize, byte: u8, lz4: bool) {
            let compression = BOTH[usize::from(lz4)];
            let (flags, content) = compressed(compression, &word.repeat(50)).unwrap();
            let mut bytes = bin(&content);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(plain) = unpack(&bytes, flags, None, LIMITS) {
                prop_assert!(plain.len() <= LIMITS.unpacked(bytes.len()));
            }
        }
    }
}
