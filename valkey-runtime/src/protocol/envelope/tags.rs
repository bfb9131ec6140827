//! The tags of an entry, to the byte: a MessagePack array of texts, of at most [`MOST`].
//!
//! A text is `tag:` and a tag, or `type:` and the prefix of a type that can be cleared. The key of
//! the epoch ends in the same text.

/// The most tags of an entry, and the most bytes of each.
pub(crate) const MOST: usize = 100;
pub(crate) const LONGEST: usize = 1000;

/// Whether tags can begin with this byte.
pub(crate) fn begin(byte: u8) -> bool {
    matches!(byte, 0x90..=0x9f | 0xdc)
}

/// Appends tags to a header that has a clock.
pub(crate) fn write<'t>(tags: impl ExactSizeIterator<Item = &'t str>, out: &mut Vec<u8>) {
    match u8::try_from(tags.len()) {
        Ok(count @ 0..=15) => out.push(0x90 | count),
        _ => {
            out.push(0xdc);
            // There are at most `MOST`.
            out.extend_from_slice(&(tags.len() as u16).to_be_bytes());
        }
    }
    for tag in tags {
        match tag.len() {
            short @ 0..=31 => out.push(0xa0 | short as u8),
            middle @ 32..=255 => out.extend_from_slice(&[0xd9, middle as u8]),
            long => {
                out.push(0xda);
                out.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(tag.as_bytes());
    }
}

/// The tags at the beginning of these bytes, one by one. A damaged one is `None`, and is the last.
pub(crate) fn read(bytes: &[u8]) -> Tags<'_> {
    let (left, rest) = match *bytes {
        [count @ 0x90..=0x9f, ref rest @ ..] => (usize::from(count & 15), rest),
        [0xdc, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
        _ => (1, &[][..]),
    };
    Tags { left, rest }
}

/// The length of the tags at the beginning of these bytes.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let mut tags = read(bytes);
    tags.by_ref().try_for_each(|tag| tag.map(drop))?;
    Some(bytes.len() - tags.rest.len())
}

pub(crate) struct Tags<'e> {
    left: usize,
    rest: &'e [u8],
}

impl<'e> Tags<'e> {
    fn text(&mut self) -> Option<&'e str> {
        let (length, rest) = match *self.rest {
            [length @ 0xa0..=0xbf, ref rest @ ..] => (usize::from(length & 31), rest),
            [0xd9, length, ref rest @ ..] => (length.into(), rest),
            [0xda, high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]).into(), rest),
            _ => return None,
        };
        let (text, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }
}

impl<'e> Iterator for Tags<'e> {
    type Item = Option<&'e str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let text = self.text();
        if text.is_none() {
            self.left = 0;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tags_round_trip(tags in prop::collection::vec(".{0,300}", 0..40), after: Vec<u8>) {
            let mut bytes = Vec::new();
            write(tags.iter().map(String::as_str), &mut bytes);
            let written = bytes.len();
            prop_assert!(begin(bytes[0]));
            bytes.extend_from_slice(&after);
            prop_assert_eq!(length(&bytes), Some(written));
            let read: Option<Vec<&str>> = read(&bytes).collect();
            prop_assert_eq!(read, Some(tags.iter().map(String::as_str).collect()));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            length(&bytes);
        }
    }
}
