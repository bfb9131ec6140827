//! The verbs for all entries of a type: scan, count and purge; and the purge of a namespace.
//!
//! They go through the keys page by page, on every node, and do with each page what the bulk verbs do with keys that they are
//! given. A scan is no use of what it gives: it is counted as no hit, and extends no life.
//!
//! What lies beside a type's keys: `[namespace:]:prefix:…`, the other keys of its values (aliases), which hold no values
//! and which only a purge takes; and `[namespace:]::…`, what the namespace knows of its tags, which nothing here takes.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};

use crate::backend::keys::Keys;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::core::store::Inner;
use crate::core::types::Type;
use crate::key;
use crate::key::read::ReadKey;
use crate::key::tag as tags;
use crate::key::tag::Place;
use crate::key::writer::KeyWriter;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::traced;
use crate::protocol::envelope;
use crate::protocol::found::Found;
use crate::protocol::scope::Scope;
use crate::schema::cached_type::CachedType;
use crate::schema::keys::ReadKeyOf;
use crate::schema::policy::OnCorrupt;
use crate::value::codec;
use crate::verbs::{Seen, all};

/// How many keys a server looks at for one page, where nothing of the values is transferred.
const PAGE: usize = 1000;

/// How a scan goes about.
///
/// ```
/// use valkey_runtime::ScanOptions;
///
/// let options = ScanOptions::new().page(50).limit(1000);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ScanOptions {
    page: usize,
    limit: usize,
}

impl ScanOptions {
    /// Pages of 250, no limit.
    pub const fn new() -> Self {
        Self {
            page: 250,
            limit: usize::MAX,
        }
    }

    /// How many keys a server looks at for one page, and the most values that are read at a time: from 1 to 10,000. It is
    /// smaller where values are large, since a page of them is in memory, and larger where most keys of the server are
    /// others'.
    pub const fn page(mut self, keys: usize) -> Self {
        self.page = match keys {
            0 => 1,
            1..=10_000 => keys,
            _ => 10_000,
        };
        self
    }

    /// The most items that are given. Then the scan ends, without a word of whether there are more.
    pub const fn limit(mut self, items: usize) -> Self {
        self.limit = items;
        self
    }
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The keys and values of a type, from [`Handle::scan`](crate::Handle::scan): a [`Stream`](https://docs.rs/futures-core/0.3), and with the two
/// methods that most programs need of one.
///
/// It asks for a page when it is polled and its last page is given, and for nothing once it is dropped.
#[must_use = "a scan does nothing unless it is polled"]
pub struct Scan<'s, T: CachedType>
where
    T::OwnedKey: ReadKey,
{
    items: BoxStream<'s, Result<(ReadKeyOf<T>, T)>>,
}

impl<'s, T: CachedType> Scan<'s, T>
where
    T::OwnedKey: ReadKey,
{
    pub(crate) fn new(inner: &'s Inner, options: ScanOptions) -> Self {
        let pages = Pages {
            inner,
            of: inner.types.of::<T>(),
            skip: beginning(&inner.namespace, T::PREFIX).len(),
            keys: keys_of::<T>(inner).map(|scope| inner.gateway.keys(scope, options.page)),
            found: VecDeque::new(),
            page: options.page,
            left: options.limit,
            over: false,
        };
        let items = stream::unfold(pages, |mut pages| async move {
            let (inner, of) = (pages.inner, pages.of);
            let span = inner.span("scan", Some(of), About::All);
            let items = traced!(span, pages.next::<T>(), |items| {
                let items = items.as_deref().unwrap_or_default();
                Ending::of_each(items).with_rows(Some(items.len()))
            })?;
            Some((stream::iter(items), pages))
        });
        Self {
            items: items.flatten().fuse().boxed(),
        }
    }

    /// The next key and value; `None` after the last.
    ///
    /// # Errors
    /// When a server could not be asked: then the scan is over. And with `on_corrupt = "error"` for each corrupt entry, after
    /// which the scan goes on.
    pub async fn next(&mut self) -> Option<Result<(ReadKeyOf<T>, T)>> {
        self.items.next().await
    }

    /// All that is still to come, in a `Vec` or a `HashMap`.
    ///
    /// # Errors
    /// The first, as in [`next`](Self::next).
    pub async fn try_collect<C>(self) -> Result<C>
    where
        C: Default + Extend<(ReadKeyOf<T>, T)>,
    {
        self.items.try_collect().await
    }
}

impl<T: CachedType> Stream for Scan<'_, T>
where
    T::OwnedKey: ReadKey,
{
    type Item = Result<(ReadKeyOf<T>, T)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_next_unpin(cx)
    }
}

impl<T: CachedType> fmt::Debug for Scan<'_, T>
where
    T::OwnedKey: ReadKey,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("prefix", &T::PREFIX)
            .finish_non_exhaustive()
    }
}

/// How far a purge has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    keys: u64,
    values: u64,
}

impl Purged {
    /// How many keys were dealt with: values, and what else lies there, such as leases, guards and aliases. A key that was found
    /// twice is counted twice.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How many values were removed, of whatever version.
    pub fn values(&self) -> u64 {
        self.values
    }
}

/// What all keys of a type begin with.
fn beginning(namespace: &str, prefix: &str) -> Vec<u8> {
    KeyWriter::new(namespace, prefix).into_bytes()
}

/// What all aliases of a type begin with.
fn beginning_of_aliases(namespace: &str, prefix: &str) -> Vec<u8> {
    let mut out = KeyWriter::new(namespace, "");
    out.part(prefix);
    out.part("");
    out.into_bytes()
}

/// What the keys begin with that are a namespace's own.
fn beginning_of_tags(namespace: &str) -> Vec<u8> {
    [namespace, tags::SPACE].concat().into_bytes()
}

/// The keys of the type's values.
pub(crate) fn keys_of<T: CachedType>(inner: &Inner) -> Result<Scope> {
    let own = beginning(&inner.namespace, named(T::PREFIX)?);
    Ok(Scope::new(vec![own]))
}

/// All keys of the type, aliases too.
pub(crate) fn keys_and_aliases_of<T: CachedType>(inner: &Inner) -> Result<Scope> {
    let (namespace, prefix) = (&inner.namespace, named(T::PREFIX)?);
    Ok(Scope::new(vec![
        beginning(namespace, prefix),
        beginning_of_aliases(namespace, prefix),
    ]))
}

/// The derive gives each type a prefix; an implementation by hand may leave it empty.
fn named(prefix: &str) -> Result<&str> {
    match prefix {
        "" => Err(Error::config(
            "the type's prefix is empty: its keys can't be told from those of other types' aliases",
        )),
        prefix => Ok(prefix),
    }
}

struct Pages<'s> {
    inner: &'s Inner,
    of: &'s Type,
    /// How much of a key is its prefix.
    skip: usize,
    /// An error where the type has none of its own.
    keys: Result<Keys<'s>>,
    /// What is found and not read yet.
    found: VecDeque<Vec<u8>>,
    page: usize,
    /// How many items may still be given.
    left: usize,
    over: bool,
}

impl Pages<'_> {
    /// The items of the next page, which may be none. `None` after the last.
    async fn next<T>(&mut self) -> Option<Vec<Result<(ReadKeyOf<T>, T)>>>
    where
        T: CachedType,
        T::OwnedKey: ReadKey,
    {
        let of = self.of;
        let read = match self.read().await {
            Ok(read) => read?,
            Err(error) => {
                self.over = true;
                return Some(vec![Err(of.failed(error.during("scan")))]);
            }
        };
        let mut items = Vec::with_capacity(read.len());
        for (key, seen) in read {
            // A key that no look-up asks for is none of the type's.
            let Some(parsed) = key::read::read::<T::OwnedKey>(&key[self.skip..]) else {
                continue;
            };
            let item = match seen {
                Seen::Nothing => continue,
                Seen::Corrupt(bytes, why) => Err((bytes, why.into())),
                Seen::Value(raw) => {
                    codec::read(raw.payload()).map_err(|why| (Some(raw.bytes().clone()), why))
                }
            };
            match item {
                Ok(value) => items.push(Ok((parsed, value))),
                Err((bytes, why)) => {
                    self.inner
                        .note_corrupt("scan", &key, bytes.as_deref(), &why, of)
                        .await;
                    if of.meta().policy.on_corrupt == OnCorrupt::Error {
                        items.push(Err(of.failed_at("scan", &key, why.into_error())));
                    }
                }
            }
        }
        self.left -= items.len();
        Some(items)
    }

    /// The next keys, and what is there for a read under them.
    async fn read(&mut self) -> Result<Option<Vec<(Vec<u8>, Seen)>>> {
        let (inner, meta) = (self.inner, self.of.meta());
        if self.over || self.left == 0 || !inner.is_enabled() {
            return Ok(None);
        }
        inner.ttl_override(meta)?;
        inner.gateway.open()?;
        if self.found.is_empty() {
            let keys = self.keys.as_mut().map_err(|error| error.clone())?;
            match inner.gateway.page(keys).await? {
                Some(keys) => self.found.extend(keys),
                None => return Ok(None),
            }
        }
        let count = self.found.len().min(self.page).min(self.left);
        let keys: Vec<_> = self.found.drain(..count).collect();
        if keys.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let places: Vec<Place> = keys.iter().cloned().map(Place::from).collect();
        let found = inner.read_many(&places, meta).await?;
        let seen = found.into_iter().map(|found| inner.seen(found, meta));
        Ok(Some(keys.into_iter().zip(seen).collect()))
    }
}

impl Inner {
    /// How many values `get` would give, as far as their headers tell.
    pub(crate) async fn count(&self, scope: Result<Scope>, of: &Type) -> Result<u64> {
        let meta = of.meta();
        let fail = |error: Error| of.failed(error.during("count"));
        let scope = scope.map_err(fail)?;
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            return Ok(0);
        }
        let mut pages = self.gateway.keys(scope, PAGE);
        let mut count = 0;
        loop {
            self.gateway.open().map_err(fail)?;
            let Some(keys) = self.gateway.page(&mut pages).await.map_err(fail)? else {
                return Ok(count);
            };
            let found = self.gateway.heads(&keys).await.map_err(fail)?;
            let (mut tagged, mut own) = (Vec::new(), 0);
            for (key, found) in keys.into_iter().zip(found) {
                match &found {
                    Found::Entry(head) if meta.tagged || envelope::has_clock(head) => {
                        tagged.push(Place::from(key));
                    }
                    _ => own += u64::from(self.own(&found, meta).is_some()),
                }
            }
            // Their tags are not all in what is read of them here.
            let found = self.read_many(&tagged, meta).await.map_err(fail)?;
            let valid = found.iter().filter(|found| self.own(found, meta).is_some());
            count += own + valid.count() as u64;
        }
    }

    /// Deletes all keys in the scope, which are those of a type or of all, with a guard that stays for `hold` milliseconds, and says after each page how far it is.
    pub(crate) async fn purge(
        &self,
        scope: Result<Scope>,
        hold: u64,
        of: Option<&Type>,
        progress: &mut (dyn FnMut(Purged) + Send),
    ) -> Result<u64> {
        let fail = |error: Error| self.failed_of(of, error.during("purge"));
        let mut pages = self.gateway.keys(scope.map_err(fail)?, PAGE);
        let began = self.gateway.purge();
        let mut purged = Purged::default();
        loop {
            self.gateway.open().map_err(fail)?;
            let Some(keys) = self.gateway.page(&mut pages).await.map_err(fail)? else {
                self.gateway.purged(pages.scope(), began);
                return Ok(purged.values);
            };
            if !keys.is_empty() {
                let removed = self.delete_page(&keys, hold).await.map_err(fail)?;
                purged.keys += keys.len() as u64;
                purged.values += removed;
            }
            progress(purged);
        }
    }

    /// How many values were there.
    async fn delete_page(&self, keys: &[Vec<u8>], hold: u64) -> Result<u64> {
        let holds = self.gateway.holds_of(keys).into_iter().zip(keys);
        let verbs: Vec<_> = holds
            .map(|(waiting, key)| match self.is_alias(key) {
                true => self.deletion_with(waiting),
                false => self.deletion_with(waiting.max(hold)),
            })
            .collect();
        let slices: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        let answers = self.gateway.apply_each(&slices, &verbs).await;
        let removed = all("purge", keys, answers?, self.types.keys())?;
        let values = removed.into_iter().zip(keys);
        let values = values.filter(|(removed, key)| *removed && !self.is_alias(key));
        Ok(values.count() as u64)
    }

    /// Whether the key is no value's, but leads to one's.
    fn is_alias(&self, key: &[u8]) -> bool {
        key.get(self.namespace.len()) == Some(&b':')
    }

    /// All keys of the namespace but what it knows of its tags: to lose that would be harmless, and of no use.
    pub(crate) async fn purge_namespace(
        &self,
        progress: &mut (dyn FnMut(Purged) + Send),
    ) -> Result<u64> {
        let scope = match &*self.namespace {
            "" => Err(Error::config(
                "the store has no namespace: a purge would take all keys of the database, others' too",
            )),
            namespace => {
                Ok(Scope::new(vec![namespace.into()]).without(beginning_of_tags(namespace)))
            }
        };
        let span = self.span("purge", None, About::All);
        traced!(span, self.purge(scope, 0, None, progress), Ending::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_the_keys_of_a_type() {
        assert_eq!(beginning("", "user"), b"user:");
        assert_eq!(beginning("ns:", "page<user>"), b"ns:page<user>:");
        assert_eq!(beginning_of_aliases("ns:", "user"), b"ns::user:");
        assert_eq!(beginning_of_aliases("", "100%"), b":100%25:");
        assert_eq!(beginning_of_tags("ns:"), b"ns:::");
    }
}
