//! `cargo xtask mutants`: whether the tests notice deliberate errors (mutation testing).
//!
//! `cargo-mutants` changes one function or operator at a time, and runs the tests that should
//! notice. For the runtime these are its unit tests and its suite, in the process and on a plain
//! server; for the derive its own tests. There are thousands of mutants, and each costs a build, so
//! a run takes an even sample. `--sample` gives its size, and `--shard` its number, so that several
//! runs cover all mutants.
//!
//! Missed mutants are listed, and a run that catches less than 90 % fails. A mutant without a visible effect belongs in `.cargo/mutants.toml`,
//! with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::{Result, cargo, valkey};

/// The default number of mutants in a run.
const SAMPLE: usize = 40;
/// A run with fewer mutants caught, in percent, fails.
const LEAST: f64 = 90.0;
/// Seconds for the tests of one mutant: several times their normal duration.
const TIMEOUT: &str = "300";
const BUILD_TIMEOUT: &str = "1200";

/// Files whose mutants the same tests should notice.
struct Group {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
    /// The arguments of `cargo test`.
    tests: &'static [&'static str],
}

const GROUPS: [Group; 3] = [
    // Rules without I/O, and settings: the unit tests and the exploring tests see them.
    Group {
        name: "protocol",
        package: "valkey-runtime",
        files: &[
            "valkey-runtime/src/protocol/**",
            "valkey-runtime/src/config/**",
        ],
        tests: &["--lib"],
    },
    Group {
        name: "shell",
        package: "valkey-runtime",
        files: &[
            "valkey-runtime/src/verbs/**",
            "valkey-runtime/src/limit/**",
            "valkey-runtime/src/backend/gateway.rs",
            "valkey-runtime/src/backend/delivery.rs",
            "valkey-runtime/src/backend/tag_clock.rs",
            "valkey-runtime/src/backend/withheld.rs",
        ],
        tests: &[
            "--lib",
            "--test",
            "runtime",
            "--",
            "--skip",
            "::tls::",
            "--skip",
            "::unix::",
            "--skip",
            "::cluster::",
        ],
    },
    Group {
        name: "derive",
        package: "valkey-derive",
        files: &["valkey-derive/src/**"],
        tests: &["--lib", "--test", "derive"],
    },
];

/// The results of a run.
#[derive(Debug, Default, PartialEq)]
struct Found {
    caught: usize,
    /// Mutants whose tests took too long; they count as noticed.
    timeouts: usize,
    /// Mutants that do not compile.
    unviable: usize,
    missed: Vec<String>,
}

/// The arguments of a run.
#[derive(Debug, PartialEq)]
struct Asked {
    sample: usize,
    /// The number of the sample.
    shard: usize,
    only: Option<String>,
}

/// Tries a sample of mutants and prints those that were missed.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let asked = Asked::parse(arguments)?;
    valkey::ensure()?;
    let tool = tool()?;
    let groups: Vec<&Group> = GROUPS
        .iter()
        .filter(|group| asked.only.as_deref().is_none_or(|name| name == group.name))
        .collect();
    if groups.is_empty() {
        return Err("`--only` is `protocol`, `shell` or `derive`".into());
    }
    let mut counts = BTreeMap::new();
    for group in &groups {
        counts.insert(group.name, list(&tool, group)?);
    }
    let all: usize = counts.values().sum();
    // The same shard of each group.
    let shards = all.div_ceil(asked.sample).max(1);
    let shard = asked.shard % shards;
    println!("{all} mutants, of which sample {shard} of {shards} is tried");
    let mut found = Found::default();
    for group in groups {
        found.add(try_all(&tool, group, shard, shards)?);
    }
    println!("\n{found}");
    match found.percent() < LEAST {
        true => Err(format!("less than {LEAST} % of the mutants were caught").into()),
        false => Ok(ExitCode::SUCCESS),
    }
}

impl Asked {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut asked = Self {
            sample: SAMPLE,
            shard: 0,
            only: None,
        };
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("`{flag}` needs a value"))?;
            let number = || -> Result<usize> {
                let number = value.parse();
                number.map_err(|_| format!("{flag} {value}: not a number").into())
            };
            match flag.as_str() {
                "--sample" => asked.sample = number()?.max(1),
                "--shard" => asked.shard = number()?,
                "--only" => asked.only = Some(value.clone()),
                _ => {
                    return Err(
                        format!("there is no flag `{flag}`: --sample, --shard, --only").into(),
                    );
                }
            }
        }
        Ok(asked)
    }
}

/// `cargo-mutants`, installed if it is missing.
fn tool() -> Result<PathBuf> {
    let folder = cargo::root().join("target/tools");
    let tool = folder.join("bin/cargo-mutants");
    if !tool.is_file() {
        let mut install = cargo::cargo();
        install.args(["install", "cargo-mutants", "--locked", "--root"]);
        cargo::run(install.arg(&folder))?;
    }
    Ok(tool)
}

fn mutants(tool: &Path, group: &Group) -> Command {
    let mut command = Command::new(tool);
    command.arg("mutants").current_dir(cargo::root());
    command.args(["--package", group.package, "--all-features"]);
    for file in group.files {
        command.args(["--file", file]);
    }
    command
}

/// The number of mutants in a group.
fn list(tool: &Path, group: &Group) -> Result<usize> {
    let output = mutants(tool, group).arg("--list").output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().count())
}

fn try_all(tool: &Path, group: &Group, shard: usize, shards: usize) -> Result<Found> {
    let output = cargo::root().join("target/mutants").join(group.name);
    fs::create_dir_all(&output)?;
    let mut command = mutants(tool, group);
    command
        .arg("--output")
        .arg(&output)
        .args(["--shard", &format!("{shard}/{shards}")])
        .args(["--sharding", "round-robin"])
        .args(["--timeout", TIMEOUT, "--build-timeout", BUILD_TIMEOUT])
        .args(["--jobs", "1", "--no-times", "--colors", "never"])
        .args(["--test-package", group.package]);
    if group.tests.contains(&"--test") {
        command.args(["--test-package", "valkey-tests"]);
    }
    command
        .arg("--")
        .args(group.tests)
        // A backtrace of a mutant tells nobody anything.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // Kept between runs, so that dependencies are built once.
        .env(
            "CARGO_TARGET_DIR",
            cargo::root().join("target/mutants/build"),
        );
    if let Some(server) = valkey::server_for_tests() {
        command.env("VALKEY_SERVER", server);
    }
    let status = command.status()?;
    // 2: some were missed; 3: some took too long.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        return Err(format!("{} failed ({status})", cargo::shown(&command)).into());
    }
    Found::read(&output.join("mutants.out"))
}

impl Found {
    /// Reads the lists that a run leaves in a folder.
    fn read(folder: &Path) -> Result<Self> {
        let lines = |name: &str| -> Result<Vec<String>> {
            let text = fs::read_to_string(folder.join(name))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        Ok(Self {
            caught: lines("caught.txt")?.len(),
            timeouts: lines("timeout.txt")?.len(),
            unviable: lines("unviable.txt")?.len(),
            missed: lines("missed.txt")?,
        })
    }

    /// The share of the mutants that were caught, among those that compile.
    fn percent(&self) -> f64 {
        let noticed = self.caught + self.timeouts;
        match noticed + self.missed.len() {
            0 => 100.0,
            all => 100.0 * noticed as f64 / all as f64,
        }
    }

    fn add(&mut self, other: Self) {
        self.caught += other.caught;
        self.timeouts += other.timeouts;
        self.unviable += other.unviable;
        self.missed.extend(other.missed);
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for missed in &self.missed {
            writeln!(f, "missed: {missed}")?;
        }
        write!(
            f,
            "{} caught, {} by taking too long, {} missed: {:.1} % ({} do not compile)",
            self.caught,
            self.timeouts,
            self.missed.len(),
            self.percent(),
            self.unviable
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed_and_mistakes_are_named() {
        let asked = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Asked::parse(&words).map_err(|error| error.to_string())
        };
        let all = asked("--sample 7 --shard 3 --only derive").unwrap();
        let only = Some("derive".to_owned());
        assert_eq!((all.sample, all.shard, all.only), (7, 3, only));
        assert_eq!(asked("").unwrap().sample, SAMPLE);
        assert!(asked("--sample many").unwrap_err().contains("many"));
        assert!(asked("--sample").unwrap_err().contains("needs a value"));
        assert!(asked("--fast 1").unwrap_err().contains("--fast"));
    }

    #[test]
    fn timeouts_count_as_caught_and_unviable_mutants_do_not_count() {
        let mut found = Found {
            caught: 7,
            timeouts: 1,
            unviable: 5,
            missed: vec!["guard.rs:1: replace + with -".into()],
        };
        found.add(Found {
            missed: vec!["front.rs:2: replace < with <=".into()],
            ..Found::default()
        });
        let text = found.to_string();
        assert!(text.contains("missed: guard.rs:1"), "{text}");
        assert!(
            text.ends_with("7 caught, 1 by taking too long, 2 missed: 80.0 % (5 do not compile)"),
            "{text}"
        );
    }
}
