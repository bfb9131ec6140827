//! Cargo as the chores call it: from the root of the workspace, with the environment of a user's
//! shell.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// The folder of what cargo builds.
pub(crate) fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| root().join("target"))
}

/// A `cargo` command that runs in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        // `cargo run` describes the package xtask in these variables. Build scripts that watch them
        // (ring's does) would run again whenever chores and shell commands alternate.
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs `command` with its output passed through.
pub(crate) fn run(command: &mut Command) -> Result {
    let status = command
        .status()
        .map_err(|error| format!("{} can't be run: {error}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed ({status})", shown(command)).into())
    }
}

/// The features of the workspace member `package`, except `default`.
pub(crate) fn features(package: &str) -> Result<Vec<String>> {
    let packages = packages()?;
    let features = packages
        .iter()
        .find(|candidate| candidate["name"] == package)
        .and_then(|package| package["features"].as_object())
        .ok_or_else(|| format!("the workspace has no package `{package}`"))?;
    Ok(features
        .keys()
        .filter(|name| *name != "default")
        .cloned()
        .collect())
}

/// The names of the workspace's integration tests, each once.
pub(crate) fn test_targets() -> Result<BTreeSet<String>> {
    let packages = packages()?;
    let targets = packages
        .iter()
        .filter_map(|package| package["targets"].as_array())
        .flatten();
    Ok(targets
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

/// The members of the workspace, as `cargo metadata` describes them.
fn packages() -> Result<Vec<serde_json::Value>> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("`cargo metadata` failed".into());
    }
    let mut metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    match metadata["packages"].take() {
        serde_json::Value::Array(packages) => Ok(packages),
        _ => Err("`cargo metadata` names no packages".into()),
    }
}

/// The command as it would be typed.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut shown = String::from("`");
    shown.push_str(&program.file_name().unwrap_or_default().to_string_lossy());
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown.push('`');
    shown
}
