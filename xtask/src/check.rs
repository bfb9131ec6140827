//! `cargo xtask check`: all checks that need no server, for frequent use while coding.
//!
//! It is a part of [`test`](crate::test), with the same features, so that `test` reuses what it has
//! built.

use std::process::ExitCode;

use crate::{Result, cargo};

/// Tests of the runtime itself that start a server.
const WITH_SERVER: [&str; 3] = ["model::damaged", "model::differential", "testing::"];
/// Test binaries of `valkey-tests` that start none.
const WITHOUT_SERVER: [&str; 4] = ["derive", "overload", "positions", "tidy"];

/// Runs the formatter, the lints, and all tests that need no server. It ends at the first failure.
pub(crate) fn run() -> Result<ExitCode> {
    cargo::run(cargo::cargo().args(["fmt", "--all", "--check"]))?;
    let lints = [
        "clippy",
        "--workspace",
        "--exclude",
        "benches",
        "--all-features",
        "--all-targets",
    ];
    cargo::run(cargo::cargo().args(lints).args(["--", "-D", "warnings"]))?;
    let test = |package: &str| {
        let mut cargo = cargo::cargo();
        cargo.args(["test", "--quiet", "--all-features", "--package", package]);
        cargo
    };
    cargo::run(test("valkey-derive").arg("--lib"))?;
    let mut outside = test("valkey-tests");
    for name in WITHOUT_SERVER {
        outside.args(["--test", name]);
    }
    cargo::run(&mut outside)?;
    let mut own = test("valkey-runtime");
    own.args(["--lib", "--"]);
    for name in WITH_SERVER {
        own.args(["--skip", name]);
    }
    cargo::run(&mut own)?;
    println!("\nall checks without a server pass; `cargo xtask test` runs everything");
    Ok(ExitCode::SUCCESS)
}
