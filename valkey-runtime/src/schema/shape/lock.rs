//! The lock of a type: the shape and the version that its annotation was written for.
//!
//! A lock has eight hexadecimal digits: the first six of the shape, and the version modulo 256. So
//! a new shape with the old version fails, and a new lock with the old version does too.

use crate::schema::shape::fingerprint::Fingerprint;

/// The lock for a shape and a version.
const fn lock_of(shape: Fingerprint, version: u16) -> u32 {
    shape.to_u32() & 0xffff_ff00 | version as u32 & 0xff
}

/// Compares the lock of a type with its shape and its version.
///
/// # Panics
/// If they differ. The message says which version and which lock to write.
#[track_caller]
pub const fn is_locked(shape: Fingerprint, name: &str, version: u16, lock: u32) {
    if lock == lock_of(shape, version) {
        return;
    }
    let own = version as u32 & 0xff;
    let next = version.saturating_add(1);
    let for_version = lock & 0xff;
    let text = Text::new();
    let text = if lock == 0 {
        text.with("the lock of `")
            .with(name)
            .with("` is not written yet: write `")
    } else if for_version == own {
        let text = text.with("the shape of `").with(name);
        text.with("` changed, and its version did not: write `")
            .version(next)
    } else if for_version == next as u32 & 0xff {
        let text = text.with("the lock of `").with(name);
        text.with("` is for the next version: write `")
            .version(next)
    } else {
        let text = text.with("the lock of `").with(name);
        text.with("` is for another version: write `")
    };
    let raised = lock != 0 && (for_version == own || for_version == next as u32 & 0xff);
    let wanted = lock_of(shape, if raised { next } else { version });
    let text = text.with("lock = \"").hexadecimal(wanted).with("\"`");
    panic!("{}", text.as_str())
}

/// A text that is put together at compile time. What does not fit is left out.
struct Text {
    bytes: [u8; 512],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self {
            bytes: [0; 512],
            length: 0,
        }
    }

    const fn with(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        if self.length + text.len() <= self.bytes.len() {
            let mut at = 0;
            while at < text.len() {
                self.bytes[self.length] = text[at];
                self.length += 1;
                at += 1;
            }
        }
        self
    }

    const fn version(self, version: u16) -> Self {
        self.with("version = ").decimal(version).with(", ")
    }

    const fn decimal(self, number: u16) -> Self {
        let mut digits = [0; 5];
        let (mut first, mut left) = (digits.len(), number);
        loop {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.with(text_of(digits.split_at(first).1))
    }

    const fn hexadecimal(self, number: u32) -> Self {
        let mut digits = [0; 8];
        let mut at = 0;
        while at < digits.len() {
            digits[at] = b"0123456789abcdef"[(number >> (28 - 4 * at)) as usize & 15];
            at += 1;
        }
        self.with(text_of(&digits))
    }

    const fn as_str(&self) -> &str {
        text_of(self.bytes.split_at(self.length).0)
    }
}

const fn text_of(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Fingerprint = Fingerprint::plain("str");
    const CHANGED: Fingerprint = Fingerprint::plain("u8");

    fn said(shape: Fingerprint, version: u16, lock: u32) -> Option<String> {
        let why = std::panic::catch_unwind(|| is_locked(shape, "User", version, lock)).err()?;
        Some(why.downcast_ref::<String>().unwrap().clone())
    }

    /// Follows what the message says: the text between the backticks at its end.
    fn written(said: &str) -> (Option<u16>, u32) {
        let advice = said.rsplit('`').nth(1).unwrap();
        let value = |name: &str| {
            let (_, rest) = advice.split_once(name)?;
            rest.split(',').next()
        };
        let version = value("version = ").map(|version| version.parse().unwrap());
        let lock = value("lock = ").unwrap().trim_matches('"');
        assert_eq!(lock.len(), 8, "{said}");
        (version, u32::from_str_radix(lock, 16).unwrap())
    }

    #[test]
    fn a_message_says_what_to_write() {
        let lock = lock_of(SHAPE, 2);
        assert_eq!(said(SHAPE, 2, lock), None);
        for (shape, version, lock, begin, wanted) in [
            (SHAPE, 2, 0, "the lock of `User` is not written yet", None),
            (
                CHANGED,
                2,
                lock,
                "the shape of `User` changed, and its version did not",
                Some(3),
            ),
            (
                SHAPE,
                3,
                lock,
                "the lock of `User` is for another version",
                None,
            ),
            (
                CHANGED,
                3,
                lock,
                "the lock of `User` is for another version",
                None,
            ),
            // The new lock alone is not enough.
            (
                CHANGED,
                2,
                lock_of(CHANGED, 3),
                "the lock of `User` is for the next version",
                Some(3),
            ),
            (
                CHANGED,
                255,
                lock_of(SHAPE, 255),
                "the shape of `User` changed, and its version did not",
                Some(256),
            ),
        ] {
            let said_first = said(shape, version, lock).expect(begin);
            assert!(said_first.starts_with(begin), "{said_first}");
            let (raised, new) = written(&said_first);
            assert_eq!(raised, wanted, "{said_first}");
            assert_eq!(
                said(shape, raised.unwrap_or(version), new),
                None,
                "{said_first}"
            );
        }
    }

    #[test]
    fn a_name_that_does_not_fit_is_left_out() {
        let name = "N".repeat(600);
        let why = std::panic::catch_unwind(|| is_locked(SHAPE, &name, 1, 0)).unwrap_err();
        let said = why.downcast_ref::<String>().unwrap();
        assert!(said.contains("the lock of `` is not written yet"), "{said}");
        written(said);
    }
}
