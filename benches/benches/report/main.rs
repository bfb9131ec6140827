//! The throughput and the latency of the typed verbs beside their peers, for the page
//! docs/performance.md. `cargo xtask bench` runs it and makes its tables.
//!
//! ```text
//! cargo bench -p benches --features report --bench report -- rounds=5 millis=100 get small 8 64
//! ```
//!
//! Words limit it to operations, sizes (`small`, `large`) and numbers of tasks. With the variable
//! `FIGURES` all figures are also written there, as JSON.
//!
//! Every value that is read is compared with the one that was written; all contenders pay for that.

#![allow(clippy::print_stdout, reason = "a bench prints its progress")]

mod by_bare_client;
mod by_cached;
mod by_fred;
mod by_glide;
mod by_hand;
mod by_redis_macros;
mod by_rustis;
mod by_valkey_runtime;
mod world;

use std::path::Path;
use std::time::Duration;

use benches::turns::{Cell, Contender};
use benches::{OWN, Rounds};
use serde_json::{Value, json};

use crate::world::{Size, World};

/// The numbers of tasks that work at once.
const TASKS: [u64; 5] = [1, 8, 64, 256, 1024];
/// Those whose latencies are measured.
const LATENCY_TASKS: [u64; 2] = [1, 64];
/// The largest bytes of the answers that may be under way at once. More would measure the memory.
const UNDER_WAY: u64 = 64 << 20;

/// What is measured. A further operation is a variant here, with its contenders below, and a row of `OPERATIONS` in `xtask/src/bench/page.rs`.
#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Get,
    Set,
    GetOrLoad,
    Bulk,
    Near,
    Update,
}

impl Operation {
    const ALL: [Self; 6] = [
        Self::Get,
        Self::Set,
        Self::GetOrLoad,
        Self::Bulk,
        Self::Near,
        Self::Update,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::GetOrLoad => "get_or_load",
            Self::Bulk => "bulk",
            Self::Near => "near",
            Self::Update => "update",
        }
    }

    /// The contenders. The first is the reference of the others.
    fn contenders(self, world: &World) -> Vec<Contender> {
        let mut contenders = self.contenders_in_rust(world);
        if let (Some(node), Self::Get | Self::Set | Self::Bulk) = (&world.node, self) {
            let own = contenders.len() - 1;
            contenders.insert(own, by_glide::contender(node, self.name()));
        }
        contenders
    }

    fn contenders_in_rust(self, world: &World) -> Vec<Contender> {
        match self {
            Self::Get => vec![
                by_bare_client::get(world),
                by_hand::get(world),
                by_redis_macros::get(world),
                by_cached::get(world),
                by_fred::get(world),
                by_rustis::get(world),
                by_valkey_runtime::get(OWN, world),
            ],
            Self::Set => vec![
                by_bare_client::set(world),
                by_hand::set(world),
                by_redis_macros::set(world),
                by_cached::set(world),
                by_fred::set(world),
                by_rustis::set(world),
                by_valkey_runtime::set(world),
            ],
            Self::GetOrLoad => vec![
                by_valkey_runtime::get("valkey-runtime, get", world),
                by_bare_client::get(world),
                by_hand::get_or_load(world),
                by_cached::get_or_load(world),
                by_valkey_runtime::get_or_load(world),
            ],
            Self::Bulk => vec![
                by_bare_client::bulk(world),
                by_hand::bulk(world),
                by_redis_macros::bulk(world),
                by_fred::bulk(world),
                by_rustis::bulk(world),
                by_valkey_runtime::bulk(world),
            ],
            Self::Near => vec![by_bare_client::get(world), by_valkey_runtime::near(world)],
            Self::Update => vec![
                by_bare_client::update(world),
                by_cached::update(world),
                by_fred::update(world),
                by_rustis::update(world),
                by_valkey_runtime::update(world),
            ],
        }
    }

    fn fits(self, size: Size, tasks: u64) -> bool {
        match self {
            Self::Bulk => tasks * world::BULK * size.bytes() <= UNDER_WAY,
            // It sends no value.
            Self::Update => size == Size::Small,
            _ => true,
        }
    }
}

/// The arguments of a run.
struct Asked {
    rounds: usize,
    time: Duration,
    words: Vec<String>,
}

impl Asked {
    fn of_arguments() -> Self {
        let mut asked = Self {
            rounds: 9,
            time: Duration::from_millis(250),
            words: Vec::new(),
        };
        // Cargo adds flags of its own.
        for word in std::env::args()
            .skip(1)
            .filter(|word| !word.starts_with('-'))
        {
            let number = |text: &str| text.parse().expect("a number follows `=`");
            if let Some(rounds) = word.strip_prefix("rounds=") {
                asked.rounds = rounds.parse().expect("a number follows `=`");
            } else if let Some(millis) = word.strip_prefix("millis=") {
                asked.time = Duration::from_millis(number(millis));
            } else {
                asked.words.push(word);
            }
        }
        asked
    }

    /// Whether one of these names was asked for, or none of them.
    fn includes(&self, name: &str, all: &[&str]) -> bool {
        let asked = |name: &str| self.words.iter().any(|word| word == name);
        asked(name) || !all.iter().copied().any(asked)
    }

    fn operation(&self, name: &str) -> bool {
        let mut all: Vec<_> = Operation::ALL.map(Operation::name).to_vec();
        all.push("latency");
        self.includes(name, &all)
    }

    fn size(&self, size: Size) -> bool {
        self.includes(size.word(), &Size::ALL.map(Size::word))
    }

    fn tasks(&self, tasks: u64) -> bool {
        let all = TASKS.map(|tasks| tasks.to_string());
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        self.includes(&tasks.to_string(), &all)
    }
}

#[tokio::main]
async fn main() {
    let asked = Asked::of_arguments();
    let server = valkey_tests::Server::plain();
    let (mut throughput, mut latency) = (Vec::new(), Vec::new());
    let mut bytes = serde_json::Map::new();
    for size in Size::ALL.into_iter().filter(|size| asked.size(*size)) {
        let world = World::new(&server, size).await;
        bytes.insert(size.name().to_owned(), world.bytes());
        for operation in Operation::ALL {
            if !asked.operation(operation.name()) {
                continue;
            }
            let contenders = operation.contenders(&world);
            for tasks in TASKS {
                if asked.tasks(tasks) && operation.fits(size, tasks) {
                    throughput.push(race(&asked, operation, size, tasks, &contenders).await);
                }
            }
        }
        if size == Size::Small && asked.operation("latency") {
            for tasks in LATENCY_TASKS
                .into_iter()
                .filter(|tasks| asked.tasks(*tasks))
            {
                let contenders = Operation::Get.contenders(&world);
                latency.push(latencies(&asked, tasks, &contenders).await);
            }
        }
        assert_eq!(world.store.stats().loads(), 0, "each load was a hit");
    }
    let figures = json!({
        "rounds": asked.rounds,
        "millis": asked.time.as_millis() as u64,
        "bytes": bytes,
        "throughput": throughput,
        "latency": latency,
    });
    if let Some(path) = std::env::var_os("FIGURES") {
        let text = serde_json::to_string(&figures).expect("figures are JSON");
        std::fs::write(Path::new(&path), text).expect("the figures can be written");
    }
}

/// Rounds of an operation, each with all contenders.
async fn race(
    asked: &Asked,
    operation: Operation,
    size: Size,
    tasks: u64,
    contenders: &[Contender],
) -> Value {
    let names: Vec<_> = contenders.iter().map(Contender::name).collect();
    let mut table = Rounds::new(&names);
    let cell = Cell {
        tasks,
        time: asked.time,
        latencies: false,
    };
    warm(cell, contenders).await;
    for round in 0..asked.rounds {
        for at in table.order(round) {
            table.add_throughput(at, contenders[at].run(cell).await.throughput);
        }
    }
    let (operation, size) = (operation.name(), size.name());
    table.print(&format!("{operation} of {size} with {tasks} task(s)"));
    let of = |at: usize| json!({ "name": names[at], "throughput": table.throughput(at) });
    let contenders: Vec<_> = (0..names.len()).map(of).collect();
    json!({ "operation": operation, "size": size, "tasks": tasks, "contenders": contenders })
}

/// Percentiles of `get` in microseconds, round by round.
async fn latencies(asked: &Asked, tasks: u64, contenders: &[Contender]) -> Value {
    const PARTS: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];
    let mut found = vec![[(); 3].map(|()| Vec::new()); contenders.len()];
    let cell = Cell {
        tasks,
        time: asked.time,
        latencies: true,
    };
    warm(cell, contenders).await;
    for round in 0..asked.rounds {
        for at in 0..contenders.len() {
            let at = (at + round) % contenders.len();
            let outcome = contenders[at].run(cell).await;
            for (found, (_, part)) in found[at].iter_mut().zip(PARTS) {
                found.push(outcome.micros(part));
            }
        }
    }
    println!("\nlatencies of get with {tasks} task(s) are measured");
    let mut all = Vec::new();
    for (contender, found) in contenders.iter().zip(found) {
        let mut of = json!({ "name": contender.name() });
        for ((name, _), micros) in PARTS.iter().zip(found) {
            of[*name] = json!(micros);
        }
        all.push(of);
    }
    json!({ "tasks": tasks, "contenders": all })
}

/// Lets each contender work for a moment that does not count.
async fn warm(cell: Cell, contenders: &[Contender]) {
    let time = cell.time / 10;
    for contender in contenders {
        contender.run(Cell { time, ..cell }).await;
    }
}
