//! Writes the parts of a key, with separators and escapes.

use std::fmt::{self, Write};

/// Writes the parts of a key, escaped and separated.
///
/// Only implementations of [`KeyPart`](crate::KeyPart) need it.
#[derive(Debug)]
pub struct KeyWriter {
    pub(crate) bytes: Vec<u8>,
    /// Whether a colon precedes the next part.
    pub(crate) separate: bool,
}

impl KeyWriter {
    /// Starts a key: `namespace` is empty or ends in `:`.
    pub(crate) fn new(namespace: &str, prefix: &str) -> Self {
        let bytes = Vec::with_capacity(namespace.len() + prefix.len() + 25);
        Self::within(bytes, namespace, prefix)
    }

    /// Starts a key in a buffer, whose content is lost.
    pub(crate) fn within(mut bytes: Vec<u8>, namespace: &str, prefix: &str) -> Self {
        bytes.clear();
        bytes.extend_from_slice(namespace.as_bytes());
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.push(b':');
        Self {
            bytes,
            separate: false,
        }
    }

    /// Starts empty.
    pub(crate) fn bare(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            separate: false,
        }
    }

    /// Writes text unescaped, as between the parts of a tag.
    #[doc(hidden)]
    pub fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.separate = false;
    }

    /// Writes one part: text, escaped.
    pub fn part(&mut self, text: &str) {
        self.begin();
        self.escaped(text);
    }

    /// Writes one part: the displayed text, escaped.
    pub(crate) fn display(&mut self, shown: impl fmt::Display) {
        self.begin();
        // Writing to memory does not fail.
        let _ = write!(Escaped(self), "{shown}");
    }

    fn escaped(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(at) = rest
            .iter()
            .position(|b| matches!(b, b'%' | b':' | b'{' | b'}'))
        {
            self.bytes.extend_from_slice(&rest[..at]);
            self.bytes.extend_from_slice(match rest[at] {
                b'%' => b"%25",
                b':' => b"%3A",
                b'{' => b"%7B",
                _ => b"%7D",
            });
            rest = &rest[at + 1..];
        }
        self.bytes.extend_from_slice(rest);
    }

    /// Writes one part: a number in decimal.
    pub(crate) fn number(&mut self, number: impl itoa::Integer) {
        self.begin();
        self.bytes
            .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    pub(crate) fn begin(&mut self) {
        if self.separate {
            self.bytes.push(b':');
        }
        self.separate = true;
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Escapes the written text as part of the current key part.
pub(crate) struct Escaped<'w>(&'w mut KeyWriter);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escaped(text);
        Ok(())
    }
}
