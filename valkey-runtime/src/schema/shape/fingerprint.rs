//! The calculation of a fingerprint, by `const fn`.
//!
//! FNV-1a with 64 bits over a description: a kind, then texts, numbers and the hashes of the parts.
//! A text ends with the byte ff, which no text contains; a number or a hash has 8 bytes, the
//! highest first. So no two descriptions have the same bytes.

use std::fmt;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// A fingerprint of a type's serialized form: equal for types that serde writes in the same way,
/// and with all probability different for others. See [`Shape`](crate::Shape).
///
/// It is the same for every compiler, platform and release of this crate.
///
/// ```
/// use valkey_runtime::Shape;
///
/// assert_eq!(<Vec<u8>>::FINGERPRINT, <Box<[u8]>>::FINGERPRINT);
/// assert_ne!(<Vec<u8>>::FINGERPRINT, <Vec<u16>>::FINGERPRINT);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    /// The edge of a cycle that is cut off in it; 0 for none.
    cut: u64,
    /// Whether a value may be written as nil, so that an `Option` of it loses `Some`.
    nil: bool,
    /// The reason why arrays can't carry it.
    unfit: Option<&'static str>,
}

/// More than one edge.
const SEVERAL: u64 = u64::MAX;

const NIL_IN_OPTION: &str = "an `Option` of a value that may itself be nil (`Option<Option<T>>`, `Option<()>`) is read back as `None` where it was \
     `Some(None)`: use an enum with a variant for each case";

impl Fingerprint {
    /// The fingerprint of a form that is known by this text alone. Write another text when the form
    /// changes.
    pub const fn opaque(text: &str) -> Self {
        Self::plain("opaque").text(text)
    }

    /// The lower and the upper half, combined: as in the header of a compact entry. Never 0, which
    /// is the named layout.
    pub const fn to_u32(self) -> u32 {
        match (self.hash ^ (self.hash >> 32)) as u32 {
            0 => 1,
            some => some,
        }
    }
}

/// For generated code and for the implementations of this crate.
#[doc(hidden)]
impl Fingerprint {
    /// A form that has a name.
    pub const fn plain(kind: &str) -> Self {
        let begun = Self {
            hash: OFFSET,
            cut: 0,
            nil: false,
            unfit: None,
        };
        begun.text(kind)
    }

    /// `()`, which is nil.
    pub const fn unit() -> Self {
        Self::plain("unit").or_nil()
    }

    pub const fn option(of: Self) -> Self {
        let option = Self::plain("option").part(of).or_nil();
        match of.nil {
            true => option.unfit(NIL_IN_OPTION),
            false => option,
        }
    }

    pub const fn seq(of: Self) -> Self {
        Self::plain("seq").part(of)
    }

    pub const fn array(of: Self, length: usize) -> Self {
        Self::plain("array").number(length as u64).part(of)
    }

    pub const fn map(key: Self, value: Self) -> Self {
        Self::plain("map").part(key).part(value)
    }

    pub const fn tuple(parts: &[Self]) -> Self {
        let mut all = Self::plain("tuple").number(parts.len() as u64);
        let mut at = 0;
        while at < parts.len() {
            all = all.part(parts[at]);
            at += 1;
        }
        all
    }

    /// A struct, in the order of its fields.
    pub const fn structure(fields: &[(&str, Self)]) -> Self {
        let mut all = Self::plain("struct").number(fields.len() as u64);
        let mut at = 0;
        while at < fields.len() {
            all = all.text(fields[at].0).part(fields[at].1);
            at += 1;
        }
        all
    }

    /// An enum, whose variants are written by their names: their order does not matter. `tagging`
    /// is empty, or how the variant is named, and in which fields.
    pub const fn variants(tagging: &[&str], variants: &[(&str, Self)]) -> Self {
        let mut sum = 0u64;
        let mut all = Self::plain("enum").texts(tagging);
        all = all.number(variants.len() as u64);
        let mut at = 0;
        while at < variants.len() {
            let variant = Self::plain("variant").text(variants[at].0);
            sum = sum.wrapping_add(variant.part(variants[at].1).hash);
            all = all.with_notes_of(variants[at].1);
            at += 1;
        }
        all.number(sum)
    }

    /// An enum of which a variant has no name in the bytes: the first that fits is read.
    pub const fn untagged(variants: &[(&str, Self)]) -> Self {
        let mut all = Self::plain("untagged").number(variants.len() as u64);
        let mut at = 0;
        while at < variants.len() {
            all = all.text(variants[at].0).part(variants[at].1);
            at += 1;
        }
        all
    }

    /// A part of another kind, such as a flattened field.
    pub const fn kind(self, kind: &str) -> Self {
        Self::plain(kind).part(self)
    }

    /// Notes why arrays can't carry it, unless a reason is known already.
    pub const fn unfit(mut self, why: &'static str) -> Self {
        if self.unfit.is_none() {
            self.unfit = Some(why);
        }
        self
    }

    /// Where a cycle is cut off, at an edge with this number, to a type that is written so.
    pub const fn cut(edge: u64, written: &str) -> Self {
        let mut all = Self::plain("cut").text(written);
        all.cut = edge;
        all
    }

    /// What an edge of a cycle leads to.
    ///
    /// # Panics
    /// If it leads to another marked edge: the types behind that one would not be covered.
    #[track_caller]
    pub const fn beyond(self, edge: u64) -> Self {
        assert!(
            self.cut == 0 || self.cut == edge,
            "this field is marked `#[shape(recursive)]`, and another field that it leads to is marked too: mark one field of a \
             cycle, and where two cycles meet mark the field `#[shape(opaque = \"1\")]`"
        );
        Self { cut: 0, ..self }
    }

    /// The number of an edge.
    pub const fn edge(module: &str, owner: &str, field: u64) -> u64 {
        match Self::plain(module).text(owner).number(field).hash {
            0 | SEVERAL => 1,
            edge => edge,
        }
    }

    /// # Panics
    /// If arrays can't carry it.
    #[track_caller]
    pub const fn in_arrays(self) -> Self {
        match self.unfit {
            Some(why) => panic!("{}", why),
            None => self,
        }
    }

    pub(crate) const fn text(mut self, text: &str) -> Self {
        self.hash = (fed(self.hash, text.as_bytes()) ^ 0xff).wrapping_mul(PRIME);
        self
    }

    const fn texts(mut self, texts: &[&str]) -> Self {
        let mut at = 0;
        while at < texts.len() {
            self = self.text(texts[at]);
            at += 1;
        }
        self
    }

    const fn number(mut self, number: u64) -> Self {
        self.hash = fed(self.hash, &number.to_be_bytes());
        self
    }

    const fn part(self, part: Self) -> Self {
        self.number(part.hash).with_notes_of(part)
    }

    const fn with_notes_of(mut self, part: Self) -> Self {
        if self.unfit.is_none() {
            self.unfit = part.unfit;
        }
        self.cut = match (self.cut, part.cut) {
            (cut, 0) | (0, cut) => cut,
            (one, other) if one == other => one,
            _ => SEVERAL,
        };
        self
    }

    const fn or_nil(mut self) -> Self {
        self.nil = true;
        self
    }
}

const fn fed(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(PRIME);
        at += 1;
    }
    hash
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.to_u32())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:016x})", self.hash)
    }
}
