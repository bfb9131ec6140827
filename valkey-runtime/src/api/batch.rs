//! Batches: several verbs that are collected and then sent together.
//!
//! Each item is a verb of its own: it fails alone, and leaves in the outbox the same as that verb.
//! There is one way to the server, also for the bulk verbs:
//! [`Gateway::write_each`](crate::backend::gateway::Gateway::write_each).

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use crate::backend::write::Write;
use crate::base::error::Result;
use crate::base::error::all;
use crate::core::failures::Failures;
use crate::core::inner::{Inner, view};
use crate::core::options::Condition;
use crate::core::options::SetOptions;
use crate::core::store::Store;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::key::tag::Tag;
use crate::observe::answer::{About, Ending};
#[cfg(any(test, feature = "testing"))]
use crate::observe::record::Recorder;
use crate::observe::trace::Tracer;
use crate::observe::trace::traced;
use crate::schema::cached_type::CachedType;
use crate::schema::cached_type::Keyed;
use crate::verbs::delete::Remover;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::tags::Epochs;
use crate::verbs::tags::invalidate::{Invalidation, hold_of_tags};
use crate::verbs::write::Writer;
use crate::verbs::{Admission, Sealed, Setting, has_stored};

/// A batch of verbs, of any types, sent in one round trip. From [`Store::batch`].
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
/// Each item has the result of its verb: `true` if a value was stored or deleted. An item fails
/// alone: the others are carried out, and its invalidation is kept as that of the single verb is. A
/// batch is no transaction: other callers may read between two of its items. The items of one key
/// are carried out in their order.
///
/// All items for one server form one pipeline. If they are more than a thousand, or more than a
/// megabyte, they form several, with four under way at a time. In a cluster each item is a command
/// to the node of its key, and all commands are sent at once. If a key occurs more than once, its
/// commands wait for each other in a cluster; elsewhere the pipelines do.
///
/// Tags cost one round trip first, whatever their number: it advances the tag clock. Values of the
/// batch with an invalidated tag are invalidated too, in whatever position. The tags of all values
/// of the batch are checked together, before any value is stored. Conditions on values with tags
/// refer to the entries that exist before the batch is sent.
#[must_use = "nothing is done before `send`"]
pub struct Batch<'s> {
    store: &'s Store,
    items: Vec<Item>,
    /// The alias entries that items end, each with the position of its item.
    aliases: Vec<Aliases>,
}

struct Aliases {
    at: usize,
    keys: Vec<Vec<u8>>,
    of: Arc<Type>,
}

/// A collected verb, with key and value encoded.
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
        let aliases = Vec::new();
        Self {
            store,
            items,
            aliases,
        }
    }

    /// Adds a [`Cached::set`](crate::Cached::set).
    pub fn set<T: Keyed>(&mut self, value: &T) -> &mut Self {
        self.set_at(value.cache_key(), value)
    }

    /// Adds a [`Cached::set_with`](crate::Cached::set_with).
    pub fn set_with<T: Keyed>(&mut self, value: &T, options: SetOptions) -> &mut Self {
        self.set_at_with(value.cache_key(), value, options)
    }

    /// Adds a [`Cached::set_at`](crate::Cached::set_at).
    pub fn set_at<T: CachedType>(&mut self, key: T::Key<'_>, value: &T) -> &mut Self {
        self.set_at_with(key, value, SetOptions::new())
    }

    /// Adds a [`Handle::set_at_with`](crate::Handle::set_at_with).
    pub fn set_at_with<T: CachedType>(
        &mut self,
        key: T::Key<'_>,
        value: &T,
        SetOptions { ttl, condition }: SetOptions,
    ) -> &mut Self {
        let handle = self.store.of::<T>();
        let place = handle.place(key);
        let keys = handle.alias_keys(value);
        if !keys.is_empty() {
            let (at, of) = (self.items.len(), handle.of().clone());
            self.aliases.push(Aliases { at, keys, of });
        }
        let item = Item::Set {
            sealed: handle.sealed(&place, value, ttl),
            place,
            condition,
            of: handle.of().clone(),
        };
        self.add(item)
    }

    /// Adds a [`Cached::del`](crate::Cached::del).
    pub fn del<T: CachedType>(&mut self, key: T::Key<'_>) -> &mut Self {
        let (key, of) = (self.store.of::<T>().bytes(key), self.store.of::<T>().of());
        let of = of.clone();
        self.add(Item::Del { key, of })
    }

    /// Adds a [`Handle::mark_stale`](crate::Handle::mark_stale).
    pub fn mark_stale<T: CachedType>(&mut self, key: T::Key<'_>) -> &mut Self {
        const { T::POLICY.can_be_stale() };
        let key = self.store.of::<T>().bytes(key);
        let of = self.store.inner().types.of::<T>().clone();
        self.add(Item::MarkStale { key, of })
    }

    /// Adds a [`Store::invalidate_tag`]. Its answer is `true`.
    pub fn invalidate_tag(&mut self, tag: impl Into<Tag>) -> &mut Self {
        let tag = tag.into();
        self.add(Item::Tag {
            epoch: Epochs(self.store.inner()).epoch_of(&tag),
            hold_millis: tag.hold_millis,
        })
    }

    fn add(&mut self, item: Item) -> &mut Self {
        self.items.push(item);
        self
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether there are no items. Such a batch sends nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends the items. The batch is then empty, and can be used again.
    ///
    /// If the future is dropped before its end, each item may or may not have been carried out.
    /// Keys that were to be deleted or replaced are then deleted as soon as the server can be
    /// reached.
    pub fn send(&mut self) -> impl Future<Output = BatchResults> + Send + use<'s> {
        let (inner, items) = (self.store.inner(), std::mem::take(&mut self.items));
        let aliases = std::mem::take(&mut self.aliases);
        async move {
            let span = Tracer(inner).span("batch", None, About::Items(items.len()));
            let mut results = traced!(span, BatchSender(inner).send_batch(items), |results| {
                Ending::of_each(results)
            });
            for Aliases { at, keys, of } in aliases {
                if !matches!(results[at], Ok(false))
                    && let Err(error) = Box::pin(Remover(inner).end_absences(&keys, &of)).await
                {
                    results[at] = Err(error);
                }
            }
            BatchResults(results)
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

/// The results of a [`Batch`], in the order of its items: a slice with the result of each verb.
#[derive(Clone, Debug)]
#[must_use = "each item may have failed"]
pub struct BatchResults(Vec<Result<bool>>);

impl BatchResults {
    /// Returns all answers.
    ///
    /// # Errors
    /// The first error. Its message gives the number of errors.
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
    /// The name of the verb, and its key.
    fn place(&self) -> (&'static str, &[u8]) {
        match self {
            Item::Set { place, .. } => ("set", &place.key),
            Item::Del { key, .. } => ("del", key),
            Item::MarkStale { key, .. } => ("mark_stale", key),
            Item::Tag { epoch, .. } => ("invalidate_tag", epoch),
        }
    }

    /// The type of the item; `None` for a tag.
    fn of(&self) -> Option<&Type> {
        match self {
            Item::Set { of, .. } | Item::Del { of, .. } | Item::MarkStale { of, .. } => Some(of),
            Item::Tag { .. } => None,
        }
    }

    /// For a deletion that is kept if it is not sent, the time in milliseconds for which a guard
    /// stays at the key.
    fn hold(&self) -> Option<u64> {
        match self {
            Item::Set { .. } => None,
            Item::Del { of, .. } if of.meta().policy.only_copy => None,
            Item::Del { of, .. } | Item::MarkStale { of, .. } => {
                Some(of.meta().policy.hold_millis.into())
            }
            Item::Tag { hold_millis, .. } => Some(hold_of_tags(u64::from(*hold_millis))),
        }
    }

    /// The command for the key, if there is one, or the reason why it can't be sent. `clock` is the
    /// advanced tag clock.
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
                OnlyCopies(inner).is_on(of.meta())?;
                return Ok(Writer(inner).storing(sealed, *condition, &admission?, of.meta()));
            }
            Item::Del { of, .. } => {
                OnlyCopies(inner).is_on(of.meta())?;
                Some(Write::Apply(Remover(inner).deletion(of.meta())))
            }
            Item::MarkStale { of, .. } => Some(Write::Apply(Remover(inner).expiry(of.meta()))),
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

    /// The condition and the type of a `set`, if the store has the only copy of its values.
    fn set_of_only_copy(&self) -> Option<(Condition, &Type)> {
        match self {
            Item::Set { condition, of, .. } if of.meta().policy.only_copy => {
                Some((*condition, &**of))
            }
            _ => None,
        }
    }

    fn is_tag(&self) -> bool {
        matches!(self, Item::Tag { .. })
    }

    /// The check of the tags that a value with tags needs before it is set.
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

view! {
    /// Sends the items of a batch.
    BatchSender
}

impl<'a> BatchSender<'a> {
    async fn send_batch(self, mut items: Vec<Item>) -> Vec<Result<bool>> {
        let (admissions, clock) = self.ask_before(&mut items).await;
        let mut results: Vec<Result<bool>> = Vec::with_capacity(items.len());
        let (mut sent, mut keys, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (item, admission)) in items.iter().zip(admissions).enumerate() {
            let write = item.write(self.0, admission, &clock);
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
            if let (Ok(false), Some((condition, of))) = (&results[at], items[at].set_of_only_copy())
            {
                let key = items[at].place().1;
                let answer = OnlyCopies(self.0).not_stored(condition, key, of.meta());
                results[at] = Box::pin(answer).await;
            }
        }
        let results = items.iter().zip(results);
        let results = results.map(|(item, result)| {
            let (operation, key) = item.place();
            #[cfg(any(test, feature = "testing"))]
            Recorder(self.0).note(operation, item.of(), key, &result);
            result.map_err(|error| match item.of() {
                Some(of) => of.failed_at(operation, key, error),
                None => Failures(self.0).failed_at(operation, key, error),
            })
        });
        results.collect()
    }

    /// Queries the tags before anything is written: whether they admit the values. If tags are to
    /// be invalidated, the clock is advanced after that, so that values of the same batch are
    /// invalidated too.
    async fn ask_before(self, items: &mut [Item]) -> (Vec<Result<Admission>>, Result<u64>) {
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
            let admitted = Writer(self.0).admit(&mut settings).await;
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
