//! Encoding and decoding between a value and the bytes of its entry.
//!
//! The payload is MessagePack. In the named layout structs are maps, so that serde's own rules for
//! added and missing fields apply; in the compact one they are arrays, and the header has the shape
//! of their type. [`encode`](mod@encode) writes it, and [`decode`](mod@decode) reads it, within
//! bounds. The codec's message about a refused value is not passed on unchanged, because serde's
//! messages quote the value.

pub(crate) mod decode;
pub(crate) mod encode;
mod items;
pub(crate) mod private;

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::error::{Error, ErrorKind};
use crate::base::invalid::Invalid;
use crate::key::tag::TagWriter;
use crate::protocol::envelope::flags::Flags;
use crate::protocol::envelope::{Header, bounds};
use crate::schema::cached_type::CachedType;
use crate::value::codec::decode::{Decoder, Memory};
use crate::value::codec::encode::Cause;
use crate::value::digest;
use crate::value::keys::Lock;
pub(crate) use crate::value::limits::{EXPANSION, Limits};
use crate::value::limits::{LEAST_MEMORY, fits};
use crate::value::pack;
use crate::value::pack::Packing;
use crate::value::read_back::ReadBack;

/// The reason why an entry has no value that its type accepts.
#[derive(Debug)]
pub(crate) enum Refusal {
    Corrupt(Cow<'static, str>),
    /// Its value breaks the type's validation rules.
    Invalid(Invalid),
}

impl From<&'static str> for Refusal {
    fn from(why: &'static str) -> Self {
        Refusal::Corrupt(why.into())
    }
}

impl Refusal {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Refusal::Corrupt(_) => ErrorKind::Corrupt,
            Refusal::Invalid(_) => ErrorKind::Invalid,
        }
    }

    /// A method, because one more `From` for the public error would make `?` in closures need type
    /// annotations.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Refusal::Corrupt(why) => Error::new(ErrorKind::Corrupt, why),
            Refusal::Invalid(rules) => Error::breaking(rules),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Corrupt(why) => f.write_str(why),
            Refusal::Invalid(rules) => write!(f, "its value is invalid: {rules}"),
        }
    }
}

/// The memory that one item of a payload is assumed to take, in bytes. If this estimate exceeds the
/// allowed memory, the value is read back before it is stored.
const LARGE_ITEM: usize = 128;

/// The payload of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'p> {
    pub(crate) bytes: &'p [u8],
    pub(crate) limits: Limits,
    /// How it is packed.
    pub(crate) flags: Flags,
    /// For an encrypted one.
    pub(crate) lock: Option<&'p Lock>,
    /// Whether structs are arrays.
    pub(crate) compact: bool,
}

impl<'p> From<&'p [u8]> for Payload<'p> {
    fn from(bytes: &'p [u8]) -> Self {
        let limits = Limits {
            size: usize::MAX,
            expansion: EXPANSION,
        };
        Self {
            bytes,
            limits,
            flags: Flags::NONE,
            lock: None,
            compact: false,
        }
    }
}

impl Payload<'_> {
    /// The memory that its value may take.
    fn memory(self) -> usize {
        self.bytes
            .len()
            .saturating_mul(self.limits.expansion)
            .max(LEAST_MEMORY)
    }
}

/// The bytes of an entry with `value`.
pub(crate) fn encode<T: CachedType>(
    header: Header,
    tags: Option<&TagWriter<'_>>,
    value: &T,
    limits: Limits,
    read_back: &ReadBack,
    packing: Packing<'_>,
) -> Result<Vec<u8>, Error> {
    let name = type_name::<T>();
    debug_assert_eq!(header.shape, T::SHAPE);
    // The other layout is not compiled.
    let (mut bytes, at, items) = match const { T::SHAPE == 0 } {
        true => written::<T, true>(header, tags, value, limits.size, name)?,
        false => written::<T, false>(header, tags, value, limits.size, name)?,
    };
    let payload = Payload {
        bytes: &bytes[at..],
        limits,
        flags: Flags::NONE,
        lock: None,
        compact: T::SHAPE != 0,
    };
    let due = read_back.is_due();
    if due || items.saturating_mul(LARGE_ITEM) > payload.memory() {
        is_read_back(value, payload, due).map_err(|why| {
            read_back.failed();
            unstorable(name, &why)
        })?;
        if due {
            read_back.was_read();
        }
    }
    match packing.is_none() {
        true => header.seal(&mut bytes),
        false => pack::pack(header, &mut bytes, at, packing, limits)?,
    }
    Ok(bytes)
}

/// Whether a value would be read back; if `compared`, as the same value. A value that is itself
/// invalid is encoded for the followers of its load, but not stored.
fn is_read_back<T: CachedType>(
    value: &T,
    payload: Payload<'_>,
    compared: bool,
) -> Result<(), String> {
    let read = match read::<T>(payload) {
        Err(Refusal::Invalid(_)) if value.cache_validate().is_err() => return Ok(()),
        Ok(read) => read,
        Err(why) => return Err(unread(&why)),
    };
    match compared {
        true => same(value, &read),
        false => Ok(()),
    }
}

/// Whether a value came back as it was written. The error names the field that differs, and quotes
/// no value.
fn same<T: Serialize>(written: &T, read: &T) -> Result<(), String> {
    digest::compare(written, read).map_err(|difference| {
        let at = match &*difference.at {
            "" => String::new(),
            at => format!(" in `{at}`"),
        };
        format!("its `Deserialize` reads another value than its `Serialize` wrote{at}")
    })
}

/// What comes back of a value, whether or not it keeps its type's rules.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, Error> {
    const MAX_SIZE: usize = 64 << 20;
    let name = type_name::<T>();
    let (bytes, at, _) = written::<T, true>(Header::value(1, 0), None, value, MAX_SIZE, name)?;
    let read = decode(&bytes[at..]).map_err(|why| unstorable(name, &unread(&why)))?;
    same(value, &read).map_err(|why| unstorable(name, &why))?;
    Ok(read)
}

fn unread(why: &dyn fmt::Display) -> String {
    format!("its `Deserialize` does not read the output of its `Serialize`: {why}")
}

/// An entry without its checksum, the offset of its payload, and the number of items in it.
fn written<T: Serialize, const NAMED: bool>(
    header: Header,
    tags: Option<&TagWriter<'_>>,
    value: &T,
    max_size: usize,
    name: &str,
) -> Result<(Vec<u8>, usize, usize), Error> {
    let (mut bytes, at) = begun(header, tags)?;
    let walked = encode::encode_to::<T, NAMED>(value, &mut bytes)
        .map_err(|fault| unstorable(name, &describe_encode(fault)))?;
    debug_assert!(bounds::check(&bytes[at..]) == Ok(walked), "of a {name}");
    fits(bytes.len(), max_size)?;
    if walked.token {
        without_tokens(&mut bytes, at, name)?;
    }
    let items = usize::try_from(walked.items).unwrap_or(usize::MAX);
    Ok((bytes, at, items))
}

/// Replaces serde_json's own tokens in the payload at this offset.
#[cold]
fn without_tokens(bytes: &mut Vec<u8>, at: usize, name: &str) -> Result<(), Error> {
    let plain = private::without_tokens(&bytes[at..]).map_err(|why| unstorable(name, why))?;
    bytes.truncate(at);
    bytes.extend_from_slice(&plain);
    Ok(())
}

/// The bytes of a negative cache entry.
pub(crate) fn encode_absence(
    header: Header,
    tags: Option<&TagWriter<'_>>,
) -> Result<Vec<u8>, Error> {
    let (mut bytes, _) = begun(header, tags)?;
    bytes.push(0xc0);
    header.seal(&mut bytes);
    Ok(bytes)
}

/// Header and tags, and the offset of the payload.
fn begun(header: Header, tags: Option<&TagWriter<'_>>) -> Result<(Vec<u8>, usize), Error> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&header.to_bytes());
    if let Some(tags) = tags {
        tags.write_to(&mut bytes)?;
    }
    let at = bytes.len();
    Ok((bytes, at))
}

#[cold]
fn unstorable(name: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::Encode,
        format!("a `{name}` can't be stored: {why}"),
    )
}

/// The value in the payload of an entry, if its type accepts it.
pub(crate) fn read<T: CachedType>(payload: Payload<'_>) -> Result<T, Refusal> {
    let value: T = decode(payload).map_err(|why| Refusal::Corrupt(why.into()))?;
    value.cache_validate().map_err(Refusal::Invalid)?;
    Ok(value)
}

/// The value in the payload of an entry, whether or not it keeps its type's rules. The error is a
/// reason that quotes nothing of it.
pub(crate) fn decode<'p, T: DeserializeOwned>(
    payload: impl Into<Payload<'p>>,
) -> Result<T, String> {
    let mut payload = payload.into();
    let unpacked;
    if !payload.flags.is_none() {
        unpacked = pack::unpack(payload.bytes, payload.flags, payload.lock, payload.limits)?;
        payload.bytes = &unpacked;
    }
    let memory = Memory(payload.memory());
    let mut decoder = Decoder::new(payload.bytes, memory, size_of::<T>(), payload.compact);
    match T::deserialize(&mut decoder) {
        Ok(value) if decoder.is_done() => Ok(value),
        Ok(_) => Err(refused(payload.bytes, None)),
        Err(why) => Err(refused(payload.bytes, Some(why))),
    }
}

/// The reason why a payload is not read. A defect of the whole payload comes before the type's
/// reason.
#[cold]
fn refused(payload: &[u8], fault: Option<decode::Fault>) -> String {
    match (bounds::check(payload), fault) {
        (Err(why), _) => why.as_str().to_owned(),
        (Ok(_), Some(fault)) => fault.into_text(),
        // A type that reads less than the document is not the written type.
        (Ok(_), None) => "the type does not read the whole payload".to_owned(),
    }
}

fn describe_encode(fault: encode::Fault) -> Cow<'static, str> {
    match fault.into_cause() {
        Cause::Message(message) => of_the_type(message),
        Cause::TooDeep => bounds::OutOfBounds::TooDeep.as_str().into(),
        Cause::Length => "its `Serialize` announces another length than it writes".into(),
        Cause::Extension => {
            "its `Serialize` gives an extension that is not an `i8` and bytes".into()
        }
    }
}

/// Passes on only those messages of `Serialize` that come from the type and not from the value.
fn of_the_type(message: String) -> Cow<'static, str> {
    let known = [
        "path contains invalid UTF-8 characters",
        "SystemTime must be later than UNIX_EPOCH",
        "cannot serialize tagged newtype variant ",
        "can only flatten structs and maps ",
        "the enum variant ",
        "lock poison error",
        "already mutably borrowed",
    ];
    match known.iter().any(|begin| message.starts_with(begin)) {
        true => format!("its `Serialize` refused: {message}").into(),
        false => "its `Serialize` refused (the message is withheld: it may quote the value)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope::HEADER;
    use proptest::prelude::*;
    use serde::Deserialize;

    const MAX: usize = 1 << 20;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Sample {
        id: u64,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        tags: Vec<(i32, bool)>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum List {
        Nil,
        Cons(Box<List>),
    }

    fn entry<T: Serialize>(value: &T) -> Vec<u8> {
        try_entry(value, MAX).unwrap()
    }

    fn try_entry<T: Serialize>(value: &T, max_size: usize) -> Result<Vec<u8>, Error> {
        let written = written::<T, true>(Header::value(1, 7), None, value, max_size, "T");
        written.map(|(bytes, ..)| bytes)
    }

    fn list(levels: usize) -> List {
        (0..levels).fold(List::Nil, |tail, _| List::Cons(Box::new(tail)))
    }

    #[test]
    fn a_deep_value_is_neither_written_nor_read() {
        let bytes = entry(&list(bounds::DEPTH));
        assert_eq!(decode::<List>(&bytes[HEADER..]), Ok(list(bounds::DEPTH)));
        let error = try_entry(&list(bounds::DEPTH + 1), MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);

        // 100,000 nested variants, on which the codec alone overflows the stack.
        let deep: Vec<u8> = [&[0x81, 0xa4][..], b"Cons"].concat().repeat(100_000);
        assert_eq!(
            decode::<List>(&[&deep[..], b"\xa3Nil"].concat()[..]).unwrap_err(),
            bounds::OutOfBounds::TooDeep.as_str()
        );
    }

    #[test]
    fn a_value_over_the_limit_is_not_written() {
        let size = entry(&"x".repeat(100)).len();
        assert!(try_entry(&"x".repeat(100), size).is_ok());
        let error = try_entry(&"x".repeat(100), size - 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = entry(&1u8);
        assert_eq!(decode::<u8>(&bytes[HEADER..]), Ok(1));
        bytes.push(0xc0);
        assert!(decode::<u8>(&bytes[HEADER..]).is_err());
    }

    #[test]
    fn fields_may_come_and_go() {
        #[derive(Serialize)]
        struct Old {
            tags: Vec<(i32, bool)>,
            gone: u8,
            name: &'static str,
            id: u64,
        }
        let bytes = entry(&Old {
            tags: vec![],
            gone: 1,
            name: "Ada",
            id: 42,
        });
        let sample: Sample = decode(&bytes[HEADER..]).unwrap();
        assert_eq!((sample.id, &*sample.name, sample.note), (42, "Ada", None));
    }

    #[test]
    fn the_payload_is_not_quoted() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only refused")]
        struct Strict {
            name: u64,
            kind: Kind,
        }
        #[derive(Debug, Deserialize)]
        enum Kind {
            A,
        }
        #[derive(Debug)]
        struct Picky;
        impl<'de> Deserialize<'de> for Picky {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Err(serde::de::Error::custom(format!(
                    "bad: {}",
                    String::deserialize(d)?
                )))
            }
        }
        let refused = |bytes: Vec<u8>| decode::<Strict>(&bytes[HEADER..]).unwrap_err();
        let text = refused(entry(&std::collections::BTreeMap::from([(
            "name", "hunter2",
        )])));
        assert_eq!(text, "a value of an unexpected type");
        let text = refused(entry(&std::collections::BTreeMap::from([(
            "kind", "hunter2",
        )])));
        assert!(!text.contains("hunter2"), "{text}");
        let text = refused(entry(&std::collections::BTreeMap::from([(
            "name",
            "x, expected hunter2",
        )])));
        assert!(!text.contains("hunter2"), "{text}");
        let text = refused(entry(&std::collections::BTreeMap::<&str, u8>::new()));
        assert_eq!(text, "missing field `name`");
        let text = decode::<Picky>(&entry(&"hunter2")[HEADER..]).unwrap_err();
        assert!(!text.contains("hunter2"), "{text}");
    }

    /// A message may begin with the text that was read, and that text may look like a message from
    /// the type.
    #[test]
    fn a_value_with_the_words_of_a_message_is_not_quoted() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only refused")]
        #[serde(deny_unknown_fields)]
        struct Strict {
            kind: Option<Kind>,
            at: Option<std::num::NonZeroU8>,
        }
        #[derive(Debug, Deserialize)]
        enum Kind {
            A,
            B,
        }
        #[derive(Debug, Deserialize)]
        #[serde(untagged)]
        #[allow(dead_code, reason = "only refused")]
        enum Either {
            Number(u64),
            Flag(bool),
        }
        let map = |key: &'static str, value: &'static str| {
            entry(&std::collections::BTreeMap::from([(key, value)]))
        };
        let refused = |bytes: Vec<u8>| decode::<Strict>(&bytes[HEADER..]).unwrap_err();
        let secret = "hunter2, expected hunter2";
        for (text, said) in [
            (
                refused(map("kind", secret)),
                "unknown variant, expected one of `A`, `B`",
            ),
            (
                refused(map("hunter2, expected hunter2", "")),
                "unknown field, expected one of `kind`, `at`",
            ),
            (refused(map("at", secret)), "a value of an unexpected type"),
            (
                refused(entry(&std::collections::BTreeMap::from([("at", 0)]))),
                "invalid value, expected a nonzero u8",
            ),
            (
                decode::<Either>(&entry(&secret)[HEADER..]).unwrap_err(),
                "data did not match any variant of untagged enum Either",
            ),
            (
                decode::<[u8; 2]>(&entry(&[1u8, 2, 3])[HEADER..]).unwrap_err(),
                "an array or map whose length is not 2",
            ),
            (
                decode::<[u8; 2]>(&entry(&[1u8])[HEADER..]).unwrap_err(),
                "invalid length, expected an array of length 2",
            ),
        ] {
            assert_eq!(text, said);
        }
    }

    #[test]
    fn messages_of_serde_that_quote_nothing_are_passed_on() {
        use std::time::Duration;

        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Outer {
            #[serde(flatten)]
            inner: Inner,
        }
        #[derive(Debug, Serialize, Deserialize)]
        struct Inner {
            a: u8,
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only refused")]
        struct Flat {
            #[serde(flatten)]
            number: u8,
        }
        let map = std::collections::BTreeMap::from([("a", 1), ("hunter2", 2)]);
        let map = entry(&map);
        let text = decode::<Outer>(&map[HEADER..]).unwrap_err();
        assert_eq!(text, "unknown field beside a flattened one");
        let text = decode::<Flat>(&map[HEADER..]).unwrap_err();
        assert_eq!(text, "can only flatten structs and maps");
        let time = std::collections::BTreeMap::from([("secs", u64::MAX), ("nanos", 2_000_000_000)]);
        let time = entry(&time);
        let text = decode::<Duration>(&time[HEADER..]).unwrap_err();
        assert_eq!(text, "overflow deserializing Duration");
        // A message of the type may quote what it read.
        for message in [
            "hunter2",
            "value is missing: hunter2",
            "overflow deserializing hunter2",
        ] {
            let fault: decode::Fault = serde::de::Error::custom(message);
            assert!(!fault.into_text().contains("hunter2"));
        }
    }

    #[test]
    fn an_encode_error_quotes_known_messages_and_withholds_others() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        #[derive(Serialize)]
        #[serde(tag = "t")]
        enum Tagged {
            Id(u64),
        }
        let text = |error: Error| error.to_string();
        let path = std::path::PathBuf::from(OsStr::from_bytes(b"hunter2\xff"));
        assert_eq!(
            text(try_entry(&path, MAX).unwrap_err()),
            "encode: a `T` can't be stored: its `Serialize` refused: path contains invalid UTF-8 characters"
        );
        let early = std::time::UNIX_EPOCH - std::time::Duration::from_secs(1);
        assert!(
            text(try_entry(&early, MAX).unwrap_err())
                .ends_with("SystemTime must be later than UNIX_EPOCH")
        );
        let error = text(try_entry(&Tagged::Id(4711), MAX).unwrap_err());
        assert!(
            error.contains("newtype variant Tagged::Id containing an integer"),
            "{error}"
        );

        struct Refusing;
        impl Serialize for Refusing {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("hunter2"))
            }
        }
        let error = text(try_entry(&Refusing, MAX).unwrap_err());
        assert!(
            !error.contains("hunter2") && error.contains("withheld"),
            "{error}"
        );
    }

    /// One byte can stand for a large value. Its memory is counted before it is allocated.
    #[test]
    fn the_memory_that_decoding_may_allocate_is_bounded() {
        use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

        #[derive(Debug, Default, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(default)]
        struct Big {
            numbers: [u64; 32],
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only read")]
        #[expect(clippy::large_enum_variant, reason = "that is what is tested")]
        enum Either {
            A,
            B([u64; 32]),
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only read")]
        struct Named<T> {
            all: T,
        }
        const MANY: u32 = 1 << 17;
        let array = |element: &[u8]| {
            let count = MANY / element.len() as u32;
            [
                &[0xdd][..],
                &count.to_be_bytes(),
                &element.repeat(count as usize),
            ]
            .concat()
        };
        fn read<T: DeserializeOwned>(bytes: &[u8]) -> [Result<(), String>; 2] {
            [EXPANSION, usize::MAX].map(|expansion| {
                let size = usize::MAX;
                let read = decode::<T>(Payload {
                    limits: Limits { size, expansion },
                    ..bytes.into()
                });
                read.map(|value| assert!(size_of_val(&value) > 0))
            })
        }
        let refused = "it would take more memory than `Builder::max_expansion` allows for its size";
        let named = |all: Vec<u8>| [&b"\x81\xa3all"[..], &all].concat();
        for (what, [bounded, unbounded]) in [
            (
                "Vec of Option",
                read::<Vec<Option<[u64; 32]>>>(&array(b"\xc0")),
            ),
            (
                "in a field",
                read::<Named<Vec<Option<[u64; 32]>>>>(&named(array(b"\xc0"))),
            ),
            ("struct with defaults", read::<Vec<Big>>(&array(b"\x80"))),
            ("deque", read::<VecDeque<Big>>(&array(b"\x80"))),
            ("behind a pointer", read::<Vec<Box<Big>>>(&array(b"\x80"))),
            (
                "two pointers",
                read::<Vec<Option<Box<Option<Box<Big>>>>>>(&array(b"\x80")),
            ),
            ("variants", read::<Vec<Either>>(&array(b"\xa1A"))),
            ("boxed variants", read::<Vec<Box<Either>>>(&array(b"\xa1A"))),
            (
                "nested",
                read::<Vec<Vec<Option<[u64; 32]>>>>(&array(b"\x91\xc0")),
            ),
            (
                "nested sets",
                read::<Vec<BTreeSet<String>>>(&array(b"\x91\xa0")),
            ),
            (
                "nested maps",
                read::<Vec<BTreeMap<u8, Option<Big>>>>(&array(b"\x81\x01\xc0")),
            ),
            (
                "nested hash maps",
                read::<Vec<HashMap<u8, Option<Big>>>>(&array(b"\x81\x01\xc0")),
            ),
            (
                "hash sets",
                read::<Vec<HashSet<Option<Big>>>>(&array(b"\x91\xc0")),
            ),
            (
                "objects",
                read::<Vec<serde_json::Value>>(&array(b"\x81\xa0\x01")),
            ),
        ] {
            assert_eq!(bounded, Err(refused.to_owned()), "{what}");
            assert_eq!(unbounded, Ok(()), "{what}");
        }
        // Values in proportion to their bytes are read, and so are all small ones.
        for (what, [bounded, _]) in [
            ("numbers", read::<Vec<u64>>(&array(b"\x01"))),
            ("texts", read::<Vec<String>>(&array(b"\xa2DE"))),
            ("pairs", read::<Vec<Vec<u32>>>(&array(b"\x92\x01\x02"))),
            ("options", read::<Vec<Option<u64>>>(&array(b"\xc0"))),
            (
                "maps",
                read::<Vec<HashMap<String, String>>>(&array(b"\x81\xa4name\xa3Ada")),
            ),
            (
                "structs",
                read::<Vec<Named<u64>>>(&array(b"\x81\xa3all\x01")),
            ),
            ("bytes", read::<Vec<u8>>(&array(b"\x01"))),
        ] {
            assert_eq!(bounded, Ok(()), "{what}");
        }
        let few = [&[0xdc, 0x10, 0][..], &[0xc0; 0x1000]].concat();
        assert_eq!(read::<Vec<Option<[u64; 32]>>>(&few)[0], Ok(()));
    }

    /// A type that holds only an `Option` of itself takes no byte at each level.
    #[test]
    fn a_type_without_an_end_is_refused() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "never read")]
        struct Endless(Option<Box<Endless>>);
        let error = decode::<Endless>(&[0x01][..]).unwrap_err();
        assert_eq!(error, bounds::OutOfBounds::TooDeep.as_str());
        assert!(decode::<Endless>(&[0xc0][..]).is_ok());
    }

    /// Nothing writes the name of a field or a variant as a number.
    #[test]
    fn a_number_is_no_name() {
        #[derive(Debug, PartialEq, Deserialize)]
        enum Kind {
            A,
            B,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Point {
            x: u8,
        }
        assert_eq!(decode::<Kind>(&b"\xa1B"[..]), Ok(Kind::B));
        assert!(decode::<Kind>(&b"\x01"[..]).is_err());
        assert!(decode::<Kind>(&b"\x81\x01\xc0"[..]).is_err());
        assert_eq!(decode::<Kind>(&b"\x81\xa1A\xc0"[..]), Ok(Kind::A));
        assert_eq!(decode::<Point>(&b"\x81\xa1x\x07"[..]), Ok(Point { x: 7 }));
        assert!(decode::<Point>(&b"\x81\x00\x07"[..]).is_err());
        assert!(decode::<u128>(&b"\xff"[..]).is_err(), "-1");
        assert_eq!(decode::<i128>(&b"\xff"[..]), Ok(-1));
    }

    #[derive(Serialize, Deserialize)]
    struct Object(std::collections::BTreeMap<String, u64>);

    /// serde_json's own numbers are stored as plain numbers, or not at all.
    #[test]
    fn no_token_of_serde_json_is_stored_or_read() {
        #[derive(Serialize)]
        struct Number {
            #[serde(rename = "$serde_json::private::Number")]
            text: &'static str,
        }
        #[derive(Serialize)]
        struct Raw {
            #[serde(rename = "$serde_json::private::RawValue")]
            text: &'static str,
        }
        #[derive(Serialize)]
        struct Outer<T> {
            before: u8,
            map: std::collections::BTreeMap<&'static str, T>,
            list: Vec<T>,
            after: &'static str,
        }
        fn outer<T: Clone>(value: T) -> Outer<T> {
            Outer {
                before: 1,
                map: std::collections::BTreeMap::from([("a", value.clone())]),
                list: vec![value.clone(), value],
                after: "$serde_json::private::Number",
            }
        }
        impl Clone for Number {
            fn clone(&self) -> Self {
                Self { text: self.text }
            }
        }
        for (text, number) in [
            ("19", serde_json::json!(19)),
            ("-7", serde_json::json!(-7)),
            ("18446744073709551615", serde_json::json!(u64::MAX)),
            ("0.1", serde_json::json!(0.1)),
            ("-2.50e3", serde_json::json!(-2500.0)),
            ("1e400", serde_json::Value::Null),
            ("1e20", serde_json::json!(1e20)),
            ("100000000000000000000", serde_json::json!(1e20)),
            ("36893488147419103232", serde_json::Value::Null),
            ("36893488147419103233", serde_json::Value::Null),
            ("0.10000000000000000001", serde_json::Value::Null),
        ] {
            let written = try_entry(&outer(Number { text }), MAX);
            if number.is_null() {
                let error = written.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Encode);
                assert!(error.to_string().contains("arbitrary_precision"), "{error}");
                assert!(!error.to_string().contains(text), "{error}");
            } else {
                let plain = entry(&outer(number));
                assert_eq!(written.unwrap()[HEADER..], plain[HEADER..], "{text}");
            }
        }
        assert_eq!(entry(&Number { text: "0" })[HEADER..], [0]);
        let negative_zero: f64 = decode(&entry(&Number { text: "-0" })[HEADER..]).unwrap();
        assert_eq!(negative_zero.to_bits(), (-0.0f64).to_bits());
        let error = try_entry(&Raw { text: "{}" }, MAX).unwrap_err();
        assert!(error.to_string().contains("RawValue"), "{error}");
        let keys = std::collections::BTreeMap::from([("$serde_json::private::x", 1), ("y", 2)]);
        assert_eq!(try_entry(&keys, MAX).unwrap_err().kind(), ErrorKind::Encode);
        // A text that is not a key may begin like a token.
        let text = "$serde_json::private::Number".to_owned();
        assert_eq!(decode::<String>(&entry(&text)[HEADER..]), Ok(text));

        let stored = rmp_serde::to_vec_named(&Number { text: "19" }).unwrap();
        for error in [
            decode::<serde_json::Value>(&stored[..]).unwrap_err(),
            decode::<Object>(&stored[..]).map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(error, "a map key that begins with `$serde_json::private::`");
        }
    }

    /// The codec writes and reads as rmp-serde does, within bounds.
    mod as_rmp_serde {
        use super::*;
        use crate::value::codec::encode::encode_to;
        use std::collections::BTreeMap;

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum Shape {
            Point,
            Circle(f64),
            Line(u8, i16),
            Named {
                name: String,
                at: Option<Box<Shape>>,
            },
        }

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            One { shape: Shape, unit: () },
            Two { all: Vec<u64> },
        }

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Untagged {
            Text(String),
            Number(i64),
            Pair(bool, char),
            Tagged(Tagged),
        }

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Unit;

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Wrapped(Shape);

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct All {
            numbers: (u8, i8, u16, i16, u32, i32, u64, i64),
            wide: (u128, i128),
            floats: (f32, f64),
            bytes: Vec<u8>,
            byte_array: [u8; 4],
            text: String,
            unit: Unit,
            wrapped: Wrapped,
            untagged: Vec<Untagged>,
            by_name: BTreeMap<String, Option<bool>>,
            by_number: BTreeMap<i32, Vec<Shape>>,
            address: std::net::IpAddr,
            time: std::time::Duration,
            #[serde(flatten)]
            more: BTreeMap<String, u32>,
        }

        fn shapes() -> impl Strategy<Value = Shape> {
            let leaf = prop_oneof![
                Just(Shape::Point),
                (-1e300..1e300).prop_map(Shape::Circle),
                any::<(u8, i16)>().prop_map(|(a, b)| Shape::Line(a, b)),
            ];
            leaf.prop_recursive(4, 8, 1, |inner| {
                let named = (".{0,40}", prop::option::of(inner));
                named.prop_map(|(name, at)| {
                    let at = at.map(Box::new);
                    Shape::Named { name, at }
                })
            })
        }

        fn untagged() -> impl Strategy<Value = Untagged> {
            prop_oneof![
                any::<String>().prop_map(Untagged::Text),
                any::<i64>().prop_map(Untagged::Number),
                any::<(bool, char)>().prop_map(|(a, b)| Untagged::Pair(a, b)),
                shapes().prop_map(|shape| Untagged::Tagged(Tagged::One { shape, unit: () })),
                any::<Vec<u64>>().prop_map(|all| Untagged::Tagged(Tagged::Two { all })),
            ]
        }

        fn alls() -> impl Strategy<Value = All> {
            let first = (
                any::<(u8, i8, u16, i16, u32, i32, u64, i64)>(),
                any::<(u128, i128)>(),
                (-1e30f32..1e30, -1e300..1e300),
                any::<Vec<u8>>(),
                any::<[u8; 4]>(),
                ".{0,300}",
                shapes(),
            );
            let second = (
                prop::collection::vec(untagged(), 0..5),
                any::<BTreeMap<String, Option<bool>>>(),
                prop::collection::btree_map(
                    any::<i32>(),
                    prop::collection::vec(shapes(), 0..3),
                    0..4,
                ),
                any::<[u8; 4]>(),
                any::<(u32, u32)>(),
                prop::collection::btree_map("[a-z]{30,40}", any::<u32>(), 0..4),
            );
            (first, second).prop_map(
                |(
                    (numbers, wide, floats, bytes, byte_array, text, shape),
                    (untagged, by_name, by_number, address, (seconds, nanos), more),
                )| All {
                    numbers,
                    wide,
                    floats,
                    bytes,
                    byte_array,
                    text,
                    unit: Unit,
                    wrapped: Wrapped(shape),
                    untagged,
                    by_name,
                    by_number,
                    address: address.into(),
                    time: std::time::Duration::new(seconds.into(), nanos % 1_000_000_000),
                    more,
                },
            )
        }

        #[test]
        fn a_flattened_map_may_have_numbers_for_keys() {
            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            struct Rows {
                id: u8,
                #[serde(flatten)]
                by_number: BTreeMap<u64, u8>,
            }
            let rows = Rows {
                id: 1,
                by_number: BTreeMap::from([(2, 3), (70_000, 4)]),
            };
            let bytes = rmp_serde::to_vec_named(&rows).unwrap();
            assert_eq!(decode::<Rows>(&bytes[..]), Ok(rows));
        }

        proptest! {
            #[test]
            fn values_are_written_as_by_rmp_serde_and_read_again(all in alls()) {
                let mut named = Vec::new();
                let walked = encode_to::<_, true>(&all, &mut named).unwrap();
                prop_assert_eq!(bounds::check(&named), Ok(walked));
                prop_assert_eq!(decode::<All>(&named[..]), Ok(all.clone()));
                let mut compact = Vec::new();
                let walked = encode_to::<_, false>(&all, &mut compact).unwrap();
                prop_assert_eq!(bounds::check(&compact), Ok(walked));
                if all.wide.1 >= 0 {
                    prop_assert_eq!(named, rmp_serde::to_vec_named(&all).unwrap());
                    prop_assert_eq!(compact, rmp_serde::to_vec(&all).unwrap());
                }
            }

            /// If the decoder reads a damaged payload, rmp-serde reads the same value. rmp-serde
            /// alone also reads names that are numbers.
            #[test]
            fn damaged_payloads_are_read_alike(all in alls(), at: prop::sample::Index, byte: u8) {
                let mut bytes = rmp_serde::to_vec_named(&all).unwrap();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let own = decode::<All>(&bytes[..]);
                let within = bounds::check(&bytes).is_ok();
                let theirs = rmp_serde::from_slice::<All>(&bytes).ok().filter(|_| within);
                if let (Ok(own), Some(theirs)) = (&own, &theirs) {
                    // A NaN equals nothing.
                    prop_assert_eq!(format!("{own:?}"), format!("{theirs:?}"));
                }
                prop_assert!(own.is_err() || theirs.is_some());
            }
        }
    }

    fn samples() -> impl Strategy<Value = Sample> {
        (
            any::<u64>(),
            any::<String>(),
            any::<Option<String>>(),
            any::<Vec<(i32, bool)>>(),
        )
            .prop_map(|(id, name, note, tags)| Sample {
                id,
                name,
                note,
                tags,
            })
    }

    proptest! {
        #[test]
        fn values_round_trip(sample in samples()) {
            let bytes = entry(&sample);
            prop_assert_eq!(decode::<Sample>(&bytes[HEADER..]), Ok(sample));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = decode::<Sample>(&bytes[..]);
        }

        #[test]
        fn no_damaged_entry_makes_the_reader_panic(sample in samples(), at: prop::sample::Index, byte: u8) {
            let mut bytes = entry(&sample);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode::<Sample>(bytes.get(HEADER..).unwrap_or_default());
        }

        #[test]
        fn no_truncated_entry_is_read(sample in samples(), at: prop::sample::Index) {
            let bytes = entry(&sample);
            let payload = &bytes[HEADER..];
            prop_assert!(decode::<Sample>(&payload[..at.index(payload.len())]).is_err());
        }
    }
}
