//! What a store does beside the calls of its users: bounded, counted, and over when the store is closed.
//!
//! There are three kinds. What is *dispensable* is refused where much of it runs already: a lease that is not given back
//! runs out by itself. *Loads* that go on beside their callers have a bound of their own, since they last as long as a loader
//! does. What is *needed* is bounded as it is (one task a store, or one a guard that its user holds) and is never refused
//! while the store is open.
//!
//! A task runs in the runtime that the store was given, or else in that of whichever call started it. That runtime may end, or
//! stand still, as one does that is only driven by `block_on`. So a task that must go on gives signs of life, by a [`Pulse`], and
//! a call that misses them starts another.

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
    /// One a dispensable task.
    permits: Arc<Semaphore>,
    /// One a load.
    loads: Arc<Semaphore>,
    loads_cancelled: CancellationToken,
    counters: Arc<Counters>,
    /// How many tasks run that end by themselves, for [`Store::settled`](crate::core::store::Store::settled).
    #[cfg(any(test, feature = "testing"))]
    unsettled: watch::Sender<usize>,
    home: Option<Home>,
}

/// The runtime that a store was given.
#[derive(Debug)]
struct Home {
    runtime: Handle,
    ended: Arc<AtomicBool>,
    /// Dropped with the store, so that the task ends which waits for the runtime's end.
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
    /// In the runtime of whichever call starts a task.
    #[cfg(test)]
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self::within(None, counters)
    }

    /// In that runtime, as long as it is there.
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

    /// Starts a dispensable task, which ends by itself within the deadline of an operation. False where it did not begin:
    /// outside of a runtime, beside too many others, or after the end.
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

    /// Starts a load that goes on beside its caller. False where it did not begin: outside of a runtime, beside too many
    /// others, or near the end.
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

    /// Ends the loads, so that what they held can still be given back.
    pub(crate) async fn end_loads(&self) {
        self.0.loads_cancelled.cancel();
        // Another may have ended them.
        let _all = self.0.loads.acquire_many(MOST).await;
        self.0.loads.close();
    }

    /// Starts a task that there is a bounded number of anyway. `None` where it did not begin: outside of a runtime, or after
    /// the end.
    pub(crate) fn spawn_needed(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        self.begin(task, Lasts::UntilDone)
    }

    /// The same of one that lasts as long as somebody holds what it is for: a guard, a stream.
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
        // It is tracked already. So either it is seen here that nothing may begin any more, or `close` waits for it.
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
        // An error would say that the sender is gone, and we have it.
        let _ = self.0.unsettled.subscribe().wait_for(|n| *n == 0).await;
    }

    /// Where tasks begin.
    fn runtime(&self) -> Option<Handle> {
        match &self.0.home {
            Some(home) if !home.ended.load(Ordering::Relaxed) => Some(home.runtime.clone()),
            _ => Handle::try_current().ok(),
        }
    }

    /// Whether a task can begin.
    pub(crate) fn has_runtime(&self) -> bool {
        self.runtime().is_some()
    }

    /// How many tasks run.
    pub(crate) fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// Whether the end has begun.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.tracker.is_closed()
    }

    /// Returns once no dispensable task runs. Meanwhile none begins.
    pub(crate) async fn settled(&self) {
        // They are never closed.
        let _ = self.0.permits.acquire_many(MOST).await;
    }

    /// Lets nothing begin any more, and drops what runs at its next await point. True for the first who ends it.
    pub(crate) fn cancel(&self) -> bool {
        let first = self.0.tracker.close();
        self.0.cancelled.cancel();
        first
    }

    /// Returns once all has ended. It waits for the runtimes that the tasks are in.
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

/// When a task ends.
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

/// How often a task gives a sign of life, and how late the next one may be before another takes its place, in microseconds.
pub(crate) const BEAT: Duration = Duration::from_millis(100);
const STALL: u64 = 400_000;

/// When the next sign of life is due of a task that must go on, whatever becomes of its runtime. In microseconds, by the store's
/// clock.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU64);

/// A call's claim to see to a task that gave no sign of life. Until it is late as well nobody else has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim(u64);

impl Pulse {
    /// It lives.
    pub(crate) fn beat(&self, now: u64) {
        self.rest(now, Duration::ZERO);
    }

    /// It lives, and is not to be heard of for so long.
    pub(crate) fn rest(&self, now: u64, pause: Duration) {
        let pause = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let next = now.saturating_add(pause).saturating_add(STALL);
        self.0.store(next, Ordering::Relaxed);
    }

    /// It is over, and whoever needs it starts another.
    pub(crate) fn stop(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A claim, if a sign of life is overdue, and for one caller alone.
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

    /// Whether it lives after all.
    pub(crate) fn lives(&self, claim: Claim) -> bool {
        self.0.load(Ordering::Relaxed) != claim.0
    }
}

/// Does some work of a task that gives signs of life meanwhile.
pub(crate) async fn with_beats<T>(work: impl Future<Output = T>, beat: impl Fn()) -> T {
    let mut work = pin!(work);
    loop {
        beat();
        if let Ok(done) = tokio::time::timeout(BEAT, &mut work).await {
            return done;
        }
    }
}

/// How long a caller waits before it takes a task's place that gave no sign of life: if that is in the caller's own runtime, which
/// nobody had driven, it goes on at once.
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

    /// Counts those of it that there are.
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
    fn tasks_begin_where_the_store_is_told_and_elsewhere_once_that_has_ended() {
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
    async fn all_has_settled_once_nothing_runs_but_what_is_held() {
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
        // One that is ended from outside.
        let task = background.spawn_needed(pending()).unwrap();
        assert!(background.all_settled().now_or_never().is_none());
        task.abort();
        background.all_settled().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_begins_beside_the_end_is_refused_or_waited_for() {
        for _ in 0..300 {
            let (background, _) = background();
            let alive = Arc::default();
            let over = Arc::new(AtomicBool::new(false));
            let spawner = tokio::task::spawn_blocking({
                let (background, alive, over) = (background.clone(), alive, over.clone());
                move || {
                    while background.spawn_needed(for_ever(&alive)).is_some() {}
                    // What was refused was dropped; so all that is alive is a task, and close has returned too early.
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
