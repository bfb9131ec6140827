//! A value as a text without its secrets: every field but those marked `#[cached(redact)]`.
//!
//! The text is made from the MessagePack of the value, so what works for a value also works for the
//! bytes of an entry. It fails closed: if a marked field is not found under its name, no field is
//! shown.

use std::any::type_name;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::value::codec::encode::encode_to;

/// Shows a value without the fields that its type marks with `#[cached(redact)]`: in `Debug`, each
/// of them is `…`. It is made from what the type serializes, and the type need not be `Debug`.
///
/// A type's own `Debug` shows all of its fields, if it is derived. So pass this to a log, and not
/// the value. [`Entry`](crate::Entry) does so in its `Debug`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, Redacted};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct User {
///     #[cached(key)]
///     id: u64,
///     #[cached(redact)]
///     email: String,
/// }
///
/// let ada = User { id: 42, email: "ada@example.com".into() };
/// assert_eq!(format!("{:?}", Redacted(&ada)), "User { id: 42, email: … }");
/// ```
///
/// A field that is marked and not serialized, for example by `skip_serializing_if`, hides the other
/// fields too: a type that is serialized under other names than the derive knows shows nothing.
pub struct Redacted<'v, T>(pub &'v T);

impl<T: CachedType> fmt::Debug for Redacted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut document = Vec::new();
        let name = short(type_name::<T>());
        let redacted = T::REDACTED;
        match encode_to::<T, true>(self.0, &mut document) {
            Ok(_) => Shown {
                name,
                document: &document,
                redacted,
            }
            .fmt(f),
            Err(_) => f.debug_struct(name).finish_non_exhaustive(),
        }
    }
}

/// The name of a type without its path and its parameters.
fn short(name: &str) -> &str {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

/// The MessagePack of a value, without these fields.
struct Shown<'d> {
    name: &'d str,
    document: &'d [u8],
    redacted: &'d [&'d str],
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tree = codec::decode::<Tree>(self.document);
        let fields = match tree {
            Ok(Tree::Map(fields)) => fields,
            Ok(tree) if self.redacted.is_empty() => {
                return f.debug_tuple(self.name).field(&tree).finish();
            }
            Ok(_) | Err(_) => return f.debug_struct(self.name).finish_non_exhaustive(),
        };
        let names = || fields.iter().filter_map(|(name, _)| name.as_text());
        let has = |redacted: &&str| names().any(|name| name == *redacted);
        let mut shown = f.debug_struct(self.name);
        if !self.redacted.iter().all(has) || names().count() < fields.len() {
            return shown.finish_non_exhaustive();
        }
        for (name, value) in &fields {
            let name = name.as_text().unwrap_or_default();
            match self.redacted.contains(&name) {
                true => shown.field(name, &format_args!("…")),
                false => shown.field(name, value),
            };
        }
        shown.finish()
    }
}

/// Any MessagePack document.
enum Tree {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    /// The number of bytes.
    Bytes(usize),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    fn as_text(&self) -> Option<&str> {
        match self {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Nil => f.write_str("nil"),
            Tree::Bool(it) => it.fmt(f),
            Tree::Unsigned(it) => it.fmt(f),
            Tree::Signed(it) => it.fmt(f),
            Tree::Float(it) => it.fmt(f),
            Tree::Text(it) => it.fmt(f),
            Tree::Bytes(1) => f.write_str("1 byte"),
            Tree::Bytes(length) => write!(f, "{length} bytes"),
            Tree::List(items) => f.debug_list().entries(items).finish(),
            Tree::Map(fields) => {
                let fields = fields.iter().map(|(name, value)| (name, value));
                f.debug_map().entries(fields).finish()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any document")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nil)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nil)
    }

    fn visit_some<D: Deserializer<'de>>(self, it: D) -> Result<Tree, D::Error> {
        it.deserialize_any(Any)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(it))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(it))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Tree, E> {
        Ok(Tree::Float(it))
    }

    fn visit_str<E>(self, it: &str) -> Result<Tree, E> {
        Ok(Tree::Text(it.to_owned()))
    }

    fn visit_bytes<E>(self, it: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(it.len()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shown(document: &[u8], redacted: &[&str]) -> String {
        let name = "T";
        let shown = Shown {
            name,
            document,
            redacted,
        };
        format!("{shown:?}")
    }

    #[test]
    fn everything_is_shown_but_the_marked_fields() {
        let document = rmp_serde::to_vec(&BTreeMap::from([
            ("a", serde_json::json!([1, -2, 0.5, null, true])),
            ("b", serde_json::json!({"c": "hunter2"})),
        ]))
        .unwrap();
        assert_eq!(
            shown(&document, &["b"]),
            "T { a: [1, -2, 0.5, nil, true], b: … }"
        );
        let all = "T { a: [1, -2, 0.5, nil, true], b: {\"c\": \"hunter2\"} }";
        assert_eq!(shown(&document, &[]), all);
    }

    #[test]
    fn where_a_marked_field_is_not_found_nothing_is_shown() {
        let document = rmp_serde::to_vec(&BTreeMap::from([("eMail", "ada@example.com")])).unwrap();
        assert_eq!(shown(&document, &["email"]), "T { .. }");
        assert_eq!(shown(&document, &["eMail"]), "T { eMail: … }");
        for document in [&b"\xa1x"[..], b"\xc1", b"", b"\x91\x01", b"\xc4\x01x"] {
            assert_eq!(shown(document, &["email"]), "T { .. }");
        }
        assert_eq!(shown(b"\x91\x01", &[]), "T([1])");
        assert_eq!(shown(b"\xc4\x02xy", &[]), "T(2 bytes)");
    }
}
