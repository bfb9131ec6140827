//! Rules for types that serde writes and does not read where they stand.
//!
//! They go by the names of types. A type that has a function of its own for reading is left to it.
//! The runtime detects what these rules can't see, when it reads a value back.

use syn::{GenericArgument, PathArguments, PathSegment, Type};

use crate::errors::Errors;
use crate::syntax::Field;
use crate::types::{names, shown, ungrouped};

/// Types that serde can't read from its buffer: it asks for a text where the bytes are, or has no
/// 128-bit integers there.
const UNBUFFERED: [&str; 10] = [
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
    "u128",
    "i128",
    "NonZeroU128",
    "NonZeroI128",
];

/// Types of the standard library that are neither structs with named fields nor maps.
const NO_MAPS: [&str; 23] = [
    "bool",
    "char",
    "str",
    "String",
    "PathBuf",
    "u8",
    "u16",
    "u32",
    "u64",
    "usize",
    "i8",
    "i16",
    "i32",
    "i64",
    "isize",
    "f32",
    "f64",
    "Vec",
    "VecDeque",
    "LinkedList",
    "BTreeSet",
    "HashSet",
    "BinaryHeap",
];

pub(super) fn is_read(field: &Field, errors: &mut Errors) {
    let elsewhere = [
        "with",
        "serialize_with",
        "deserialize_with",
        "skip",
        "skip_serializing",
    ];
    if field.serde(&elsewhere).is_some() {
        return;
    }
    let ty = &field.ty;
    let name_of = |wanted: &[&str]| names(ty).find(|name| wanted.iter().any(|one| name == one));
    if name_of(&["RawValue"]).is_some() {
        let message = "a `RawValue` is JSON, and an entry is MessagePack, so that no value can be stored: use \
                       `serde_json::Value`, or a `String` with the JSON";
        errors.push(ty, message);
    } else if let Some(flatten) = field.serde(&["flatten"]) {
        if let Some(name) = name_of(&UNBUFFERED) {
            let message = format!(
                "serde buffers what is flattened, and can't read `{name}` from its buffer, so that no entry can be read: \
                 leave `flatten` out, or write a `String` in place of `{name}`"
            );
            errors.push(flatten, message);
        } else if is_no_map(ty) {
            let message = format!(
                "serde flattens structs and maps alone, and refuses each `{}`: leave `flatten` out",
                shown(ty)
            );
            errors.push(flatten, message);
        }
    } else if let Some(inner) = loses_some(ty) {
        let message = format!(
            "`Some` of an empty `{}` is stored as nil, and comes back as `None`: use one `Option`, or an enum with a \
             variant for each case, or `#[serde(with = \"…\")]`",
            shown(inner)
        );
        errors.push(ty, message);
    }
}

fn last(ty: &Type) -> Option<&PathSegment> {
    match ungrouped(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// The types between the angle brackets.
fn arguments(segment: &PathSegment) -> impl Iterator<Item = &Type> {
    let arguments = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments
        .into_iter()
        .flatten()
        .filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
}

fn is_no_map(ty: &Type) -> bool {
    match last(ty) {
        Some(segment) if segment.ident == "Option" || segment.ident == "Box" => {
            arguments(segment).any(is_no_map)
        }
        Some(segment) => NO_MAPS.iter().any(|name| segment.ident == name),
        None => matches!(ungrouped(ty), Type::Array(_) | Type::Slice(_)),
    }
}

/// The content of an `Option` that is itself stored as nil if it is empty.
fn loses_some(ty: &Type) -> Option<&Type> {
    match ungrouped(ty) {
        Type::Tuple(tuple) => tuple.elems.iter().find_map(loses_some),
        Type::Array(array) => loses_some(&array.elem),
        ty => {
            let segment = last(ty)?;
            let lost = |inner: &&Type| segment.ident == "Option" && is_nil(inner);
            arguments(segment)
                .find(lost)
                .or_else(|| arguments(segment).find_map(loses_some))
        }
    }
}

fn is_nil(ty: &Type) -> bool {
    match ungrouped(ty) {
        Type::Tuple(tuple) => tuple.elems.is_empty(),
        ty => last(ty).is_some_and(|segment| match segment.ident == "Box" {
            true => arguments(segment).any(is_nil),
            false => segment.ident == "Option",
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::mistakes;

    fn of(field: &str) -> Vec<String> {
        mistakes(&format!(
            "struct User {{ #[cached(key)] id: u64, {field} }}"
        ))
    }

    fn says(field: &str, text: &str) {
        assert_eq!(of(field), [text], "{field}");
    }

    #[test]
    fn types_that_serde_does_not_read_there_are_mistakes() {
        for (ty, name) in [
            ("HashMap<String, IpAddr>", "IpAddr"),
            ("BTreeMap<std::net::Ipv6Addr, u8>", "Ipv6Addr"),
            ("HashMap<u8, Vec<Option<SocketAddr>>>", "SocketAddr"),
            ("Option<HashMap<String, u128>>", "u128"),
            ("Page<i128>", "i128"),
            ("IpAddr", "IpAddr"),
        ] {
            let text = format!(
                "serde buffers what is flattened, and can't read `{name}` from its buffer, so that no entry can be read: \
                 leave `flatten` out, or write a `String` in place of `{name}`"
            );
            says(&format!("#[serde(flatten)] a: {ty}"), &text);
        }
        for ty in [
            "String",
            "Option<u64>",
            "Vec<Tag>",
            "Box<[u8]>",
            "[u8; 4]",
            "PathBuf",
        ] {
            let text = format!(
                "serde flattens structs and maps alone, and refuses each `{ty}`: leave `flatten` out"
            );
            says(&format!("#[serde(flatten)] a: {ty}"), &text);
        }
        for ty in ["Box<RawValue>", "Option<Box<serde_json::value::RawValue>>"] {
            let text = "a `RawValue` is JSON, and an entry is MessagePack, so that no value can be stored: use \
                        `serde_json::Value`, or a `String` with the JSON";
            says(&format!("a: {ty}"), text);
        }
        for (ty, inner) in [
            ("Option<Option<u8>>", "Option<u8>"),
            ("Option<()>", "()"),
            ("Option<Box<Option<u8>>>", "Box<Option<u8>>"),
            ("Vec<Option<()>>", "()"),
            ("(u8, std::option::Option<Option<u8>>)", "Option<u8>"),
        ] {
            let text = format!(
                "`Some` of an empty `{inner}` is stored as nil, and comes back as `None`: use one `Option`, or an enum with a \
                 variant for each case, or `#[serde(with = \"…\")]`"
            );
            says(&format!("a: {ty}"), &text);
        }
    }

    #[test]
    fn types_that_serde_reads_there_are_none() {
        for field in [
            "a: IpAddr",
            "a: HashMap<String, u128>",
            "#[serde(flatten)] a: Origin",
            "#[serde(flatten)] a: Option<Origin>",
            "#[serde(flatten)] a: HashMap<String, String>",
            "#[serde(flatten)] a: serde_json::Value",
            "#[serde(flatten, with = \"texts\")] a: HashMap<String, u128>",
            "a: Option<Vec<Option<u8>>>",
            "a: Option<(Option<u8>,)>",
            "#[serde(default, with = \"double_option\")] a: Option<Option<u8>>",
            "#[serde(skip)] a: Option<Option<u8>>",
            "a: Result<(), ()>",
        ] {
            assert_eq!(of(field), [""; 0], "{field}");
        }
    }
}
