//! The meaning of a changed key: the copies that are out of date.

use std::fmt;

use bytes::Bytes;

use crate::base::error::printable;
use crate::key;
use crate::key::part::KeyPart;
use crate::key::read::ReadKey;
use crate::key::writer::KeyWriter;
use crate::schema::cached_type::CachedType;
use crate::schema::keys::ReadKeyOf;

/// A change that makes copies outdated: an item of
/// [`Invalidations`](crate::backend::invalidations::Invalidations).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Invalidation {
    /// An entry changed: it was stored or deleted, or got a placeholder.
    Key(InvalidatedKey),
    /// A tag was invalidated.
    Tag(InvalidatedTag),
    /// A type was cleared.
    Type(InvalidatedType),
    /// Anything may have changed. Drop all copies.
    Gap,
}

/// A key whose entry changed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InvalidatedKey {
    whole: Bytes,
    /// The positions of the prefix and of the colon after it.
    prefix: (usize, usize),
}

/// A tag that was invalidated.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InvalidatedTag(Bytes);

/// A type that was cleared.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InvalidatedType(Bytes);

impl Invalidation {
    /// The change that a key of the server stands for. `None` if it concerns no copies: the tag
    /// clock, an alias, or a key of no type of the namespace.
    pub(crate) fn of(key: Bytes, namespace: &str) -> Option<Self> {
        let rest = key.strip_prefix(namespace.as_bytes())?;
        match rest {
            [b':', b':', ours @ ..] => {
                let tail = |name: &[u8]| {
                    ours.starts_with(name)
                        .then(|| key.slice(key.len() - ours.len() + name.len()..))
                };
                if let Some(name) = tail(b"tag:") {
                    // Tags are text.
                    std::str::from_utf8(&name).ok()?;
                    return Some(Invalidation::Tag(InvalidatedTag(name)));
                }
                let prefix = tail(b"type:").filter(|prefix| is_prefix(prefix))?;
                Some(Invalidation::Type(InvalidatedType(prefix)))
            }
            [b':', ..] => None,
            _ => {
                let colon = rest.iter().position(|byte| *byte == b':')?;
                if !is_prefix(&rest[..colon]) {
                    return None;
                }
                let start = key.len() - rest.len();
                let prefix = (start, start + colon);
                Some(Invalidation::Key(InvalidatedKey { whole: key, prefix }))
            }
        }
    }
}

fn is_prefix(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_ok()
}

fn as_text(name: &[u8]) -> &str {
    std::str::from_utf8(name).expect("it was looked at when the item was made")
}

impl InvalidatedKey {
    /// The prefix of the key's type, as [`CachedType::PREFIX`].
    pub fn prefix(&self) -> &str {
        as_text(&self.whole[self.prefix.0..self.prefix.1])
    }

    /// Whether it is a key of this type.
    pub fn is_of<T: CachedType>(&self) -> bool {
        self.prefix() == T::PREFIX
    }

    /// The key, if it is one of this type: `u64`, `String`, `(u64, String)`, as a
    /// [scan](crate::Handle::scan) returns it.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Invalidation, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # #[cached(prefix = "user")]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let mut invalidations = store.invalidations().await?;
    /// User { id: 42 }.set(&store).await?;
    /// let Some(Invalidation::Key(key)) = invalidations.next().await else { panic!() };
    /// assert_eq!(key.key::<User>(), Some(42));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key<T: CachedType>(&self) -> Option<ReadKeyOf<T>>
    where
        T::OwnedKey: ReadKey,
    {
        let parts = &self.whole[self.prefix.1 + 1..];
        self.is_of::<T>()
            .then(|| key::read::read::<T::OwnedKey>(parts))?
    }

    /// Whether it is exactly this key of the type.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, Invalidation, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # #[cached(prefix = "user")]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let mut invalidations = store.invalidations().await?;
    /// User { id: 42 }.set(&store).await?;
    /// let Some(Invalidation::Key(key)) = invalidations.next().await else { panic!() };
    /// assert!(key.is::<User>(42) && !key.is::<User>(7));
    /// assert_eq!((key.prefix(), key.as_bytes()), ("user", &b"user:42"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn is<T: CachedType>(&self, key: T::Key<'_>) -> bool {
        if !self.is_of::<T>() {
            return false;
        }
        let mut out = KeyWriter::new("", T::PREFIX);
        <T::OwnedKey as KeyPart>::write(key, &mut out);
        out.into_bytes() == self.as_bytes()
    }

    /// The key as stored in the server, without the namespace.
    pub fn as_bytes(&self) -> &[u8] {
        &self.whole[self.prefix.0..]
    }
}

impl InvalidatedTag {
    /// The text of the tag, as [`Tag::as_str`](crate::key::tag::Tag::as_str). Compare it with
    /// `User::cache_tags().org(42).as_str()`.
    pub fn as_str(&self) -> &str {
        as_text(&self.0)
    }
}

impl InvalidatedType {
    /// The prefix of the type, as [`CachedType::PREFIX`].
    pub fn prefix(&self) -> &str {
        as_text(&self.0)
    }

    /// Whether it is this type.
    pub fn is_of<T: CachedType>(&self) -> bool {
        self.prefix() == T::PREFIX
    }
}

impl fmt::Debug for InvalidatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = printable(self.as_bytes());
        write!(f, "InvalidatedKey({text})")
    }
}

impl fmt::Debug for InvalidatedTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = printable(&self.0);
        write!(f, "InvalidatedTag({text})")
    }
}

impl fmt::Debug for InvalidatedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvalidatedType({})", printable(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &'static [u8], namespace: &str) -> String {
        match Invalidation::of(Bytes::from_static(key), namespace) {
            None => "nothing".to_owned(),
            Some(Invalidation::Key(key)) => {
                let bytes = String::from_utf8_lossy(key.as_bytes()).into_owned();
                format!("key of {}: {bytes}", key.prefix())
            }
            Some(Invalidation::Tag(tag)) => {
                format!("tag {}", tag.as_str())
            }
            Some(Invalidation::Type(ty)) => format!("type {}", ty.prefix()),
            Some(Invalidation::Gap) => panic!("no key is a gap"),
        }
    }

    #[test]
    fn a_key_says_whose_copies_are_out_of_date() {
        for (key, means) in [
            (&b"ns:user:42"[..], "key of user: user:42"),
            (b"ns:user:", "key of user: user:"),
            (
                b"ns:page<user>:a%3Ab:7",
                "key of page<user>: page<user>:a%3Ab:7",
            ),
            (b"ns:user:\xff", "key of user: user:\u{fffd}"),
            (b"ns:::tag:org:42", "tag org:42"),
            (b"ns:::tag:", "tag "),
            (b"ns:::tag:a:::type:x", "tag a:::type:x"),
            (b"ns:::tag:\xff", "nothing"),
            (b"ns:::type:user", "type user"),
            (b"ns:::type:", "nothing"),
            (b"ns:::type:\xff", "nothing"),
            (b"ns:::clock", "nothing"),
            (b"ns:::tagged", "nothing"),
            (b"ns:::limit:api:42", "nothing"),
            (b"ns::user:email:a@b", "nothing"),
            (b"ns:user", "nothing"),
            (b"ns:\xff:1", "nothing"),
            (b"ns:", "nothing"),
            (b"other:user:42", "nothing"),
            (b"", "nothing"),
        ] {
            assert_eq!(of(key, "ns:"), means, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn without_a_namespace_the_prefix_comes_first() {
        assert_eq!(of(b"user:42", ""), "key of user: user:42");
        assert_eq!(of(b"::tag:a", ""), "tag a");
        assert_eq!(of(b"::type:user", ""), "type user");
        assert_eq!(of(b"::clock", ""), "nothing");
        assert_eq!(of(b":user:email:a@b", ""), "nothing");
    }

    #[test]
    fn debug_output_is_printable() {
        let key = Invalidation::of(Bytes::from_static(b"user:\n\xff"), "").unwrap();
        assert_eq!(format!("{key:?}"), "Key(InvalidatedKey(user:\\n\u{fffd}))");
    }
}
