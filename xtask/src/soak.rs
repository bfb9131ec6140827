//! `cargo xtask soak`: the checks that take minutes, which a change need not
//! wait for.
//!
//! They are unit tests that are compiled only with `--cfg soak`, so that
//! nothing is skipped where they do not run: there, they do not exist. Tests
//! with several processes, and the check of registers, are the same as ever,
//! and last longer.

use std::process::ExitCode;

use crate::{Result, cargo, valkey};

/// Runs them, optimized, and shows their figures.
pub(crate) fn run() -> Result<ExitCode> {
    valkey::ensure()?;
    let server = valkey::server_for_tests();
    let soak = |command: &str, args: &[&str]| {
        let mut cargo = cargo::cargo();
        cargo
            .env("RUSTFLAGS", "--cfg soak")
            .envs(server.iter().map(|server| ("VALKEY_SERVER", server)))
            // Other flags than a shell's cargo has: they would build over each other.
            .args([command, "--release", "--target-dir", "target/soak"])
            .args(args);
        cargo
    };
    let shown = ["--", "--nocapture", "--test-threads=1"];
    let (runtime, tests) = (
        ["--package", "valkey-runtime"],
        ["--package", "valkey-tests"],
    );
    cargo::run(&mut soak("build", &[&tests[..], &["--examples"]].concat()))?;
    cargo::run(&mut soak(
        "test",
        &[&tests[..], &["--test", "processes"], &shown].concat(),
    ))?;
    cargo::run(&mut soak(
        "test",
        &[&tests[..], &["--test", "register"], &shown].concat(),
    ))?;
    let units = ["--lib", "--all-features", "soak"];
    cargo::run(&mut soak("test", &[&runtime[..], &units, &shown].concat()))?;
    Ok(ExitCode::SUCCESS)
}
