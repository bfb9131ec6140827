//! Between a value and the bytes of its entry.
//!
//! The payload is MessagePack in the named layout (structs are maps), so that serde's own rules for added and missing
//! fields apply. What the codec says of a value it refuses is not passed on as it is: serde's messages quote the value.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::envelope::{Header, bounds};
use crate::tags::TagWriter;
use crate::{Cached, Error, ErrorKind, Invalid};

/// Why an entry holds no value that its type takes.
#[derive(Debug)]
pub(crate) enum Refusal {
    Corrupt(Cow<'static, str>),
    /// It holds one that breaks the type's rules.
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

    /// A method, since one more `From` for the public error would have `?` ask in closures what it converts from.
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

/// The bytes of an entry that holds `value`.
pub(crate) fn encode<T: Serialize>(
    header: Header,
    tags: Option<&TagWriter<'_>>,
    value: &T,
    max_size: usize,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&header.to_bytes());
    if let Some(tags) = tags {
        tags.write_to(&mut bytes)?;
    }
    let payload = bytes.len();
    value
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|error| Error::new(ErrorKind::Encode, describe_encode(&error)))?;
    check_written(&bytes, payload, max_size)?;
    header.seal(&mut bytes);
    Ok(bytes)
}

/// What would not be read back is not written.
fn check_written(bytes: &[u8], header: usize, max_size: usize) -> Result<(), Error> {
    if bytes.len() > max_size {
        let message = format!(
            "the entry would have {} bytes, more than the limit of {max_size}",
            bytes.len()
        );
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    bounds::check(&bytes[header..]).map_err(|why| Error::new(ErrorKind::Encode, why.as_str()))
}

/// The value in the payload of an entry, if its type takes it.
pub(crate) fn read<T: Cached>(payload: &[u8]) -> Result<T, Refusal> {
    let value: T = decode(payload).map_err(|why| Refusal::Corrupt(why.into()))?;
    value.cache_validate().map_err(Refusal::Invalid)?;
    Ok(value)
}

/// The value in the payload of an entry, whether or not it keeps its type's rules; else why there is none, in words that quote
/// nothing of it.
pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    bounds::check(payload).map_err(|why| why.as_str().to_owned())?;
    let mut codec = rmp_serde::Deserializer::from_read_ref(payload);
    let value = T::deserialize(&mut codec).map_err(|error| describe_decode(&error))?;
    // A type that reads less than the document is not the type that was written.
    match <IgnoredAny as serde::Deserialize>::deserialize(&mut codec) {
        Ok(_) => Err("the type reads less than the payload holds".to_owned()),
        Err(_) => Ok(value),
    }
}

fn describe_encode(error: &rmp_serde::encode::Error) -> String {
    use rmp_serde::encode::Error;

    match error {
        Error::Syntax(_) => {
            "its `Serialize` refused (the message is withheld: it may quote the value)".to_owned()
        }
        Error::DepthLimitExceeded => bounds::OutOfBounds::TooDeep.as_str().to_owned(),
        Error::InvalidDataModel(what) => {
            format!("its `Serialize` breaks serde's data model: {what}")
        }
        Error::UnknownLength => "its `Serialize` gives no length".to_owned(),
        Error::InvalidValueWrite(_) => "the value could not be written".to_owned(),
    }
}

fn describe_decode(error: &rmp_serde::decode::Error) -> String {
    use rmp_serde::decode::Error;

    match error {
        Error::Syntax(message) | Error::Uncategorized(message) => without_values(message),
        Error::TypeMismatch(_) => "another type of value than expected".to_owned(),
        Error::OutOfRange => "a number out of range".to_owned(),
        Error::LengthMismatch(expected) => format!("an array of another length than {expected}"),
        Error::Utf8Error(_) => "a text that is not UTF-8".to_owned(),
        Error::DepthLimitExceeded => bounds::OutOfBounds::TooDeep.as_str().to_owned(),
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => {
            bounds::OutOfBounds::Truncated.as_str().to_owned()
        }
    }
}

/// What of serde's messages comes from the type and not from the value.
fn without_values(message: &str) -> String {
    if message.starts_with("missing field `") || message.starts_with("duplicate field `") {
        return message.to_owned();
    }
    let what = [
        "invalid type",
        "invalid value",
        "invalid length",
        "unknown variant",
        "unknown field",
    ];
    match what.into_iter().find(|what| message.starts_with(what)) {
        // The last ", expected" is the type's own word, unless the value brought one: then nothing is passed on.
        Some(what) => match message.split_once(", expected ") {
            Some((_, expected)) if !expected.contains(", expected ") => {
                format!("{what}, expected {expected}")
            }
            _ => what.to_owned(),
        },
        None => {
            "its `Deserialize` refused (the message is withheld: it may quote the value)".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::HEADER;
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
        encode(Header::value(1, 7), None, value, MAX).unwrap()
    }

    fn list(levels: usize) -> List {
        (0..levels).fold(List::Nil, |tail, _| List::Cons(Box::new(tail)))
    }

    #[test]
    fn a_deep_value_is_neither_written_nor_read() {
        let bytes = entry(&list(bounds::DEPTH));
        assert_eq!(decode::<List>(&bytes[HEADER..]), Ok(list(bounds::DEPTH)));
        let error = encode(Header::value(1, 7), None, &list(bounds::DEPTH + 1), MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);

        // 100,000 nested variants, which the codec alone answers with a stack overflow.
        let deep: Vec<u8> = [&[0x81, 0xa4][..], b"Cons"].concat().repeat(100_000);
        assert_eq!(
            decode::<List>(&[&deep[..], b"\xa3Nil"].concat()).unwrap_err(),
            bounds::OutOfBounds::TooDeep.as_str()
        );
    }

    #[test]
    fn a_value_over_the_limit_is_not_written() {
        let size = entry(&"x".repeat(100)).len();
        assert!(encode(Header::value(1, 7), None, &"x".repeat(100), size).is_ok());
        let error = encode(Header::value(1, 7), None, &"x".repeat(100), size - 1).unwrap_err();
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
        assert_eq!(text, "another type of value than expected");
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
            let _ = decode::<Sample>(&bytes);
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
