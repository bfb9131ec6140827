//! The bounds of a payload: exactly one document, whole, and not deeper than [`DEPTH`].
//!
//! This walk over the structure needs no recursion and no allocation. It checks whether an encoded
//! payload can be read back, and skips the parts that a type ignores. The decoder keeps the same
//! bounds by itself. If it refuses a payload, this walk finds what is wrong with the payload as a
//! whole.

/// The deepest nesting of arrays and maps that is read or written, equal to serde_json's limit.
pub(crate) const DEPTH: usize = 128;

/// The reason why a payload is not decoded.
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
            OutOfBounds::Truncated => "the payload is truncated",
            OutOfBounds::Trailing => "bytes after the payload",
            OutOfBounds::TooDeep => "the payload nests more than 128 levels deep",
            OutOfBounds::Reserved => "the payload contains a byte that is not MessagePack",
        }
    }
}

/// An item, as a walk sees it.
pub(crate) struct Item<'p> {
    /// The number of items in it: the elements of an array, the keys and values of a map.
    pub(crate) items: u64,
    pub(crate) map: bool,
    /// Its text, or its bytes.
    pub(crate) text: &'p [u8],
}

/// Skips the next item: a marker and its bytes. The content of an array or a map comes after it.
#[inline]
pub(crate) fn item<'p>(rest: &mut &'p [u8]) -> Result<Item<'p>, OutOfBounds> {
    use OutOfBounds::{Reserved, Truncated};

    let (&marker, tail) = rest.split_first().ok_or(Truncated)?;
    *rest = tail;
    let (skip, items) = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
        0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
        0x90..=0x9f => (0, u64::from(marker & 0x0f)),
        0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
        0xc1 => return Err(Reserved),
        0xc4 | 0xd9 => (length::<1>(rest)?, 0),
        0xc5 | 0xda => (length::<2>(rest)?, 0),
        0xc6 | 0xdb => (length::<4>(rest)?, 0),
        0xc7 => (1 + length::<1>(rest)?, 0),
        0xc8 => (1 + length::<2>(rest)?, 0),
        0xc9 => (1 + length::<4>(rest)?, 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4 => (2, 0),
        0xd5 => (3, 0),
        0xd6 => (5, 0),
        0xd7 => (9, 0),
        0xd8 => (17, 0),
        0xdc => (0, length::<2>(rest)?),
        0xdd => (0, length::<4>(rest)?),
        0xde => (0, 2 * length::<2>(rest)?),
        0xdf => (0, 2 * length::<4>(rest)?),
    };
    let skip = usize::try_from(skip).map_err(|_| Truncated)?;
    let (text, tail) = rest.split_at_checked(skip).ok_or(Truncated)?;
    *rest = tail;
    // Each item takes at least a byte, so a declared length beyond the bytes is wrong.
    if items > rest.len() as u64 {
        return Err(Truncated);
    }
    let map = matches!(marker, 0x80..=0x8f | 0xde | 0xdf);
    Ok(Item { items, map, text })
}

/// The result of a walk over a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// The number of its items.
    pub(crate) items: u64,
    /// Whether some text may be one of serde_json's own tokens.
    pub(crate) token: bool,
}

/// The beginning of serde_json's own tokens.
pub(crate) const TOKENS: &[u8] = b"$serde_json::private::";

/// For each marker the number of bytes after it, if the marker alone gives it and the item can be
/// neither a token nor hold other items. Otherwise [`OTHER`].
const WIDTHS: [u8; 256] = {
    let mut widths = [OTHER; 256];
    let mut marker = 0;
    while marker < 256 {
        widths[marker] = match marker {
            // An empty map and an empty array are among them.
            0x00..=0x80 | 0x90 | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 0,
            0xa0..=0xbf if marker - 0xa0 < TOKENS.len() => marker as u8 - 0xa0,
            0xcc | 0xd0 => 1,
            0xcd | 0xd1 => 2,
            0xca | 0xce | 0xd2 => 4,
            0xcb | 0xcf | 0xd3 => 8,
            _ => OTHER,
        };
        marker += 1;
    }
    widths
};
const OTHER: u8 = u8::MAX;
/// The marker of a text of 32 to 255 bytes, the usual one after those in [`WIDTHS`].
const STR_8: u8 = 0xd9;

/// Whether a text may be one of serde_json's own tokens.
#[inline]
pub(crate) fn is_token(text: &[u8]) -> bool {
    text.first() == TOKENS.first() && text.starts_with(TOKENS)
}

/// Skips the next document, whose arrays and maps may nest to this many levels.
pub(crate) fn skip(rest: &mut &[u8], levels: usize) -> Result<Walked, OutOfBounds> {
    use OutOfBounds::{TooDeep, Truncated};

    // The number of items still to come at each outer level, and here.
    let mut outer = [0u64; DEPTH];
    let outer = &mut outer[..levels.min(DEPTH)];
    let (mut depth, mut left) = (0, 1);
    let mut walked = Walked {
        items: 1,
        token: false,
    };
    loop {
        let (marker, tail) = rest.split_first().ok_or(Truncated)?;
        match WIDTHS[usize::from(*marker)] {
            OTHER if *marker == STR_8 => {
                let (length, tail) = tail.split_first().ok_or(Truncated)?;
                let text = tail.split_at_checked(usize::from(*length));
                let (text, tail) = text.ok_or(Truncated)?;
                walked.token |= is_token(text);
                *rest = tail;
            }
            OTHER => {
                let Item { items, text, .. } = item(rest)?;
                walked.token |= is_token(text);
                if items > 0 {
                    *outer.get_mut(depth).ok_or(TooDeep)? = left;
                    (depth, left) = (depth + 1, items);
                    walked.items += items;
                    continue;
                }
            }
            width => *rest = tail.get(usize::from(width)..).ok_or(Truncated)?,
        }
        left -= 1;
        while left == 0 {
            if depth == 0 {
                return Ok(walked);
            }
            depth -= 1;
            left = outer[depth] - 1;
        }
    }
}

/// Checks that `bytes` is exactly one MessagePack document of at most [`DEPTH`] levels.
pub(crate) fn check(bytes: &[u8]) -> Result<Walked, OutOfBounds> {
    let mut rest = bytes;
    let walked = skip(&mut rest, DEPTH)?;
    match rest.is_empty() {
        true => Ok(walked),
        false => Err(OutOfBounds::Trailing),
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

    fn walked(items: u64) -> Walked {
        Walked {
            items,
            token: false,
        }
    }

    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = vec![0x91; levels];
        bytes.push(0xc0);
        bytes
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(check(&nested(DEPTH)), Ok(walked(DEPTH as u64 + 1)));
        assert_eq!(check(&nested(DEPTH + 1)), Err(OutOfBounds::TooDeep));
        assert_eq!(check(&nested(1_000_000)), Err(OutOfBounds::TooDeep));
        // Enum variants are maps of one entry, which the codec's own limit does not cover.
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
        assert_eq!(check(&bytes), Ok(walked(1 + 3 * 4096)));
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
        assert_eq!(check(&[0xc0]), Ok(walked(1)));
        assert_eq!(check(&[0x90]), Ok(walked(1)));
        assert_eq!(check(&[0x82, 1, 2, 3, 0x91, 4]), Ok(walked(6)));
        assert_eq!(check(&[0xc0, 0xc0]), Err(OutOfBounds::Trailing));
        assert_eq!(check(&[0x92, 0xc0, 0x90, 0x00]), Err(OutOfBounds::Trailing));
        assert_eq!(check(&[0xc1]), Err(OutOfBounds::Reserved));
    }

    #[test]
    fn a_token_of_serde_json_is_noticed() {
        let of = |text: &str| check(&rmp_serde::to_vec(&[text]).unwrap()).unwrap().token;
        assert!(of("$serde_json::private::Number"));
        assert!(of(&format!("$serde_json::private::{}", "x".repeat(300))));
        assert!(!of("$serde_json::privat"));
        assert!(!of("a $serde_json::private::Number"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = check(&bytes);
        }

        #[test]
        fn bytes_that_the_codec_writes_are_within_bounds(value: std::collections::BTreeMap<String, (Option<i64>, Vec<f32>, u8)>) {
            let mut bytes = rmp_serde::to_vec_named(&value).unwrap();
            prop_assert!(check(&bytes).is_ok());
            bytes.pop();
            prop_assert_eq!(check(&bytes), Err(OutOfBounds::Truncated));
        }
    }
}
