//! The background tasks of a store: bounded, counted, and ended when the store is closed.
//!
//! There are three kinds. *Dispensable* tasks are refused if too many of them run: a lease that is
//! not given back runs out by itself. *Loads* that go on without their callers have a bound of
//! their own, because they last as long as a loader. *Needed* tasks are bounded anyway (one for a
//! store, or one for a guard that its user holds) and are never refused while the store is open.
//!
//! A task runs in the runtime that the store was given, or else in that of the call that started
//! it. That runtime may end, or stand still if only `block_on` drives it. So a task that must go on
//! gives signs of life by a [`Pulse`]. A call that misses them starts another task.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
#[cfg(any(test, feature = "testing"))]
use tokio::sync::watch;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::counters::Counters;

/// The most dispensable tasks that run at a time, and the most loads.
const MOST: u32 = 256;

/// The background tasks of a store. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Background(Arc<Tasks>);

#[derive(Debug)]
struct Tasks {
    tracker: TaskTracker,
    cancelled: CancellationToken,
    /// One for each dispensable task.
    permits: Arc<Semaphore>,
    /// One for each load.
    loads: Arc<Semaphore>,
    loads_cancelled: CancellationToken,
    counters: Arc<Counters>,
    /// The number of running tasks that end by themselves, for
    /// [`Store::settled`](crate::core::store::Store::settled).
    #[cfg(any(test, feature = "testing"))]
    unsettled: watch::Sender<usize>,
    home: Option<Home>,
}

/// The runtime that a store was given.
#[derive(Debug)]
struct Home {
    runtime: Handle,
    ended: Arc<AtomicBool>,
    /// Dropped with the store. This ends the task that waits for the end of the runtime.
    _store: oneshot::Sender<Infallible>,
}

impl Home {
    fn new(runtime: Handle) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (store, dropped) = oneshot::channel::<Infallible>();
        let at_end = SetAtEnd(ended.clone());
        runtime.spawn(async move {
            let _at_end = at_end;
            let _ = dropped.await;
        });
        Self {
            runtime,
            ended,
            _store: store,
        }
    }
}

struct SetAtEnd(Arc<AtomicBool>);

impl Drop for SetAtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Background {
    /// In the runtime of the call that starts a task.
    #[cfg(test)]
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self::within(None, counters)
    }

    /// In the given runtime, as long as it exists.
    pub(crate) fn within(runtime: Option<Handle>, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Tasks {
            home: runtime.map(Home::new),
            tracker: TaskTracker::new(),
            cancelled: CancellationToken::new(),
            permits: Arc::new(Semaphore::new(MOST as usize)),
            loads: Arc::new(Semaphore::new(MOST as usize)),
            loads_cancelled: CancellationToken::new(),
            counters,
            #[cfg(any(test, feature = "testing"))]
            unsettled: watch::Sender::new(0),
        }))
    }

    /// Starts a dispensable task, which ends by itself within the deadline of an operation. Returns
    /// false if it did not start: outside of a runtime, beside too many others, or after the end.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(permit) = self.0.permits.clone().try_acquire_owned() else {
            self.0.counters.background_refused();
            return false;
        };
        let task = async move {
            task.await;
            drop(permit);
        };
        self.begin(task, Lasts::UntilDone).is_some()
    }

    /// Starts a load that goes on without its caller. Returns false if it did not start: outside of
    /// a runtime, beside too many others, or near the end.
    pub(crate) fn spawn_load(&self, load: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(permit) = self.0.loads.clone().try_acquire_owned() else {
            self.0.counters.background_refused();
            return false;
        };
        let cancelled = self.0.loads_cancelled.clone();
        let task = async move {
            cancelled.run_until_cancelled_owned(load).await;
            drop(permit);
        };
        self.begin(task, Lasts::UntilDone).is_some()
    }

    /// Ends the loads before everything else, so that their leases can still be given back.
    pub(crate) async fn end_loads(&self) {
        self.0.loads_cancelled.cancel();
        // Another call may have ended them.
        let _all = self.0.loads.acquire_many(MOST).await;
        self.0.loads.close();
    }

    /// Starts a needed task, whose number is bounded anyway. Returns `None` if it did not start:
    /// outside of a runtime, or after the end.
    pub(crate) fn spawn_needed(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        self.begin(task, Lasts::UntilDone)
    }

    /// Starts a needed task that lasts as long as its subject is held: a guard, a stream.
    pub(crate) fn spawn_for_holder(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        self.begin(task, Lasts::WhileHeld)
    }

    /// As [`spawn_for_holder`](Self::spawn_for_holder), in this runtime.
    pub(crate) fn spawn_for_holder_in(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        self.begin_in(runtime, task, Lasts::WhileHeld)
    }

    fn begin(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        lasts: Lasts,
    ) -> Option<AbortHandle> {
        self.begin_in(&self.runtime()?, task, lasts)
    }

    fn begin_in(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
        lasts: Lasts,
    ) -> Option<AbortHandle> {
        let tasks = self.0.clone();
        let task = self.0.tracker.track_future(async move {
            tasks.cancelled.run_until_cancelled(task).await;
        });
        // The task is tracked already. So either this check sees the end, or `close` waits for the
        // task.
        if self.is_closed() {
            self.0.counters.background_refused();
            return None;
        }
        #[cfg(any(test, feature = "testing"))]
        let task = {
            let unsettled = (lasts == Lasts::UntilDone).then(|| Unsettled::new(&self.0));
            async move {
                task.await;
                drop(unsettled);
            }
        };
        #[cfg(not(any(test, feature = "testing")))]
        let _ = lasts;
        Some(runtime.spawn(task).abort_handle())
    }

    /// Returns once no task runs that ends by itself.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn all_settled(&self) {
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = self.0.unsettled.subscribe().wait_for(|n| *n == 0).await;
    }

    /// The runtime in which tasks start.
    fn runtime(&self) -> Option<Handle> {
        match &self.0.home {
            Some(home) if !home.ended.load(Ordering::Relaxed) => Some(home.runtime.clone()),
            _ => Handle::try_current().ok(),
        }
    }

    /// Whether a task can start.
    pub(crate) fn has_runtime(&self) -> bool {
        self.runtime().is_some()
    }

    /// The number of running tasks.
    pub(crate) fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// Whether the end has begun.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.tracker.is_closed()
    }

    /// Returns once no dispensable task runs. None starts until then.
    pub(crate) async fn settled(&self) {
        // The semaphore is never closed.
        let _ = self.0.permits.acquire_many(MOST).await;
    }

    /// Refuses new tasks, and drops the running ones at their next await point. True for the first
    /// call.
    pub(crate) fn cancel(&self) -> bool {
        let first = self.0.tracker.close();
        self.0.cancelled.cancel();
        first
    }

    /// Returns once all tasks have ended. This waits for the runtimes of the tasks.
    pub(crate) async fn ended(&self) {
        self.0.tracker.wait().await;
    }

    #[cfg(test)]
    async fn close(&self) -> bool {
        let first = self.cancel();
        self.ended().await;
        first
    }
}

/// The end of a task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    UntilDone,
    WhileHeld,
}

/// A task that has not ended yet.
#[cfg(any(test, feature = "testing"))]
struct Unsettled(Arc<Tasks>);

#[cfg(any(test, feature = "testing"))]
impl Unsettled {
    fn new(tasks: &Arc<Tasks>) -> Self {
        tasks.unsettled.send_modify(|number| *number += 1);
        Self(tasks.clone())
    }
}

#[cfg(any(test, feature = "testing"))]
impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.send_modify(|number| *number -= 1);
    }
}

/// The interval between a task's signs of life.
pub(crate) const BEAT: Duration = Duration::from_millis(100);
/// The time without a sign of life after which another task takes over, in microseconds.
const STALL: u64 = 400_000;

/// The time by which the next sign of life of a task is due, in microseconds of the store's clock.
/// The task must go on, even if its runtime does not.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU64);

/// One caller's right to see to a task without a sign of life. No other caller gets it until this
/// one is late as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim(u64);

impl Pulse {
    /// The task lives.
    pub(crate) fn beat(&self, now: u64) {
        self.rest(now, Duration::ZERO);
    }

    /// The task lives, and gives no sign of life during `pause`.
    pub(crate) fn rest(&self, now: u64, pause: Duration) {
        let pause = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let next = now.saturating_add(pause).saturating_add(STALL);
        self.0.store(next, Ordering::Relaxed);
    }

    /// The task is over. The next caller that needs it starts another.
    pub(crate) fn stop(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A claim, if a sign of life is overdue; for one caller only.
    pub(crate) fn claim(&self, now: u64) -> Option<Claim> {
        let due = self.0.load(Ordering::Relaxed);
        let next = now.saturating_add(STALL);
        let claimed = due < now
            && self
                .0
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        claimed.then_some(Claim(next))
    }

    /// Whether the task has given a sign of life since the claim.
    pub(crate) fn lives(&self, claim: Claim) -> bool {
        self.0.load(Ordering::Relaxed) != claim.0
    }
}

/// Does some work of a task, with signs of life while it runs.
pub(crate) async fn with_beats<T>(work: impl Future<Output = T>, beat: impl Fn()) -> T {
    let mut work = pin!(work);
    loop {
        beat();
        if let Ok(done) = tokio::time::timeout(BEAT, &mut work).await {
            return done;
        }
    }
}

/// The time for which a caller waits before it replaces a task without a sign of life. If the task
/// is in the caller's own runtime, which nothing was driving, it continues at once.
pub(crate) const MOMENT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures_util::FutureExt;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    fn background() -> (Background, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Background::new(counters.clone()), counters)
    }

    /// Counts the values of this type that are alive.
    struct Alive(Arc<AtomicUsize>);

    impl Alive {
        fn new(alive: &Arc<AtomicUsize>) -> Self {
            alive.fetch_add(1, SeqCst);
            Self(alive.clone())
        }
    }

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    fn for_ever(alive: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + 'static {
        let alive = Alive::new(alive);
        async move {
            pending::<()>().await;
            drop(alive);
        }
    }

    #[tokio::test]
    async fn only_so_many_dispensable_tasks_run_and_the_needed_ones_take_no_place() {
        let (background, counters) = background();
        background.spawn_needed(pending()).unwrap();
        let (end, ended) = oneshot::channel::<()>();
        assert!(background.spawn(async move {
            let _ = ended.await;
        }));
        for _ in 1..MOST {
            assert!(background.spawn(pending()));
        }
        assert_eq!(background.running(), 257);
        let alive = Arc::default();
        assert!(!background.spawn(for_ever(&alive)));
        assert_eq!(alive.load(SeqCst), 0, "dropped");
        assert_eq!(counters.background_refusals(), 1);
        assert!(background.spawn_needed(pending()).is_some());

        end.send(()).unwrap();
        while background.running() > 257 {
            yield_now().await;
        }
        assert!(background.spawn(pending()), "there is room again");
        assert!(!background.spawn(pending()));
        assert_eq!(
            (background.running(), counters.background_refusals()),
            (258, 2)
        );
    }

    #[tokio::test]
    async fn close_drops_what_runs_and_returns_when_it_is_gone() {
        let (background, _) = background();
        let alive = Arc::default();
        for _ in 0..10 {
            assert!(background.spawn(for_ever(&alive)));
            background.spawn_needed(for_ever(&alive)).unwrap();
        }
        yield_now().await;
        // Some of them were never polled.
        assert!(background.spawn(for_ever(&alive)));
        assert_eq!((background.running(), alive.load(SeqCst)), (21, 21));
        assert!(!background.is_closed());
        assert!(background.close().await);
        assert_eq!((background.running(), alive.load(SeqCst)), (0, 0));
    }

    #[tokio::test]
    async fn nothing_begins_after_the_end() {
        let (background, counters) = background();
        let firsts = tokio::join!(background.close(), background.close());
        assert_eq!(firsts, (true, false));
        assert!(background.is_closed());
        let alive = Arc::default();
        assert!(!background.spawn(for_ever(&alive)));
        assert!(background.spawn_needed(for_ever(&alive)).is_none());
        assert_eq!((background.running(), alive.load(SeqCst)), (0, 0));
        assert_eq!(counters.background_refusals(), 2);
        assert!(!background.close().await, "again");
    }

    #[test]
    fn outside_of_a_runtime_nothing_begins() {
        let (background, counters) = background();
        assert!(!background.spawn(pending()));
        assert!(background.spawn_needed(pending()).is_none());
        assert_eq!(
            (background.running(), counters.background_refusals()),
            (0, 0)
        );
    }

    #[test]
    fn a_sign_of_life_that_is_late_is_seen_to_by_one_and_by_another_where_that_is_late_too() {
        let pulse = Pulse::default();
        pulse.beat(1_000);
        assert!(pulse.claim(1_000 + STALL).is_none(), "it is in time");
        let late = 1_001 + STALL;
        let claim = pulse.claim(late).unwrap();
        assert!(pulse.claim(late).is_none(), "one is enough");
        assert!(!pulse.lives(claim));
        assert!(pulse.claim(late + STALL).is_none());
        assert!(pulse.claim(late + STALL + 1).is_some(), "it is late, too");

        pulse.beat(late + 5);
        assert!(pulse.lives(claim));
        pulse.rest(late, Duration::from_secs(1));
        assert!(pulse.claim(late + 1_000_000 + STALL).is_none(), "it rests");
        assert!(pulse.claim(late + 1_000_001 + STALL).is_some());
        pulse.rest(late, Duration::MAX);
        assert!(pulse.claim(u64::MAX - 1).is_none());
        pulse.stop();
        assert!(pulse.claim(1).is_some(), "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_gives_signs_of_life() {
        let beats = AtomicUsize::new(0);
        let work = tokio::time::sleep(BEAT * 10 + BEAT / 2);
        with_beats(work, || {
            beats.fetch_add(1, SeqCst);
        })
        .await;
        assert_eq!(beats.load(SeqCst), 11);
    }

    #[test]
    fn tasks_start_on_the_given_runtime_and_elsewhere_once_it_has_ended() {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
        };
        let (home, other) = (runtime(), runtime());
        let tasks = |runtime: &tokio::runtime::Runtime| runtime.metrics().num_alive_tasks();
        let background = Background::within(Some(home.handle().clone()), Arc::default());
        let watched = tasks(&home);
        background.spawn_needed(pending()).unwrap();
        let _in_another = other.enter();
        background.spawn_needed(pending()).unwrap();
        assert_eq!((tasks(&home), tasks(&other)), (watched + 2, 0));
        drop(home);
        background.spawn_needed(pending()).unwrap();
        assert_eq!(tasks(&other), 1);
    }

    #[tokio::test]
    async fn settled_waits_for_the_dispensable() {
        let (background, _) = background();
        background.spawn_needed(pending()).unwrap();
        let (end, ended) = oneshot::channel::<()>();
        assert!(background.spawn(async move {
            let _ = ended.await;
        }));
        let mut settled = Box::pin(background.settled());
        assert!((&mut settled).now_or_never().is_none());
        assert!(!background.spawn(pending()), "none begins meanwhile");
        end.send(()).unwrap();
        settled.await;
        assert_eq!(background.running(), 1);
        assert!(background.spawn(pending()));
    }

    #[tokio::test]
    async fn all_has_settled_once_only_held_tasks_run() {
        let (background, _) = background();
        background.all_settled().await;
        background.spawn_for_holder(pending()).unwrap();
        background.all_settled().await;
        let tasks: [fn(&Background, oneshot::Receiver<()>) -> bool; 3] = [
            |background, ended| background.spawn(async { drop(ended.await) }),
            |background, ended| background.spawn_load(async { drop(ended.await) }),
            |background, ended| {
                let task = async { drop(ended.await) };
                background.spawn_needed(task).is_some()
            },
        ];
        for begin in tasks {
            let (end, ended) = oneshot::channel();
            assert!(begin(&background, ended));
            let mut settled = Box::pin(background.all_settled());
            assert!((&mut settled).now_or_never().is_none());
            end.send(()).unwrap();
            settled.await;
            assert_eq!(background.running(), 1, "it is counted no more, either");
        }
        // A task that is ended from outside.
        let task = background.spawn_needed(pending()).unwrap();
        assert!(background.all_settled().now_or_never().is_none());
        task.abort();
        background.all_settled().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_starts_during_close_is_refused_or_waited_for() {
        for _ in 0..300 {
            let (background, _) = background();
            let alive = Arc::default();
            let over = Arc::new(AtomicBool::new(false));
            let spawner = tokio::task::spawn_blocking({
                let (background, alive, over) = (background.clone(), alive, over.clone());
                move || {
                    while background.spawn_needed(for_ever(&alive)).is_some() {}
                    // A refused task was dropped. So each one that is alive was started, and close
                    // has returned too early.
                    while !over.load(SeqCst) {}
                    alive.load(SeqCst)
                }
            });
            while background.running() == 0 {
                yield_now().await;
            }
            background.close().await;
            over.store(true, SeqCst);
            let alive = spawner.await.unwrap();
            assert_eq!((background.running(), alive), (0, 0));
        }
    }
}
