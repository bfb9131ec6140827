//! `cargo xtask soak`: the checks that take minutes, which a change need not
//! wait for.
//!
//! They are unit tests that are compiled only with `--cfg soak`, so that
//! nothing is skipped where they do not run: there, they do not exist.

use std::process::ExitCode;

use crate::{Result, cargo};

/// Runs them, optimized, and shows their figures.
pub(crate) fn run() -> Result<ExitCode> {
    let mut tests = cargo::cargo();
    tests
        .env("RUSTFLAGS", "--cfg soak")
        // Other flags than a shell's cargo has: they would build over each other.
        .args(["test", "--release", "--target-dir", "target/soak"])
        .args([
            "--package",
            "valkey-runtime",
            "--lib",
            "--all-features",
            "soak",
        ])
        .args(["--", "--nocapture", "--test-threads=1"]);
    cargo::run(&mut tests)?;
    Ok(ExitCode::SUCCESS)
}
