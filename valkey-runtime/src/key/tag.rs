//! Tags: what many entries are invalidated by at once, in a time that does not grow with their number.
//!
//! A namespace has a *clock*, one key with a number that only grows. A tag has an *epoch*: the clock at its last invalidation. An
//! entry carries its tags and the clock as it stood before its load began, and is valid while the epoch of each of its tags is known
//! and not above that. So a tag may be computed from what was loaded; and an epoch or a clock that is evicted can only cause
//! misses. `docs/guides/tags.md` has the steps, and why other ways fail.
//!
//! ```text
//! [namespace:]::clock          the clock, in decimal
//! [namespace:]::tag:NAME       the epoch of a tag
//! [namespace:]::type:PREFIX    that of a type that can be cleared
//! [namespace:]::limit:NAME:KEY the state of a rate limit, which is no tag (`limiter`)
//! ```
//!
//! No type has an empty prefix and no alias lies there, so these are nobody else's keys.

use std::fmt;

use crate::base::error::{Error, ErrorKind};
use crate::key::writer::KeyWriter;
use crate::protocol::envelope;
use crate::protocol::envelope::tags::{LONGEST, MOST};

/// What the keys of the clock and of epochs begin with, after the namespace.
pub(crate) const SPACE: &str = "::";

/// A name that entries are marked with, to be invalidated together: `org:42`.
///
/// A type says its tags by `#[cached(tag = "org:{org_id}")]`. [`Cached::cache_tags`](crate::Cached::cache_tags) has a function for each,
/// which takes what stands in the braces; that of another type, or another number of them, does not compile. Across types a tag
/// is its text: whatever carries it is meant.
///
/// ```
/// use valkey_runtime::Tag;
///
/// let tag = Tag::from("org:42");
/// assert_eq!(tag.to_string(), "org:42");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    name: Box<str>,
    /// For how long loaders may read what is old, in milliseconds: of the type that the tag was made for.
    pub(crate) hold_millis: u32,
}

impl Tag {
    /// The tag itself.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// A tag of a type whose loaders may read what is old for so long.
    #[doc(hidden)]
    pub fn written(hold_millis: u32, write: impl FnOnce(&mut KeyWriter)) -> Self {
        let mut out = KeyWriter::bare(32);
        write(&mut out);
        // A key's parts are text.
        let name = String::from_utf8_lossy(&out.into_bytes()).into();
        Self { name, hold_millis }
    }
}

impl From<&str> for Tag {
    fn from(name: &str) -> Self {
        Self {
            name: name.into(),
            hold_millis: 0,
        }
    }
}

impl From<String> for Tag {
    fn from(name: String) -> Self {
        Self {
            name: name.into(),
            hold_millis: 0,
        }
    }
}

impl From<&String> for Tag {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}

impl From<&Tag> for Tag {
    fn from(tag: &Tag) -> Self {
        tag.clone()
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:?})", self.name)
    }
}

/// Gathers the tags of an entry, each once. Only generated code needs it.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct TagWriter<'n> {
    /// Empty, or ending in `:`.
    pub(crate) namespace: &'n str,
    pub(crate) epochs: Vec<Vec<u8>>,
}

impl<'n> TagWriter<'n> {
    pub(crate) fn new(namespace: &'n str) -> Self {
        Self {
            namespace,
            epochs: Vec::new(),
        }
    }

    /// A tag as its template is written.
    pub fn tag(&mut self, write: impl FnOnce(&mut KeyWriter)) {
        let mut out = self.begin("tag:");
        write(&mut out);
        self.push(out);
    }

    /// The tag that all entries of a type carry.
    pub fn of_type(&mut self, prefix: &str) {
        let mut out = self.begin("type:");
        out.text(prefix);
        self.push(out);
    }

    /// Tags that were computed.
    pub fn extend<I>(&mut self, tags: I)
    where
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        for tag in tags {
            self.tag(|out| out.text(tag.into().as_str()));
        }
    }

    pub(crate) fn begin(&self, kind: &str) -> KeyWriter {
        let mut out = KeyWriter::bare(self.namespace.len() + 32);
        [self.namespace, SPACE, kind]
            .iter()
            .for_each(|text| out.text(text));
        out
    }

    fn push(&mut self, epoch: KeyWriter) {
        let epoch = epoch.into_bytes();
        if !self.epochs.contains(&epoch) {
            self.epochs.push(epoch);
        }
    }

    pub(crate) fn into_epochs(self) -> Vec<Vec<u8>> {
        self.epochs
    }

    /// Appends them to a header as an entry says them.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let too_large = |what: String| Err(Error::new(ErrorKind::TooLarge, what));
        if self.epochs.len() > MOST {
            let count = self.epochs.len();
            return too_large(format!("{count} tags, more than the limit of {MOST}"));
        }
        let space = self.namespace.len() + SPACE.len();
        if self
            .epochs
            .iter()
            .any(|epoch| epoch.len() - space > LONGEST)
        {
            return too_large(format!("a tag of more than {LONGEST} bytes"));
        }
        let names = self.epochs.iter();
        envelope::tags::write(names.map(|epoch| name_of(epoch, space)), out);
        Ok(())
    }
}

/// What an entry says in place of the epoch's key, of which so many bytes are the same for all.
pub(crate) fn name_of(epoch: &[u8], space: usize) -> &str {
    // It was written from texts.
    let name = epoch.get(space..).map(std::str::from_utf8);
    name.and_then(Result::ok).unwrap_or_default()
}

/// A key, and the epochs of the tags that follow from it alone.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) key: Vec<u8>,
    pub(crate) epochs: Vec<Vec<u8>>,
}

impl From<Vec<u8>> for Place {
    /// The key of what has no tags.
    fn from(key: Vec<u8>) -> Self {
        Self {
            key,
            epochs: Vec::new(),
        }
    }
}
