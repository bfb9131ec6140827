//! Tags: names by which many entries are invalidated at once, in a time that does not grow with
//! their number.
//!
//! A namespace has a *clock*, one key with a number that only grows. A tag has an *epoch*: the
//! clock at its last invalidation. An entry has its tags and the clock before its load began. It is
//! valid while the epoch of each of its tags is known and not above that clock. So a tag may be
//! computed from the loaded value, and an evicted epoch or clock can only cause misses.
//! `docs/guides/tags.md` has the steps, and the reasons why other ways fail.
//!
//! ```text
//! [namespace:]::clock          the clock, in decimal
//! [namespace:]::tag:NAME       the epoch of a tag
//! [namespace:]::type:PREFIX    the epoch of a type that can be cleared
//! [namespace:]::limit:NAME:KEY the state of a rate limit, which is no tag (`limit`)
//! [namespace:]::count:NAME:KEY a counter (`counter`)
//! [namespace:]::lock:NAME:KEY  the state of a lock (`lock`)
//! ```
//!
//! No type has an empty prefix and no alias has such a key, so these keys have no other use.

use std::fmt;

use crate::base::error::{Error, ErrorKind};
use crate::key::writer::KeyWriter;
use crate::protocol::envelope;
use crate::protocol::envelope::tags::{LONGEST, MOST};

/// The beginning of the keys of the clock and of epochs, after the namespace.
pub(crate) const SPACE: &str = "::";

/// A name on entries by which they are invalidated together: `org:42`.
///
/// A type declares its tags by `#[cached(tag = "org:{org_id}")]`.
/// [`Cached::cache_tags`](crate::Cached::cache_tags) has a function for each, with the values in
/// the braces as arguments; other types or another number of them do not compile. Across types a
/// tag is its text: it means all entries with that text.
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
    /// The time for which loaders may read outdated rows, in milliseconds: of the type that the tag
    /// was made for.
    pub(crate) hold_millis: u32,
}

impl Tag {
    /// The text of the tag.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// A tag of a type with this `hold`, the time for which its loaders may read outdated rows.
    #[doc(hidden)]
    pub fn written(hold_millis: u32, write: impl FnOnce(&mut KeyWriter)) -> Self {
        let mut out = KeyWriter::bare(32);
        write(&mut out);
        // The parts of a key are text.
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

    /// A tag, written by its template.
    pub fn tag(&mut self, write: impl FnOnce(&mut KeyWriter)) {
        let mut out = self.begin("tag:");
        write(&mut out);
        self.push(out);
    }

    /// The tag of all entries of a type.
    pub fn of_type(&mut self, prefix: &str) {
        let mut out = self.begin("type:");
        out.text(prefix);
        self.push(out);
    }

    /// Computed tags.
    pub fn extend<I>(&mut self, tags: I)
    where
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        for tag in tags {
            self.tag(|out| out.text(tag.into().as_str()));
        }
    }

    /// A tag of an entry, by its name there.
    pub(crate) fn named(&mut self, name: &str) {
        let mut out = self.begin("");
        out.text(name);
        self.push(out);
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

    /// Appends the tags to the header of an entry.
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

/// The name in an entry that stands for the epoch's key. The first `space` bytes are the same for
/// all epochs.
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
    /// Whether no near copy may answer.
    pub(crate) asks_store: bool,
}

impl From<Vec<u8>> for Place {
    /// A key without tags.
    fn from(key: Vec<u8>) -> Self {
        Self {
            key,
            epochs: Vec::new(),
            asks_store: false,
        }
    }
}
