//! MessagePack items, in the shortest encoding that holds each.

/// An array or a map.
#[derive(Clone, Copy)]
pub(crate) enum Collection {
    Array,
    Map,
}

impl Collection {
    /// The number of items in a collection of this length.
    pub(crate) fn items(self, length: u32) -> u64 {
        match self {
            Collection::Array => u64::from(length),
            Collection::Map => 2 * u64::from(length),
        }
    }

    /// The marker with the length, and how many of its bytes count.
    #[inline]
    pub(crate) fn marker(self, length: u32) -> ([u8; 5], usize) {
        let (short, two, four) = match self {
            Collection::Array => (0x90, 0xdc, 0xdd),
            Collection::Map => (0x80, 0xde, 0xdf),
        };
        let [a, b, c, d] = length.to_be_bytes();
        match length {
            0..16 => ([short | d, 0, 0, 0, 0], 1),
            16..0x1_0000 => ([two, c, d, 0, 0], 3),
            _ => ([four, a, b, c, d], 5),
        }
    }

    #[inline]
    pub(crate) fn open(self, length: u32, out: &mut Vec<u8>) {
        let (marker, bytes) = self.marker(length);
        match bytes {
            1 => out.push(marker[0]),
            bytes => out.extend_from_slice(&marker[..bytes]),
        }
    }
}

/// `None` if it is longer than 32 bits can say, as for the functions below.
#[inline]
pub(crate) fn text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let length = text.len();
    match length {
        0..32 => out.push(0xa0 | length as u8),
        32..0x100 => out.extend_from_slice(&[0xd9, length as u8]),
        _ => long(length, [0xda, 0xdb], out)?,
    }
    out.extend_from_slice(text.as_bytes());
    Some(())
}

pub(crate) fn bytes(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match bytes.len() {
        length @ 0..0x100 => out.extend_from_slice(&[0xc4, length as u8]),
        length => long(length, [0xc5, 0xc6], out)?,
    }
    out.extend_from_slice(bytes);
    Some(())
}

pub(crate) fn extension(kind: u8, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match bytes.len() {
        1 => out.push(0xd4),
        2 => out.push(0xd5),
        4 => out.push(0xd6),
        8 => out.push(0xd7),
        16 => out.push(0xd8),
        length @ 0..0x100 => out.extend_from_slice(&[0xc7, length as u8]),
        length => long(length, [0xc8, 0xc9], out)?,
    }
    out.push(kind);
    out.extend_from_slice(bytes);
    Some(())
}

/// One of these markers, with a length of 16 or 32 bits.
fn long(length: usize, [two, four]: [u8; 2], out: &mut Vec<u8>) -> Option<()> {
    let [a, b, c, d] = u32::try_from(length).ok()?.to_be_bytes();
    match length {
        0..0x1_0000 => out.extend_from_slice(&[two, c, d]),
        _ => out.extend_from_slice(&[four, a, b, c, d]),
    }
    Some(())
}

#[inline]
pub(crate) fn unsigned(number: u64, out: &mut Vec<u8>) {
    match number {
        0..0x80 => out.push(number as u8),
        0x80..0x100 => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..0x1_0000 => marked(0xcd, (number as u16).to_be_bytes(), out),
        0x1_0000..0x1_0000_0000 => marked(0xce, (number as u32).to_be_bytes(), out),
        _ => marked(0xcf, number.to_be_bytes(), out),
    }
}

#[inline]
pub(crate) fn signed(number: i64, out: &mut Vec<u8>) {
    match number {
        0.. => unsigned(number.cast_unsigned(), out),
        -32..0 => out.push(number as u8),
        -0x80..-32 => out.extend_from_slice(&[0xd0, number as u8]),
        -0x8000..-0x80 => marked(0xd1, (number as i16).to_be_bytes(), out),
        -0x8000_0000..-0x8000 => marked(0xd2, (number as i32).to_be_bytes(), out),
        _ => marked(0xd3, number.to_be_bytes(), out),
    }
}

#[inline]
pub(crate) fn marked<const N: usize>(marker: u8, bytes: [u8; N], out: &mut Vec<u8>) {
    out.push(marker);
    out.extend_from_slice(&bytes);
}
