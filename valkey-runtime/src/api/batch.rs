//! Several verbs in one go: what is collected, and how it is sent.
//!
//! Each item is a verb for itself: it fails alone, and what is kept of it for later is what the
//! verb by itself would keep. One way leads to the server,
//! [`Gateway::write_each`](crate::backend::gateway::Gateway::write_each), for the bulk verbs too.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use crate::backend::write::Write;
use crate::base::error::Result;
use crate::base::error::all;
use crate::core::options::Condition;
use crate::core::options::SetOptions;
use crate::core::store::Inner;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::key::tag::Tag;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::traced;
use crate::schema::cached_type::CachedType;
use crate::schema::cached_type::Keyed;
use crate::verbs::tags::invalidate::{Invalidation, hold_of_tags};
use crate::verbs::{Admission, Sealed, Setting, has_stored};

/// Verbs that are collected and then sent together, from [`Store::batch`]: one round trip, whatever
/// the types.
///
/// ```
/// use std::time::Duration;
///
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, SetOptions, Store};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct Order {
///     #[cached(key)]
///     id: u64,
///     total: u32,
/// }
///
/// #[derive(Serialize, Deserialize, Cached)]
/// struct Basket {
///     #[cached(key)]
///     customer: String,
///     articles: Vec<u32>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// let order = Order { id: 42, total: 990 };
/// let mut batch = store.batch();
/// batch.set(&order).del::<Basket>("ada");
/// for id in [7, 8] {
///     batch.del::<Order>(id);
/// }
/// // All went well, or here is the first error.
/// let answers: Vec<bool> = batch.send().await.all()?;
/// assert_eq!(answers, [true, false, false, false]);
///
/// // Or one by one.
/// let a_minute = SetOptions::new().ttl(Duration::from_secs(60));
/// let results = store.batch().set_with(&order, a_minute).del::<Order>(42).send().await;
/// assert!(matches!(results[1], Ok(true)), "the order was there");
/// # Ok(())
/// # }
/// ```
///
/// An item is answered as the verb is: `true` where a value was stored, or was there to be deleted.
/// It fails by itself: the others are carried out, and what the verb by itself would keep to be
/// delivered later is kept. A batch is no transaction: others may read between two of its items.
/// What is done to one key is done in the order of the items.
///
/// What goes to one server goes in one pipeline; if it is more than a thousand items, or a
/// megabyte, in several, with four under way at a time. In a cluster each item is a command to the
/// node that has its key, and all of them are sent at once. If a key comes more than once, its
/// commands wait for each other there; elsewhere the pipelines do.
///
/// Tags cost a round trip before that, whatever their number, in which the clock is advanced. A
/// value of the same batch that carries such a tag is invalidated with the others, wherever it
/// stands. What is asked of tags before a value that carries some is set is asked once for all
/// values of the batch; conditions on such values go by what is there before the batch is sent.
#[must_use = "nothing is done before `send`"]
pub struct Batch<'s> {
    store: &'s Store,
    items: Vec<Item>,
}

/// What is to be done. Keys and values are bytes already.
enum Item {
    Set {
        place: Place,
        sealed: Result<Sealed>,
        condition: Condition,
        of: Arc<Type>,
    },
    Del {
        key: Vec<u8>,
        of: Arc<Type>,
    },
    MarkStale {
        key: Vec<u8>,
        of: Arc<Type>,
    },
    Tag {
        epoch: Vec<u8>,
        hold_millis: u32,
    },
}

impl<'s> Batch<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        let items = Vec::new();
        Self { store, items }
    }

    /// As [`Cached::set`](crate::Cached::set).
    pub fn set<T: Keyed>(&mut self, value: &T) -> &mut Self {
        self.set_at(value.cache_key(), value)
    }

    /// As [`Cached::set_with`](crate::Cached::set_with).
    pub fn set_with<T: Keyed>(&mut self, value: &T, options: SetOptions) -> &mut Self {
        self.set_at_with(value.cache_key(), value, options)
    }

    /// As [`Cached::set_at`](crate::Cached::set_at).
    pub fn set_at<T: CachedType>(&mut self, key: T::Key<'_>, value: &T) -> &mut Self {
        self.set_at_with(key, value, SetOptions::new())
    }

    /// As [`Handle::set_at_with`](crate::Handle::set_at_with).
    pub fn set_at_with<T: CachedType>(
        &mut self,
        key: T::Key<'_>,
        value: &T,
        SetOptions { ttl, condition }: SetOptions,
    ) -> &mut Self {
        let handle = self.store.of::<T>();
        let place = handle.place(key);
        let item = Item::Set {
            sealed: handle.sealed(&place.key, value, ttl),
            place,
            condition,
            of: self.store.inner().types.of::<T>().clone(),
        };
        self.add(item)
    }

    /// As [`Cached::del`](crate::Cached::del).
    pub fn del<T: CachedType>(&mut self, key: T::Key<'_>) -> &mut Self {
        let key = self.store.of::<T>().bytes(key);
        let of = self.store.inner().types.of::<T>().clone();
        self.add(Item::Del { key, of })
    }

    /// As [`Handle::mark_stale`](crate::Handle::mark_stale).
    pub fn mark_stale<T: CachedType>(&mut self, key: T::Key<'_>) -> &mut Self {
        let key = self.store.of::<T>().bytes(key);
        let of = self.store.inner().types.of::<T>().clone();
        self.add(Item::MarkStale { key, of })
    }

    /// As [`Store::invalidate_tag`]. The answer is `true`.
    pub fn invalidate_tag(&mut self, tag: impl Into<Tag>) -> &mut Self {
        let tag = tag.into();
        self.add(Item::Tag {
            epoch: self.store.inner().epoch_of(&tag),
            hold_millis: tag.hold_millis,
        })
    }

    fn add(&mut self, item: Item) -> &mut Self {
        self.items.push(item);
        self
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none. Such a batch sends nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends what was collected. The batch is empty then, and can be used again.
    ///
    /// Where the future is dropped half-way, an item may or may not have been carried out; what was
    /// to be deleted or replaced is then deleted as soon as the server takes it.
    pub fn send(&mut self) -> impl Future<Output = BatchResults> + Send + use<'s> {
        let (inner, items) = (self.store.inner(), std::mem::take(&mut self.items));
        async move {
            let span = inner.span("batch", None, About::Items(items.len()));
            BatchResults(traced!(span, inner.send_batch(items), |results| {
                Ending::of_each(results)
            }))
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("items", &self.len())
            .field("store", &self.store)
            .finish()
    }
}

/// What became of the items of a [`Batch`], in their order: a slice of results, each of which is as
/// the verb gives it.
#[derive(Clone, Debug)]
#[must_use = "each item may have failed"]
pub struct BatchResults(Vec<Result<bool>>);

impl BatchResults {
    /// All answers.
    ///
    /// # Errors
    /// The first, which says how many there are.
    pub fn all(self) -> Result<Vec<bool>> {
        all(self.0)
    }
}

impl Deref for BatchResults {
    type Target = [Result<bool>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl IntoIterator for BatchResults {
    type Item = Result<bool>;
    type IntoIter = std::vec::IntoIter<Result<bool>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Item {
    /// Of which verb it is, and of which key.
    fn place(&self) -> (&'static str, &[u8]) {
        match self {
            Item::Set { place, .. } => ("set", &place.key),
            Item::Del { key, .. } => ("del", key),
            Item::MarkStale { key, .. } => ("mark_stale", key),
            Item::Tag { epoch, .. } => ("invalidate_tag", epoch),
        }
    }

    /// Whose it is; a tag is of no type.
    fn of(&self) -> Option<&Type> {
        match self {
            Item::Set { of, .. } | Item::Del { of, .. } | Item::MarkStale { of, .. } => Some(of),
            Item::Tag { .. } => None,
        }
    }

    /// For how long a guard is to stay at its key, in milliseconds, if it is a deletion.
    fn hold(&self) -> Option<u64> {
        match self {
            Item::Set { .. } => None,
            Item::Del { of, .. } | Item::MarkStale { of, .. } => {
                Some(of.meta().policy.hold_millis.into())
            }
            Item::Tag { hold_millis, .. } => Some(hold_of_tags(u64::from(*hold_millis))),
        }
    }

    /// What is done at its key, if anything is; or why nothing can be. `clock` is that of the tags,
    /// advanced.
    fn write(
        &self,
        inner: &Inner,
        admission: Result<Admission>,
        clock: &Result<u64>,
    ) -> Result<Option<Write<'_>>> {
        Ok(match self {
            Item::Set {
                sealed,
                condition,
                of,
                ..
            } => {
                let sealed = sealed.as_ref().map_err(Clone::clone)?;
                return Ok(inner.storing(sealed, *condition, &admission?, of.meta()));
            }
            Item::Del { of, .. } => Some(Write::Apply(inner.deletion(of.meta()))),
            Item::MarkStale { of, .. } => Some(Write::Apply(inner.expiry(of.meta()))),
            Item::Tag { hold_millis, .. } => {
                let (clock, token) = (clock.clone()?, inner.random.next_u64());
                let verb = Invalidation::Dead.verb(clock, *hold_millis, token);
                Some(Write::Apply(verb))
            }
        })
    }

    fn answer(&self, write: &Write<'_>, done: bool) -> bool {
        match self {
            Item::Set { of, .. } => has_stored(write, done, of),
            Item::Del { .. } | Item::MarkStale { .. } => done,
            Item::Tag { .. } => true,
        }
    }

    fn is_tag(&self) -> bool {
        matches!(self, Item::Tag { .. })
    }

    /// What is to be asked of the tags before the value is set.
    fn setting(&mut self) -> Option<Setting<'_>> {
        match self {
            Item::Set {
                place,
                sealed: Ok(sealed),
                condition,
                of,
            } if of.meta().tagged => Some(Setting {
                place,
                sealed,
                condition: *condition,
                meta: of.meta(),
            }),
            _ => None,
        }
    }
}

impl Inner {
    async fn send_batch(&self, mut items: Vec<Item>) -> Vec<Result<bool>> {
        let (admissions, clock) = self.ask_before(&mut items).await;
        let mut results: Vec<Result<bool>> = Vec::with_capacity(items.len());
        let (mut sent, mut keys, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (item, admission)) in items.iter().zip(admissions).enumerate() {
            let write = item.write(self, admission, &clock);
            results.push(write.map(|write| {
                if let Some(write) = write {
                    sent.push(at);
                    keys.push(item.place().1);
                    writes.push(write);
                }
                false
            }));
        }
        let answers = self.gateway.write_each(&keys, &writes).await;
        let answers = answers.unwrap_or_else(|error| vec![Err(error); keys.len()]);
        for ((at, write), answer) in sent.into_iter().zip(&writes).zip(answers) {
            results[at] = answer.map(|done| items[at].answer(write, done));
        }
        let results = items.iter().zip(results);
        let results = results.map(|(item, result)| {
            let (operation, key) = item.place();
            #[cfg(any(test, feature = "testing"))]
            self.note(operation, item.of(), key, &result);
            result.map_err(|error| match item.of() {
                Some(of) => of.failed_at(operation, key, error),
                None => self.failed_at(operation, key, error),
            })
        });
        results.collect()
    }

    /// Asks what has to be known of tags before anything is done: whether they let values be set;
    /// and, if some of them are to be invalidated, the clock, which is advanced after that: a value
    /// of the same batch is invalidated too.
    async fn ask_before(&self, items: &mut [Item]) -> (Vec<Result<Admission>>, Result<u64>) {
        let mut admissions = vec![Ok(Admission::UNTAGGED); items.len()];
        let has_tags = items.iter().any(Item::is_tag);
        let sets = self.is_enabled() && items.iter_mut().any(|item| item.setting().is_some());
        if !has_tags && !sets {
            return (admissions, Ok(0));
        }
        let deletions: Vec<(Vec<u8>, u64)> = items
            .iter()
            .filter_map(|item| Some((item.place().1.to_vec(), item.hold()?)))
            .collect();
        let deletions: Vec<_> = deletions
            .iter()
            .map(|(key, hold)| (&**key, *hold))
            .collect();
        let unsent = self.gateway.unless_done(&deletions);
        if sets {
            let settings = items.iter_mut().enumerate();
            let settings = settings.filter_map(|(at, item)| Some((at, item.setting()?)));
            let (places, mut settings): (Vec<_>, Vec<_>) = settings.unzip();
            let admitted = self.admit(&mut settings).await;
            for (at, admission) in places.into_iter().zip(admitted) {
                admissions[at] = admission;
            }
        }
        let clock = match has_tags {
            false => Ok(0),
            true => {
                let epochs = items.iter().filter(|item| item.is_tag());
                let epochs: Vec<_> = epochs
                    .filter_map(|item| Some((item.place().1, item.hold()?)))
                    .collect();
                self.gateway.advance_for(&epochs).await
            }
        };
        unsent.disarm();
        (admissions, clock)
    }
}
