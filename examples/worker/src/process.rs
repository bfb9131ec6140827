//! A process of workers: a pool of tasks that take jobs from a queue.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use valkey_runtime::{Builder, Cached, Store};

use crate::database::{query, say};

/// An object that jobs need and that is slow to make: a trained model, or the rules of a customer.
/// It is kept for longer than a run takes.
#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "model", ttl = "1h")]
struct Model {
    #[cached(key)]
    id: u32,
    weights: Vec<u32>,
}

/// The number of objects.
const MODELS: u32 = 8;
/// The number of jobs of each process.
const JOBS: u32 = 80;
/// The number of jobs at a time.
const TASKS: usize = 4;

pub(crate) async fn run(name: usize, database: SocketAddr) -> Result<(), Box<dyn Error>> {
    let store = match Builder::from_env_if_set()? {
        // No run finds entries of an earlier one: its database has an address of its own.
        Some(server) => {
            server
                .namespace(format!("worker-{}", database.port()))
                .open()
                .await?
        }
        None => Store::memory(),
    };
    let worker = Arc::new(Worker {
        name,
        store,
        database,
        // Each process begins with another model; all of them need all.
        queue: Mutex::new((0..JOBS).map(|job| job + 3 * name as u32).collect()),
    });
    let pool = async {
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let worker = worker.clone();
            tasks.spawn(async move { worker.work().await });
        }
        tasks.join_all().await.into_iter().sum::<io::Result<u32>>()
    };
    tokio::pin!(pool);
    let done = tokio::select! {
        // Listens before any work begins.
        biased;
        Ok(()) = tokio::signal::ctrl_c() => {
            // Jobs under way are finished, and no more are taken.
            worker.queue().clear();
            pool.await?
        }
        done = &mut pool => done?,
    };
    let stats = worker.store.stats();
    // The last read and write are over. `close` releases this process's leases, and retries its
    // undelivered invalidations.
    worker.store.close().await;
    say(&format!(
        "process {name}: {done} of {JOBS} jobs, {} loads, {} undelivered",
        stats.loads(),
        worker.store.undelivered(),
    ));
    Ok(())
}

struct Worker {
    name: usize,
    store: Store,
    database: SocketAddr,
    queue: Mutex<VecDeque<u32>>,
}

impl Worker {
    /// Does jobs until there are none, and returns their number.
    async fn work(&self) -> io::Result<u32> {
        let mut done = 0;
        loop {
            let job = self.queue().pop_front();
            let Some(job) = job else { return Ok(done) };
            self.job(job).await?;
            done += 1;
        }
    }

    /// Does one job. Of all tasks in all processes that need the same model, one loads it, and the
    /// others wait for it.
    async fn job(&self, job: u32) -> io::Result<()> {
        let id = job % MODELS;
        let load = async || {
            let weights = query(self.database, self.name, id).await?;
            Ok::<_, io::Error>(Model { id, weights })
        };
        let model = Model::get_or_load(&self.store, id, load).await?;
        assert_eq!(
            model.weights, [id; 4],
            "the model is the one that was asked for"
        );
        Ok(())
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<u32>> {
        self.queue.lock().expect("nothing panics under it")
    }
}
