//! Prefixes of generic types, joined at compile time: `Page<User>` has the prefix `page<user>`.
//!
//! The name of each type parameter is part of the prefix, so that two instantiations of a generic
//! struct never share keys. A prefix written by hand can't contain angle brackets or commas, so
//! joining is injective.

/// A type that can be a type parameter of a generic cached type: it contributes its name to the
/// prefix.
///
/// Every cached type is one (by its prefix). So are integers, floats, `bool`, `char`, `String`,
/// `()`, and `Option` and `Vec` of such types. For another type of your own, name it:
///
/// ```
/// struct Celsius(i32);
///
/// impl valkey_runtime::PrefixPart for Celsius {
///     const NAME: &'static str = "celsius";
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no name for the prefix of a generic cached type",
    label = "not a `PrefixPart`",
    note = "implement it: `impl PrefixPart for {Self} {{ const NAME: &'static str = \"…\"; }}`"
)]
pub trait PrefixPart {
    /// The name, under the same rules as a prefix. It must not change while entries with it are
    /// stored.
    const NAME: &'static str;
}

#[diagnostic::do_not_recommend]
impl<T: crate::schema::cached_type::CachedType> PrefixPart for T {
    const NAME: &'static str = T::PREFIX;
}

macro_rules! plain {
    ($($ty:ty = $name:literal)*) => {$(
        impl PrefixPart for $ty {
            const NAME: &'static str = $name;
        }
    )*};
}

plain! {
    u8 = "u8" u16 = "u16" u32 = "u32" u64 = "u64" u128 = "u128" usize = "usize"
    i8 = "i8" i16 = "i16" i32 = "i32" i64 = "i64" i128 = "i128" isize = "isize"
    f32 = "f32" f64 = "f64" bool = "bool" char = "char" String = "string" () = "unit"
}

impl<T: PrefixPart> PrefixPart for Option<T> {
    const NAME: &'static str =
        const { &Prefix::new("option").open().name(T::NAME).close() }.as_str();
}

impl<T: PrefixPart> PrefixPart for Vec<T> {
    const NAME: &'static str = const { &Prefix::new("vec").open().name(T::NAME).close() }.as_str();
}

/// The longest prefix that can be joined, in bytes.
const LONGEST: usize = 255;

/// The reason why a prefix or namespace is invalid. None of its characters may separate, group or
/// match keys.
pub(crate) const fn wrong(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Some("is empty");
    }
    let mut at = 0;
    while at < bytes.len() {
        if matches!(
            bytes[at],
            0..=b' ' | 0x7f | b':' | b'{' | b'}' | b'*' | b'?' | b'[' | b']' | b'^' | b'\\'
        ) {
            return Some("holds white space, a colon, a brace, a glob or a control character");
        }
        at += 1;
    }
    None
}

/// A prefix under construction, in constants. The derive uses it for generic types.
#[doc(hidden)]
pub struct Prefix {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Prefix {
    pub const fn new(base: &str) -> Self {
        Self {
            bytes: [0; LONGEST],
            len: 0,
        }
        .text(base.as_bytes())
    }

    pub const fn open(self) -> Self {
        self.text(b"<")
    }

    pub const fn close(self) -> Self {
        self.text(b">")
    }

    pub const fn comma(self) -> Self {
        self.text(b",")
    }

    /// Appends the name of a type parameter. It is checked here, since it may be written by hand: a
    /// comma in it must be inside its own angle brackets.
    pub const fn name(self, name: &str) -> Self {
        if let Some(why) = wrong(name) {
            panic!("{}", why);
        }
        let bytes = name.as_bytes();
        let (mut at, mut depth) = (0, 0);
        while at < bytes.len() {
            match bytes[at] {
                b'<' => depth += 1,
                b'>' if depth > 0 => depth -= 1,
                b'>' | b',' if depth == 0 => {
                    panic!("a `PrefixPart::NAME` holds a comma or a `>` without its `<`")
                }
                _ => {}
            }
            at += 1;
        }
        assert!(
            depth == 0,
            "a `PrefixPart::NAME` holds a `<` without its `>`"
        );
        self.text(bytes)
    }

    /// Appends the value of a const parameter: an integer, a `bool` or a `char` (by its number).
    pub const fn number(self, number: i128) -> Self {
        let mut digits = [0; 40];
        let (mut at, mut rest) = (digits.len(), number.unsigned_abs());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.text(digits.split_at(at).1)
    }

    pub const fn as_str(&'static self) -> &'static str {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => panic!("joined of whole strings"),
        }
    }

    const fn text(mut self, text: &[u8]) -> Self {
        let mut at = 0;
        while at < text.len() {
            assert!(
                self.len < LONGEST,
                "the prefix of a generic cached type is longer than 255 bytes"
            );
            self.bytes[self.len] = text[at];
            self.len += 1;
            at += 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_injectively() {
        assert_eq!(<Vec<Option<u64>>>::NAME, "vec<option<u64>>");
        const JOINED: &str = const {
            &Prefix::new("grid")
                .open()
                .name("u8")
                .comma()
                .number(-12)
                .close()
        }
        .as_str();
        assert_eq!(JOINED, "grid<u8,-12>");
    }

    #[test]
    #[should_panic(expected = "a comma")]
    fn a_name_that_would_pass_for_two_is_refused() {
        Prefix::new("page").name("vec<a,b>").name("a,b");
    }

    #[test]
    #[should_panic(expected = "a colon")]
    fn a_name_with_a_colon_is_refused() {
        Prefix::new("page").name("a:b");
    }
}
