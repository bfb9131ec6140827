//! Two processes and one server: what no test within a process can show.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use valkey_tests::Server;

/// `tests/examples/second_process.rs`, told what to do line by line.
struct Process {
    child: Child,
    tell: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(server: &Server) -> Self {
        let mut child = Command::new(binary())
            .arg(server.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example `second_process`: `cargo build -p valkey-tests --examples`, as `cargo test` of all does");
        let tell = child.stdin.take().expect("it is piped");
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut process = Self { child, tell, said };
        process.says("ready");
        process
    }

    fn told(&mut self, line: &str) {
        writeln!(self.tell, "{line}").expect("it listens");
    }

    fn next(&mut self) -> String {
        self.said
            .next()
            .expect("it says something")
            .expect("a line")
    }

    #[track_caller]
    fn says(&mut self, line: &str) {
        assert_eq!(self.next(), line);
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
    }

    /// What came of a herd, and how often `loading` was said before.
    fn herd(&mut self) -> Herd {
        let mut loading = 0;
        loop {
            let line = self.next();
            let Some(numbers) = line.strip_prefix("herd ") else {
                assert_eq!(line, "loading");
                loading += 1;
                continue;
            };
            let numbers: Vec<i128> = numbers
                .split(' ')
                .map(|number| number.parse().unwrap())
                .collect();
            assert_eq!(numbers[0], loading);
            return Herd {
                loads: numbers[0],
                longest_ms: numbers[1],
                filled: numbers[2],
                median: numbers[3],
            };
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Times in microseconds since the epoch, but for the longest call.
struct Herd {
    loads: i128,
    longest_ms: i128,
    filled: i128,
    median: i128,
}

/// It lies beside the test's own binary, in the folder of the examples.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/<profile>/deps");
    profile.join("examples").join("second_process")
}

/// The race of the first page of every book on caching, with a process on either side.
#[test]
fn a_load_of_another_process_that_an_update_overtook_is_not_stored() {
    let server = Server::plain();
    let (mut reader, mut writer) = (Process::start(&server), Process::start(&server));
    reader.told("load");
    reader.says("loading");
    // The reader has read the old row, and is held up.
    writer.told("update");
    writer.says("updated");
    reader.told("row 1");
    reader.says("loaded 1");
    for process in [&mut reader, &mut writer] {
        process.told("get");
        process.says("cached none");
    }
    // Where nothing comes between it is stored.
    reader.told("load");
    reader.says("loading");
    reader.told("row 2");
    reader.says("loaded 2");
    writer.told("get");
    writer.says("cached 2");
}

const LOAD_MS: i128 = 300;

#[test]
fn two_thousand_tasks_of_two_processes_load_once() {
    let server = Server::plain();
    let mut processes = [Process::start(&server), Process::start(&server)];
    for process in &mut processes {
        process.told(&format!("herd 1000 {LOAD_MS}"));
    }
    let [a, b] = processes.each_mut().map(Process::herd);
    assert_eq!(a.loads + b.loads, 1);
    assert!(
        a.longest_ms.max(b.longest_ms) <= LOAD_MS + 1000,
        "{} ms, {} ms",
        a.longest_ms,
        b.longest_ms
    );
    let (loader, other) = if a.loads == 1 { (a, b) } else { (b, a) };
    let lag = (other.median - loader.filled) as f64 / 1000.0;
    eprintln!("the other process's waiters had the value {lag:.1} ms after the fill (median)");
}

#[test]
fn a_process_that_is_killed_in_mid_load_is_taken_over_from() {
    const LEASE_LIFE_MS: i128 = 1000;
    let server = Server::plain();
    let (mut killed, mut other) = (Process::start(&server), Process::start(&server));
    killed.told(&format!("herd 1000 {LOAD_MS}"));
    killed.says("loading");
    other.told(&format!("herd 1000 {LOAD_MS}"));
    killed.kill();
    let herd = other.herd();
    assert_eq!(herd.loads, 1, "two in all");
    assert!(
        herd.longest_ms <= 2 * LOAD_MS + LEASE_LIFE_MS + 1000,
        "{} ms",
        herd.longest_ms
    );
    eprintln!(
        "after the kill the longest call took {} ms",
        herd.longest_ms
    );
}

/// How long the processes call, in milliseconds: a few periods of their types, and in a long run as many as the longest of
/// promises.
const CALLS_MS: u64 = if cfg!(soak) { 30_000 } else { 5_000 };
const TASKS: u64 = 200;

/// The numbers of a line, after a word.
fn numbers(process: &mut Process, word: &str) -> Vec<u64> {
    let line = process.next();
    let numbers = line.strip_prefix(word).unwrap_or_else(|| panic!("{line}"));
    numbers
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect()
}

/// What two processes count in all who do the same at once, after the first did something else: three numbers, and one for each key.
fn together(before: Option<&str>, command: &str) -> ([u64; 3], Vec<u64>) {
    let server = Server::plain();
    let mut processes = [Process::start(&server), Process::start(&server)];
    if let Some(before) = before {
        processes[0].told(before);
        processes[0].says(before);
    }
    for process in &mut processes {
        process.told(&format!("{command} {TASKS} {CALLS_MS}"));
    }
    let [a, b] = processes
        .each_mut()
        .map(|process| numbers(process, command));
    let mut sums = a.iter().zip(&b).map(|(a, b)| a + b);
    let counts = [(); 3].map(|()| sums.next().unwrap());
    (counts, sums.collect())
}

/// Refreshed at four fifths of 2 s, by loads of 50 ms and claims of 1 s: a period is longer than both together.
#[test]
fn hot_keys_of_two_processes_are_refreshed_once_a_period_and_nobody_waits() {
    let ([calls, waited, killed], loads) = together(None, "hot");
    let periods = CALLS_MS.div_ceil(1600) + 1;
    let (all, most) = (loads.iter().sum::<u64>(), *loads.iter().max().unwrap());
    eprintln!(
        "{calls} calls, of which {waited} waited; {all} loads of {} keys, {most} at most of one, {killed} of them killed; \
         {periods} periods",
        loads.len()
    );
    // A machine that is busy with other tests may stand still for longer than a value has left.
    let busy = if cfg!(soak) { 0 } else { calls / 100 };
    assert!(waited <= busy, "{waited} waited");
    assert!(all <= periods * loads.len() as u64 + killed, "{all} loads");
    assert!(most <= periods + killed, "{most} loads of one key");
    assert!(all > loads.len() as u64, "they are refreshed");
}

#[test]
fn where_the_loader_fails_two_processes_serve_stale_values_and_try_once_a_pause() {
    let ([calls, stale, failed], loads) = together(Some("stale"), "fall");
    let pauses = CALLS_MS.div_ceil(1000) + 1;
    let (all, most) = (loads.iter().sum::<u64>(), *loads.iter().max().unwrap());
    eprintln!(
        "{calls} calls, {stale} served stale, {failed} failed; {all} tries, {most} at most of one key in {pauses} pauses"
    );
    assert_eq!((stale, failed), (calls, 0));
    assert!(most <= pauses, "{most} tries of one key");
}
