//! `cargo xtask bench`: how fast the cache is beside its peers.
//!
//! `--check` compares the figures without noise with the committed ones.

mod baseline;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::{Result, cargo};

/// The arguments of a run.
#[derive(Debug, PartialEq)]
enum Asked {
    Check { accept: bool },
}

impl Asked {
    fn parse(arguments: &[String]) -> Result<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            ["--check"] => Ok(Self::Check { accept: false }),
            ["--check", "--accept"] => Ok(Self::Check { accept: true }),
            _ => Err(format!("`bench` has no argument `{}`", words.join(" ")).into()),
        }
    }
}

/// Measures, or compares.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    match Asked::parse(arguments)? {
        Asked::Check { accept } => baseline::check(accept)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of a file between two programs, in a folder that is there.
fn scratch(name: &str) -> Result<PathBuf> {
    let folder = cargo::target().join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(name))
}
