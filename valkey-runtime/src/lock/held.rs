//! A lock that is held: its renewal, and its end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::base::error::{Error, Result};
use crate::base::runtime;
use crate::core::inner::Inner;
use crate::core::named::Named;
use crate::core::store::Store;
use crate::observe::answer::{About, Ending, Tells};
use crate::observe::trace::{Tracer, traced};
use crate::protocol::lock::{Act, Answer, Ask, granted, renewed};

/// One caller's lease of a lock.
pub(crate) struct Lease {
    store: Store,
    named: Named,
    /// With the namespace.
    key: Vec<u8>,
    token: u64,
    /// In milliseconds.
    life: u64,
    permits: u32,
    /// The moment of this process's clock until which it is held; 0 once it is lost.
    until: AtomicU64,
    lost: watch::Sender<()>,
}

impl Lease {
    pub(crate) fn new(store: Store, named: Named, key: Vec<u8>, life: u64, permits: u32) -> Self {
        let token = store.inner().random.next_u64().max(1);
        Self {
            store,
            named,
            key,
            token,
            life,
            permits,
            until: AtomicU64::new(0),
            lost: watch::Sender::new(()),
        }
    }

    fn inner(&self) -> &Inner {
        self.store.inner()
    }

    pub(crate) fn now(&self) -> u64 {
        self.inner().gateway.backend().clock_micros()
    }

    pub(crate) async fn ask(&self, act: Act) -> Result<Answer> {
        let ask = Ask {
            act,
            token: self.token,
            life: self.life,
            permits: self.permits,
        };
        match self.inner().gateway.decide(&self.key, &ask).await? {
            Answer::NoLock => Err(Named::foreign("a lock of this release")),
            answer => Ok(answer),
        }
    }

    /// The time for which it is held without another renewal.
    fn left(&self) -> Duration {
        let until = self.until.load(Ordering::Acquire);
        Duration::from_micros(until.saturating_sub(self.now()))
    }

    /// Renews it. False if it is lost.
    async fn renew(&self) -> Result<bool> {
        let sent = self.now();
        let answer = self.ask(Act::Renew).await?;
        let now = self.now();
        let next = |until| match answer {
            Answer::Held(_) => Some(renewed(until, now, sent, self.life)),
            _ => Some(0),
        };
        // It never fails, since `next` always has a value.
        let _ = self
            .until
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let is_held = self.until.load(Ordering::Acquire) != 0;
        if !is_held {
            self.lost.send_replace(());
        }
        Ok(is_held)
    }

    async fn release(&self) -> Result<bool> {
        let answer = self.ask(Act::Release).await?;
        Ok(matches!(answer, Answer::Held(_)))
    }

    /// Releases it in the background. Without a runtime, or beside too many other tasks, it ends by
    /// itself.
    pub(crate) fn release_later(self: Arc<Self>) {
        let background = self.inner().background.clone();
        background.spawn(async move {
            if let Err(error) = self.release().await {
                self.log(
                    "release",
                    error,
                    "a lock could not be released: it ends with its lease",
                );
            }
        });
    }

    fn log(&self, operation: &'static str, error: Error, what: &'static str) {
        let error = self.failed(operation, error);
        error.log(&self.inner().warnings, Some(&self.named.name), what);
    }

    fn failed(&self, operation: &'static str, error: Error) -> Error {
        self.named.failed(self.inner(), operation, &self.key, error)
    }
}

/// Renews a lease until it is lost, or until the end of its longest time.
async fn keep(lease: Arc<Lease>, longest: Option<Duration>) {
    if !runtime::has_timers() {
        return;
    }
    let began = lease.now();
    let is_over = |now: u64| {
        longest.is_some_and(|longest| u128::from(now.saturating_sub(began)) >= longest.as_micros())
    };
    // A failed renewal leaves time for more of them.
    let (often, soon) = (lease.life / 3, (lease.life / 12).max(1));
    let mut pause = often;
    loop {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if is_over(lease.now()) {
            return;
        }
        pause = match lease.renew().await {
            Ok(true) => often,
            Ok(false) => return,
            Err(error) => {
                lease.log("lock", error, "a lock could not be renewed");
                soon
            }
        };
        if lease.left().is_zero() {
            lease.until.store(0, Ordering::Release);
            lease.lost.send_replace(());
            return;
        }
    }
}

/// A lock that this caller holds, from [`Lock::lock`](crate::lock::Lock::lock).
///
/// A task renews the lease while this exists. When it is dropped, another task releases the lock.
/// [`release`](Self::release) does so at once, and says whether the lock was held until then.
///
/// **A lease can end while this exists**: if the process or its machine stands still for longer
/// than the lease, if the server can't be reached for that long, or if the server loses the lock.
/// Then another caller may hold the lock too, whatever this one does. [`lost`](Self::lost) ends at
/// that moment. [`fencing_token`](Self::fencing_token) lets a resource refuse what comes late.
#[must_use = "a lock that is dropped at once is released at once"]
pub struct Held {
    lease: Arc<Lease>,
    fence: u64,
    /// `None` outside of a runtime, and once the store is closed.
    renewal: Option<AbortHandle>,
    ended: bool,
}

impl Held {
    /// The lease was granted to a request sent then.
    pub(crate) fn new(lease: Arc<Lease>, fence: u64, sent: u64, longest: Option<Duration>) -> Self {
        lease
            .until
            .store(granted(sent, lease.life), Ordering::Release);
        let renewal = keep(lease.clone(), longest);
        let renewal = lease.inner().background.spawn_for_holder(renewal);
        Self {
            lease,
            fence,
            renewal,
            ended: false,
        }
    }

    /// The fencing token: a number that grows with each holder of the lock.
    ///
    /// Give it to the resource that the lock protects, with each write. The resource refuses a
    /// number below the largest that it has seen. Then a holder whose lease has ended, and does not
    /// know it yet, can't overwrite what its successor wrote:
    ///
    /// ```sql
    /// UPDATE invoice SET total = $1, fence = $2 WHERE id = $3 AND fence <= $2
    /// ```
    ///
    /// The number is the last one plus 1, or the server's time in microseconds if that is larger.
    /// It grows without exception while the server keeps the state of the lock, which it does for
    /// an hour after the last lease. If the state was lost by then or earlier, it still grows
    /// unless the server's clock, or that of a replica that took over, is behind the last fencing
    /// token. It fits in a signed number of 64 bits.
    pub fn fencing_token(&self) -> u64 {
        self.fence
    }

    /// Whether the lease lasts, by this process's clock. It sends nothing.
    ///
    /// True means: at this moment no other caller holds the lock, as far as the server keeps it.
    /// The next moment may be different, so this is no substitute for the [fencing
    /// token](Self::fencing_token).
    pub fn is_held(&self) -> bool {
        !self.lease.left().is_zero()
    }

    /// The time until the lease ends, if it is not renewed before. Zero once it is lost.
    pub fn time_left(&self) -> Duration {
        self.lease.left()
    }

    /// Asks the server whether the lock is still held, and renews the lease.
    ///
    /// # Errors
    /// Any error of the store, if it does not answer. The lock may be held nevertheless.
    pub async fn still_held(&self) -> Result<bool> {
        let span = Tracer(self.lease.inner()).span("still_held", None, About::Key(&self.lease.key));
        let renewed = traced!(span, self.lease.renew(), Ending::of);
        renewed.map_err(|error| self.lease.failed("still_held", error))
    }

    /// Waits until the lock is lost: the server said so, or the lease has ended without a renewal.
    ///
    /// ```
    /// # use valkey_runtime::Store;
    /// # use valkey_runtime::lock::Lock;
    /// # async fn work() {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Store::memory();
    /// # let lock = Lock::<()>::builder("report").build()?;
    /// let held = lock.lock(&store, ()).await?;
    /// tokio::select! {
    ///     () = work() => drop(held.release().await?),
    ///     () = held.lost() => eprintln!("the work was stopped: another may do it now"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lost(&self) {
        let mut lost = self.lease.lost.subscribe();
        loop {
            let left = self.lease.left();
            if left.is_zero() {
                return;
            }
            match runtime::has_timers() {
                // In both cases the time that is left tells more.
                true => drop(timeout(left, lost.changed()).await),
                false => drop(lost.changed().await),
            }
        }
    }

    /// Releases the lock. True if it was held until now. False means that the lease had ended:
    /// another caller may have held the lock meanwhile.
    ///
    /// # Errors
    /// If the server did not confirm it. A task then tries once more, and otherwise the lock ends
    /// with its lease.
    pub async fn release(mut self) -> Result<bool> {
        self.stop_renewing();
        let span = Tracer(self.lease.inner()).span("release", None, About::Key(&self.lease.key));
        let released = traced!(span, self.lease.release(), Ending::of);
        self.ended = released.is_ok();
        released.map_err(|error| self.lease.failed("release", error))
    }

    fn stop_renewing(&self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl Tells for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop_renewing();
        if !self.ended {
            self.lease.clone().release_later();
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("lock", &self.lease.named.name)
            .field("fencing_token", &self.fence)
            .field("time_left", &self.time_left())
            .finish_non_exhaustive()
    }
}
