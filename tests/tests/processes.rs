//! Two processes and one server: what no test within a process can show.

use std::io::{BufRead, BufReader, Lines, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use valkey_runtime::Store;
use valkey_runtime::limit::{Decision, RateLimiter};
use valkey_tests::resp::Value;
use valkey_tests::{Server, repeat};

/// `tests/examples/second_process.rs`, told what to do line by line.
struct Process {
    child: Child,
    tell: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(server: &Server) -> Self {
        Self::on(&server.url())
    }

    fn on(url: &str) -> Self {
        let mut child = Command::new(binary())
            .arg(url)
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
        self.child.wait().expect("it ends");
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The longest that it or its server stood still.
    fn still(&mut self) -> Duration {
        self.told("still");
        loop {
            // Where a test failed there may be lines that it did not read.
            if let Some(millis) = self.next().strip_prefix("still ") {
                return Duration::from_millis(millis.parse().unwrap());
            }
        }
    }

    /// The outcome of a herd. Checks that `loading` came once for each load before it.
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

/// Has two processes do something on a server, and again on another where that fails and one of
/// them stood still: then a lease may have run out, and be taken over as it should.
fn steady(run: impl Fn(&mut [Process; 2])) {
    repeat(|| {
        let server = Server::plain();
        let mut processes = [(); 2].map(|()| Process::start(&server));
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut processes)));
        if outcome.is_ok() {
            return (outcome, Duration::ZERO);
        }
        let still = processes
            .iter_mut()
            .filter_map(|process| process.is_alive().then(|| process.still()));
        (outcome, still.max().unwrap_or_default())
    });
}

/// Times in microseconds since the epoch, but for the longest call.
struct Herd {
    loads: i128,
    longest_ms: i128,
    filled: i128,
    median: i128,
}

/// It is beside the test's own binary, in the folder of the examples.
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
    steady(|[reader, writer]| {
        reader.told("load");
        reader.says("loading");
        // The reader has read the old row, and is held up.
        writer.told("update");
        writer.says("updated");
        reader.told("row 1");
        reader.says("loaded 1");
        for process in [&mut *reader, &mut *writer] {
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
    });
}

const LOAD_MS: i128 = 300;
/// For what a busy machine adds; less than the 10 s for which a load of another process is waited
/// for.
const BUSY_MS: i128 = 5000;

#[test]
fn two_thousand_tasks_of_two_processes_load_once() {
    steady(|processes| {
        for process in &mut *processes {
            process.told(&format!("herd 1000 {LOAD_MS}"));
        }
        let [a, b] = processes.each_mut().map(Process::herd);
        assert_eq!(a.loads + b.loads, 1);
        assert!(
            a.longest_ms.max(b.longest_ms) <= LOAD_MS + BUSY_MS,
            "{} ms, {} ms",
            a.longest_ms,
            b.longest_ms
        );
        let (loader, other) = if a.loads == 1 { (a, b) } else { (b, a) };
        let lag = (other.median - loader.filled) as f64 / 1000.0;
        eprintln!("the other process's waiters had the value {lag:.1} ms after the fill (median)");
    });
}

#[test]
fn a_process_that_is_killed_in_mid_load_is_taken_over_from() {
    const LEASE_LIFE_MS: i128 = 1000;
    steady(|[killed, other]| {
        // Nothing that it does ends before it is killed.
        killed.told("herd 1000 3600000");
        killed.says("loading");
        other.told(&format!("herd 1000 {LOAD_MS}"));
        killed.kill();
        let herd = other.herd();
        assert_eq!(herd.loads, 1, "two in all");
        assert!(
            herd.longest_ms <= 2 * LOAD_MS + LEASE_LIFE_MS + BUSY_MS,
            "{} ms",
            herd.longest_ms
        );
        eprintln!(
            "after the kill the longest call took {} ms",
            herd.longest_ms
        );
    });
}

/// How long the processes call, in milliseconds: a few periods of their types, and in a long run as
/// many as the longest of promises.
const CALLS_MS: u64 = if cfg!(soak) { 30_000 } else { 5_000 };
const TASKS: u64 = 200;

/// The lease of a process that dies while it holds a lock ends by itself, and no sooner.
#[test]
fn a_process_that_is_killed_leaves_its_lock_for_no_longer_than_its_lease() {
    steady(|[first, second]| {
        first.told("lock");
        let fence = numbers(first, "locked")[0];
        // Renewed for longer than its lease.
        let held = Instant::now();
        second.told("lock");
        thread::sleep(Duration::from_millis(1500));
        first.kill();
        let killed = Instant::now();
        let next = numbers(second, "locked")[0];
        let waited = killed.elapsed();
        assert!(next > fence, "{next} {fence}");
        assert!(held.elapsed() > Duration::from_millis(1500));
        // It was renewed a third of the lease before at the earliest.
        let least = Duration::from_millis(500);
        assert!(
            (least..Duration::from_secs(10)).contains(&waited),
            "{waited:?}"
        );
    });
}

/// The numbers of a line, after a word.
fn numbers(process: &mut Process, word: &str) -> Vec<u64> {
    let line = process.next();
    let numbers = line.strip_prefix(word).unwrap_or_else(|| panic!("{line}"));
    numbers
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect()
}

/// The sums of the counts of two processes that do the same at once: three numbers, and one for
/// each key.
fn together(processes: &mut [Process; 2], command: &str) -> ([u64; 3], Vec<u64>) {
    for process in &mut *processes {
        process.told(&format!("{command} {TASKS} {CALLS_MS}"));
    }
    let [a, b] = processes
        .each_mut()
        .map(|process| numbers(process, command));
    let mut sums = a.iter().zip(&b).map(|(a, b)| a + b);
    let counts = [(); 3].map(|()| sums.next().unwrap());
    (counts, sums.collect())
}

/// How often the hot keys are refreshed, in milliseconds: at two fifths of 5 s. Loads take 50 ms,
/// and a refresh that died is tried again after a pause of 1 s, so that even two deaths in a row
/// leave time for a third load.
const PERIOD_MS: u64 = 2000;

#[test]
fn hot_keys_of_two_processes_are_refreshed_once_a_period_and_nobody_waits() {
    steady(|processes| {
        let ([calls, waited, killed], loads) = together(processes, "hot");
        let periods = CALLS_MS.div_ceil(PERIOD_MS) + 1;
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
    });
}

#[test]
fn where_the_loader_fails_two_processes_serve_stale_values_and_try_once_a_pause() {
    steady(|processes| {
        processes[0].told("stale");
        processes[0].says("stale");
        let ([calls, stale, failed], loads) = together(processes, "fall");
        let pauses = CALLS_MS.div_ceil(1000) + 1;
        let (all, most) = (loads.iter().sum::<u64>(), *loads.iter().max().unwrap());
        eprintln!(
            "{calls} calls, {stale} served stale, {failed} failed; {all} tries, {most} at most of one key in {pauses} pauses"
        );
        assert_eq!((stale, failed), (calls, 0));
        assert!(most <= pauses, "{most} tries of one key");
    });
}

/// How long 64 tasks ask limits, in milliseconds, and what the windows among these let through
/// meanwhile.
const LIMITS: (u64, u32) = if cfg!(soak) {
    (60_000, 50_000)
} else {
    (300, 200)
};

/// A period that does not end while a test runs: windows begin with the clock's own.
fn period() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let periods = [300, 347].map(|days| days * 86_400);
    let longest = periods.into_iter().max_by_key(|all| all - now % all);
    longest.expect("one of two")
}

/// The server's time in microseconds.
fn time(server: &Server) -> u64 {
    let Value::Array(time) = server.command(&["TIME"]) else {
        panic!("no time")
    };
    let number = |value: &Value| -> u64 { value.text().unwrap().parse().unwrap() };
    number(&time[0]) * 1_000_000 + number(&time[1])
}

/// The limit that drains while it is asked, as the processes have it.
const RATE: (u32, Duration, u32) = (100, Duration::from_secs(1), 1000);

/// Asks it once, and says between which times that was.
fn between(
    (server, url): (&Server, &str),
    ask: impl AsyncFnOnce(&RateLimiter, &Store) -> Decision,
) -> (Decision, [u64; 2]) {
    let (quota, period, burst) = RATE;
    let limiter = RateLimiter::builder("gcra")
        .quota(quota, period)
        .burst(burst);
    let limiter = limiter.build().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        // A limit that can't be asked lets everything through.
        let patient = Store::builder()
            .url(url)
            .command_timeout(Duration::from_secs(30));
        let store = patient.connect().await.unwrap();
        let before = time(server);
        let decision = ask(&limiter, &store).await;
        (decision, [before, time(server)])
    })
}

/// Windows let through exactly their quota; GCRA, whose bucket was full and never is empty, what
/// drained meanwhile and was not left; and a counter that is read and written lets through more, or
/// all of this would show nothing.
fn limits_are_kept(server: &Server, url: &str) {
    let mut processes = [Process::on(url), Process::on(url)];
    let (full, began) = between((server, url), async |limiter, store| {
        limiter.check_n(store, "all", RATE.2).await.unwrap()
    });
    assert_eq!((full.is_allowed(), full.remaining()), (true, 0));
    let ((millis, quota), period) = (LIMITS, period());
    for process in &mut processes {
        process.told(&format!("limit 32 20 {millis} {period} {quota}"));
    }
    let [a, b] = processes.each_mut().map(|one| numbers(one, "limit"));
    let sums: Vec<u64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    let [asked, gcra, fixed, sliding, counter] = sums[..] else {
        panic!("{sums:?}")
    };
    let (left, ended) = between((server, url), async |limiter, store| {
        limiter.peek(store, "all").await.unwrap()
    });
    let drained = |from: u64, to: u64| (to - from) as f64 / 1e6 * f64::from(RATE.0);
    let (least, most) = (drained(began[1], ended[0]), drained(began[0], ended[1]));
    let taken = (gcra + left.remaining()) as f64;
    eprintln!(
        "{asked} times asked: of a quota of {quota} a fixed window let through {fixed}, a sliding one {sliding}, a counter \
         {counter}; GCRA {gcra}, and {} were left of the {least:.2} to {most:.2} that drained",
        left.remaining()
    );
    let quota = u64::from(quota);
    assert!(asked > quota, "the run was too short: {asked}");
    assert_eq!((fixed, sliding), (quota, quota));
    assert!(gcra > 0 && left.remaining() < RATE.2.into());
    assert!(
        taken <= most && taken > least - 1.0,
        "{least} {taken} {most}"
    );
    assert!(counter > quota, "{counter}");
}

#[test]
fn limits_of_two_processes_are_kept_on_a_server() {
    let server = Server::plain();
    limits_are_kept(&server, &server.url());
}

#[test]
fn limits_of_two_processes_are_kept_on_a_cluster() {
    let cluster = Server::cluster();
    limits_are_kept(&cluster.nodes()[0], &cluster.url());
}
