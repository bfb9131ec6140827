//! `cargo xtask soak`: the checks that take minutes, for which a change need not wait.
//!
//! They are unit tests that are compiled only with `--cfg soak`, so that other runs show no skipped
//! tests. The tests with several processes, and the check of registers, are those of `test` with
//! longer runs.

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
            // These flags differ from those of a shell's cargo. A shared folder would be rebuilt
            // each time.
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
        &[&tests[..], &["--test", "rolling"], &shown].concat(),
    ))?;
    cargo::run(&mut soak(
        "test",
        &[&tests[..], &["--test", "register"], &shown].concat(),
    ))?;
    let units = ["--lib", "--all-features", "soak"];
    cargo::run(&mut soak("test", &[&runtime[..], &units, &shown].concat()))?;
    Ok(ExitCode::SUCCESS)
}
