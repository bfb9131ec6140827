//! Many counters in one round trip.

use crate::base::error::Result;
use crate::core::named::Named;
use crate::core::store::Store;
use crate::counter::requests::ask_each;
use crate::counter::typed::Counter;
use crate::key::part::KeyPart;
use crate::protocol::count::{Act, Ask};

/// Additions to counters, reads and resets, of any counters and keys, in one round trip. On a
/// cluster there is one command for each, and all are under way at once.
///
/// ```
/// use valkey_runtime::Store;
/// use valkey_runtime::counter::{Counter, CounterBatch};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// let views = Counter::<u64>::builder("views").build()?;
/// let sold = Counter::<(u64, String)>::builder("sold").build()?;
/// let counts = CounterBatch::new()
///     .add(&views, 42, 1)
///     .add(&sold, (42, "tea"), 2)
///     .get(&views, 7)
///     .send(&store)
///     .await;
/// let counts = counts.into_iter().collect::<valkey_runtime::Result<Vec<i64>>>()?;
/// assert_eq!(counts, [1, 2, 0]);
/// # Ok(())
/// # }
/// ```
///
/// Each item succeeds or fails by itself. Items of one key take effect in their order.
#[derive(Debug, Default)]
#[must_use = "a batch does nothing until `send`"]
pub struct CounterBatch {
    items: Vec<Item>,
    asks: Vec<Ask>,
}

#[derive(Debug)]
struct Item {
    named: Named,
    operation: &'static str,
    /// Without the namespace.
    key: Vec<u8>,
}

impl CounterBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Counter::add`].
    pub fn add<K: KeyPart>(self, counter: &Counter<K>, key: K::Ref<'_>, amount: i64) -> Self {
        self.with("add", counter, key, Act::Add(amount))
    }

    /// As [`Counter::get`].
    pub fn get<K: KeyPart>(self, counter: &Counter<K>, key: K::Ref<'_>) -> Self {
        self.with("count", counter, key, Act::Look)
    }

    /// As [`Counter::reset`].
    pub fn reset<K: KeyPart>(self, counter: &Counter<K>, key: K::Ref<'_>) -> Self {
        self.with("reset", counter, key, Act::Reset)
    }

    fn with<K: KeyPart>(
        mut self,
        operation: &'static str,
        counter: &Counter<K>,
        key: K::Ref<'_>,
        act: Act,
    ) -> Self {
        self.items.push(Item {
            named: counter.named.clone(),
            operation,
            key: counter.named.key::<K>("", key),
        });
        self.asks.push(counter.question(act));
        self
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends the items, and returns one count for each, in their order: after an addition the sum,
    /// and for a reset the count before. Errors are those of [`Counter`](Counter#errors).
    pub async fn send(self, store: &Store) -> Vec<Result<i64>> {
        let (inner, items) = (store.inner(), self.items);
        let key = |item: &Item| [inner.namespace.as_bytes(), &item.key].concat();
        let keys: Vec<_> = items.iter().map(key).collect();
        let counts = ask_each(inner, "count_all", &keys, &self.asks).await;
        let counts = counts.into_iter().zip(items.iter().zip(&keys));
        let counts = counts.map(|(count, (item, key))| {
            count.map_err(|error| item.named.failed(inner, item.operation, key, error))
        });
        counts.collect()
    }
}
