//! `cargo xtask bench`: how fast the cache is beside its peers.
//!
//! Without flags it measures briefly and prints the tables. Words limit it to operations (`get`,
//! `set`, `get_or_load`, `bulk`, `update`, `latency`), sizes (`small`, `large`) and numbers of
//! tasks: `cargo xtask bench get 8 64`. `--report` measures everything for about a quarter of an
//! hour, and writes docs/performance.md, its pictures, and the figures as JSON. Both take
//! `rounds=9` and `millis=250`. `--page` writes the page again from that JSON, after a change of its
//! form. `--check` compares the figures without noise with the committed ones.
//!
//! The package `benches` measures, and this module makes ratios and pages of its figures.

mod baseline;
mod derive;
mod measured;
mod node;
mod page;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

use self::measured::Measured;
use crate::{Result, cargo, valkey};

/// The peers whose versions the page names.
const PEERS: [&str; 5] = ["redis", "rustis", "fred", "cached", "redis-macros"];

const PAGE: &str = "docs/performance.md";
const FIGURES: &str = "docs/performance.json";
const PICTURES: &str = "docs/performance";

/// The arguments of a run.
#[derive(Debug, PartialEq)]
enum Asked {
    Quick { words: Vec<String> },
    Report { settings: Vec<String> },
    Page,
    Check { accept: bool },
}

impl Asked {
    fn parse(arguments: &[String]) -> Result<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            // A page with only some operations would look complete.
            ["--report", ref settings @ ..] if settings.iter().all(|word| word.contains('=')) => {
                Ok(Self::Report {
                    settings: arguments[1..].to_vec(),
                })
            }
            ["--page"] => Ok(Self::Page),
            ["--check"] => Ok(Self::Check { accept: false }),
            ["--check", "--accept"] => Ok(Self::Check { accept: true }),
            _ => match words.iter().find(|word| word.starts_with('-')) {
                None => Ok(Self::Quick {
                    words: arguments.to_vec(),
                }),
                Some(flag) => Err(format!(
                    "`{flag}`: `bench` takes words such as `get 8 64`, or `--report`, `--page`, \
                     `--check`, or `--check --accept`"
                )
                .into()),
            },
        }
    }
}

/// Everything that a page shows.
struct Report {
    measured: Measured,
    /// Instructions.
    figures: Option<baseline::Figures>,
    derive: Option<derive::Times>,
}

impl Report {
    /// From the committed figures.
    fn parse(figures: &Value) -> Result<Self> {
        let times = &figures["compile_seconds"];
        Ok(Self {
            measured: Measured::parse(figures)?,
            figures: serde_json::from_value(figures["instructions"].clone())?,
            derive: Some(derive::Times {
                serde: serde_json::from_value(times["serde"].clone())?,
                cached: serde_json::from_value(times["cached"].clone())?,
            }),
        })
    }
}

/// Measures, or compares.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    match Asked::parse(arguments)? {
        Asked::Check { accept } => baseline::check(accept)?,
        Asked::Quick { words } => quick(&words)?,
        Asked::Report { settings } => report(&settings)?,
        Asked::Page => {
            let figures = fs::read(cargo::root().join(FIGURES))?;
            write_page(&serde_json::from_slice(&figures)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn quick(words: &[String]) -> Result {
    valkey::ensure()?;
    let mut all = vec!["rounds=5", "millis=100"];
    // Small values alone, unless others are asked for.
    if !words.iter().any(|word| word == "large") {
        all.push("small");
    }
    all.extend(words.iter().map(String::as_str));
    let figures = race(&all)?;
    let report = Report {
        measured: Measured::parse(&figures)?,
        figures: None,
        derive: None,
    };
    println!("\n{}", page::tables(&report, "", false));
    Ok(())
}

fn report(settings: &[String]) -> Result {
    valkey::ensure()?;
    let mut all = vec!["rounds=9", "millis=250"];
    all.extend(settings.iter().map(String::as_str));
    let mut figures = race(&all)?;
    if let (Value::Array(all), Value::Array(packed)) =
        (&mut figures["throughput"], packed()?["throughput"].take())
    {
        all.extend(packed);
    }
    figures["about"] = facts(&figures)?.into();
    figures["instructions"] = serde_json::to_value(baseline::count()?)?;
    let times = derive::measure()?;
    figures["compile_seconds"] =
        serde_json::json!({ "serde": times.serde, "cached": times.cached });
    fs::write(cargo::root().join(FIGURES), format!("{figures}\n"))?;
    write_page(&figures)
}

/// Writes the page and its pictures.
fn write_page(figures: &Value) -> Result {
    let report = Report::parse(figures)?;
    let root = cargo::root();
    let pictures = root.join(PICTURES);
    fs::create_dir_all(&pictures)?;
    let charts = scratch("charts.json")?;
    fs::write(&charts, page::charts(&report.measured).to_string())?;
    cargo::run(
        cargo::cargo()
            .args([
                "run",
                "--release",
                "--package",
                "benches",
                "--features",
                "report",
            ])
            .args(["--bin", "plots", "--"])
            .args([&charts, &pictures]),
    )?;

    let page = fs::read_to_string(root.join(PAGE))?;
    let facts = figures["about"].as_str().unwrap_or_default();
    let tables = page::tables(&report, facts, true);
    fs::write(root.join(PAGE), page::replaced(&page, &tables)?)?;
    println!("\nwritten: {PAGE}, {FIGURES} and {PICTURES}/*.svg");
    Ok(())
}

/// Runs the bench `report`.
fn race(arguments: &[&str]) -> Result<Value> {
    let path = scratch("report.json")?;
    let node = node::install()?;
    cargo::run(
        cargo::cargo()
            .args(["bench", "--package", "benches", "--features", "report"])
            .args(["--bench", "report", "--"])
            .args(arguments)
            .env("FIGURES", &path)
            .envs(node.map(|folder| ("GLIDE", folder))),
    )?;
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Runs the bench `packed`.
fn packed() -> Result<Value> {
    let path = scratch("packed.json")?;
    cargo::run(
        cargo::cargo()
            .args(["bench", "--package", "benches", "--bench", "packed"])
            .env("FIGURES", &path),
    )?;
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The lines about the machine and the versions.
fn facts(figures: &Value) -> Result<String> {
    let date = Command::new("date").args(["-u", "+%F"]).output()?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism()?;
    let server = valkey::version()?;
    let server = server.split(" sha=").next().unwrap_or_default();
    let lock = fs::read_to_string(cargo::root().join("Cargo.lock"))?;
    let mut peers: Vec<String> = PEERS
        .iter()
        .filter_map(|name| Some(format!("{name} {}", version_of(&lock, name)?)))
        .collect();
    if figures.to_string().contains("GLIDE") {
        peers.push(node::versions()?);
    }
    let compiler = baseline::compiler()?;
    let (rounds, millis) = (&figures["rounds"], &figures["millis"]);
    let small = &figures["bytes"]["200 B"]["entry"];
    let large = &figures["bytes"]["8 KiB"]["entry"];
    Ok(format!(
        "{date}, {cpu}, {cores} cores that client and server share, {server} over loopback, {compiler}.\n\
         Versions: {}.\n\
         {rounds} rounds of {millis} ms a contender; entries of {small} and {large} bytes.\n\
         The raw figures are in [performance.json](performance.json).\n",
        peers.join(", ")
    ))
}

/// The version of a package in the text of a lock file.
fn version_of<'l>(lock: &'l str, package: &str) -> Option<&'l str> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next()
}

/// The path of a file between two programs, in a folder that is there.
fn scratch(name: &str) -> Result<PathBuf> {
    let folder = cargo::target().join("bench");
    let folder = Path::new(cargo::root()).join(folder);
    fs::create_dir_all(&folder)?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_words_or_one_of_four_flags() {
        let asked = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Asked::parse(&words).map_err(|error| error.to_string())
        };
        let words = vec!["get".to_owned(), "8".to_owned()];
        assert_eq!(asked("get 8"), Ok(Asked::Quick { words }));
        let report = |settings: &[&str]| Asked::Report {
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        };
        assert_eq!(asked("--report"), Ok(report(&[])));
        assert_eq!(asked("--report rounds=2"), Ok(report(&["rounds=2"])));
        assert_eq!(asked("--page"), Ok(Asked::Page));
        assert_eq!(asked("--check"), Ok(Asked::Check { accept: false }));
        assert_eq!(asked("--check --accept"), Ok(Asked::Check { accept: true }));
        assert!(asked("--fast").unwrap_err().contains("--fast"));
        assert!(asked("--report get").is_err());
        assert!(asked("--accept").is_err());
    }

    #[test]
    fn a_version_is_read_from_the_lock_file() {
        let lock = "name = \"redis-macros\"\nversion = \"1.0.1\"\n\n\
                    name = \"redis\"\nversion = \"1.8.1\"\n";
        assert_eq!(version_of(lock, "redis"), Some("1.8.1"));
        assert_eq!(version_of(lock, "fred"), None);
    }
}
