//! The compile time of 100 structs with `#[derive(Cached)]`, beside the same structs with serde's
//! derives alone.
//!
//! Both are examples of the package `benches`. They are compiled in turn, for a debug build and
//! without incremental compilation. Cargo's own time, that of a build in which nothing is to do, is
//! taken off.

use std::fs::File;
use std::process::Command;
use std::time::{Instant, SystemTime};

use benches::statistics::Quartiles;

use crate::{Result, cargo};

const ROUNDS: usize = 7;
const EXAMPLES: [&str; 2] = ["derive_serde", "derive_cached"];

/// Seconds, round by round.
pub(crate) struct Times {
    pub(crate) serde: Vec<f64>,
    pub(crate) cached: Vec<f64>,
}

impl Times {
    /// The time with the derive, as a multiple of that without.
    pub(crate) fn ratio(&self) -> Quartiles {
        Quartiles::of_ratios(&self.cached, &self.serde)
    }
}

/// Compiles them.
pub(crate) fn measure() -> Result<Times> {
    println!("\n100 structs are compiled, {ROUNDS} times in each way");
    for example in EXAMPLES {
        cargo::run(&mut build(example))?;
    }
    let mut idle = Vec::new();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for at in [round % 2, (round + 1) % 2] {
            idle.push(timed(EXAMPLES[at])?);
            touch(EXAMPLES[at])?;
            times[at].push(timed(EXAMPLES[at])?);
        }
    }
    let idle = Quartiles::of(idle).median;
    let [serde, cached] = times.map(|times| times.into_iter().map(|time| time - idle).collect());
    Ok(Times { serde, cached })
}

fn build(example: &str) -> Command {
    let mut cargo = cargo::cargo();
    cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "benches",
            "--example",
            example,
        ])
        .env("CARGO_INCREMENTAL", "0");
    cargo
}

fn timed(example: &str) -> Result<f64> {
    let started = Instant::now();
    cargo::run(&mut build(example))?;
    Ok(started.elapsed().as_secs_f64())
}

/// Makes cargo compile it again.
fn touch(example: &str) -> Result {
    let path = cargo::root().join(format!("benches/examples/{example}.rs"));
    Ok(File::options()
        .append(true)
        .open(path)?
        .set_modified(SystemTime::now())?)
}
