//! The layout of the output.

#![allow(clippy::print_stdout, reason = "output is what this program is for")]

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Begins a part.
pub(crate) fn heading(text: &str) {
    println!("\n{text}");
}

/// Prints text on lines of its own.
pub(crate) fn block(text: impl Display) {
    println!("{text}");
}

/// An action and its result.
pub(crate) fn line(done: &str, outcome: impl Display) {
    println!("  {done:<32}{outcome}");
}

/// The value if one was found, otherwise the text.
pub(crate) fn or(otherwise: &str, found: Option<impl Display>) -> String {
    found.map_or(otherwise.to_owned(), |found| found.to_string())
}

/// With a comma between the thousands.
pub(crate) fn thousands(n: usize) -> String {
    match n {
        0..1000 => n.to_string(),
        _ => format!("{},{:03}", thousands(n / 1000), n % 1000),
    }
}

/// A measurement: the work, the number of airports, and the time it took.
pub(crate) struct Costs {
    rows: Vec<(&'static str, usize, Duration)>,
    since: Instant,
}

impl Costs {
    pub(crate) fn start() -> Self {
        let (rows, since) = (Vec::new(), Instant::now());
        Self { rows, since }
    }

    /// Notes the work since the start or the last note.
    pub(crate) fn took(&mut self, work: &'static str, airports: usize) {
        self.rows.push((work, airports, self.since.elapsed()));
        self.since = Instant::now();
    }

    pub(crate) fn print(&self) {
        heading("What it cost: times of this run, each measured once");
        println!("{:38}airports       in all         each", "");
        for (work, airports, took) in &self.rows {
            let (millis, micros) = (took.as_secs_f64() * 1e3, took.as_secs_f64() * 1e6);
            let (airports, each) = (thousands(*airports), micros / *airports as f64);
            println!("  {work:<32}{airports:>12}{millis:>10.2} ms{each:>10.1} µs");
        }
        if cfg!(debug_assertions) {
            println!("  (A debug build. `cargo run --release -p quickstart` is faster.)");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_off() {
        let shown = [0, 999, 1000, 3376, 1_000_020].map(super::thousands);
        assert_eq!(shown, ["0", "999", "1,000", "3,376", "1,000,020"]);
    }
}
