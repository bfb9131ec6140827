//! Five ways to read prices from a database that is calm, then slow, then down, then back; and what each does to the callers
//! and to the database.
//!
//! ```sh
//! cargo run -p pressure                             # in this process, on a clock of its own: at once
//! VALKEY_HOST=127.0.0.1 cargo run -p pressure       # on a Valkey server, in real time: 40 s
//! ```

mod database;
mod report;
mod time;
mod ways;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use valkey_runtime::{Builder, Store};

use database::{Database, State};
use report::Tally;
use time::RuntimeClock;
use ways::{Process, WAYS, Way};

const ARTICLES: u32 = 8;
const PROCESSES: usize = 2;
/// In each process.
const CALLERS: u32 = 20;
/// Between two calls of a caller.
const PAUSE: Duration = Duration::from_millis(20);
const PHASE: Duration = Duration::from_secs(2);
const PHASES: [(&str, State); 4] = [
    ("calm", State::Calm),
    ("slow", State::Slow),
    ("down", State::Down),
    ("back", State::Calm),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let stores = stores().await?;
    report::introduction(stores[0].location());
    for (name, way) in WAYS {
        report::heading(name);
        step(*way, &stores).await;
    }
    Ok(())
}

/// A store for each process. In this process they share one, and time is the runtime's, which need not pass.
async fn stores() -> Result<Vec<Store>, Box<dyn Error>> {
    let mut stores = Vec::with_capacity(PROCESSES);
    while stores.len() < PROCESSES {
        stores.push(match (Builder::from_env_if_set()?, stores.first()) {
            (Some(server), _) => server.open().await?,
            (None, Some(store)) => Store::clone(store),
            (None, None) => {
                tokio::time::pause();
                let clock = Arc::new(RuntimeClock::new());
                Store::builder().memory().clock(clock).connect().await?
            }
        });
    }
    Ok(stores)
}

/// One way, from the first phase to the last.
async fn step(way: Way, stores: &[Store]) {
    let database = Arc::new(Database::default());
    let tally = Arc::new(Tally::default());
    let end = Instant::now() + PHASE * PHASES.len() as u32;
    let mut callers = Vec::new();
    for store in stores {
        let process = Arc::new(Process::new(store.clone(), database.clone()));
        for caller in 0..CALLERS {
            let (process, tally) = (process.clone(), tally.clone());
            callers.push(tokio::spawn(async move {
                let mut article = caller;
                while Instant::now() < end {
                    let began = Instant::now();
                    let answer = process.call(way, article % ARTICLES).await;
                    tally.add(answer, began.elapsed());
                    article += 1;
                    sleep(PAUSE).await;
                }
            }));
        }
    }
    for (name, state) in PHASES {
        database.set(state);
        sleep(PHASE).await;
        report::row(name, &tally.take(), &database.take());
    }
    for caller in callers {
        // A caller that panicked would have said so.
        let _ = caller.await;
    }
}
