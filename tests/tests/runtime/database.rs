//! A database of one row: its loads can be seen and held back.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use valkey_runtime::{Cached, Store};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user")]
pub(crate) struct User {
    #[cached(key)]
    pub(crate) id: u64,
    pub(crate) row: u32,
}

/// For a store that is to give no command up because the machine is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn user(row: u32) -> User {
    User { id: 1, row }
}

pub(crate) struct Database {
    row: AtomicU32,
    running: AtomicUsize,
    most: AtomicUsize,
    loads: AtomicUsize,
    begun: Semaphore,
    gate: Semaphore,
}

impl Database {
    /// Its loads end at once.
    pub(crate) fn open(row: u32) -> Arc<Self> {
        let database = Self::closed(row);
        database.let_go();
        database
    }

    /// Its loads read their row at once, and end when the test lets them go.
    pub(crate) fn closed(row: u32) -> Arc<Self> {
        Arc::new(Self {
            row: AtomicU32::new(row),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
            begun: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    pub(crate) async fn load(&self) -> User {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.loads.fetch_add(1, Ordering::SeqCst);
        let row = self.row();
        self.begun.add_permits(1);
        drop(self.gate.acquire().await.unwrap());
        // Others begin meanwhile, if they can.
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        user(row)
    }

    /// The value that a call is given.
    pub(crate) async fn call(self: Arc<Self>, store: Store) -> Option<User> {
        let loaded =
            User::get_or_load(&store, 1, async || Ok::<_, ()>(Some(self.load().await))).await;
        loaded.unwrap()
    }

    /// So many tasks that call at once.
    pub(crate) fn calls(
        self: &Arc<Self>,
        store: &Store,
        count: usize,
    ) -> Vec<JoinHandle<Option<User>>> {
        let call = |_| tokio::spawn(self.clone().call(store.clone()));
        (0..count).map(call).collect()
    }

    /// Returns once so many loads have begun.
    pub(crate) async fn begun(&self, loads: u32) {
        drop(self.begun.acquire_many(loads).await.unwrap());
    }

    pub(crate) fn let_go(&self) {
        self.gate.add_permits(1);
    }

    pub(crate) fn row(&self) -> u32 {
        self.row.load(Ordering::SeqCst)
    }

    pub(crate) fn write(&self, row: u32) {
        self.row.store(row, Ordering::SeqCst);
    }

    /// The same, as what an update runs.
    pub(crate) fn commit(&self, row: u32) -> Result<(), ()> {
        self.write(row);
        Ok(())
    }

    /// The most loads that ran at a time.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// How many began in all.
    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

pub(crate) async fn all_given(calls: Vec<JoinHandle<Option<User>>>, row: u32) {
    for call in calls {
        assert_eq!(call.await.unwrap(), Some(user(row)));
    }
}

/// Lets what was spawned for the key 1 go as far as it can: a few round trips to the node that has
/// it, or failures of them.
pub(crate) async fn settle(store: &Store) {
    for _ in 0..10 {
        let _ = User::exists(store, 1).await;
        tokio::task::yield_now().await;
    }
}

/// The outcome of an attempt that goes by real time: of the first one during which this runtime and
/// the store's server had a turn each `turn`. A machine that is busy with much else may leave them
/// none, and then short times have run out.
pub(crate) async fn undisturbed<T>(
    store: &Store,
    turn: Duration,
    mut attempt: impl AsyncFnMut() -> T,
) -> T {
    let started = Instant::now();
    loop {
        let (last, longest) = (Cell::new(Instant::now()), Cell::new(Duration::ZERO));
        let note = || {
            longest.set(longest.get().max(last.get().elapsed()));
            last.set(Instant::now());
        };
        let turns = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                store.ping().await.unwrap();
                note();
            }
        };
        let result = tokio::select! {
            result = attempt() => result,
            () = turns => unreachable!("it ends with the attempt"),
        };
        note();
        // The last one counts whatever happened.
        if longest.get() < turn || started.elapsed() > PATIENCE {
            return result;
        }
    }
}

/// Waits for what another process or a task in the background does, which nobody announces.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE * 2, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
