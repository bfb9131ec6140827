//! Placeholders, which a key holds while it has no value: a loader's lease, or the writers' guard.
//!
//! ```text
//! lease   header (kind 2, stamp: when it was made)  c4 08 + token
//! guard   header (kind 3, stamp: when it was made)  92, shared: c2 or c3, dc + u16: how many writers,
//!                                                   each 92, c4 08 + token, cf + u64: deadline in milliseconds
//! ```
//!
//! Widths are fixed, so that a script finds everything by offset. Tokens are compared as bytes,
//! because Lua's numbers are doubles.

use crate::protocol::envelope::timing::claim_token;
use crate::protocol::envelope::{HEADER, Head, Header, HeaderBytes, Kind, head};

/// The name of a placeholder: its maker's token, and the server's time of its creation. Commands on
/// a placeholder give both, because a client may resend a script. A placeholder that the second run
/// creates is not the one that its maker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) token: u64,
    pub(crate) stamp: u64,
}

/// The lease or claim of a loader: in place of a value, or on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lease {
    Placed(Name),
    /// On the value with this stamp.
    Claim {
        token: u32,
        stamp: u64,
    },
}

impl Lease {
    /// Whether it was made for the request with this token.
    pub(crate) fn is_of(self, request: u64) -> bool {
        match self {
            Lease::Placed(Name { token, .. }) => token == request,
            Lease::Claim { token, .. } => token == claim_token(request),
        }
    }
}

/// The length of a lease.
pub(crate) const LEASE: usize = HEADER + 10;
/// The offset of a guard's writers, and the length of each.
const WRITERS: usize = HEADER + 5;
const WRITER: usize = 20;

/// The stamp of a placeholder made at this server time in microseconds. Its low bits come from the
/// maker's token.
pub(crate) fn stamp(now_micros: u64, token: u64) -> u64 {
    now_micros << 12 | token & 0xfff
}

impl Name {
    /// The lease with this name, to the byte.
    pub(crate) fn to_lease(self) -> [u8; LEASE] {
        let mut bytes = [0; LEASE];
        bytes[..HEADER].copy_from_slice(&header(Kind::Lease, self.stamp));
        bytes[HEADER..HEADER + 2].copy_from_slice(&[0xc4, 8]);
        bytes[HEADER + 2..].copy_from_slice(&self.token.to_be_bytes());
        bytes
    }

    /// The name of a lease; `None` for other bytes.
    pub(crate) fn of_lease(bytes: &[u8]) -> Option<Self> {
        let Head::Known(Header {
            kind: Kind::Lease,
            stamp,
            ..
        }) = head(bytes)
        else {
            return None;
        };
        let token = <[u8; 8]>::try_from(bytes.get(HEADER + 2..)?).ok()?;
        Some(Self {
            token: u64::from_be_bytes(token),
            stamp,
        })
    }
}

/// A guard: its writers are at work, and nothing may be stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Guard {
    /// The time of its creation.
    pub(crate) stamp: u64,
    /// Whether more than its first writer has used it: another writer, or a deletion.
    pub(crate) shared: bool,
    pub(crate) writers: Vec<Writer>,
}

/// A writer's place in a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) token: u64,
    /// The end of its place, in milliseconds of the server's time.
    pub(crate) deadline: u64,
}

impl Guard {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(WRITERS + WRITER * self.writers.len());
        bytes.extend_from_slice(&header(Kind::Guard, self.stamp));
        bytes.extend_from_slice(&[0x92, if self.shared { 0xc3 } else { 0xc2 }, 0xdc]);
        // The number of writers at one key is a u16. The database refuses writes long before this
        // limit.
        let count = u16::try_from(self.writers.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_be_bytes());
        for Writer { token, deadline } in self.writers.iter().take(count.into()) {
            bytes.extend_from_slice(&[0x92, 0xc4, 8]);
            bytes.extend_from_slice(&token.to_be_bytes());
            bytes.push(0xcf);
            bytes.extend_from_slice(&deadline.to_be_bytes());
        }
        bytes
    }

    /// The guard in an entry; `None` for other bytes. A guard with a damaged payload is read as one
    /// that no writer keeps.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Head::Known(Header {
            kind: Kind::Guard,
            stamp,
            ..
        }) = head(bytes)
        else {
            return None;
        };
        let writers = bytes
            .get(WRITERS..)
            .unwrap_or_default()
            .as_chunks::<WRITER>()
            .0;
        let writers = writers.iter().map(|writer| {
            let (token, deadline) = (writer[3..11].try_into(), writer[12..20].try_into());
            Writer {
                token: token.map_or(0, u64::from_be_bytes),
                deadline: deadline.map_or(0, u64::from_be_bytes),
            }
        });
        Some(Self {
            stamp,
            shared: bytes.get(HEADER + 1) != Some(&0xc2),
            writers: writers.collect(),
        })
    }
}

fn header(kind: Kind, stamp: u64) -> HeaderBytes {
    Header {
        kind,
        ..Header::value(0, stamp)
    }
    .to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_to_the_byte() {
        let name = Name {
            token: 0x0102_0304_0506_0708,
            stamp: 0x1112_1314_1516_1718,
        };
        let lease = name.to_lease();
        assert_eq!(lease[..HEADER], *header(Kind::Lease, name.stamp));
        assert_eq!(lease[HEADER..], [0xc4, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Name::of_lease(&lease), Some(name));
        assert_eq!(Name::of_lease(&lease[..30]), None);
        crate::protocol::envelope::bounds::check(&lease).unwrap();
    }

    #[test]
    fn a_guard_to_the_byte() {
        let writers = vec![
            Writer {
                token: 1,
                deadline: 2,
            },
            Writer {
                token: 3,
                deadline: 4,
            },
        ];
        let guard = Guard {
            stamp: 7,
            shared: true,
            writers,
        };
        let bytes = guard.to_bytes();
        assert_eq!(bytes.len(), WRITERS + 2 * WRITER);
        assert_eq!(bytes[HEADER..WRITERS], [0x92, 0xc3, 0xdc, 0, 2]);
        assert_eq!(Guard::from_bytes(&bytes), Some(guard));
        crate::protocol::envelope::bounds::check(&bytes).unwrap();
    }

    #[test]
    fn a_damaged_guard_is_nobodys() {
        let guard = Guard {
            stamp: 7,
            shared: false,
            writers: vec![Writer {
                token: 1,
                deadline: 2,
            }],
        };
        let bytes = guard.to_bytes();
        assert_eq!(
            Guard::from_bytes(&bytes[..HEADER]),
            Some(Guard {
                stamp: 7,
                shared: true,
                writers: vec![]
            })
        );
        assert_eq!(
            Guard::from_bytes(&bytes[..WRITERS + 3]).map(|guard| guard.writers),
            Some(vec![])
        );
    }
}
