//! The verbs for all entries of a type: scan, count and purge; and the purge of a namespace.
//!
//! They visit the keys page by page, on every node, and treat each page as the bulk verbs treat
//! given keys. A scan does not use the values it returns: it counts no hits and extends no life.
//!
//! Two kinds of keys exist beside those of values. `[namespace:]:prefix:…` are aliases, which hold
//! no values and which only a purge removes. `[namespace:]::…` is the namespace's data of tags and
//! rate limits, which no verb here removes.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};

use crate::backend::keys::Keys;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::core::failures::Failures;
use crate::core::inner::{Inner, view};
use crate::core::types::Type;
use crate::key;
use crate::key::read::ReadKey;
use crate::key::tag as tags;
use crate::key::tag::Place;
use crate::key::writer::KeyWriter;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::Tracer;
use crate::observe::trace::traced;
use crate::protocol::envelope;
use crate::protocol::found::Found;
use crate::protocol::scope::Scope;
use crate::protocol::transition::Verb;
use crate::schema::cached_type::CachedType;
use crate::schema::keys::ReadKeyOf;
use crate::schema::policy::OnCorrupt;
use crate::value::codec;
use crate::verbs::corrupt::CorruptEntries;
use crate::verbs::delete::Remover;
use crate::verbs::lifetimes::Lifetimes;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::own_header;
use crate::verbs::read::Reader;
use crate::verbs::tags::read::TagReader;
use crate::verbs::{Seen, all};

/// The number of keys per page and server, if no values are transferred.
const PAGE: usize = 1000;

/// Options of a scan.
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
    /// Pages of 250 keys, and no limit.
    pub const fn new() -> Self {
        Self {
            page: 250,
            limit: usize::MAX,
        }
    }

    /// Sets how many keys a server visits for one page, and the most values that are read at a
    /// time: from 1 to 10,000. Choose fewer for large values, as a page of them is in memory.
    /// Choose more if most keys of the server do not belong to the type.
    pub const fn page(mut self, keys: usize) -> Self {
        self.page = match keys {
            0 => 1,
            1..=10_000 => keys,
            _ => 10_000,
        };
        self
    }

    /// Sets the most items of the scan. The scan then ends without reporting whether there are
    /// more.
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

/// The keys and values of a type, from [`Handle::scan`](crate::Handle::scan): a
/// [`Stream`](https://docs.rs/futures-core/0.3), with the two methods that most programs need.
///
/// It requests a page when it is polled and the last page is used up, and none after it is dropped.
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
            let span = Tracer(inner).span("scan", Some(of), About::All);
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

    /// The next key and value, or `None` after the last.
    ///
    /// # Errors
    /// If a server can't be queried; this ends the scan. With `on_corrupt = "error"` also for each
    /// corrupt entry; the scan then continues.
    pub async fn next(&mut self) -> Option<Result<(ReadKeyOf<T>, T)>> {
        self.items.next().await
    }

    /// Collects the remaining items in a `Vec` or a `HashMap`.
    ///
    /// # Errors
    /// The first error, as in [`next`](Self::next).
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

/// The progress of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    keys: u64,
    values: u64,
}

impl Purged {
    /// The number of keys visited: values, and other entries such as leases, guards and aliases. A
    /// key that the server returned twice is counted twice.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The number of values removed, of any version.
    pub fn values(&self) -> u64 {
        self.values
    }
}

/// The beginning of all keys of a type.
fn beginning(namespace: &str, prefix: &str) -> Vec<u8> {
    KeyWriter::new(namespace, prefix).into_bytes()
}

/// The beginning of all aliases of a type.
fn beginning_of_aliases(namespace: &str, prefix: &str) -> Vec<u8> {
    let mut out = KeyWriter::new(namespace, "");
    out.part(prefix);
    out.part("");
    out.into_bytes()
}

/// The beginning of a namespace's own keys.
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

/// Checks that the prefix is not empty. The derive ensures this; an implementation by hand may not.
fn named(prefix: &str) -> Result<&str> {
    match prefix {
        "" => Err(Error::config(
            "the type's prefix is empty: its keys can't be distinguished from the alias entries of other types",
        )),
        prefix => Ok(prefix),
    }
}

struct Pages<'s> {
    inner: &'s Inner,
    of: &'s Type,
    /// The length of the prefix in a key.
    skip: usize,
    /// An error if the type has no prefix.
    keys: Result<Keys<'s>>,
    /// Keys of the page that are not read yet.
    found: VecDeque<Vec<u8>>,
    page: usize,
    /// The number of items that may still be returned.
    left: usize,
    over: bool,
}

impl Pages<'_> {
    /// The items of the next page, possibly none. `None` after the last page.
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
            // A key that no look-up can produce does not belong to the type.
            let Some(parsed) = key::read::read::<T::OwnedKey>(&key[self.skip..]) else {
                continue;
            };
            let item = match seen {
                Seen::Nothing => continue,
                Seen::Unreadable(error) => {
                    items.push(Err(of.failed_at("scan", &key, error)));
                    continue;
                }
                Seen::Corrupt(bytes, why) => Err((bytes, why.into())),
                Seen::Value(raw) => {
                    codec::read(raw.payload()).map_err(|why| (Some(raw.bytes().clone()), why))
                }
            };
            match item {
                Ok(value) => items.push(Ok((parsed, value))),
                Err((bytes, why)) => {
                    CorruptEntries(self.inner)
                        .note_corrupt("scan", &key, bytes.as_deref(), &why, of)
                        .await;
                    if of.meta().policy.on_corrupt == OnCorrupt::Error {
                        let error = OnlyCopies::kept(why.into_error(), of);
                        items.push(Err(of.failed_at("scan", &key, error)));
                    }
                }
            }
        }
        self.left -= items.len();
        Some(items)
    }

    /// The next keys, with the result of a read for each.
    async fn read(&mut self) -> Result<Option<Vec<(Vec<u8>, Seen)>>> {
        let (inner, meta) = (self.inner, self.of.meta());
        if !self.over {
            OnlyCopies(inner).is_on(meta)?;
        }
        if self.over || self.left == 0 || !inner.is_enabled() {
            return Ok(None);
        }
        Lifetimes(inner).ttl_override(meta)?;
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
        let found = TagReader(inner).read_many(&places, meta).await?;
        let seen = keys.into_iter().zip(found).map(|(key, found)| {
            let seen = Reader(inner).seen("scan", &key, found, self.of);
            (key, seen)
        });
        Ok(Some(seen.collect()))
    }
}

view! {
    /// Walks over all keys of a type or a namespace.
    Scanner
}

impl<'a> Scanner<'a> {
    /// The number of values that `get` would return, according to their headers.
    pub(crate) async fn count(self, scope: Result<Scope>, of: &Type) -> Result<u64> {
        let meta = of.meta();
        let fail = |error: Error| of.failed(error.during("count"));
        let scope = scope.map_err(fail)?;
        Lifetimes(self.0).ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            OnlyCopies(self.0).is_on(meta).map_err(fail)?;
            return Ok(0);
        }
        let counts = |found: &Found| {
            let is_unread = || OnlyCopies(self.0).is_nothing(found, meta).is_err();
            own_header(self.0, found, meta).is_some() || is_unread()
        };
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
                    _ => own += u64::from(counts(&found)),
                }
            }
            // The headers read here do not contain all tags.
            let found = TagReader(self.0)
                .read_many(&tagged, meta)
                .await
                .map_err(fail)?;
            let valid = found.iter().filter(|found| counts(found));
            count += own + valid.count() as u64;
        }
    }

    /// Deletes all keys in the scope, that of a type or of a namespace, with a guard for `hold`
    /// milliseconds. Reports the progress after each page.
    pub(crate) async fn purge(
        self,
        scope: Result<Scope>,
        hold: u64,
        of: Option<&Type>,
        progress: &mut (dyn FnMut(Purged) + Send),
    ) -> Result<u64> {
        let fail = |error: Error| Failures(self.0).failed_of(of, error.during("purge"));
        if let Some(of) = of {
            OnlyCopies(self.0).is_on(of.meta()).map_err(fail)?;
        }
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
                let removed = self.delete_page(&keys, hold, of).await.map_err(fail)?;
                purged.keys += keys.len() as u64;
                purged.values += removed;
            }
            progress(purged);
        }
    }

    /// Returns the number of values that were removed.
    async fn delete_page(self, keys: &[Vec<u8>], hold: u64, of: Option<&Type>) -> Result<u64> {
        let only_copy = of.is_some_and(|of| of.meta().policy.only_copy);
        let holds = self.gateway.holds_of(keys).into_iter().zip(keys);
        let verbs: Vec<_> = holds
            .map(|(waiting, key)| match self.is_alias(key) {
                false if only_copy && waiting == 0 => Verb::DeleteOnlyCopy,
                true => Remover(self.0).deletion_with(waiting),
                false => Remover(self.0).deletion_with(waiting.max(hold)),
            })
            .collect();
        let slices: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        let answers = self.gateway.apply_each(&slices, &verbs).await;
        let removed = all("purge", keys, answers?, self.types.keys())?;
        let values = removed.into_iter().zip(keys);
        let values = values.filter(|(removed, key)| *removed && !self.is_alias(key));
        Ok(values.count() as u64)
    }

    /// Whether the key is an alias.
    pub(crate) fn is_alias(self, key: &[u8]) -> bool {
        key.get(self.namespace.len()) == Some(&b':')
    }

    /// Deletes all keys of the namespace except its data of tags and rate limits. Deleting the tag
    /// data would be harmless, but useless.
    pub(crate) async fn purge_namespace(
        self,
        progress: &mut (dyn FnMut(Purged) + Send),
    ) -> Result<u64> {
        let scope = match &*self.namespace {
            "" => Err(Error::config(
                "the store has no namespace: a purge would delete all keys of the database, including those of other programs",
            )),
            namespace => {
                Ok(Scope::new(vec![namespace.into()]).without(beginning_of_tags(namespace)))
            }
        };
        let span = Tracer(self.0).span("purge", None, About::All);
        traced!(span, self.purge(scope, 0, None, progress), Ending::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_aliases_and_tags_have_keys_with_distinct_beginnings() {
        assert_eq!(beginning("", "user"), b"user:");
        assert_eq!(beginning("ns:", "page<user>"), b"ns:page<user>:");
        assert_eq!(beginning_of_aliases("ns:", "user"), b"ns::user:");
        assert_eq!(beginning_of_aliases("", "100%"), b":100%25:");
        assert_eq!(beginning_of_tags("ns:"), b"ns:::");
    }
}
