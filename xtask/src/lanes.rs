//! Runs test commands in two parallel lanes, and sums up their results.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;

use crate::{Result, cargo};

/// Runs the commands of each lane in sequence, and the two lanes in parallel. The output of the
/// first lane is passed through; that of the second follows it.
///
/// All commands run, even after a failure. The error is that of the first command that failed.
pub(crate) fn run([first, second]: [Vec<Command>; 2], tally: &mut Tally) -> Result {
    let (first, (second, shown)) = thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut shown = Vec::new();
            (lane(second, &mut shown), shown)
        });
        let first = lane(first, &mut io::stdout());
        (first, beside.join().expect("a lane does not panic"))
    });
    io::stdout().write_all(&shown)?;
    let mut outcome = Ok(());
    for lane in [first, second] {
        tally.passed += lane.tally.passed;
        tally.failed += lane.tally.failed;
        outcome = outcome.and(lane.outcome);
    }
    Ok(outcome?)
}

struct Lane {
    tally: Tally,
    outcome: std::result::Result<(), String>,
}

fn lane(commands: Vec<Command>, output: &mut impl Write) -> Lane {
    let mut lane = Lane {
        tally: Tally::default(),
        outcome: Ok(()),
    };
    for mut command in commands {
        let tests = tests(&mut command, &mut lane.tally, output);
        let shown = cargo::shown(&command);
        let tests = tests.map_err(|error| format!("{shown}: {error}"));
        if tests.is_err() {
            // A test binary that crashes prints no result, nor does one that can't be built. Still
            // "0 failed" must not appear below a failure.
            lane.tally.failed = lane.tally.failed.max(1);
        }
        lane.outcome = lane.outcome.and(tests);
    }
    lane
}

/// Runs a command, passes its output on, and counts the results in it.
fn tests(command: &mut Command, tally: &mut Tally, output: &mut impl Write) -> io::Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut printed = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = Vec::new();
    while printed.read_until(b'\n', &mut line)? > 0 {
        output.write_all(&line)?;
        tally.add(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let status = child.wait()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(status.to_string())),
    }
}

/// The number of tests that passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Counts a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`; ignores other lines.
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
