//! The envelope: the header and layout of an entry, to the byte.
//!
//! One MessagePack array of thirteen elements. The header elements have fixed widths, so a reader
//! (and a script in the server) checks them at constant offsets without decoding. The payload is
//! the last element, inline. The page `docs/internals/envelope.md` specifies it, with test vectors.
//!
//! ```text
//! offset  bytes  element
//!      0      1  9d: an array of 13
//!      1      1  format   positive fixint, 1
//!      2      1  kind     positive fixint: 0 value, 1 absence, 2 lease, 3 guard
//!      3      3  version  cd + u16
//!      6      5  shape    ce + u32: 0 for the named layout, else a fingerprint of the type
//!     11      9  stamp    cf + u64: microseconds of the server's time << 12 | random bits
//!     20      5  key      ce + u32: a hash of the key that it is for ([`seal`])
//!     25      5  sum      ce + u32: a checksum of what no script rewrites
//!     30      1  flags    nil, or in a packed value a positive fixint ([`flags`])
//!     31      1  freshness, claim, clock, tags: nil each
//!     35         payload
//! ```
//!
//! A timed value also has its freshness and claim ([`timing`]), and is 16 bytes longer:
//!
//! ```text
//!     31      9  freshness  cf + u64
//!     40      9  claim      cf + u64
//!     49      1  clock, tags: nil each
//!     51         payload
//! ```
//!
//! An entry with tags ([`tags`]) has the clock and the tags in place of the last two nils. Its
//! payload follows them:
//!
//! ```text
//!     33 or 49  9  clock  cf + u64
//!     42 or 58     tags   an array of texts
//! ```
//!
//! An unknown header (a higher format, or an element other than the expected nil) belongs to a
//! newer entry: a miss that this release neither deletes nor overwrites.

pub(crate) mod bounds;
pub(crate) mod epoch;
pub(crate) mod flags;
pub(crate) mod placeholder;
pub(crate) mod seal;
pub(crate) mod tags;
pub(crate) mod timing;

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::protocol::envelope::flags::Flags;
use crate::protocol::envelope::timing::{Claim, Timing};
use crate::protocol::versions::Versions;

/// The length of a header without timing or tags; also the offset of its payload.
pub(crate) const HEADER: usize = 35;
/// The number of bytes that a look at a header reads: up to the first byte of the tags in the
/// longest header, and in an entry without tags up to the number of the key that encrypts it.
pub(crate) const HEAD: usize = CLOCK_AFTER_TIME + 11;

/// The offset of the clock in a header without timing, and in one with it.
const CLOCK: usize = 33;
const CLOCK_AFTER_TIME: usize = 49;
/// The offsets of the key hash, the checksum, the flags, and the timing.
const KEY: usize = 20;
const SUM: usize = 25;
const FLAGS: usize = 30;
const FRESHNESS: usize = 31;
const CLAIM: usize = 40;

const ARRAY: u8 = 0x9d;
const FORMAT: u8 = 1;
const NIL: u8 = 0xc0;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value of a type.
    Value,
    /// A negative cache entry.
    Absence,
    /// A placeholder of a loader.
    Lease,
    /// A placeholder of writers.
    Guard,
}

/// The header of an entry, as far as this release writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) version: u16,
    pub(crate) shape: u32,
    pub(crate) stamp: u64,
    /// The hash of its key ([`seal::of_key`]); 0 in leases and guards.
    pub(crate) key: u32,
    /// The checksum of the part that no script rewrites ([`seal::of_content`]); 0 in leases and
    /// guards.
    pub(crate) sum: u32,
    /// Only in values.
    pub(crate) flags: Flags,
    /// Only in values.
    pub(crate) timing: Option<Timing>,
    /// The tag clock before the load began; only in an entry with tags.
    pub(crate) clock: Option<u64>,
}

/// The meaning of an entry's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Known(Header),
    /// Written by a later release.
    Newer,
    /// Not an envelope. The text is the reason, and quotes nothing.
    Corrupt(&'static str),
}

impl Header {
    /// A value in the named layout.
    pub(crate) fn value(version: u16, stamp: u64) -> Self {
        Self {
            kind: Kind::Value,
            version,
            shape: 0,
            stamp,
            key: 0,
            sum: 0,
            flags: Flags::NONE,
            timing: None,
            clock: None,
        }
    }

    /// The same with the shape of a compact layout; with 0 the named one.
    pub(crate) fn shaped(self, shape: u32) -> Self {
        Self { shape, ..self }
    }

    /// A negative cache entry.
    pub(crate) fn absence(version: u16, stamp: u64) -> Self {
        Self {
            kind: Kind::Absence,
            ..Self::value(version, stamp)
        }
    }

    fn clock_at(self) -> usize {
        match self.timing {
            Some(_) => CLOCK_AFTER_TIME,
            None => CLOCK,
        }
    }

    /// The length of the header. The payload follows, or the tags if there is a clock.
    pub(crate) fn len(self) -> usize {
        self.clock_at() + if self.clock.is_some() { 9 } else { 2 }
    }

    /// The offset of the payload in an entry with this header; `None` if its tags are damaged.
    pub(crate) fn payload_at(self, entry: &[u8]) -> Option<usize> {
        match self.clock {
            None => Some(self.len()),
            Some(_) => Some(self.len() + tags::length(entry.get(self.len()..)?)?),
        }
    }

    /// The tags of an entry with this header, which has a clock.
    pub(crate) fn tags(self, entry: &[u8]) -> tags::Tags<'_> {
        tags::read(entry.get(self.len()..).unwrap_or_default())
    }

    pub(crate) fn to_bytes(self) -> HeaderBytes {
        let mut bytes = [NIL; LONGEST];
        bytes[0] = ARRAY;
        bytes[1] = FORMAT;
        bytes[2] = match self.kind {
            Kind::Value => 0,
            Kind::Absence => 1,
            Kind::Lease => 2,
            Kind::Guard => 3,
        };
        bytes[3] = 0xcd;
        bytes[4..6].copy_from_slice(&self.version.to_be_bytes());
        bytes[6] = 0xce;
        bytes[7..11].copy_from_slice(&self.shape.to_be_bytes());
        bytes[11] = 0xcf;
        bytes[12..20].copy_from_slice(&self.stamp.to_be_bytes());
        bytes[KEY] = 0xce;
        bytes[KEY + 1..SUM].copy_from_slice(&self.key.to_be_bytes());
        bytes[SUM] = 0xce;
        bytes[SUM + 1..FLAGS].copy_from_slice(&self.sum.to_be_bytes());
        bytes[FLAGS] = self.flags.to_byte();
        if let Some(Timing { until, claim }) = self.timing {
            bytes[FRESHNESS] = 0xcf;
            bytes[FRESHNESS + 1..CLAIM].copy_from_slice(&until.to_be_bytes());
            bytes[CLAIM] = 0xcf;
            bytes[CLAIM + 1..CLOCK_AFTER_TIME].copy_from_slice(&claim.to_bits().to_be_bytes());
        }
        if let Some(clock) = self.clock {
            set_clock(&mut bytes[self.clock_at()..], clock);
        }
        let len = self.len();
        HeaderBytes { bytes, len }
    }
}

/// Sets the clock, which is known only after the entry was made.
pub(crate) fn stamp_clock(entry: &mut [u8], header: Header, clock: u64) {
    set_clock(&mut entry[header.clock_at()..], clock);
}

/// Whether the bytes look like an entry with tags. Bytes that are no entry may do so, too.
pub(crate) fn has_clock(entry: &[u8]) -> bool {
    let at = match entry.get(FRESHNESS) {
        Some(0xcf) => CLOCK_AFTER_TIME,
        _ => CLOCK,
    };
    entry.get(at) == Some(&0xcf)
}

fn set_clock(bytes: &mut [u8], clock: u64) {
    bytes[0] = 0xcf;
    bytes[1..9].copy_from_slice(&clock.to_be_bytes());
}

/// The longest header.
const LONGEST: usize = CLOCK_AFTER_TIME + 9;

/// The bytes of a header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderBytes {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for HeaderBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl fmt::Debug for HeaderBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

/// Reads the head of an entry from its first [`HEAD`] bytes (or fewer, if the entry is shorter).
pub(crate) fn head(entry: &[u8]) -> Head {
    const DAMAGED: Head = Head::Corrupt("an envelope with a damaged header");
    let Some(bytes) = entry.first_chunk::<HEADER>() else {
        return Head::Corrupt("shorter than an envelope");
    };
    match bytes[..2] {
        [ARRAY, FORMAT] => {}
        // A later format may have another number of elements.
        [0x90..=0x9f, format @ 2..=0x7f] if format > FORMAT => return Head::Newer,
        _ => return Head::Corrupt("not an envelope"),
    }
    let kind = match bytes[2] {
        0 => Kind::Value,
        1 => Kind::Absence,
        2 => Kind::Lease,
        3 => Kind::Guard,
        _ => return Head::Corrupt("an envelope of an unknown kind"),
    };
    let [0xcd, v1, v0, ..] = bytes[3..] else {
        return DAMAGED;
    };
    let (Some(shape), Some(stamp)) = (short_at(bytes, 6), number_at(bytes, 11)) else {
        return DAMAGED;
    };
    let (Some(key), Some(sum)) = (short_at(bytes, KEY), short_at(bytes, SUM)) else {
        return DAMAGED;
    };
    let Some(flags) = Flags::from_byte(bytes[FLAGS]) else {
        return Head::Newer;
    };
    if !flags.is_none() && kind != Kind::Value {
        return Head::Newer;
    }
    let timing = match bytes[FRESHNESS..] {
        [NIL, NIL, ..] => None,
        [0xcf, ..] => match (number_at(entry, FRESHNESS), number_at(entry, CLAIM)) {
            _ if entry.len() < CLOCK_AFTER_TIME + 2 => return DAMAGED,
            (Some(until), Some(claim)) if kind == Kind::Value => Some(Timing {
                until,
                claim: Claim::from_bits(claim),
            }),
            _ => return Head::Newer,
        },
        _ => return Head::Newer,
    };
    let mut header = Header {
        kind,
        version: u16::from_be_bytes([v1, v0]),
        shape,
        stamp,
        key,
        sum,
        flags,
        timing,
        clock: None,
    };
    let at = header.clock_at();
    header.clock = match entry[at..] {
        [NIL, NIL, ..] => None,
        [0xcf, ..] if entry.len() < at + 10 => return DAMAGED,
        [0xcf, ..] if tags::begin(entry[at + 9]) && matches!(kind, Kind::Value | Kind::Absence) => {
            number_at(entry, at)
        }
        _ => return Head::Newer,
    };
    Head::Known(header)
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    match bytes.get(at..)?.first_chunk::<9>() {
        Some([0xcf, number @ ..]) => Some(u64::from_be_bytes(*number)),
        _ => None,
    }
}

fn short_at(bytes: &[u8], at: usize) -> Option<u32> {
    match bytes.get(at..)?.first_chunk::<5>() {
        Some([0xce, number @ ..]) => Some(u32::from_be_bytes(*number)),
        _ => None,
    }
}

/// The stamp, if the bytes are an entry.
pub(crate) fn stamp(entry: &[u8]) -> Option<u64> {
    match head(entry) {
        Head::Known(header) => Some(header.stamp),
        Head::Newer | Head::Corrupt(_) => None,
    }
}

/// The stamp of a value or an absence, also of one with elements that only a later release knows.
pub(crate) fn made(entry: &[u8]) -> Option<u64> {
    match entry {
        [ARRAY, FORMAT, 0 | 1, ..] => number_at(entry, 11),
        _ => None,
    }
}

/// The relation of an entry to a version of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A value that `get` returns, if its payload decodes.
    Own,
    /// A stale value: a fallback for a failed load, and a miss for every other reader.
    Stale,
    /// An older version, another layout, an absence, a lease: no value, and replaceable.
    Replaceable,
    /// A newer version or a guard: no value, and no conditional write overwrites it.
    Protected,
    /// Not an entry of this type at all.
    Corrupt(&'static str),
}

/// The shape in the header of an entry.
pub(crate) fn shape_in(entry: &[u8]) -> u32 {
    let bytes = entry.get(7..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The standing of a head for a type that reads these versions and has this shape. `now` returns
/// the server's time in milliseconds, and is called only if it matters.
pub(crate) fn standing(
    head: Head,
    versions: impl Into<Versions>,
    shape: u32,
    now: impl FnOnce() -> u64,
) -> Standing {
    let versions = versions.into();
    let own = versions.own();
    match head {
        Head::Newer => Standing::Protected,
        Head::Corrupt(why) => Standing::Corrupt(why),
        Head::Known(Header {
            kind: Kind::Guard, ..
        }) => Standing::Protected,
        Head::Known(Header {
            kind: Kind::Absence | Kind::Lease,
            ..
        }) => Standing::Replaceable,
        Head::Known(header) if header.version > own => Standing::Protected,
        Head::Known(header)
            if header.version < own && !versions.migrates(header.version)
                || header.version == own && header.shape != shape =>
        {
            Standing::Replaceable
        }
        Head::Known(header) if header.timing.is_some_and(|timing| !timing.is_fresh(now())) => {
            Standing::Stale
        }
        Head::Known(_) => Standing::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "9d0100cd0002ce00000000cf0123456789abcdefce00000000ce00000000c0c0c0c0c0";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The vector of docs/internals/envelope.md.
    #[test]
    fn a_value_header_to_the_byte() {
        let header = Header::value(2, 0x0123_4567_89ab_cdef);
        assert_eq!(hex(&header.to_bytes()), HEX);
        assert_eq!(head(&header.to_bytes()), Head::Known(header));
    }

    #[test]
    fn entries_of_a_later_release_are_newer_and_never_corrupt() {
        let mut bytes = Header::value(1, 7).to_bytes();
        bytes[1] = 2;
        assert_eq!(head(&bytes), Head::Newer);
        bytes[0] = 0x9e;
        assert_eq!(head(&bytes), Head::Newer);
        for at in FLAGS..HEADER {
            let mut bytes = Header::value(1, 7).to_bytes();
            bytes[at] = 8;
            assert_eq!(head(&bytes), Head::Newer, "element at {at}");
        }
    }

    #[test]
    fn bytes_that_are_no_envelope_are_corrupt() {
        let whole = Header::value(1, 7).to_bytes();
        for len in 0..HEADER {
            assert!(
                matches!(head(&whole[..len]), Head::Corrupt(_)),
                "{len} bytes"
            );
        }
        for at in [0, 2, 3, 6, 11, KEY, SUM] {
            let mut bytes = whole;
            bytes[at] = 0x42;
            assert!(matches!(head(&bytes), Head::Corrupt(_)), "byte {at}");
        }
        assert!(matches!(
            head(b"[1,2,3] a text that is longer than a header"),
            Head::Corrupt(_)
        ));
    }

    #[test]
    fn standings() {
        let of = |kind, version, shape| {
            standing(
                Head::Known(Header {
                    kind,
                    version,
                    shape,
                    ..Header::value(version, 0)
                }),
                2,
                0,
                || unreachable!("the entry says nothing of time"),
            )
        };
        assert_eq!(of(Kind::Value, 2, 0), Standing::Own);
        assert_eq!(of(Kind::Value, 1, 0), Standing::Replaceable);
        assert_eq!(of(Kind::Value, 2, 9), Standing::Replaceable);
        assert_eq!(of(Kind::Value, 3, 0), Standing::Protected);
        assert_eq!(of(Kind::Lease, 9, 0), Standing::Replaceable);
        assert_eq!(of(Kind::Guard, 1, 0), Standing::Protected);
        assert_eq!(standing(Head::Newer, 2, 0, || 0), Standing::Protected);
        let compact = |shape| {
            let header = Header {
                shape,
                ..Header::value(2, 0)
            };
            standing(Head::Known(header), 2, 9, || 0)
        };
        assert_eq!(compact(9), Standing::Own);
        assert_eq!(compact(8), Standing::Replaceable);
        assert_eq!(compact(0), Standing::Replaceable);
        let fresh_until = |until, version| {
            let header = Header {
                timing: Some(Timing::fresh_until(until)),
                ..Header::value(version, 0)
            };
            standing(Head::Known(header), 2, 0, || 100)
        };
        assert_eq!(fresh_until(101, 2), Standing::Own);
        assert_eq!(fresh_until(100, 2), Standing::Stale);
        assert_eq!(fresh_until(0, 1), Standing::Replaceable);
        assert_eq!(fresh_until(0, 3), Standing::Protected);
    }

    proptest! {
        #[test]
        fn headers_round_trip(
            kind in 0..4u8,
            version: u16,
            shape: u32,
            stamp: u64,
            key: u32,
            sum: u32,
            flags: u8,
            time: Option<(u64, u64)>,
            clock: Option<u64>,
        ) {
            let kind = [Kind::Value, Kind::Absence, Kind::Lease, Kind::Guard][usize::from(kind)];
            let timing = time.filter(|_| kind == Kind::Value);
            let timing = timing.map(|(until, claim)| Timing { until, claim: Claim::from_bits(claim) });
            let clock = clock.filter(|_| matches!(kind, Kind::Value | Kind::Absence));
            let flags = Flags::from_byte(flags).filter(|_| kind == Kind::Value).unwrap_or_default();
            let header = Header { kind, version, shape, stamp, key, sum, flags, timing, clock };
            let tags: &[u8] = if clock.is_some() { &[0x90] } else { &[] };
            let bytes = [&header.to_bytes(), tags].concat();
            prop_assert_eq!(head(&bytes), Head::Known(header));
            prop_assert_eq!(header.payload_at(&bytes), Some(bytes.len()));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            head(&bytes);
        }

        #[test]
        fn no_damaged_header_makes_the_reader_panic(at in 0..HEAD, byte: u8, cut in 0..=HEAD) {
            let header = Header { timing: Some(Timing::fresh_until(9)), clock: Some(5), ..Header::value(1, 7) };
            let mut bytes = [&header.to_bytes()[..], &[0x91, 0]].concat();
            bytes[at] = byte;
            if let Head::Known(header) = head(&bytes[..cut]) {
                header.payload_at(&bytes[..cut]);
            }
        }
    }
}
