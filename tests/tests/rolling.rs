//! A rolling deployment: three processes with versions 1, 2 and 3 of one type, on one server.
//!
//! Each reads, loads and updates rows at random for a fixed number of steps. Every value that one
//! of them gets is compared with the row that was committed before the read began. The same steps
//! with the version in the key show what the shared keys save. A further deployment changes the
//! layout and forgets the version.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use valkey_tests::Server;

/// The steps of each process.
const STEPS: u64 = if cfg!(soak) { 60_000 } else { 1500 };

/// `tests/examples/rolling.rs`.
struct Instance {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Instance {
    /// Returns once it is ready.
    fn start(server: &Server, version: usize, way: &str) -> Self {
        let test = std::env::current_exe().expect("this test");
        let profile = test.parent().and_then(|deps| deps.parent());
        let program = profile
            .expect("target/<profile>/deps")
            .join("examples/rolling");
        let (steps, seed) = (STEPS.to_string(), (version * 100).to_string());
        let mut child = Command::new(program)
            .args([&server.url(), &server.addr().to_string(), &version.to_string(), way, &steps, &seed])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example `rolling`: `cargo build -p valkey-tests --examples`, as `cargo test` of all does");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let ready = said.next().expect("it says something").expect("a line");
        assert_eq!(ready, "ready");
        Self { child, said }
    }

    fn go(&mut self) {
        let mut tell = self.child.stdin.take().expect("it is piped");
        writeln!(tell, "go").expect("it listens");
    }

    fn outcome(&mut self) -> Outcome {
        let line = self
            .said
            .next()
            .expect("it says something")
            .expect("a line");
        let numbers = line.strip_prefix("rolling ").expect("its figures");
        let numbers: Vec<u64> = numbers
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [
            reads,
            hits,
            loads,
            updates,
            migrations,
            stale,
            wrong,
            errors,
        ] = numbers[..]
        else {
            panic!("{line}");
        };
        Outcome {
            reads,
            hits,
            loads,
            updates,
            migrations,
            faults: [stale, wrong, errors],
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may be gone already, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Outcome {
    reads: u64,
    hits: u64,
    loads: u64,
    updates: u64,
    migrations: u64,
    /// Stale values, wrong values, errors.
    faults: [u64; 3],
}

/// The loads of three instances. The first one has filled the cache before the others start, as
/// the release before a deployment has.
fn deployment(way: &str) -> u64 {
    let server = Server::plain();
    let mut instances: Vec<_> = (1..=3)
        .map(|version| Instance::start(&server, version, way))
        .collect();
    instances.iter_mut().for_each(Instance::go);
    let outcomes: Vec<_> = instances.iter_mut().map(Instance::outcome).collect();
    for (outcome, version) in outcomes.iter().zip(1..) {
        let Outcome {
            reads,
            hits,
            loads,
            updates,
            migrations,
            faults,
        } = outcome;
        eprintln!(
            "{way}, version {version}: {reads} reads, {hits} hits, {loads} loads, {updates} updates, {migrations} migrations"
        );
        assert_eq!(*faults, [0; 3], "stale, wrong, errors");
        assert!(*reads > STEPS / 4 && *updates > STEPS / 4);
        assert_eq!(*migrations > 0, way == "migrate" && version > 1);
    }
    outcomes.iter().map(|outcome| outcome.loads).sum()
}

#[test]
fn three_versions_share_a_cache_and_no_value_is_wrong_or_stale() {
    let shared = deployment("migrate");
    let keyed = deployment("keyed");
    eprintln!("{shared} loads; with the version in the key {keyed}");
    assert!(
        shared < keyed,
        "{shared} loads, and {keyed} with the version in the key"
    );
}

#[test]
fn two_layouts_of_one_version_share_keys_and_no_value_is_wrong_or_stale() {
    let loads = deployment("layout");
    eprintln!("{loads} loads, with two layouts");
}
