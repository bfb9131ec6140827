//! The server's half of the conditional verbs: what an entry becomes, and what is answered.
//!
//! A pure function of the entry's bytes and the verb. The in-process store runs it; the Lua scripts in `scripts/` repeat
//! it in the server, each on one key, and a test holds the two to each other over random sequences. Every verb can run
//! twice and do no harm, since a client may re-send a script whose answer was lost.

use crate::envelope::{self, Head, Header, Kind, Standing};

/// A verb that looks before it acts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb<'a> {
    /// Stores, unless the entry is a value of this version, a newer one, or a guard.
    SetIfAbsent(Put<'a>),
    /// Stores, if the entry is a value of this version.
    SetIfPresent(Put<'a>),
    /// Removes the entry, whatever it is. True if it was a value of whatever version.
    Delete,
    /// Starts the life of a value of this version anew.
    Touch { version: u16, ttl: Option<u64> },
    /// Removes the entry if it is still these bytes: a reader found them corrupt.
    RemoveIfSame(Fingerprint),
}

/// What a conditional verb stores. The TTL is in milliseconds, none for never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put<'a> {
    pub(crate) version: u16,
    pub(crate) bytes: &'a [u8],
    pub(crate) ttl: Option<u64>,
}

/// Stands for an entry's bytes, so that they need not be sent back to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) len: usize,
    /// SHA-1 in hexadecimal: what a script in the server can compute.
    pub(crate) sha1: [u8; 40],
}

impl Fingerprint {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut sha1 = [0; 40];
        for (hex, byte) in sha1
            .chunks_exact_mut(2)
            .zip(sha1_smol::Sha1::from(bytes).digest().bytes())
        {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            hex[0] = DIGITS[usize::from(byte >> 4)];
            hex[1] = DIGITS[usize::from(byte & 15)];
        }
        Self {
            len: bytes.len(),
            sha1,
        }
    }
}

/// What becomes of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Keep,
    Remove,
    /// The verb's bytes, with its TTL.
    Store,
    /// The same bytes, with the verb's TTL.
    Expire,
}

/// What the verb makes of the entry, and whether it did what it is for.
pub(crate) fn apply(entry: Option<&[u8]>, verb: &Verb<'_>) -> (Change, bool) {
    let standing = |version| entry.map(|bytes| envelope::standing(envelope::head(bytes), version));
    match verb {
        Verb::SetIfAbsent(put) => match standing(put.version) {
            Some(Standing::Own | Standing::Protected) => (Change::Keep, false),
            None | Some(Standing::Replaceable | Standing::Corrupt(_)) => (Change::Store, true),
        },
        Verb::SetIfPresent(put) => match standing(put.version) {
            Some(Standing::Own) => (Change::Store, true),
            _ => (Change::Keep, false),
        },
        Verb::Delete => match entry.map(envelope::head) {
            None => (Change::Keep, false),
            Some(head) => (
                Change::Remove,
                matches!(
                    head,
                    Head::Known(Header {
                        kind: Kind::Value,
                        ..
                    })
                ),
            ),
        },
        Verb::Touch { version, .. } => match standing(*version) {
            Some(Standing::Own) => (Change::Expire, true),
            _ => (Change::Keep, false),
        },
        Verb::RemoveIfSame(fingerprint) => match entry {
            Some(bytes)
                if bytes.len() == fingerprint.len && Fingerprint::of(bytes) == *fingerprint =>
            {
                (Change::Remove, true)
            }
            _ => (Change::Keep, false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(version: u16) -> Put<'static> {
        Put {
            version,
            bytes: b"new",
            ttl: None,
        }
    }

    #[test]
    fn verb_by_state_of_the_key() {
        let own = Header::value(2, 7).to_bytes();
        let older = Header::value(1, 7).to_bytes();
        let newer = Header::value(3, 7).to_bytes();
        let lease = Header {
            kind: Kind::Lease,
            ..Header::value(2, 7)
        }
        .to_bytes();
        let guard = Header {
            kind: Kind::Guard,
            ..Header::value(2, 7)
        }
        .to_bytes();
        let (keep, store, remove) = ((Change::Keep, false), (Change::Store, true), |was| {
            (Change::Remove, was)
        });
        let expire = (Change::Expire, true);

        for (name, entry, absent, present, delete, touch) in [
            ("nothing", None, store, keep, keep, keep),
            ("own", Some(&own[..]), keep, store, remove(true), expire),
            ("older", Some(&older[..]), store, keep, remove(true), keep),
            ("newer", Some(&newer[..]), keep, keep, remove(true), keep),
            ("lease", Some(&lease[..]), store, keep, remove(false), keep),
            ("guard", Some(&guard[..]), keep, keep, remove(false), keep),
            (
                "rubbish",
                Some(&b"rubbish"[..]),
                store,
                keep,
                remove(false),
                keep,
            ),
        ] {
            assert_eq!(
                apply(entry, &Verb::SetIfAbsent(put(2))),
                absent,
                "set if absent over {name}"
            );
            assert_eq!(
                apply(entry, &Verb::SetIfPresent(put(2))),
                present,
                "set if present over {name}"
            );
            assert_eq!(apply(entry, &Verb::Delete), delete, "delete {name}");
            assert_eq!(
                apply(
                    entry,
                    &Verb::Touch {
                        version: 2,
                        ttl: None
                    }
                ),
                touch,
                "touch {name}"
            );
        }
    }

    #[test]
    fn only_the_same_bytes_are_removed() {
        let seen = Fingerprint::of(b"rubbish");
        assert_eq!(
            apply(Some(b"rubbish"), &Verb::RemoveIfSame(seen)),
            (Change::Remove, true)
        );
        assert_eq!(
            apply(Some(b"rubbisH"), &Verb::RemoveIfSame(seen)),
            (Change::Keep, false)
        );
        assert_eq!(
            apply(None, &Verb::RemoveIfSame(seen)),
            (Change::Keep, false)
        );
    }
}
