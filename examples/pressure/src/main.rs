//! Six ways to read prices from a database that is calm, then slow, then down, then back; and the
//! effect of each on the callers and the database.
//!
//! ```sh
//! cargo run -p pressure                             # in this process, on a clock of its own: at once
//! VALKEY_HOST=127.0.0.1 cargo run -p pressure       # on a Valkey server, in real time: 20 s
//! ```

mod database;
// The code of two processes, in one program. Loads are shared per type and store. So even on one
// store, each process knows only those loads of the other that are visible in the store.
#[path = "process.rs"]
mod first;
mod report;
#[path = "process.rs"]
#[allow(clippy::duplicate_mod, reason = "see above")]
mod second;
mod time;
mod ways;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use valkey_runtime::{Builder, Store};

use database::{Database, State};
use report::Tally;
use time::{Numbers, RuntimeClock};
use ways::{Application, WAYS, Way};

const ARTICLES: u32 = 8;
/// In each process.
const CALLERS: u32 = 20;
/// Between two calls of a caller.
const PAUSE: Duration = Duration::from_millis(20);
const PHASE: Duration = Duration::from_millis(800);
const PHASES: [(&str, State); 4] = [
    ("calm", State::Calm),
    ("slow", State::Slow),
    ("down", State::Down),
    ("back", State::Calm),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let server = Builder::from_env_if_set()?;
    let mut runtime = runtime::Builder::new_current_thread();
    // The time of a server can't be paused.
    let runtime = { runtime.enable_all().start_paused(server.is_none()) }.build()?;
    runtime.block_on(async {
        let stores = stores(server).await?;
        report::introduction(stores[0].location());
        for (name, way) in WAYS {
            report::heading(name);
            step(*way, &stores).await?;
        }
        Ok(())
    })
}

/// A store for each process. In this process they share one.
async fn stores(server: Option<Builder>) -> valkey_runtime::Result<[Store; 2]> {
    if let Some(server) = server {
        return Ok([server.clone().open().await?, server.open().await?]);
    }
    let (clock, random) = (Arc::new(RuntimeClock::new()), Arc::new(Numbers::default()));
    let store = Store::builder().memory().clock(clock).random(random);
    let store = store.connect().await?;
    Ok([store.clone(), store])
}

/// Runs one way, from the first phase to the last.
async fn step(way: Way, [first, second]: &[Store; 2]) -> valkey_runtime::Result<()> {
    let database = Arc::new(Database::default());
    let tally = Arc::new(Tally::default());
    let first = Arc::new(first::Process::new(first.clone(), database.clone()));
    let second = Arc::new(second::Process::new(second.clone(), database.clone()));
    first.forget().await?;

    let end = Instant::now() + PHASE * PHASES.len() as u32;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(first.clone(), way, caller, end, tally.clone()));
        callers.spawn(call(second.clone(), way, caller, end, tally.clone()));
    }
    for (name, state) in PHASES {
        database.set(state);
        sleep(PHASE).await;
        report::row(name, &tally.take(), &database.take());
    }
    callers.join_all().await;
    Ok(())
}

/// Reads one price after another: all of them, in an order that few callers have.
async fn call(
    process: Arc<impl Application>,
    way: Way,
    caller: u32,
    end: Instant,
    tally: Arc<Tally>,
) {
    let (mut article, stride) = (caller, caller / ARTICLES * 2 + 1);
    while Instant::now() < end {
        let began = Instant::now();
        let answer = process.call(way, article % ARTICLES).await;
        tally.add(answer, began.elapsed());
        article += stride;
        sleep(PAUSE).await;
    }
}
