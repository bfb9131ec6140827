//! A real Valkey server for the tests: found, or installed if possible.
//!
//! `VALKEY_SERVER` names the binary. Without it, `valkey-server` is looked for on the path, and
//! installed on Debian 12. The runtime's test kit finds its binaries by the same rules.

use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, apt};

/// The oldest major version that the tests run against.
const MAJOR: u32 = 8;

const REMEDY: &str = "\
The tests need Valkey 8 or later: `valkey-server` and `valkey-cli` on the path,
or VALKEY_SERVER set to the server's binary, with `valkey-cli` beside it.
On Debian 12 add the suite bookworm-backports to apt's sources and, as root, run
    apt-get install -t bookworm-backports valkey-server valkey-tools
Elsewhere install your system's package `valkey`.";

/// Ensures that the tests find a server, and prints its version.
pub(crate) fn ensure() -> Result {
    if let Some(server) = env::var_os("VALKEY_SERVER").filter(|path| !path.is_empty()) {
        // Requested by name: no other server is used instead.
        let found = probe(&server, &cli_beside(Path::new(&server)))
            .map_err(|problem| format!("VALKEY_SERVER: {problem}\n{REMEDY}"))?;
        println!("{found}, from VALKEY_SERVER");
        return Ok(());
    }
    let problem = match probe_path() {
        Ok(found) => {
            println!("{found}");
            return Ok(());
        }
        Err(problem) => problem,
    };
    println!("{problem}: installing it");
    let installed = apt::install_from_backports(&["valkey-server", "valkey-tools"]);
    installed.map_err(|why| format!("{problem}, and it can't be installed: {why}\n{REMEDY}"))?;
    let found =
        probe_path().map_err(|problem| format!("{problem}, though just installed\n{REMEDY}"))?;
    println!("{found}, just installed");
    println!("Its system service was not started; `systemctl disable valkey-server` keeps it so.");
    Ok(())
}

/// The server's version, as it says it.
pub(crate) fn version() -> Result<String> {
    let server = env::var_os("VALKEY_SERVER").filter(|path| !path.is_empty());
    Ok(version_of(
        &server.unwrap_or_else(|| "valkey-server".into()),
    )?)
}

/// The value of `VALKEY_SERVER` for the tests, which run in other folders.
pub(crate) fn server_for_tests() -> Option<PathBuf> {
    let server = PathBuf::from(env::var_os("VALKEY_SERVER").filter(|path| !path.is_empty())?);
    // A bare name is looked up on the path from any folder. Links are not followed: Debian's binary
    // chooses its program by its name.
    if server.components().count() == 1 {
        return Some(server);
    }
    std::path::absolute(server).ok()
}

fn cli_beside(server: &Path) -> OsString {
    let cli = server.with_file_name("valkey-cli");
    if cli.is_file() {
        cli.into()
    } else {
        "valkey-cli".into()
    }
}

fn probe_path() -> std::result::Result<String, String> {
    probe(&"valkey-server".into(), &"valkey-cli".into())
}

/// Runs both programs for their versions, and returns the server's.
fn probe(server: &OsString, cli: &OsString) -> std::result::Result<String, String> {
    let name = server.to_string_lossy();
    let said = version_of(server)?;
    match major(&said) {
        Some(major) if major >= MAJOR => {}
        Some(_) => return Err(format!("`{name}` is too old (\"{said}\")")),
        None => return Err(format!("`{name}` is not a Valkey server (\"{said}\")")),
    }
    version_of(cli)?;
    Ok(said)
}

fn version_of(program: &OsString) -> std::result::Result<String, String> {
    let name = program.to_string_lossy();
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("`{name}` is missing"),
            _ => format!("`{name}` can't be run ({error})"),
        })?;
    if !output.status.success() {
        return Err(format!("`{name} --version` failed ({})", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// The major version in `Valkey server v=8.1.1 sha=…`.
fn major(said: &str) -> Option<u32> {
    let version = said.strip_prefix("Valkey server v=")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_the_server_says() {
        assert_eq!(
            major("Valkey server v=8.1.1 sha=0:0 malloc=jemalloc"),
            Some(8)
        );
        assert_eq!(major("Valkey server v=10.0.0 sha=0:0"), Some(10));
        assert_eq!(major("Redis server v=7.0.15 sha=0:0"), None);
    }
}
