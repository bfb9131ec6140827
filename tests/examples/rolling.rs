//! One instance of a service during a rolling deployment: its release has version 1, 2 or 3 of a
//! type. `tests/rolling.rs` starts three of them beside each other.
//!
//! The arguments are the URL of the server, its address, the version, the way of the versions
//! (`migrate`, `keyed` or `layout`), the number of steps and a seed. It prints `ready`, waits for a line, and
//! then takes its steps: each reads, loads or updates a row at random. In the end it prints
//! `rolling READS HITS LOADS UPDATES MIGRATIONS STALE WRONG ERRORS`.
//!
//! The database is a number for each row, in the same server: an update counts it up. With
//! `migrate` all versions share their keys, and newer ones convert older entries. With `keyed` each
//! version has keys of its own, and an update invalidates all of them. With `layout` the releases
//! forgot to raise the version: the first has named fields, and the others the compact layout, one
//! of them compressed.

#![allow(clippy::print_stdout, reason = "that is how it answers")]
#![allow(clippy::print_stderr, reason = "for what went wrong")]

use std::future::Future;
use std::io::BufReader;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use valkey_runtime::{Cached, Error, Store};
use valkey_tests::resp::{self, Value};

const ROWS: u64 = 1000;
const TASKS: u64 = 4;

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "account", ttl = "1h")]
struct First {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "account", ttl = "1h", version = 2, migrate_from = First)]
struct Second {
    #[cached(key)]
    id: u64,
    parts: Vec<String>,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "account", ttl = "1h", version = 3, migrate_from = Second)]
struct Third {
    #[cached(key)]
    id: u64,
    owner: u64,
    row: u64,
}

impl From<First> for Second {
    fn from(First { id, text }: First) -> Self {
        let parts = text.split('-').map(str::to_owned).collect();
        Self { id, parts }
    }
}

impl TryFrom<Second> for Third {
    type Error = ();

    fn try_from(Second { id, parts }: Second) -> Result<Self, ()> {
        let [_, owner, row] = &*parts else {
            return Err(());
        };
        let owner = owner.parse().map_err(drop)?;
        let row = row.parse().map_err(drop)?;
        Ok(Self { id, owner, row })
    }
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "account", ttl = "1h", layout = "compact")]
struct Compact {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(
    prefix = "account",
    ttl = "1h",
    layout = "compact",
    compress = "lz4",
    compress_above = 0
)]
struct Packed {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "account-v1", ttl = "1h")]
struct Keyed1 {
    #[cached(key)]
    id: u64,
    text: String,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "account-v2", ttl = "1h")]
struct Keyed2 {
    #[cached(key)]
    id: u64,
    parts: Vec<String>,
}

#[derive(Serialize, Deserialize, Cached)]
#[cached(prefix = "account-v3", ttl = "1h")]
struct Keyed3 {
    #[cached(key)]
    id: u64,
    owner: u64,
    row: u64,
}

/// The verbs of one version, and its form of a row.
trait Version: Sized + Send + Sync + 'static {
    fn of(id: u64, row: u64) -> Self;

    /// The row, or `None` if the value is not that of any row.
    fn row(&self, id: u64) -> Option<u64>;

    fn get(store: &Store, id: u64) -> impl Future<Output = Result<Option<Self>, Error>> + Send;

    fn load(world: &World, id: u64) -> impl Future<Output = Self> + Send;

    fn update(world: &World, id: u64) -> impl Future<Output = Result<(), Error>> + Send;
}

fn text(id: u64, row: u64) -> String {
    format!("account-{id}-{row}")
}

fn parts(id: u64, row: u64) -> Vec<String> {
    text(id, row).split('-').map(str::to_owned).collect()
}

fn row_of(id: u64, text: &str) -> Option<u64> {
    let row = text.rsplit('-').next()?.parse().ok()?;
    (text == self::text(id, row)).then_some(row)
}

/// Implements `Version` for a type. `$inner` is the further types whose entries an update
/// invalidates.
macro_rules! version {
    ($name:ident, $make:expr, $row:expr, [$($other:ident)*]) => {
        impl Version for $name {
            fn of(id: u64, row: u64) -> Self {
                let make: fn(u64, u64) -> Self = $make;
                make(id, row)
            }

            fn row(&self, id: u64) -> Option<u64> {
                let row: fn(&Self, u64) -> Option<u64> = $row;
                row(self, id).filter(|_| self.id == id)
            }

            async fn get(store: &Store, id: u64) -> Result<Option<Self>, Error> {
                <$name as Cached>::get(store, id).await
            }

            async fn load(world: &World, id: u64) -> Self {
                let loaded = <$name as Cached>::get_or_load(&world.store, id, async || {
                    world.loads.fetch_add(1, Relaxed);
                    Ok::<_, ()>(Self::of(id, world.row(id)))
                });
                loaded.await.expect("the loader does not fail")
            }

            async fn update(world: &World, id: u64) -> Result<(), Error> {
                version!(@update $name world id [$($other)*])
            }
        }
    };
    (@update $name:ident $world:ident $id:ident []) => {
        <$name as Cached>::update(&$world.store, $id, async || Ok::<_, Error>($world.commit($id))).await
    };
    (@update $name:ident $world:ident $id:ident [$next:ident $($rest:ident)*]) => {
        <$name as Cached>::update(&$world.store, $id, async || {
            version!(@update $next $world $id [$($rest)*])
        })
        .await
    };
}

version!(
    First,
    |id, row| Self {
        id,
        text: text(id, row)
    },
    |of, id| row_of(id, &of.text),
    []
);
version!(
    Second,
    |id, row| Self {
        id,
        parts: parts(id, row)
    },
    |of, id| row_of(id, &of.parts.join("-")),
    []
);
version!(
    Third,
    |id, row| Self { id, owner: id, row },
    |of, id| (of.owner == id).then_some(of.row),
    []
);
version!(
    Compact,
    |id, row| Self {
        id,
        text: text(id, row)
    },
    |of, id| row_of(id, &of.text),
    []
);
version!(
    Packed,
    |id, row| Self {
        id,
        text: text(id, row)
    },
    |of, id| row_of(id, &of.text),
    []
);
version!(Keyed1, |id, row| Self { id, text: text(id, row) }, |of, id| row_of(id, &of.text), [Keyed2 Keyed3]);
version!(Keyed2, |id, row| Self { id, parts: parts(id, row) }, |of, id| row_of(id, &of.parts.join("-")), [Keyed1 Keyed3]);
version!(Keyed3, |id, row| Self { id, owner: id, row }, |of, id| (of.owner == id).then_some(of.row), [Keyed1 Keyed2]);

struct World {
    store: Store,
    database: String,
    reads: AtomicU64,
    loads: AtomicU64,
    updates: AtomicU64,
    stale: AtomicU64,
    wrong: AtomicU64,
    errors: AtomicU64,
}

impl World {
    /// The row in the database.
    fn row(&self, id: u64) -> u64 {
        match self.query(&["GET", &format!("row:{id}")]) {
            Value::Null => 0,
            value => value
                .text()
                .and_then(|text| text.parse().ok())
                .expect("a number"),
        }
    }

    fn commit(&self, id: u64) {
        self.query(&["INCR", &format!("row:{id}")]);
        self.updates.fetch_add(1, Relaxed);
    }

    /// Asks the database, on a connection of its own.
    fn query(&self, command: &[&str]) -> Value {
        use std::io::Write;
        tokio::task::block_in_place(|| {
            let mut database = TcpStream::connect(&self.database).expect("the database");
            database
                .write_all(&resp::encode(command))
                .expect("it listens");
            resp::read_value(&mut BufReader::new(database)).expect("it answers")
        })
    }

    async fn step<V: Version>(&self, rng: &mut Rng) {
        let id = rng.u64(0..ROWS);
        // A row that was committed before a read began.
        let floor = self.row(id);
        let value = match rng.u8(0..3) {
            0 => V::get(&self.store, id).await,
            1 => Ok(Some(V::load(self, id).await)),
            _ => V::update(self, id).await.map(|()| None),
        };
        match value {
            Ok(None) => {}
            Ok(Some(value)) => {
                self.reads.fetch_add(1, Relaxed);
                match value.row(id) {
                    None => self.wrong.fetch_add(1, Relaxed),
                    Some(row) => self.stale.fetch_add(u64::from(row < floor), Relaxed),
                };
            }
            Err(error) => {
                eprintln!("{error}");
                self.errors.fetch_add(1, Relaxed);
            }
        }
    }
}

async fn run<V: Version>(world: Arc<World>, warms: bool, steps: u64, seed: u64) {
    if warms {
        for id in 0..ROWS {
            V::load(&world, id).await;
        }
        world.loads.store(0, Relaxed);
    }
    println!("ready");
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("a line");
    let tasks = (0..TASKS).map(|task| {
        let world = world.clone();
        tokio::spawn(async move {
            let mut rng = Rng::with_seed(seed + task);
            for _ in 0..steps / TASKS {
                world.step::<V>(&mut rng).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a task");
    }
    let stats = world.store.stats();
    let errors = world.errors.load(Relaxed) + stats.errors_total() + stats.corrupt();
    println!(
        "rolling {} {} {} {} {} {} {} {errors}",
        world.reads.load(Relaxed),
        stats.hits(),
        world.loads.load(Relaxed),
        world.updates.load(Relaxed),
        stats.migrations(),
        world.stale.load(Relaxed),
        world.wrong.load(Relaxed),
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, database, version, way, steps, seed] = &arguments[..] else {
        panic!("URL, address, version, way, steps and seed");
    };
    let builder = Store::builder().url(url).namespace(way);
    // However busy the machine is.
    let builder = builder.command_timeout(Duration::from_secs(30));
    let world = Arc::new(World {
        store: builder.connect().await.expect("a server"),
        database: database.clone(),
        reads: AtomicU64::new(0),
        loads: AtomicU64::new(0),
        updates: AtomicU64::new(0),
        stale: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
        errors: AtomicU64::new(0),
    });
    let (steps, seed) = (steps.parse().expect("steps"), seed.parse().expect("a seed"));
    match (&**way, &**version) {
        ("migrate", "1") => run::<First>(world, true, steps, seed).await,
        ("migrate", "2") => run::<Second>(world, false, steps, seed).await,
        ("migrate", "3") => run::<Third>(world, false, steps, seed).await,
        ("layout", "1") => run::<First>(world, true, steps, seed).await,
        ("layout", "2") => run::<Compact>(world, false, steps, seed).await,
        ("layout", "3") => run::<Packed>(world, false, steps, seed).await,
        ("keyed", "1") => run::<Keyed1>(world, true, steps, seed).await,
        ("keyed", "2") => run::<Keyed2>(world, false, steps, seed).await,
        ("keyed", "3") => run::<Keyed3>(world, false, steps, seed).await,
        other => panic!("{other:?}"),
    }
}
