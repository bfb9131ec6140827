//! Many tasks of two processes read and write rows whose versions grow, on one server or a cluster,
//! while things go wrong; and a checker goes through what each of them was given. `history.rs` has
//! the checker and what it checks, `world.rs` what the tasks do, `faults.rs` what goes wrong.
//!
//! The exceptions of `docs/guides/consistency.md` are modelled and not left out:
//!
//! - *a guard that was lost during the write* (evicted, deleted, a server that came back empty):
//!   its commit is a floor only if `release` said that the guard was held to the end; the end
//!   always is one;
//! - *an end, a `del` or an invalidation that was not confirmed*: a floor for the process itself at
//!   once, and for all once `Store::undelivered` is 0;
//! - *a `set` that had no answer*: nothing is promised of that key any more, and its writer takes
//!   another.

mod faults;
mod history;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use fastrand::Rng;
use valkey_runtime::{Builder, Store};
use valkey_tests::{Proxy, Server};

use crate::faults::Faults;
use crate::world::{Account, Broken, World};

/// How long each of the checks with faults goes on.
const LONG: Duration = Duration::from_secs(if cfg!(soak) { 60 } else { 10 });
/// Tasks of each process.
const TASKS: usize = 8;
const PROCESSES: usize = 2;
/// How many floors there have to be, and twice as many reads.
const LEAST: usize = 500;
const PATIENCE: Duration = Duration::from_secs(60);

/// A store that gives a command up soon: faults are many.
fn store(builder: Builder) -> Builder {
    builder
        .namespace("register")
        .command_timeout(Duration::from_millis(250))
        .connect_timeout(Duration::from_secs(1))
}

async fn open(builders: Vec<Builder>) -> Vec<Store> {
    let mut stores = Vec::new();
    for builder in builders {
        let started = Instant::now();
        let store = loop {
            match store(builder.clone()).connect().await {
                Ok(store) => break store,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
        };
        stores.push(store);
    }
    stores
}

/// Until the time is over and enough was done, for which a busy machine takes longer.
fn goes_on(world: &World, until: Instant) -> bool {
    let now = Instant::now();
    let (reads, floors) = world.history.counts();
    now < until || ((reads < 2 * LEAST || floors < LEAST) && now < until + PATIENCE)
}

/// Runs all tasks, and the faults beside them, until it is over; then waits until nothing is kept
/// any more.
async fn run(world: &Arc<World>, faults: Option<Faults>, long: Duration, seed: u64) {
    let until = Instant::now() + long;
    let mut tasks = Vec::new();
    for task in 0..PROCESSES * TASKS {
        let world = world.clone();
        tasks.push(tokio::spawn(async move {
            let mut rng = Rng::with_seed(seed.wrapping_add(task as u64));
            while goes_on(&world, until) {
                world.step(task % PROCESSES, &mut rng).await;
            }
        }));
    }
    let seen = world.clone();
    let faults = faults.map(|mut faults| {
        std::thread::spawn(move || {
            let mut rng = Rng::with_seed(seed);
            while goes_on(&seen, until) {
                faults.cause_one(&mut rng);
            }
            faults.counts()
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    if let Some(faults) = faults {
        let counts = tokio::task::spawn_blocking(move || faults.join());
        eprintln!("faults: {:?}", counts.await.unwrap().unwrap());
    }
    let patience = Instant::now();
    while world.waiting() > 0 {
        if patience.elapsed() > PATIENCE {
            for store in &world.stores {
                let (waiting, breaker) = (store.undelivered(), store.breaker());
                let answered = store.ping().await;
                eprintln!("{waiting} undelivered, breaker {breaker:?}, asked: {answered:?}");
            }
            panic!("{} writes are not delivered, seed {seed}", world.waiting());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        (0..PROCESSES).for_each(|process| world.look_at_kept(process));
    }
    let mut rng = Rng::with_seed(seed);
    for _ in 0..200 {
        for process in 0..PROCESSES {
            world.step(process, &mut rng).await;
        }
    }
}

/// Checks that nothing was older than promised, and that there was something to check.
fn is_kept(world: &World, seed: u64) {
    let (reads, floors) = world.history.counts();
    let hits: u64 = world.stores.iter().map(|store| store.stats().hits()).sum();
    let lost: u64 = world
        .stores
        .iter()
        .map(|store| store.stats().lost_deletions())
        .sum();
    eprintln!(
        "{reads} reads, of which {hits} were hits; {} loads; {floors} floors; {} calls failed; seed {seed}",
        world.loads.load(SeqCst),
        world.failures.load(SeqCst)
    );
    let staleness = world.history.staleness();
    let near_hits: u64 = world
        .stores
        .iter()
        .map(|store| store.stats().near_hits())
        .sum();
    let at = |part: f64| {
        staleness
            .get((staleness.len() as f64 * part) as usize)
            .copied()
    };
    eprintln!(
        "{} near reads, {near_hits} near hits; older than the last write of others by {:?} (median), {:?} (99 %), {:?} (99.9 %), {:?} (most)",
        staleness.len(),
        at(0.5).unwrap_or_default(),
        at(0.99).unwrap_or_default(),
        at(0.999).unwrap_or_default(),
        staleness.last().copied().unwrap_or_default()
    );
    assert_eq!(lost, 0, "that many deletions are never kept here");
    let violations = world.history.violations();
    for violation in violations.iter().take(10) {
        eprintln!("{violation}");
    }
    assert!(
        violations.is_empty(),
        "{} of {reads} reads, seed {seed}",
        violations.len()
    );
    assert!(
        reads >= 2 * LEAST && hits > 0 && floors >= LEAST,
        "too little was done"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_promised_where_all_is_well() {
    let server = Server::plain();
    let patient = |builder: Builder| {
        builder
            .namespace("register")
            .command_timeout(Duration::from_secs(30))
    };
    let mut stores = Vec::new();
    for _ in 0..PROCESSES {
        stores.push(patient(server.store_builder()).connect().await.unwrap());
    }
    let seed = fastrand::u64(..);
    let world = World::new(stores, true, Broken::Nothing);
    run(&world, None, LONG / 4, seed).await;
    is_kept(&world, seed);
    assert_eq!(world.failures.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_promised_whatever_happens_to_a_server() {
    let server = Arc::new(Server::plain());
    let proxies: Vec<_> = (0..PROCESSES)
        .map(|_| Arc::new(Proxy::to(server.addr())))
        .collect();
    let builders = proxies
        .iter()
        .map(|proxy| Store::builder().url(&proxy.url()));
    let stores = open(builders.collect()).await;
    let seed = fastrand::u64(..);
    let world = World::new(stores, false, Broken::Nothing);
    run(
        &world,
        Some(Faults::of_server(server.clone(), proxies.clone())),
        LONG,
        seed,
    )
    .await;
    is_kept(&world, seed);
    assert!(world.failures.load(SeqCst) > 0, "nothing went wrong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_promised_whatever_happens_to_a_cluster() {
    let cluster = tokio::task::spawn_blocking(Server::cluster_with_replicas);
    let cluster = Arc::new(cluster.await.unwrap());
    let builders = (0..PROCESSES).map(|_| cluster.store_builder());
    let stores = open(builders.collect()).await;
    let seed = fastrand::u64(..);
    let world = World::new(stores, false, Broken::Nothing);
    run(
        &world,
        Some(Faults::of_cluster(cluster.clone())),
        LONG,
        seed,
    )
    .await;
    is_kept(&world, seed);
}

/// Two stores on a server where all is well, and a rule that is broken.
async fn broken(broken: Broken) -> Arc<World> {
    let server = Box::leak(Box::new(Server::plain()));
    // No step may fail for want of time: a read that fails shows nothing.
    let patient = || server.store_builder().command_timeout(PATIENCE);
    let stores = open((0..PROCESSES).map(|_| patient()).collect()).await;
    World::new(stores, true, broken)
}

/// Until something is found, which a busy machine may take its time for.
async fn is_found(world: Arc<World>) {
    let started = Instant::now();
    while world.history.violations().is_empty() {
        assert!(started.elapsed() < PATIENCE, "nothing is found");
        run(&world, None, Duration::from_millis(200), fastrand::u64(..)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_loader_that_fills_by_plain_set() {
    is_found(broken(Broken::FillsBlindly).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_write_that_deletes_nothing() {
    is_found(broken(Broken::ForgetsDeletions).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_store_that_gives_old_values() {
    is_found(broken(Broken::GivesOldValues).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_value_that_is_read_changed_and_set() {
    is_found(broken(Broken::ChangesBlindly).await).await;
}

/// The race of the first page of every book on caching, step by step: it depends on nothing.
#[tokio::test]
async fn the_checker_catches_a_fill_that_a_write_overtook() {
    let world = broken(Broken::FillsBlindly).await;
    let mut rng = Rng::with_seed(1);
    let old = Account { id: 1, version: 1 };
    world.update_account(0, 1, &mut rng).await;
    world.get_account(1, 1).await;
    assert!(world.history.violations().is_empty());
    world.fill_blindly(1, old).await;
    world.get_account(1, 1).await;
    let violations = world.history.violations();
    let [violation] = violations[..] else {
        panic!("{violations:?}")
    };
    assert_eq!((violation.read.given, violation.floor.version), (1, 2));
}
