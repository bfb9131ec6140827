//! The flags of a value: how its payload is packed.
//!
//! They are one byte of the header: nil for a plain payload, else a positive fixint with a bit for
//! each step of the packing. An entry with a bit that this build does not understand belongs to a
//! newer entry: the feature may be off here and on in another instance.

/// MessagePack's nil.
const NIL: u8 = 0xc0;

/// How the payload of a value is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// Plain MessagePack.
    pub(crate) const NONE: Self = Self(0);
    /// Compressed by zstd.
    pub(crate) const ZSTD: Self = Self(1);
    /// Compressed by LZ4.
    pub(crate) const LZ4: Self = Self(2);
    /// Encrypted, after it was compressed.
    pub(crate) const ENCRYPTED: Self = Self(4);

    /// The bits that this build understands.
    const UNDERSTOOD: u8 = cfg!(feature = "zstd") as u8
        | (cfg!(feature = "lz4") as u8) << 1
        | (cfg!(feature = "encrypt") as u8) << 2;

    /// `None` if the byte belongs to a newer entry.
    #[inline]
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            NIL => Some(Self::NONE),
            bits => Some(Self(bits)).filter(|flags| flags.is_understood()),
        }
    }

    fn is_understood(self) -> bool {
        let both = Self::ZSTD.with(Self::LZ4);
        self != Self::NONE && self.0 & !Self::UNDERSTOOD == 0 && !self.has(both)
    }

    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::NONE => NIL,
            Self(bits) => bits,
        }
    }

    /// Zero for a plain payload.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether all bits of `flags` are set.
    pub(crate) fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(crate) fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// The bytes that [`from_byte`](Self::from_byte) accepts beside nil, as a table of Lua. The
    /// scripts treat an entry as this build does.
    pub(crate) fn in_lua() -> String {
        let known = (1..=0x7f).filter(|bits| Self(*bits).is_understood());
        let known: Vec<String> = known.map(|bits| format!("[{bits}] = true")).collect();
        format!("{{ {} }}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_with_an_unknown_bit_is_newer() {
        assert_eq!(Flags::from_byte(0xc0), Some(Flags::NONE));
        let known = [Flags::ZSTD, Flags::LZ4, Flags::ENCRYPTED]
            .into_iter()
            .flat_map(|flags| [flags, flags.with(Flags::ENCRYPTED)])
            .map(Flags::bits);
        let known: std::collections::BTreeSet<u8> = known
            .filter(|bits| bits & !Flags::UNDERSTOOD == 0)
            .collect();
        for byte in (0..=0xff).filter(|byte| *byte != 0xc0) {
            let flags = Flags::from_byte(byte);
            assert_eq!(flags.is_some(), known.contains(&byte), "{byte:#x}");
            assert!(flags.is_none_or(|flags| flags.to_byte() == byte));
            let in_lua = Flags::in_lua().contains(&format!("[{byte}] = true"));
            assert_eq!(in_lua, known.contains(&byte), "{byte:#x} in Lua");
        }
    }
}
