//! The cost of telemetry, in instructions per hit of `get`. In the process the relative cost is
//! highest; on a server only the client's side counts.
//!
//! ```text
//! cargo bench -p benches --bench telemetry
//! ```
//!
//! callgrind counts the instructions, so valgrind must be installed. To compare with another build
//! of the runtime, give the path of its executable of this bench (`cargo bench --no-run` prints it):
//! `BEFORE=… cargo bench …`. It is then the reference of the others.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use benches::counted;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::format::FmtSpan;
use valkey_runtime::{Cached, Store};
use valkey_tests::Server;

benches::user!(User: prefix = "user");

/// The variable with the task of a process: the mode of telemetry, the number of reads, and the
/// URL.
const TASK: &str = "TELEMETRY_TASK";

const MODES: [(&str, &str); 4] = [
    ("nothing", "no subscriber, no recorder"),
    ("metrics", "a recorder, published once"),
    ("filtered", "a subscriber at `info`"),
    ("recorded", "every span formatted"),
];

fn main() {
    match std::env::var(TASK) {
        Ok(task) => work(&task),
        Err(_) => compare(),
    }
}

/// Runs a contender, in a process of its own.
fn work(task: &str) {
    let mut words = task.splitn(3, ' ');
    let (mode, count) = (words.next().unwrap(), words.next().unwrap());
    let (url, count) = (words.next().unwrap(), count.parse::<u64>().unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink);
    match mode {
        "metrics" => metrics::set_global_recorder(Numbers).expect("it is the first"),
        "filtered" => subscriber.with_max_level(tracing::Level::INFO).init(),
        "recorded" => subscriber
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::CLOSE)
            .init(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::connect(url).await.unwrap();
        // As without the test kit.
        store.faults().set_yielding(false);
        User::new(0).set(&store).await.unwrap();
        for _ in 0..count {
            assert!(User::get(&store, 0).await.unwrap().unwrap().active);
        }
        if mode == "metrics" {
            store.publish_metrics();
        }
    });
}

fn compare() {
    let server = Server::plain();
    let this = std::env::current_exe().unwrap();
    let before = std::env::var_os("BEFORE").map(PathBuf::from);
    for (place, url) in [
        ("in the process", "memory:".into()),
        ("over a server", server.url()),
    ] {
        println!("\na hit {place}, instructions");
        let before = before
            .iter()
            .map(|path| (path, "nothing", "the runtime before"));
        let now = MODES.iter().map(|(mode, name)| (&this, *mode, *name));
        let mut first = None;
        for (program, mode, name) in before.chain(now) {
            let each = counted::each(program, TASK, |n| format!("{mode} {n} {url}"), None);
            let first = *first.get_or_insert(each);
            let more = (each / first - 1.0) * 100.0;
            println!("{name:<34}{each:>10.1}{more:>+9.2} %");
        }
    }
}

/// Keeps counters and gauges as numbers, like recorders that render them as text.
struct Numbers;

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
