//! A loading call as others see it: whether it is polled, what it loads within, and what wakes it.
//!
//! A loader borrows from its caller, so it runs only while its caller's future is polled. A caller that is not (a stream whose
//! consumer is busy, a branch that `select!` has left) must stop nobody else: it loses its turn, and those who follow it.

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
    /// Its turn has come.
    pub(crate) turn: Notify,
    /// How often its polls began and ended: odd while it is polled.
    polls: AtomicU64,
    /// Others depend on it, so it has itself polled now and then.
    leads: AtomicBool,
    /// Its turn, or none.
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

/// A caller as it was seen at some time.
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

    /// Whether it has done nothing since, for longer than a lease lives; or blocks its thread for longer than a load may
    /// take. Whoever asks was polled twice meanwhile, so a busy runtime alone does not make a caller stand still.
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

/// What wakes those who follow a flight, and who leads it.
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

/// The future of a call. It is polled at least at each renewal while others depend on it, if it is polled at all.
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
        // Outside of a runtime there is no timer, and nobody to be seen by.
        if caller.leads.load(SeqCst) && (tick.is_some() || Handle::try_current().is_ok()) {
            let tick = tick.get_or_insert_with(|| Box::pin(sleep(RENEWAL)));
            while tick.as_mut().poll(context).is_ready() {
                tick.as_mut().reset(Instant::now() + RENEWAL);
            }
        }
        Poll::Pending
    }
}

/// A load that runs, and what it runs within: loaders may load other values.
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
    /// What this call is made within.
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

    /// Whether a load of that type is among them.
    pub(crate) fn is_of(&self, of: usize) -> bool {
        self.all().any(|within| within.of == of)
    }

    pub(crate) fn is_by(&self, caller: &Arc<Caller>) -> bool {
        self.all().any(|within| Arc::ptr_eq(&within.caller, caller))
    }
}

/// What a loader that has panicked left.
pub(crate) type Panic = Box<dyn Any + Send>;

/// A loader at work. A panic of it is caught, so that the load ends as a failed one before the panic goes on.
pub(crate) struct Running<F> {
    within: Arc<Within>,
    work: F,
    /// For how long it kept its thread at once, at most.
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
        // The time of the thread, which no test stops.
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
