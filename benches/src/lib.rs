//! Compares contenders in alternation. Absolute figures of a machine vary, so only the ratio within
//! one run counts.
//!
//! Each round runs every contender once, for a fixed number of operations, in a rotating order. The
//! figure of a contender is the median over the rounds of its throughput divided by that of the
//! first contender in the same round.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

pub mod counted;
pub mod statistics;
#[cfg(feature = "tasks")]
mod tasks;
#[cfg(feature = "tasks")]
pub mod turns;

use std::time::{Duration, Instant};

use statistics::Quartiles;

#[cfg(feature = "tasks")]
pub use tasks::{contender, race};

/// The number of keys that contenders use.
pub const KEYS: u64 = 1000;

/// The contender that the others are compared with.
pub const BARE: &str = "redis-rs, bytes";
/// Handwritten code over the same client.
pub const BY_HAND: &str = "redis-rs and rmp-serde by hand";
/// This project.
pub const OWN: &str = "valkey-runtime";
/// A peer whose bytes are not decoded, which some targets name.
pub const RUSTIS: &str = "rustis, bytes";

/// The throughput of contenders, round by round.
#[derive(Debug)]
pub struct Rounds {
    names: Vec<&'static str>,
    /// By contender, then by round, in operations per second.
    throughput: Vec<Vec<f64>>,
}

impl Rounds {
    /// An empty table for these contenders. The first is the reference of the others.
    pub fn new(names: &[&'static str]) -> Self {
        Self {
            names: names.to_vec(),
            throughput: names.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// The order of the contenders in a round.
    pub fn order(&self, round: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.names.len();
        (0..count).map(move |at| (at + round) % count)
    }

    /// Records the operations of a contender and their time.
    pub fn add(&mut self, contender: usize, operations: usize, time: Duration) {
        self.add_throughput(contender, operations as f64 / time.as_secs_f64());
    }

    /// Records how many operations a contender did a second.
    pub fn add_throughput(&mut self, contender: usize, throughput: f64) {
        self.throughput[contender].push(throughput);
    }

    /// The throughput of a contender so far, round by round.
    pub fn throughput(&self, contender: usize) -> &[f64] {
        &self.throughput[contender]
    }

    /// Prints a line per contender: the median ratio to the first, the middle half of the ratios,
    /// and the median throughput.
    pub fn print(&self, title: &str) {
        println!("\n{title}");
        println!(
            "{:<34}{:>8}{:>16}{:>12}",
            "", "ratio", "middle half", "op/s"
        );
        for (name, throughput) in self.names.iter().zip(&self.throughput) {
            let ratios = Quartiles::of_ratios(throughput, &self.throughput[0]);
            let op_s = Quartiles::of(throughput.iter().copied()).median;
            println!(
                "{name:<34}{:>8.3}{:>16}{op_s:>12.0}",
                ratios.median,
                format!("{:.3}–{:.3}", ratios.low, ratios.high)
            );
        }
    }
}

/// Runs a future and measures its time.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    (work.await, started.elapsed())
}
