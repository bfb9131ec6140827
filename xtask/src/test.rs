//! `cargo xtask test`: everything that a change must pass, in one command.
//!
//! Cheap steps come first, and the first failure ends the run. Steps over the whole workspace use
//! the same features, so that each dependency is built once for checking and once for running.

use std::env;
use std::num::NonZero;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use crate::lanes::{self, Tally};
use crate::{Result, browser, cargo, valkey};

/// The crate whose features are checked one by one.
const RUNTIME: &str = "valkey-runtime";

/// Without the benchmarks, whose dependencies include the peers they are compared with. `cargo
/// bench` builds those.
const WORKSPACE: [&str; 4] = ["--workspace", "--exclude", "benches", "--all-features"];

/// Runs all steps, and prints their times and the counts of the tests.
pub(crate) fn run() -> Result<ExitCode> {
    let mut report = Report::default();
    let outcome = steps(&mut report);
    report.print_times();
    // Handled here, so that the counts are the last line, also after a failure.
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
    report.step("browser", browser::ensure)?;
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
    report.step("tests, built", || {
        cargo::run(cargo_test().args(WORKSPACE).arg("--no-run"))
    })?;
    let mut tally = Tally::default();
    let tests = report.step("tests", || lanes::run(test_commands()?, &mut tally));
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

/// Checks the runtime without features and with each of them alone. It uses clippy and not `check`,
/// because clippy reuses what the previous step has built, and turns warnings about a feature
/// combination into errors.
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

/// The test that mostly runs the compiler, while the others mostly wait for servers and timers.
const COMPILER: &str = "compile";

/// The commands for all tests, in two parallel lanes.
fn test_commands() -> Result<[Vec<Command>; 2]> {
    let command = |arguments: &[String]| {
        let mut cargo = cargo_test();
        // All binaries run, so that one failure does not hide another.
        cargo.args(WORKSPACE).arg("--no-fail-fast").args(arguments);
        cargo
    };
    let test = |name: &str| ["--test".to_owned(), name.to_owned()];
    let mut others = vec!["--lib".into(), "--bins".into()];
    for name in cargo::test_targets()? {
        if name != COMPILER {
            others.extend(test(&name));
        }
    }
    let compiling = vec![command(&test(COMPILER)), command(&["--doc".into()])];
    Ok([vec![command(&others)], compiling])
}

/// `cargo test` with the requested server, and without settings for an application on this machine.
fn cargo_test() -> Command {
    let mut cargo = cargo::cargo();
    cargo.arg("test");
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("VALKEY_") {
            cargo.env_remove(&name);
        }
    }
    if let Some(server) = valkey::server_for_tests() {
        cargo.env("VALKEY_SERVER", server);
    }
    // Most tests wait for servers and not for the processor.
    if env::var_os("RUST_TEST_THREADS").is_none() {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        cargo.env("RUST_TEST_THREADS", (3 * processors).to_string());
    }
    cargo
}

/// The steps so far.
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
