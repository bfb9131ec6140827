//! `cargo xtask deny`: runs cargo-deny on the lock file, as `.cargo/deny.toml` configures it.
//!
//! It is not part of `cargo xtask test`. It needs a tool that is not part of Rust, and the
//! advisories come from the network and change without a commit.

use std::process::{ExitCode, Stdio};

use crate::{Result, cargo};

/// Runs every check of cargo-deny.
pub(crate) fn run() -> Result<ExitCode> {
    let installed = cargo::cargo()
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?
        .success();
    if !installed {
        return Err("cargo-deny is missing: run `cargo install cargo-deny --locked`".into());
    }
    cargo::run(cargo::cargo().args(["deny", "check"]))?;
    Ok(ExitCode::SUCCESS)
}
