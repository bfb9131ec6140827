//! The async shell under a scheduler that explores interleavings. This covers the parts outside of
//! the model check of the state machines: the shell's locks, wakes, cancellations and background
//! work.
//!
//! Shuttle runs the tasks on coroutines of one thread and draws at each point the task that
//! continues. The in-process store has a point before and after each operation, so a request or an
//! answer can be under way for any time. The tasks that the shell spawns live on a tokio runtime
//! that never runs by itself. One of the scheduled tasks drives it, and moves its time and the
//! store's, so timers too fire at any point. That task can always continue, so a hanging caller is
//! found by the number of steps.
//!
//! Shuttle is used and not loom, because loom would have to replace tokio, whose notifications and
//! timers the shell uses.
//!
//! The draws come from a fixed seed, except in `cargo xtask soak`, which runs for longer. A failure
//! prints its seed.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, MaxSteps, Runner, future};

use crate::base::clock::{ManualClock, Random};
use crate::base::ttl::Ttl;
use crate::core::store::Store;
use crate::key::tag::TagWriter;
use crate::protocol::transition::Verb;
use crate::schema::cached_type::Keyed;
use crate::schema::guarding::BestEffort;
use crate::{Cached, CachedType};

/// The executions of each scenario.
const EXECUTIONS: usize = if cfg!(soak) { 200_000 } else { 1000 };
/// The maximum steps of an execution. Any execution that ends takes fewer, and the longest load
/// does not end within them.
const MOST_STEPS: usize = 4000;

thread_local! {
    static EXPLORING: Cell<bool> = const { Cell::new(false) };
    /// Whether tokio's runtime is being driven, which is one step of the scheduler.
    static DRIVING: Cell<bool> = const { Cell::new(false) };
    /// The wakers of its tasks that are at a point.
    static AT_POINTS: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// A point at which the scheduler may switch: before and after each operation of the in-process
/// store. It does nothing outside of an exploration.
pub(crate) async fn point() {
    let mut passed = !EXPLORING.get();
    poll_fn(|context| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        match DRIVING.get() {
            true => AT_POINTS.with_borrow_mut(|tasks| tasks.push(context.waker().clone())),
            false => context.waker().wake_by_ref(),
        }
        Poll::Pending
    })
    .await;
}

/// The same in the middle of a poll: before each lock, where another thread may be faster.
pub(crate) fn switch() {
    if EXPLORING.get() && !DRIVING.get() {
        shuttle::thread::yield_now();
    }
}

async fn points(count: u32) {
    for _ in 0..count {
        point().await;
    }
}

/// The number of a row: a later write has a higher one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row(u32);

impl CachedType for Row {
    const PREFIX: &'static str = "row";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 1;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;
}

impl Keyed for Row {
    fn cache_key(&self) -> u64 {
        1
    }
}

/// A row with a tag that only the row itself names, and by which it is invalidated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TaggedRow(u32);

impl CachedType for TaggedRow {
    const PREFIX: &'static str = "tagged";
    const TTL: Ttl = Ttl::Never;
    const VERSION: u16 = 1;
    const TAGGED: bool = true;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = u64;
    type Key<'k> = u64;

    fn write_tags(&self, out: &mut TagWriter<'_>) {
        out.extend(["tag"]);
    }
}

/// Tokens that are the same in each execution of a schedule.
#[derive(Debug, Default)]
struct Numbers(AtomicU64);

impl Random for Numbers {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst)
    }
}

/// The state that the tasks of an execution share.
#[derive(Clone)]
struct World(Arc<Shared>);

struct Shared {
    store: Store,
    /// The database.
    row: AtomicU32,
    /// Callers that call from now on get no older row.
    promised: AtomicU32,
    /// The number of started loaders.
    loads: AtomicU32,
}

type Answer = Result<Option<Row>, &'static str>;

impl World {
    fn new(clock: Arc<ManualClock>) -> Self {
        let store = crate::config::Builder::new()
            .memory()
            .memory_capacity(1 << 16)
            .clock(clock)
            .random(Arc::new(Numbers::default()))
            .connect_lazy()
            .unwrap();
        // The scheduler decides when another task runs.
        store.faults().set_yielding(false);
        Self(Arc::new(Shared {
            store,
            row: AtomicU32::new(1),
            promised: AtomicU32::new(1),
            loads: AtomicU32::new(0),
        }))
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    fn loads(&self) -> u32 {
        self.0.loads.load(SeqCst)
    }

    /// Reads the row, and takes a while to return it.
    async fn load(&self) -> Answer {
        self.0.loads.fetch_add(1, SeqCst);
        point().await;
        let row = self.0.row.load(SeqCst);
        points(2).await;
        Ok(Some(Row(row)))
    }

    async fn get_or_load(self) -> Answer {
        Row::get_or_load(self.store(), 1, || self.load()).await
    }

    /// Reads a few times, and never gets a row older than promised when it called.
    async fn read(self) {
        for _ in 0..2 {
            let promised = self.0.promised.load(SeqCst);
            let given = self.clone().get_or_load().await.unwrap().unwrap();
            assert!(given.0 >= promised, "{given:?} was loaded after {promised}");
            let promised = self.0.promised.load(SeqCst);
            if let Some(given) = Row::get(self.store(), 1).await.unwrap() {
                assert!(given.0 >= promised, "{given:?} was read after {promised}");
            }
        }
    }

    /// Like [`read`](Self::read), but for one key among others, whose rows nobody writes.
    async fn read_among(self, keys: [u64; 2]) {
        let promised = self.0.promised.load(SeqCst);
        let load = async |missing: Vec<u64>| {
            let row = self.load().await?.unwrap();
            Ok::<_, &str>(missing.into_iter().map(move |key| (key, row.clone())))
        };
        let given = Row::get_or_load_many(self.store(), keys, load)
            .await
            .unwrap();
        for (key, given) in keys.into_iter().zip(given) {
            let given = given.unwrap();
            assert!(
                key != 1 || given.0 >= promised,
                "{given:?} was loaded after {promised}"
            );
        }
    }

    /// The same for rows with a tag.
    async fn read_tagged(self) {
        for _ in 0..2 {
            let promised = self.0.promised.load(SeqCst);
            let load = async || Ok::<_, &str>(self.load().await?.map(|row| TaggedRow(row.0)));
            let given = TaggedRow::get_or_load(self.store(), 1, load).await;
            let given = given.unwrap().unwrap();
            assert!(given.0 >= promised, "{given:?} was loaded after {promised}");
            let promised = self.0.promised.load(SeqCst);
            if let Some(given) = TaggedRow::get(self.store(), 1).await.unwrap() {
                assert!(given.0 >= promised, "{given:?} was read after {promised}");
            }
        }
    }

    /// The old row is certainly gone only when the invalidation has returned.
    async fn write_and_invalidate(self) {
        let row = self.0.row.fetch_add(1, SeqCst) + 1;
        point().await;
        self.store().invalidate_tag("tag").await.unwrap();
        self.0.promised.fetch_max(row, SeqCst);
    }

    async fn update_invalidating(self) {
        let write = || self.clone().commit_after(1);
        let updated = self
            .store()
            .of::<TaggedRow>()
            .update(7)
            .invalidating(["tag"])
            .run(write);
        updated.await.unwrap();
    }

    /// The server may evict the epoch and the clock at any time.
    async fn evict(self) {
        for key in [&b"::tag:tag"[..], b"::clock"] {
            points(thread_rng().gen_range(0..20)).await;
            let backend = self.store().inner().gateway.backend();
            let gone = backend.apply(key, &Verb::Delete(None)).await;
            gone.unwrap();
        }
    }

    /// The value under the tag at the end is the current row.
    async fn look_at_what_is_tagged(self) {
        let row = self.0.row.load(SeqCst);
        if let Some(stored) = TaggedRow::get(self.store(), 1).await.unwrap() {
            assert_eq!(stored.0, row, "it is stored");
        }
    }

    /// Writes the next row. Under a guard, callers after that get no older one.
    async fn commit_after(self, some: u32) -> Result<(), &'static str> {
        points(some).await;
        let row = self.0.row.fetch_add(1, SeqCst) + 1;
        self.0.promised.fetch_max(row, SeqCst);
        point().await;
        Ok(())
    }

    async fn update(self) {
        Row::update(self.store(), 1, || self.clone().commit_after(1))
            .await
            .unwrap();
    }

    /// The row is known beforehand, as in a transaction that locks it.
    async fn write_through(self) {
        let row = Row(100);
        Row::write_through(self.store(), &row, async || {
            point().await;
            self.0.row.store(row.0, SeqCst);
            self.0.promised.fetch_max(row.0, SeqCst);
            point().await;
            Ok::<_, ()>(())
        })
        .await
        .unwrap();
    }

    /// Without a guard the old row is gone only when the deletion has returned.
    async fn write_and_delete(self) {
        let row = self.0.row.fetch_add(1, SeqCst) + 1;
        point().await;
        Row::del(self.store(), 1).await.unwrap();
        self.0.promised.fetch_max(row, SeqCst);
    }
}

/// Drives the spawned tasks, each to its next point or not at all, and moves the time.
async fn drive(
    runtime: Arc<tokio::runtime::Runtime>,
    clock: Arc<ManualClock>,
    tick: Duration,
    over: Arc<AtomicBool>,
) {
    while !over.load(SeqCst) {
        let by = tick * thread_rng().gen_range(0..4) / 3;
        clock.advance(by);
        for task in AT_POINTS.take() {
            match thread_rng().gen_bool(0.5) {
                true => task.wake(),
                false => AT_POINTS.with_borrow_mut(|tasks| tasks.push(task)),
            }
        }
        DRIVING.set(true);
        runtime.block_on(tokio::time::advance(by));
        DRIVING.set(false);
        future::yield_now().await;
    }
    // The remaining tasks continue to their end.
    AT_POINTS.take().into_iter().for_each(Waker::wake);
}

/// Runs a scenario under many schedules, and checks after each whether something was left behind.
/// Time moves by at most one tick at once.
fn explore<Fut>(tick: Duration, scenario: impl Fn(World) -> Fut + Send + Sync + 'static)
where
    Fut: Future<Output = ()>,
{
    let mut config = Config::new();
    config.stack_size = 1 << 19;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    let seed = if cfg!(soak) { fastrand::u64(..) } else { 4 };
    Runner::new(RandomScheduler::new_from_seed(seed, EXECUTIONS), config).run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = Arc::new(runtime.unwrap());
        let entered = runtime.enter();
        let (clock, over) = (
            Arc::new(ManualClock::new()),
            Arc::new(AtomicBool::new(false)),
        );
        let world = World::new(clock.clone());
        EXPLORING.set(true);
        let driver = future::spawn(drive(runtime.clone(), clock, tick, over.clone()));
        future::block_on(async {
            scenario(world.clone()).await;
            over.store(true, SeqCst);
            driver.await.unwrap();
        });
        drop(entered);
        EXPLORING.set(false);
        runtime.block_on(world.look_at_what_is_left());
    });
}

impl World {
    /// Nobody waits, no flight is left, and the stored value is the current row.
    async fn look_at_what_is_left(self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(self.store().inner().types.are_idle(), "a flight is left");
        let row = Row(self.0.row.load(SeqCst));
        if let Some(stored) = Row::get(self.store(), 1).await.unwrap() {
            assert_eq!(stored, row, "it is stored");
        }
        assert_eq!(self.clone().get_or_load().await, Ok(Some(row)));
        assert!(self.store().inner().types.are_idle());
    }
}

/// No lease of a second runs out while the callers are at work.
const SHORT: Duration = Duration::from_millis(3);
/// Leases run out, and so do guards that are no longer renewed.
const LONG: Duration = Duration::from_millis(500);

#[test]
fn callers_of_one_key_share_one_load() {
    explore(SHORT, |world| async move {
        let calls = [(); 4].map(|()| future::spawn(world.clone().get_or_load()));
        for call in calls {
            assert_eq!(call.await.unwrap(), Ok(Some(Row(1))));
        }
        assert_eq!(world.loads(), 1);
    });
}

#[test]
fn a_caller_that_is_cancelled_anywhere_keeps_nobody_waiting() {
    explore(SHORT, |world| async move {
        let [cancelled, others @ ..] = [(); 3].map(|()| future::spawn(world.clone().get_or_load()));
        points(thread_rng().gen_range(0..12)).await;
        cancelled.abort();
        for call in others {
            assert_eq!(call.await.unwrap(), Ok(Some(Row(1))));
        }
        // It may have loaded, and been cancelled before others could know.
        assert!(world.loads() <= 2, "{} loads", world.loads());
        drop(cancelled.await);
    });
}

#[test]
fn a_leader_that_panics_hands_its_load_on() {
    explore(SHORT, |world| async move {
        let first = Arc::new(AtomicBool::new(true));
        let calls = [(); 3].map(|()| {
            let (world, first) = (world.clone(), first.clone());
            future::spawn(async move {
                let load = async || {
                    let row = world.load().await;
                    if first.swap(false, SeqCst) {
                        // Without the panic hook, which would print a schedule.
                        resume_unwind(Box::new("the loader panics"));
                    }
                    row
                };
                caught(Row::get_or_load(world.store(), 1, load)).await
            })
        });
        let mut panicked = 0;
        for call in calls {
            match call.await.unwrap() {
                Some(given) => assert_eq!(given, Ok(Some(Row(1)))),
                None => panicked += 1,
            }
        }
        assert_eq!((panicked, world.loads()), (1, 2));
    });
}

/// Catches a panic, as a runtime does for its tasks: `None` if it panicked.
async fn caught<T>(call: impl Future<Output = T>) -> Option<T> {
    let mut call = Box::pin(call);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

#[test]
fn a_load_that_fails_is_not_shared() {
    explore(SHORT, |world| async move {
        let first = Arc::new(AtomicBool::new(true));
        let calls = [(); 4].map(|()| {
            let (world, first) = (world.clone(), first.clone());
            future::spawn(async move {
                let load = async || match world.load().await {
                    Ok(_) if first.swap(false, SeqCst) => Err("no database"),
                    row => row,
                };
                Row::get_or_load(world.store(), 1, load).await
            })
        });
        let mut failed = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(given) => assert_eq!(given, Some(Row(1))),
                Err(_) => failed += 1,
            }
        }
        assert_eq!(failed, 1, "each caller gets the error of its own load");
    });
}

#[test]
fn nothing_older_is_given_after_a_deletion() {
    explore(SHORT, |world| async move {
        let readers = [(); 3].map(|()| future::spawn(world.clone().read()));
        let writer = future::spawn(world.clone().write_and_delete());
        for task in readers.into_iter().chain([writer]) {
            task.await.unwrap();
        }
    });
}

#[test]
fn nothing_older_is_given_after_the_commit_of_an_update() {
    explore(SHORT, |world| async move {
        let readers = [(); 3].map(|()| future::spawn(world.clone().read()));
        let writers = [
            future::spawn(world.clone().update()),
            future::spawn(world.clone().write_through()),
        ];
        for task in readers.into_iter().chain(writers) {
            task.await.unwrap();
        }
        // The guards are gone: a loaded value is stored now.
        let row = world.clone().get_or_load().await.unwrap();
        assert_eq!(Row::get(world.store(), 1).await.unwrap(), row);
    });
}

/// A write that has begun may still commit, while its guard lasts.
#[test]
fn nothing_older_is_given_after_an_update_that_was_dropped() {
    explore(SHORT, |world| async move {
        let readers = [(); 3].map(|()| future::spawn(world.clone().read()));
        let written = Arc::new(Mutex::new(None));
        let dropped = future::spawn({
            let (world, written) = (world.clone(), written.clone());
            async move {
                let write = async || {
                    let commit = world.clone().commit_after(thread_rng().gen_range(0..40));
                    *written.lock().unwrap() = Some(future::spawn(commit));
                    std::future::pending::<Result<(), ()>>().await
                };
                Row::update(world.store(), 1, write).await
            }
        });
        points(thread_rng().gen_range(0..12)).await;
        dropped.abort();
        for reader in readers {
            reader.await.unwrap();
        }
        assert!(dropped.await.is_err());
        let written = written.lock().unwrap().take();
        if let Some(written) = written {
            written.await.unwrap().unwrap();
        }
    });
}

/// Guards and leases run out here, some while they are still needed.
#[test]
fn guards_and_leases_that_run_out_let_no_older_value_be_given() {
    explore(LONG, |world| async move {
        let readers = [(); 3].map(|()| future::spawn(world.clone().read()));
        let dropped = future::spawn(world.clone().update());
        let writer = future::spawn(world.clone().write_and_delete());
        points(thread_rng().gen_range(0..12)).await;
        dropped.abort();
        for task in readers.into_iter().chain([writer]) {
            task.await.unwrap();
        }
        drop(dropped.await);
    });
}

/// Each of the three waits for the load of another.
#[test]
fn callers_of_many_keys_do_not_wait_in_a_circle_nor_are_given_anything_older() {
    explore(SHORT, |world| async move {
        let readers =
            [[3, 1], [1, 2], [2, 1]].map(|keys| future::spawn(world.clone().read_among(keys)));
        let [cancelled, others @ ..] = readers;
        let others = others.into_iter().chain([
            future::spawn(world.clone().read()),
            future::spawn(world.clone().update()),
        ]);
        let others: Vec<_> = others.collect();
        points(thread_rng().gen_range(0..12)).await;
        cancelled.abort();
        for task in others {
            task.await.unwrap();
        }
        drop(cancelled.await);
    });
}

/// A deletion may be requested while another one of the same key is under way. It may concern a
/// value that was stored after the first one was carried out.
#[test]
fn a_deletion_that_is_queued_while_another_is_delivered_is_delivered_too() {
    explore(LONG, |world| async move {
        let store = world.store();
        for _ in 0..2 {
            Row(1).set_at(store, 1).await.unwrap();
            store.inner().gateway.keep(b"row:1", 0);
            points(thread_rng().gen_range(0..20)).await;
        }
        while store.undelivered() > 0 {
            point().await;
        }
        assert_eq!(Row::get(store, 1).await.unwrap(), None);
    });
}

#[cfg(soak)]
#[test]
fn soak() {
    callers_of_one_key_share_one_load();
    a_caller_that_is_cancelled_anywhere_keeps_nobody_waiting();
    a_leader_that_panics_hands_its_load_on();
    a_load_that_fails_is_not_shared();
    nothing_older_is_given_after_a_deletion();
    nothing_older_is_given_after_the_commit_of_an_update();
    nothing_older_is_given_after_an_update_that_was_dropped();
    guards_and_leases_that_run_out_let_no_older_value_be_given();
    callers_of_many_keys_do_not_wait_in_a_circle_nor_are_given_anything_older();
    a_deletion_that_is_queued_while_another_is_delivered_is_delivered_too();
}

#[test]
fn no_row_is_older_than_the_invalidation_of_its_tag() {
    explore(SHORT, |world| async move {
        let readers = [(); 2].map(|()| future::spawn(world.clone().read_tagged()));
        let writers = [
            future::spawn(world.clone().write_and_invalidate()),
            future::spawn(world.clone().update_invalidating()),
        ];
        for task in readers.into_iter().chain(writers) {
            task.await.unwrap();
        }
        world.look_at_what_is_tagged().await;
    });
}

#[test]
fn nor_where_epoch_and_clock_are_evicted() {
    explore(SHORT, |world| async move {
        let tasks = [
            future::spawn(world.clone().read_tagged()),
            future::spawn(world.clone().read_tagged()),
            future::spawn(world.clone().write_and_invalidate()),
            future::spawn(world.clone().write_and_invalidate()),
            future::spawn(world.clone().evict()),
        ];
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn nor_where_a_reader_is_cancelled_anywhere() {
    explore(SHORT, |world| async move {
        let [cancelled, others @ ..] = [(); 3].map(|()| future::spawn(world.clone().read_tagged()));
        let writer = future::spawn(world.clone().write_and_invalidate());
        points(thread_rng().gen_range(0..30)).await;
        cancelled.abort();
        for task in others.into_iter().chain([writer]) {
            task.await.unwrap();
        }
        drop(cancelled.await);
        world.look_at_what_is_tagged().await;
    });
}
