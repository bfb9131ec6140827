//! A lock with a name and typed keys.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use crate::base::error::ErrorKind;
use crate::base::error::{Error, Result};
use crate::core::named::Named;
use crate::core::store::Store;
use crate::key::part::KeyPart;
use crate::lock::acquire::{Rule, acquire};
use crate::lock::held::Held;
use crate::observe::answer::{About, Ending};
use crate::observe::trace::{Tracer, traced};
use crate::protocol::lock::{LONGEST, MOST};

/// A lock with a name, for each key of type `K`: one holder at a time across all processes, or [so
/// many](LockBuilder::permits).
///
/// ```
/// use std::time::Duration;
/// use valkey_runtime::Store;
/// use valkey_runtime::lock::Lock;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::memory();
/// let invoices = Lock::<u64>::builder("invoice").lease(Duration::from_secs(10)).build()?;
///
/// let held = invoices.lock(&store, 42).await?;
/// assert!(invoices.try_lock(&store, 42).await?.is_none());
/// // … write the invoice, with `held.fencing_token()` …
/// assert!(held.release().await?);
/// # Ok(())
/// # }
/// ```
///
/// The lock is a lease: the server ends it after [that time](LockBuilder::lease), by its own clock,
/// unless the holder renews it. So the lock of a process that died is free again after at most one
/// lease. Each step is one script on one key, and one round trip.
///
/// # Limits of a lock by lease
///
/// A holder that stands still for longer than its lease (a paused machine, a debugger, a long pause
/// of the scheduler) goes on without knowing that another caller has the lock. The same happens if
/// the server loses the lock: by eviction, by a restart, or by a failover to a replica that does
/// not have it yet. For work that must never run twice at once, the resource has to check the
/// [fencing token](Held::fencing_token). See Martin Kleppmann, [How to do distributed
/// locking](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html), 2016. For
/// work that is only wasteful twice, the lock alone is enough.
///
/// # Waiting
///
/// A caller that waits asks again after pauses of 1 to 50 ms, which grow and are jittered. The
/// order in which callers wait means nothing: no fairness is promised. Dropping the future of a
/// caller that waits leaves nothing behind. Dropped during a request, it releases what the request
/// may have taken.
///
/// Locks are not reentrant: a holder that takes the lock again waits for itself.
pub struct Lock<K: KeyPart> {
    rule: Arc<Rule>,
    key: PhantomData<fn(K)>,
}

/// Builds a [`Lock`].
#[must_use = "a builder does nothing until `build`"]
pub struct LockBuilder<K: KeyPart> {
    name: String,
    lease: Duration,
    permits: u32,
    wait: Duration,
    longest: Option<Duration>,
    key: PhantomData<fn(K)>,
}

/// The reason why a lock was not taken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Others held the lock for as long as the caller was to [wait](LockBuilder::wait).
    #[error("the lock {name:?} was held by others for {waited:?}: wait longer, or try again later")]
    Busy {
        /// The name of the lock.
        name: Arc<str>,
        /// The time that was waited.
        waited: Duration,
    },
    /// The store failed. The lock is not held; what the last request may have taken is released in
    /// the background, or ends with its lease.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<K: KeyPart> Lock<K> {
    /// Builds a lock of that name, with one holder at a time, a lease of 10 s, and a wait of at
    /// most 10 s.
    pub fn builder(name: impl Into<String>) -> LockBuilder<K> {
        LockBuilder {
            name: name.into(),
            lease: Duration::from_secs(10),
            permits: 1,
            wait: Duration::from_secs(10),
            longest: None,
            key: PhantomData,
        }
    }

    /// The name, which is part of the keys in the server.
    pub fn name(&self) -> &str {
        &self.rule.named.name
    }

    /// Takes the lock, and [waits](LockBuilder::wait) while others hold it.
    ///
    /// # Errors
    /// [`LockError::Busy`] if others held it all the time. [`LockError::Store`] if the store
    /// failed: it did not answer, it is [switched off](Store::set_enabled) (kind
    /// [`Disabled`](ErrorKind::Disabled)), or the key holds something else
    /// ([`Corrupt`](ErrorKind::Corrupt)).
    pub fn lock<'s>(
        &'s self,
        store: &'s Store,
        key: K::Ref<'_>,
    ) -> impl Future<Output = Result<Held, LockError>> + Send + use<'s, K> {
        let waited = self.rule.wait;
        let taking = self.take("lock", store, key, waited);
        async move {
            taking.await?.ok_or_else(|| LockError::Busy {
                name: self.rule.named.name.clone(),
                waited,
            })
        }
    }

    /// Takes the lock if it is free now. `None` if others hold it.
    ///
    /// # Errors
    /// If the store failed, as for [`lock`](Self::lock).
    pub fn try_lock<'s>(
        &'s self,
        store: &'s Store,
        key: K::Ref<'_>,
    ) -> impl Future<Output = Result<Option<Held>>> + Send + use<'s, K> {
        self.take("try_lock", store, key, Duration::ZERO)
    }

    fn take<'s>(
        &'s self,
        operation: &'static str,
        store: &'s Store,
        key: K::Ref<'_>,
        wait: Duration,
    ) -> impl Future<Output = Result<Option<Held>>> + Send + use<'s, K> {
        let (inner, rule) = (store.inner(), &*self.rule);
        let key = rule.named.key::<K>(&inner.namespace, key);
        async move {
            let span = Tracer(inner).span(operation, None, About::Key(&key));
            let taking = acquire(store.clone(), rule, key.clone(), wait);
            let taken = traced!(span, taking, Ending::of);
            taken.map_err(|error| rule.named.failed(inner, operation, &key, error))
        }
    }
}

impl<K: KeyPart> Clone for Lock<K> {
    fn clone(&self) -> Self {
        Self {
            rule: self.rule.clone(),
            key: PhantomData,
        }
    }
}

impl<K: KeyPart> fmt::Debug for Lock<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("rule", &self.rule).finish()
    }
}

impl<K: KeyPart> LockBuilder<K> {
    /// The lease: the time after which the server ends the lock if the holder does not renew it,
    /// from 10 ms to a day. The holder renews it each third of this time. A longer lease survives
    /// longer pauses, and keeps the lock of a dead process for longer.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The longest that [`Lock::lock`] waits while others hold the lock. A request that is under
    /// way then is still awaited.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Lets so many hold the lock at a time, from 1 to 256: a semaphore, as a limit on concurrency.
    /// Each has a fencing token of its own.
    ///
    /// ```
    /// # use valkey_runtime::Store;
    /// # use valkey_runtime::lock::Lock;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let reports = Lock::<()>::builder("reports").permits(2).build()?;
    /// let one = reports.try_lock(&store, ()).await?;
    /// let other = reports.try_lock(&store, ()).await?;
    /// assert!(one.is_some() && other.is_some());
    /// assert!(reports.try_lock(&store, ()).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn permits(mut self, permits: u32) -> Self {
        self.permits = permits;
        self
    }

    /// Stops the renewal after that time, so that a holder that hangs does not keep the lock
    /// forever. The lock is then lost with its lease. Unlimited by default.
    pub fn renew_for(mut self, longest: Duration) -> Self {
        self.longest = Some(longest);
        self
    }

    /// Builds the lock.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if there is no name, or if a number is out of bounds.
    pub fn build(self) -> Result<Lock<K>> {
        let wrong =
            |message: String| Err(Error::config(format!("lock {:?}: {message}", self.name)));
        if self.name.is_empty() {
            return wrong("it has no name".into());
        }
        if !(1..=MOST).contains(&self.permits) {
            return wrong(format!(
                "{} may hold it at a time; it must be from 1 to {MOST}",
                self.permits
            ));
        }
        let life = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        if !(10..=LONGEST).contains(&life) {
            return wrong(format!(
                "its lease is {:?}; it must be from 10 ms to a day",
                self.lease
            ));
        }
        Ok(Lock {
            rule: Arc::new(Rule {
                named: Named {
                    kind: "lock:",
                    name: Arc::from(self.name),
                },
                life,
                permits: self.permits,
                wait: self.wait,
                longest: self.longest,
            }),
            key: PhantomData,
        })
    }
}

impl<K: KeyPart> fmt::Debug for LockBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockBuilder")
            .field("name", &self.name)
            .field("lease", &self.lease)
            .field("permits", &self.permits)
            .field("wait", &self.wait)
            .field("renew_for", &self.longest)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn a_rule_out_of_bounds_is_refused() {
        let builder = || Lock::<u64>::builder("invoice");
        let day = Duration::from_secs(86_400);
        for (builder, why) in [
            (Lock::<u64>::builder(""), "has no name"),
            (builder().permits(0), "from 1 to 256"),
            (builder().permits(257), "from 1 to 256"),
            (builder().lease(Duration::from_millis(9)), "from 10 ms"),
            (builder().lease(day + Duration::from_millis(1)), "to a day"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why), "{error}");
        }
        builder().permits(256).lease(day).build().unwrap();
    }
}
