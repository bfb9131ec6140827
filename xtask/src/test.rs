//! `cargo xtask test`: everything that a change must pass, in one command.
//!
//! The cheap steps come first and the first failure ends the run. Steps that
//! look at the whole workspace use the same features, so that each dependency
//! is built once for checking and once for running.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZero;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Result, cargo, valkey};

/// The crate whose features are compiled one by one.
const RUNTIME: &str = "valkey-runtime";

/// The benchmarks bring the peers they are measured against; building those is
/// left to `cargo bench`.
const WORKSPACE: [&str; 4] = ["--workspace", "--exclude", "benches", "--all-features"];

/// Runs all steps, prints what each took and the counts of the tests.
pub(crate) fn run() -> Result<ExitCode> {
    let mut report = Report::default();
    let outcome = steps(&mut report);
    report.print_times();
    // Not left to the caller: the counts are the last line of all, also after a
    // failure.
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error}");
            ExitCode::FAILURE
        }
    };
    println!("\n{}", report.tally);
    Ok(code)
}

fn steps(report: &mut Report) -> Result {
    report.step("Valkey server", valkey::ensure)?;
    report.step("format", || {
        cargo::run(cargo::cargo().args(["fmt", "--all", "--check"]))
    })?;
    report.step("lints", || {
        cargo::run(cargo::cargo().arg("clippy").args(WORKSPACE).args([
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    report.step("each feature alone", each_feature_alone)?;
    let mut tally = Tally::default();
    let tests = report.step("tests", || {
        let mut tests = cargo_test();
        tests.arg("test").args(WORKSPACE);
        // Most of them wait for servers, and not for the processor.
        if env::var_os("RUST_TEST_THREADS").is_none() {
            let processors = thread::available_parallelism().map_or(1, NonZero::get);
            tests.env("RUST_TEST_THREADS", (3 * processors).to_string());
        }
        run_tests(&mut tests, &mut tally)
    });
    report.tally = tally;
    tests?;
    report.step("documentation", || {
        cargo::run(
            cargo::cargo()
                .args(["doc", "--no-deps"])
                .args(WORKSPACE)
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    })
}

/// Compiles the runtime without features and with each of them alone. Clippy
/// rather than `check`, because it shares what the step before has built and
/// turns the warnings of an unfortunate combination into errors.
fn each_feature_alone() -> Result {
    let alone = |feature: Option<&str>| {
        println!("{RUNTIME} with {}", feature.unwrap_or("no features"));
        let mut clippy = cargo::cargo();
        clippy.args(["clippy", "--quiet", "--package", RUNTIME]);
        clippy.arg("--no-default-features");
        if let Some(feature) = feature {
            clippy.args(["--features", feature]);
        }
        cargo::run(clippy.args(["--", "-D", "warnings"]))
    };
    alone(None)?;
    for feature in cargo::features(RUNTIME)? {
        alone(Some(&feature))?;
    }
    Ok(())
}

/// Cargo as the tests should see it: with the server that was asked for, and
/// without the settings of an application on this machine.
fn cargo_test() -> Command {
    let mut cargo = cargo::cargo();
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("VALKEY_") {
            cargo.env_remove(&name);
        }
    }
    if let Some(server) = valkey::server_for_tests() {
        cargo.env("VALKEY_SERVER", server);
    }
    cargo
}

/// Runs the test command with its output passed through, and adds up the
/// results that the test binaries print.
fn run_tests(command: &mut Command, tally: &mut Tally) -> Result {
    let shown = cargo::shown(command);
    // All binaries are run, so that one failure does not hide another.
    let mut child = command
        .arg("--no-fail-fast")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{shown} can't be run: {error}"))?;
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        io::stdout().write_all(&line)?;
        tally.add(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    // A test binary that dies prints no result, nor does one that can't be
    // built; yet nobody may read "0 failed" below a failure.
    tally.failed = tally.failed.max(1);
    Err(format!("{shown} failed ({status})").into())
}

/// How many tests passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Counts a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`;
    /// other lines say nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        let words: Vec<&str> = result.split_whitespace().collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u64>() else {
                continue;
            };
            match pair[1] {
                "passed;" => self.passed += count,
                "failed;" => self.failed += count,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What was done so far.
#[derive(Default)]
struct Report {
    steps: Vec<Step>,
    tally: Tally,
}

struct Step {
    name: &'static str,
    took: Duration,
    failed: bool,
}

impl Report {
    fn step<T>(&mut self, name: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = body();
        self.steps.push(Step {
            name,
            took: started.elapsed(),
            failed: outcome.is_err(),
        });
        outcome.map_err(|error| format!("step \"{name}\": {error}").into())
    }

    fn print_times(&self) {
        println!();
        let mut total = Duration::ZERO;
        for step in &self.steps {
            total += step.took;
            let failed = if step.failed { "  FAILED" } else { "" };
            println!("{:>7.1} s  {}{failed}", step.took.as_secs_f64(), step.name);
        }
        println!("{:>7.1} s  in all", total.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_test_binaries_are_added_up() {
        let mut tally = Tally::default();
        tally.add("running 4 tests\n");
        tally.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n");
        tally.add("test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s\n");
        assert_eq!(tally.to_string(), "5 passed, 5 failed");
    }
}
