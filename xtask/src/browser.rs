//! Chromium and curl for the tests of examples/user-api: found, or installed if possible.

use std::process::{Command, Stdio};

use crate::{Result, apt};

const REMEDY: &str = "\
The tests of examples/user-api need `chromium` and `curl` on the path. On Debian, as root, run
    apt-get install chromium curl
Elsewhere install your system's packages.";

/// Ensures that the tests find both.
pub(crate) fn ensure() -> Result {
    let programs = ["chromium", "curl"];
    let missing: Vec<_> = programs
        .into_iter()
        .filter(|name| !is_there(name))
        .collect();
    if missing.is_empty() {
        println!("`chromium` and `curl` are there");
        return Ok(());
    }
    let names = missing.join(", ");
    println!("{names} missing: installing");
    apt::install(&missing)
        .map_err(|why| format!("{names} missing, and can't be installed: {why}\n{REMEDY}"))?;
    match missing.into_iter().find(|name| !is_there(name)) {
        None => Ok(()),
        Some(name) => Err(format!("`{name}` is missing, though just installed\n{REMEDY}").into()),
    }
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
