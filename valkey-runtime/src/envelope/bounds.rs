//! The bounds of a payload, checked before anything is decoded.
//!
//! A stored value must never be able to crash its reader. The codec recurses on nested values without a sufficient limit
//! of its own, believes declared lengths, and ignores trailing bytes; this walk over the structure (no recursion, no
//! allocation) makes sure beforehand that there is exactly one document, whole, and not deeper than [`DEPTH`].

/// The deepest nesting of arrays and maps that is read or written. The same as serde_json's limit.
pub(crate) const DEPTH: usize = 128;

/// Why a payload is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfBounds {
    Truncated,
    Trailing,
    TooDeep,
    Reserved,
}

impl OutOfBounds {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            OutOfBounds::Truncated => "the payload is cut short",
            OutOfBounds::Trailing => "bytes after the payload",
            OutOfBounds::TooDeep => "the payload nests more than 128 levels deep",
            OutOfBounds::Reserved => "the payload holds a byte that is not MessagePack",
        }
    }
}

/// Checks that `bytes` is exactly one MessagePack document of at most [`DEPTH`] levels.
pub(crate) fn check(bytes: &[u8]) -> Result<(), OutOfBounds> {
    use OutOfBounds::{Reserved, TooDeep, Trailing, Truncated};

    // How many elements are still to come at each open level.
    let mut open = [0u64; DEPTH];
    let mut depth = 0;
    let mut rest = bytes;
    loop {
        let (&marker, tail) = rest.split_first().ok_or(Truncated)?;
        rest = tail;
        let (skip, elements) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
            0x90..=0x9f => (0, u64::from(marker & 0x0f)),
            0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
            0xc1 => return Err(Reserved),
            0xc4 | 0xd9 => (length::<1>(&mut rest)?, 0),
            0xc5 | 0xda => (length::<2>(&mut rest)?, 0),
            0xc6 | 0xdb => (length::<4>(&mut rest)?, 0),
            0xc7 => (1 + length::<1>(&mut rest)?, 0),
            0xc8 => (1 + length::<2>(&mut rest)?, 0),
            0xc9 => (1 + length::<4>(&mut rest)?, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd4 => (2, 0),
            0xd5 => (3, 0),
            0xd6 => (5, 0),
            0xd7 => (9, 0),
            0xd8 => (17, 0),
            0xdc => (0, length::<2>(&mut rest)?),
            0xdd => (0, length::<4>(&mut rest)?),
            0xde => (0, 2 * length::<2>(&mut rest)?),
            0xdf => (0, 2 * length::<4>(&mut rest)?),
        };
        let skip = usize::try_from(skip).map_err(|_| Truncated)?;
        rest = rest.get(skip..).ok_or(Truncated)?;
        if elements > 0 {
            // Each element takes at least a byte: a declared length beyond the bytes is not believed.
            if elements > rest.len() as u64 {
                return Err(Truncated);
            }
            *open.get_mut(depth).ok_or(TooDeep)? = elements;
            depth += 1;
            continue;
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return if rest.is_empty() {
                Ok(())
            } else {
                Err(Trailing)
            };
        }
    }
}

/// Reads a big-endian length of `N` bytes.
fn length<const N: usize>(rest: &mut &[u8]) -> Result<u64, OutOfBounds> {
    let (bytes, tail) = rest
        .split_first_chunk::<N>()
        .ok_or(OutOfBounds::Truncated)?;
    *rest = tail;
    Ok(bytes
        .iter()
        .fold(0, |length, byte| length << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = vec![0x91; levels];
        bytes.push(0xc0);
        bytes
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(check(&nested(DEPTH)), Ok(()));
        assert_eq!(check(&nested(DEPTH + 1)), Err(OutOfBounds::TooDeep));
        assert_eq!(check(&nested(1_000_000)), Err(OutOfBounds::TooDeep));
        // Enum variants are maps of one entry: what the codec's own limit does not cover.
        let variants: Vec<u8> = [0x81, 0xa1, b'v']
            .repeat(100_000)
            .into_iter()
            .chain([0xc0])
            .collect();
        assert_eq!(check(&variants), Err(OutOfBounds::TooDeep));
    }

    #[test]
    fn siblings_do_not_add_to_the_depth() {
        let mut bytes = vec![0xdc, 0x10, 0x00];
        bytes.extend([0x91, 0x91, 0x01].repeat(4096));
        assert_eq!(check(&bytes), Ok(()));
    }

    #[test]
    fn declared_lengths_are_not_believed() {
        for bytes in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff, 0x01][..],
            &[0xdf, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xc6, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xc9, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xdc],
            &[0xd9],
            &[0xcf, 1, 2, 3],
            &[],
        ] {
            assert_eq!(check(bytes), Err(OutOfBounds::Truncated), "{bytes:x?}");
        }
    }

    #[test]
    fn exactly_one_document() {
        assert_eq!(check(&[0xc0]), Ok(()));
        assert_eq!(check(&[0x90]), Ok(()));
        assert_eq!(check(&[0xc0, 0xc0]), Err(OutOfBounds::Trailing));
        assert_eq!(check(&[0x92, 0xc0, 0x90, 0x00]), Err(OutOfBounds::Trailing));
        assert_eq!(check(&[0xc1]), Err(OutOfBounds::Reserved));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = check(&bytes);
        }

        #[test]
        fn what_the_codec_writes_is_within_bounds(value: std::collections::BTreeMap<String, (Option<i64>, Vec<f32>, u8)>) {
            let mut bytes = rmp_serde::to_vec_named(&value).unwrap();
            prop_assert_eq!(check(&bytes), Ok(()));
            bytes.pop();
            prop_assert_eq!(check(&bytes), Err(OutOfBounds::Truncated));
        }
    }
}
