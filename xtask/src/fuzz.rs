//! `cargo xtask fuzz`: the targets of `model/fuzz`, each for some minutes.
//!
//! `cargo xtask test` replays their inputs and runs a few thousand mutations. This goes on at random,
//! prints the number of executions, and writes an input that a target fails on into its folder.

use std::fs;
use std::process::ExitCode;

use crate::{Result, cargo};

/// The folders of the inputs, one for each target.
const FOLDERS: &str = "valkey-runtime/fuzz";
const MINUTES: u64 = 10;

/// Runs the named target, or all of them in turn: `[target] [--minutes 10] [--keep]`. With `--keep`
/// inputs with new outcomes are added to the folders.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (mut only, mut minutes, mut keep) = (None, MINUTES, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--minutes" => {
                let number = rest.next().and_then(|number| number.parse().ok());
                minutes = number.ok_or("`--minutes` needs a whole number, as in `--minutes 10`")?;
            }
            "--keep" => keep = true,
            name => only = Some(name),
        }
    }
    let targets = targets()?;
    let chosen: Vec<&str> = match only {
        None => targets.iter().map(String::as_str).collect(),
        Some(name) if targets.iter().any(|target| target == name) => vec![name],
        Some(name) => {
            let known = targets.join(", ");
            return Err(format!("no target is called `{name}`; there are {known}").into());
        }
    };
    for target in chosen {
        let mut test = cargo::cargo();
        // The features of `cargo xtask test`, so that nothing is built twice.
        test.args(["test", "--quiet", "--workspace", "--exclude", "benches"]);
        test.args(["--all-features", "--lib", "--", "--exact", "--nocapture"]);
        test.arg(format!("model::fuzz::{target}"));
        test.env("FUZZ_SECONDS", (60 * minutes).to_string());
        if keep {
            test.env("FUZZ_KEEP", "1");
        }
        cargo::run(&mut test)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in fs::read_dir(cargo::root().join(FOLDERS))? {
        names.push(folder?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
