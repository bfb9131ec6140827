//! A counter with a name and typed keys.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::{Error, Result, all};
use crate::base::ttl::Ttl;
use crate::core::named::Named;
use crate::core::store::Store;
use crate::counter::requests::{ask_each, ask_one};
use crate::key::part::{KeyFrom, KeyPart};
use crate::protocol::count::{Act, Ask, Lasts};

/// A counter with a name, and a number of 64 bits with a sign under each key of type `K`.
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::Store;
/// use valkey_runtime::counter::Counter;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// // The views of each product, by the hour.
/// let views = Counter::<u64>::builder("views").window(Duration::from_secs(3600)).build()?;
/// views.add(&store, 42, 1).await?;
/// assert_eq!(views.add(&store, 42, 2).await?, 3);
/// assert_eq!(views.get(&store, 42).await?, 3);
/// assert_eq!(views.get(&store, 7).await?, 0);
/// # Ok(())
/// # }
/// ```
///
/// Each method is one round trip, and one script on one key: no addition is lost, however many
/// tasks and processes add at once. A
/// [`CounterBatch`](crate::counter::CounterBatch) does many in one round trip.
///
/// # The end of a counter
///
/// | builder | the counter ends |
/// |---|---|
/// | nothing | never: it takes memory until it is [reset](Self::reset) |
/// | [`ttl`](CounterBuilder::ttl) | that long after its first addition |
/// | [`ttl`](CounterBuilder::ttl), [`sliding`](CounterBuilder::sliding) | that long after its last addition |
/// | [`window`](CounterBuilder::window) | with its window of the server's clock: an hour begins with each hour (UTC) |
///
/// A counter that has ended is 0, as one that never began. A release that changes the rule applies
/// it with the next addition: a counter then lives no longer than the new rule says.
///
/// # Errors
///
/// | kind | cause | counted? |
/// |---|---|---|
/// | [`TooLarge`](ErrorKind::TooLarge) | the sum does not fit in an `i64` | no; the counter is as it was |
/// | [`Corrupt`](ErrorKind::Corrupt) | the key holds no counter | no; the key is as it was |
/// | [`Connection`](ErrorKind::Connection), [`Timeout`](ErrorKind::Timeout) | the answer is missing | unknown, except if [`is_refused`](Error::is_refused): then no |
/// | [`Unavailable`](ErrorKind::Unavailable) | the node of a cluster that answered does not own the key any more, or no node owns it | unknown |
/// | [`Disabled`](ErrorKind::Disabled) | the store is [switched off](Store::set_enabled) | no |
/// | others | the server refused | no |
///
/// An addition is sent once. No client of this crate sends it again after a lost answer, on a
/// cluster neither. So `Ok` means that it was counted exactly once, and an error of unknown outcome
/// that it was counted once or not at all. A caller that tries again after such an error may count
/// twice.
///
/// # Loss of counts
///
/// A counter is only in the store. Eviction, a flush, a restart without persistence, and a failover
/// to a replica that lags lose counts. `Store::memory()` evicts, too, when it is full.
pub struct Counter<K: KeyPart> {
    pub(crate) named: Named,
    lasts: Lasts,
    key: PhantomData<fn(K)>,
}

/// Builds a [`Counter`].
#[must_use = "a builder does nothing until `build`"]
pub struct CounterBuilder<K: KeyPart> {
    name: String,
    ttl: Ttl,
    sliding: bool,
    window: Option<Duration>,
    key: PhantomData<fn(K)>,
}

/// The longest window, as for rate limits.
const LONGEST_WINDOW: Duration = Duration::from_secs(366 * 86_400);

impl<K: KeyPart> Counter<K> {
    /// Builds a counter of that name. By default it never ends.
    pub fn builder(name: impl Into<String>) -> CounterBuilder<K> {
        CounterBuilder {
            name: name.into(),
            ttl: Ttl::Never,
            sliding: false,
            window: None,
            key: PhantomData,
        }
    }

    /// The name, which is part of the keys in the server.
    pub fn name(&self) -> &str {
        &self.named.name
    }

    /// Adds to the counter, or subtracts a negative amount, and returns the sum.
    ///
    /// # Errors
    /// See [above](Self#errors).
    pub fn add<'s>(
        &'s self,
        store: &'s Store,
        key: K::Ref<'_>,
        amount: i64,
    ) -> impl Future<Output = Result<i64>> + Send + use<'s, K> {
        self.ask("add", store, key, Act::Add(amount))
    }

    /// Reads the counter: 0 if there is none.
    ///
    /// # Errors
    /// See [above](Self#errors).
    pub fn get<'s>(
        &'s self,
        store: &'s Store,
        key: K::Ref<'_>,
    ) -> impl Future<Output = Result<i64>> + Send + use<'s, K> {
        self.ask("count", store, key, Act::Look)
    }

    /// Reads many counters in one round trip, in the order of the keys.
    ///
    /// # Errors
    /// See [above](Self#errors). One counter that can't be read is an error of all.
    pub fn get_many<'s, X>(
        &'s self,
        store: &'s Store,
        keys: impl IntoIterator<Item = X>,
    ) -> impl Future<Output = Result<Vec<i64>>> + Send
    where
        K: KeyFrom<X>,
    {
        let inner = store.inner();
        let key = |key: X| self.named.key::<K>(&inner.namespace, K::key_from(&key));
        let keys: Vec<_> = keys.into_iter().map(key).collect();
        async move {
            let asks = vec![self.question(Act::Look); keys.len()];
            let counts = ask_each(inner, "count_many", &keys, &asks).await;
            let counts = counts.into_iter().zip(&keys).map(|(count, key)| {
                count.map_err(|error| self.named.failed(inner, "count_many", key, error))
            });
            all(counts.collect())
        }
    }

    /// Removes the counter, so that it is 0, and returns the count until now. No addition is lost
    /// between the two: this is how a process writes counts into a database.
    ///
    /// ```
    /// # use valkey_runtime::Store;
    /// # use valkey_runtime::counter::Counter;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let sold = Counter::<(u32, String)>::builder("sold").build()?;
    /// sold.add(&store, (7, "tea"), 3).await?;
    /// assert_eq!(sold.reset(&store, (7, "tea")).await?, 3);
    /// assert_eq!(sold.get(&store, (7, "tea")).await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [above](Self#errors). After an error of unknown outcome the count may be lost.
    pub fn reset<'s>(
        &'s self,
        store: &'s Store,
        key: K::Ref<'_>,
    ) -> impl Future<Output = Result<i64>> + Send + use<'s, K> {
        self.ask("reset", store, key, Act::Reset)
    }

    fn ask<'s>(
        &'s self,
        operation: &'static str,
        store: &'s Store,
        key: K::Ref<'_>,
        act: Act,
    ) -> impl Future<Output = Result<i64>> + Send + use<'s, K> {
        let inner = store.inner();
        let key = self.named.key::<K>(&inner.namespace, key);
        let ask = self.question(act);
        async move { ask_one(&self.named, inner, operation, &key, ask).await }
    }

    pub(crate) fn question(&self, act: Act) -> Ask {
        let lasts = self.lasts;
        Ask { act, lasts }
    }
}

impl<K: KeyPart> Clone for Counter<K> {
    fn clone(&self) -> Self {
        Self {
            named: self.named.clone(),
            lasts: self.lasts,
            key: PhantomData,
        }
    }
}

impl<K: KeyPart> std::fmt::Debug for Counter<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counter")
            .field("name", &self.name())
            .field("lasts", &self.lasts)
            .finish()
    }
}

impl<K: KeyPart> CounterBuilder<K> {
    /// The counter ends that long after its first addition. See [`sliding`](Self::sliding).
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Each addition renews the [`ttl`](Self::ttl).
    pub fn sliding(mut self) -> Self {
        self.sliding = true;
        self
    }

    /// The counter ends with its window of the server's clock, and the next addition begins at 0.
    /// Windows are aligned to 1970-01-01 00:00 UTC: those of an hour begin with each hour, those of
    /// seven days on Thursdays. From 1 ms to 366 days, in whole milliseconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use std::sync::Arc;
    /// # use valkey_runtime::{ManualClock, Store};
    /// # use valkey_runtime::counter::Counter;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let clock = Arc::new(ManualClock::new());
    /// # let store = Store::builder().memory().clock(clock.clone()).connect().await?;
    /// let logins = Counter::<u64>::builder("logins").window(Duration::from_secs(60)).build()?;
    /// clock.advance(Duration::from_secs(59));
    /// logins.add(&store, 42, 1).await?;
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(logins.get(&store, 42).await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn window(mut self, window: Duration) -> Self {
        self.window = Some(window);
        self
    }

    /// Builds the counter.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if there is no name, if a time is out of bounds, if both a TTL
    /// and a window are given, or if `sliding` has no TTL.
    pub fn build(self) -> Result<Counter<K>> {
        let wrong =
            |message: String| Err(Error::config(format!("counter {:?}: {message}", self.name)));
        if self.name.is_empty() {
            return wrong("it has no name".into());
        }
        let millis = match self.ttl.to_millis() {
            Ok(millis) => millis,
            Err(error) => return wrong(format!("its TTL is {error}")),
        };
        let lasts = match (self.window, millis, self.sliding) {
            (Some(_), Some(_), _) => return wrong("it has a TTL and a window; give one".into()),
            (_, None, true) => return wrong("`sliding` renews a TTL, and it has none".into()),
            (None, None, false) => Lasts::Forever,
            (None, Some(millis), false) => Lasts::AfterFirst(millis),
            (None, Some(millis), true) => Lasts::AfterLast(millis),
            (Some(window), None, false) => {
                let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
                let is_whole = window.subsec_nanos() % 1_000_000 == 0;
                if millis == 0 || !is_whole || window > LONGEST_WINDOW {
                    return wrong(format!(
                        "its window is {window:?}; it must be from 1 ms to 366 days, in whole milliseconds"
                    ));
                }
                Lasts::Window(millis)
            }
        };
        Ok(Counter {
            named: Named {
                kind: "count:",
                name: Arc::from(self.name),
            },
            lasts,
            key: PhantomData,
        })
    }
}

impl<K: KeyPart> std::fmt::Debug for CounterBuilder<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CounterBuilder")
            .field("name", &self.name)
            .field("ttl", &self.ttl)
            .field("sliding", &self.sliding)
            .field("window", &self.window)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn a_rule_that_says_nothing_sensible_is_refused() {
        let builder = || Counter::<u64>::builder("views");
        let second = Duration::from_secs(1);
        for (builder, why) in [
            (Counter::<u64>::builder(""), "has no name"),
            (builder().ttl(Duration::ZERO), "zero"),
            (builder().ttl(second).window(second), "a TTL and a window"),
            (builder().sliding(), "has none"),
            (builder().window(second).sliding(), "has none"),
            (builder().window(Duration::ZERO), "must be from 1 ms"),
            (
                builder().window(Duration::from_micros(1500)),
                "whole milliseconds",
            ),
            (builder().window(LONGEST_WINDOW + second), "to 366 days"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why), "{error}");
        }
        let counter = builder().window(LONGEST_WINDOW).build().unwrap();
        assert_eq!(counter.lasts, Lasts::Window(366 * 86_400_000));
    }
}
