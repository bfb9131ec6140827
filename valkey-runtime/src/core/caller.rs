//! A loading call as others see it: whether it is polled, the loads that it runs within, and how it
//! is woken.
//!
//! A loader borrows from its caller, so it runs only while its caller's future is polled. A caller
//! that is not polled (a stream with a busy consumer, a branch that `select!` has left) must stop
//! nobody else: it loses its turn and its followers.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use crate::base::lock::lock;
use crate::protocol::lease::{LEASE_LIFE, RENEWAL};
use crate::protocol::turns::TurnId;

/// A loading call.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// Notified when its turn has come.
    pub(crate) turn: Notify,
    /// Counts the beginnings and ends of its polls: odd while it is polled.
    polls: AtomicU64,
    /// Whether others depend on it, so that it must be polled now and then.
    leads: AtomicBool,
    /// Its turn, or 0.
    turn_id: AtomicU64,
}

impl Caller {
    pub(crate) fn leads(&self) {
        self.leads.store(true, SeqCst);
    }

    pub(crate) fn set_turn(&self, turn: Option<TurnId>) {
        self.turn_id.store(turn.unwrap_or(0), SeqCst);
    }

    pub(crate) fn turn_id(&self) -> Option<TurnId> {
        Some(self.turn_id.load(SeqCst)).filter(|turn| *turn != 0)
    }

    pub(crate) fn seen(self: &Arc<Self>) -> Observed {
        Observed {
            caller: self.clone(),
            polls: self.polls.load(SeqCst),
            since: Instant::now(),
        }
    }
}

/// A caller as it was observed at some time.
#[derive(Debug)]
pub(crate) struct Observed {
    caller: Arc<Caller>,
    polls: u64,
    since: Instant,
}

impl Observed {
    pub(crate) fn is_of(&self, caller: &Arc<Caller>) -> bool {
        Arc::ptr_eq(&self.caller, caller)
    }

    pub(crate) fn turn_id(&self) -> Option<TurnId> {
        self.caller.turn_id()
    }

    /// Whether it has done nothing since then for longer than a lease lives, or blocks its thread
    /// for longer than a load may take. The observer was polled twice meanwhile, so a busy runtime
    /// alone does not make a caller stand still.
    pub(crate) fn stands_still(&mut self, longest: Duration) -> bool {
        let polls = self.caller.polls.load(SeqCst);
        if polls != self.polls {
            (self.polls, self.since) = (polls, Instant::now());
            return false;
        }
        let is_polled = polls % 2 == 1;
        let most = if is_polled { longest } else { LEASE_LIFE };
        self.since.elapsed() >= most
    }
}

/// The notification of a flight's followers, and its leader.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    pub(crate) moved: Arc<Notify>,
    leader: Mutex<Option<Arc<Caller>>>,
}

impl Signal {
    pub(crate) fn lead_by(&self, caller: &Arc<Caller>) {
        *lock(&self.leader) = Some(caller.clone());
    }

    pub(crate) fn leader(&self) -> Option<Arc<Caller>> {
        lock(&self.leader).clone()
    }
}

/// The future of a call. If it is polled at all, it is polled at least at each renewal while others
/// depend on it.
pub(crate) struct Polled<F> {
    caller: Arc<Caller>,
    work: F,
    tick: Option<Pin<Box<Sleep>>>,
}

impl<F> Polled<F> {
    pub(crate) fn new(caller: Arc<Caller>, work: F) -> Self {
        Self {
            caller,
            work,
            tick: None,
        }
    }
}

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        struct IsPolled<'c>(&'c AtomicU64);
        impl Drop for IsPolled<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let Self { caller, work, tick } = &mut *self;
        caller.polls.fetch_add(1, SeqCst);
        let is_polled = IsPolled(&caller.polls);
        if let Poll::Ready(output) = Pin::new(work).poll(context) {
            return Poll::Ready(output);
        }
        drop(is_polled);
        // Outside of a runtime there is no timer, and nobody to observe the call.
        if caller.leads.load(SeqCst) && (tick.is_some() || Handle::try_current().is_ok()) {
            let tick = tick.get_or_insert_with(|| Box::pin(sleep(RENEWAL)));
            while tick.as_mut().poll(context).is_ready() {
                tick.as_mut().reset(Instant::now() + RENEWAL);
            }
        }
        Poll::Pending
    }
}

/// A running load, and the load that it runs within: loaders may load other values.
#[derive(Debug)]
pub(crate) struct Within {
    caller: Arc<Caller>,
    /// The address of its type on its store.
    of: usize,
    outer: Option<Arc<Within>>,
}

thread_local! {
    static RUNNING: RefCell<Option<Arc<Within>>> = const { RefCell::new(None) };
}

impl Within {
    /// The load that this call is made within.
    pub(crate) fn current() -> Option<Arc<Self>> {
        RUNNING.with_borrow(Option::clone)
    }

    pub(crate) fn new(caller: &Arc<Caller>, of: usize, outer: Option<Arc<Self>>) -> Arc<Self> {
        let caller = caller.clone();
        Arc::new(Self { caller, of, outer })
    }

    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |within| within.outer.as_deref())
    }

    /// Whether one of the loads is of that type.
    pub(crate) fn is_of(&self, of: usize) -> bool {
        self.all().any(|within| within.of == of)
    }

    pub(crate) fn is_by(&self, caller: &Arc<Caller>) -> bool {
        self.all().any(|within| Arc::ptr_eq(&within.caller, caller))
    }
}

/// The payload of a loader's panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// A running loader. Its panic is caught, so that the load ends as failed before the panic goes on.
pub(crate) struct Running<F> {
    within: Arc<Within>,
    work: F,
    /// The longest time that one poll kept its thread.
    pub(crate) longest_poll: Duration,
}

impl<F> Running<F> {
    pub(crate) fn new(within: Arc<Within>, work: F) -> Self {
        Self {
            within,
            work,
            longest_poll: Duration::ZERO,
        }
    }
}

impl<F: Future + Unpin> Future for Running<F> {
    type Output = (Result<F::Output, Panic>, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let outer = RUNNING.replace(Some(this.within.clone()));
        // The real time of the thread, which no test pauses.
        let began = std::time::Instant::now();
        let work = AssertUnwindSafe(|| Pin::new(&mut this.work).poll(context));
        let polled = catch_unwind(work);
        RUNNING.set(outer);
        this.longest_poll = this.longest_poll.max(began.elapsed());
        let output = match polled {
            Ok(polled) => Ok(ready!(polled)),
            Err(panic) => Err(panic),
        };
        Poll::Ready((output, this.longest_poll))
    }
}
