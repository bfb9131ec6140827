//! Taking a lock: trying, and waiting for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::base::clock::later;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::runtime;
use crate::core::named::{Named, switched_on};
use crate::core::store::Store;
use crate::lock::held::{Held, Lease};
use crate::protocol::lock::{Act, Answer, pause};

/// The rule of a lock.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) named: Named,
    /// The life of a lease, in milliseconds.
    pub(crate) life: u64,
    pub(crate) permits: u32,
    pub(crate) wait: Duration,
    /// The longest that it is renewed.
    pub(crate) longest: Option<Duration>,
}

/// A request that may have taken the lock. If its caller leaves before the answer, the lock is
/// released.
struct Undecided(Option<Arc<Lease>>);

impl Drop for Undecided {
    fn drop(&mut self) {
        if let Some(lease) = self.0.take() {
            lease.release_later();
        }
    }
}

/// Takes the lock, or waits for it. `None` if others held it for so long.
pub(crate) async fn acquire(
    store: Store,
    rule: &Rule,
    key: Vec<u8>,
    wait: Duration,
) -> Result<Option<Held>> {
    let (named, end) = (rule.named.clone(), later(Instant::now(), wait));
    let lease = Lease::new(store.clone(), named, key, rule.life, rule.permits);
    let lease = Arc::new(lease);
    let mut attempt = 0;
    loop {
        switched_on(store.inner())?;
        let mut undecided = Undecided(Some(lease.clone()));
        let sent = lease.now();
        let answer = lease.ask(Act::Acquire).await;
        if answer.as_ref().map_or_else(Error::is_refused, |_| true) {
            undecided.0 = None;
        }
        let left = match answer? {
            Answer::Held(fence) => {
                let held = Held::new(lease, fence, sent, rule.longest);
                return match held.is_held() {
                    true => Ok(Some(held)),
                    false => Err(Error::new(
                        ErrorKind::Timeout,
                        "the answer came after the end of the lease: make the lease longer than a command may take",
                    )),
                };
            }
            Answer::Busy(left) => Duration::from_micros(left),
            Answer::Gone | Answer::NoLock => Duration::ZERO,
        };
        let now = Instant::now();
        if now >= end {
            return Ok(None);
        }
        runtime::fit()?;
        attempt += 1;
        let pause = pause(attempt, store.inner().random.next_u64());
        sleep_until(end.min(now + pause.min(left))).await;
    }
}
