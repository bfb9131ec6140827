//! Packages of Debian 12 and its backports, installed from the mirror that the machine already
//! uses.
//!
//! The machine's own configuration is read and never written. apt gets a sources list, package
//! lists and a cache in a temporary folder, which is removed afterwards. Only the installed
//! packages remain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Result, cargo};

const RELEASE: &str = "bookworm";
const BACKPORTS: &str = "bookworm-backports";

/// Ensures that these programs are on the path. The packages of Debian 12 have their names.
pub(crate) fn ensure(programs: &[&str], remedy: &str) -> Result {
    let missing: Vec<_> = programs
        .iter()
        .copied()
        .filter(|name| !is_there(name))
        .collect();
    if missing.is_empty() {
        println!("found: {}", programs.join(", "));
        return Ok(());
    }
    let names = missing.join(", ");
    println!("{names} missing: installing");
    install_of(RELEASE, &missing)
        .map_err(|why| format!("{names} missing, and can't be installed: {why}\n{remedy}"))?;
    match missing.into_iter().find(|name| !is_there(name)) {
        None => Ok(()),
        Some(name) => Err(format!("`{name}` is missing, though just installed\n{remedy}").into()),
    }
}

/// Whether a program is on the path.
pub(crate) fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Installs `packages` of the backports of Debian 12, with their dependencies.
pub(crate) fn install_from_backports(packages: &[&str]) -> Result {
    install_of(BACKPORTS, packages)
}

#[cfg(unix)]
fn readable_by_all(folder: &Path) -> Result {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(
        folder,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// There is no apt on other systems, so nothing gets here.
#[cfg(not(unix))]
fn readable_by_all(_: &Path) -> Result {
    Err("packages of Debian are installed on Debian alone".into())
}

fn install_of(suite: &str, packages: &[&str]) -> Result {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian_12(&release) {
        return Err("this system is not Debian 12".into());
    }
    if !is_root() {
        return Err("only root can install packages".into());
    }
    let lists = debian_sources(&machine_sources()?);
    if lists.is_empty() {
        return Err(format!("no entry of apt's sources has the suite `{RELEASE}`").into());
    }
    let scratch = Scratch::new()?;
    // A third party's repository may use Debian's suite names too, but only Debian's mirror has
    // backports. So the first entry that answers is the right one.
    let mut failure = "apt has no sources".into();
    for list in &lists {
        match scratch.install(list, suite, packages) {
            Ok(()) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn is_debian_12(os_release: &str) -> bool {
    let has = |entry| os_release.lines().any(|line| line.trim() == entry);
    has("ID=debian") && has("VERSION_CODENAME=bookworm")
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// One file of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sources {
    format: Format,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `deb [options] uri suite component…`
    OneLine,
    /// Stanzas of `Field: value`.
    Deb822,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::OneLine => "list",
            Format::Deb822 => "sources",
        }
    }

    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "list" => Some(Format::OneLine),
            "sources" => Some(Format::Deb822),
            _ => None,
        }
    }
}

/// All sources files that apt reads on this machine.
fn machine_sources() -> Result<Vec<Sources>> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        paths.extend(parts);
    }
    let mut sources = Vec::new();
    for path in paths.iter().filter(|path| path.is_file()) {
        if let Some(format) = Format::of(path) {
            let text = fs::read_to_string(path)
                .map_err(|error| format!("{} can't be read: {error}", path.display()))?;
            sources.push(Sources { format, text });
        }
    }
    Ok(sources)
}

/// For each entry that serves `bookworm`: a sources file with that suite and its backports, and the
/// entry's own mirror, keys and options.
fn debian_sources(machine: &[Sources]) -> Vec<Sources> {
    machine
        .iter()
        .flat_map(|sources| {
            let entries = match sources.format {
                Format::OneLine => with_backports_one_line(&sources.text),
                Format::Deb822 => with_backports_deb822(&sources.text),
            };
            entries.into_iter().map(|text| Sources {
                format: sources.format,
                text,
            })
        })
        .collect()
}

fn with_backports_one_line(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let rest = line.strip_prefix("deb")?;
            if !rest.starts_with([' ', '\t', '[']) {
                return None;
            }
            // The options may contain spaces, so they are split off as a whole.
            let rest = rest.trim_start();
            let (options, entry) = match rest.strip_prefix('[') {
                Some(bracketed) => {
                    let (options, entry) = bracketed.split_once(']')?;
                    (format!("[{}] ", options.trim()), entry)
                }
                None => (String::new(), rest),
            };
            let mut words = entry.split_whitespace();
            let uri = words.next()?;
            let suite = words.next()?;
            if suite != RELEASE || !words.any(|component| component == "main") {
                return None;
            }
            Some(format!(
                "deb {options}{uri} {RELEASE} main\ndeb {options}{uri} {BACKPORTS} main\n"
            ))
        })
        .collect()
}

fn with_backports_deb822(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(|stanza| {
            let field = |name: &str| {
                stanza.iter().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim())
                })
            };
            let has = |name, word| field(name)?.split_whitespace().find(|w| *w == word);
            has("Types", "deb")?;
            has("Suites", RELEASE)?;
            has("Components", "main")?;
            if field("Enabled").is_some_and(|enabled| enabled.eq_ignore_ascii_case("no")) {
                return None;
            }
            let mut entry = String::new();
            for line in stanza {
                let key = line.split(':').next().unwrap_or_default();
                match key.to_ascii_lowercase().as_str() {
                    "types" => entry.push_str("Types: deb"),
                    "suites" => entry.push_str(&format!("Suites: {RELEASE} {BACKPORTS}")),
                    "components" => entry.push_str("Components: main"),
                    _ => entry.push_str(line),
                }
                entry.push('\n');
            }
            Some(entry)
        })
        .collect()
}

/// A temporary folder for everything that apt would otherwise write under
/// `/etc/apt`, `/var/lib/apt/lists` and `/var/cache/apt`.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        // apt trusts the files there, so no other user may have created the folder. mktemp ensures
        // that, and every Debian has it.
        let output = Command::new("mktemp")
            .args(["--directory", "--tmpdir", "valkey-xtask.XXXXXX"])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err("no temporary folder can be made".into());
        }
        let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim_end());
        let scratch = Self { folder };
        // apt downloads as a user of its own.
        readable_by_all(&scratch.folder)?;
        fs::create_dir_all(scratch.folder.join("lists/partial"))?;
        fs::create_dir_all(scratch.folder.join("cache/archives/partial"))?;
        Ok(scratch)
    }

    fn install(&self, sources: &Sources, suite: &str, packages: &[&str]) -> Result {
        let list = self
            .folder
            .join(format!("debian.{}", sources.format.extension()));
        fs::write(&list, &sources.text)?;
        cargo::run(self.apt_get(&list).args(["update", "--error-on=any"]))?;
        cargo::run(
            self.apt_get(&list)
                .args(["install", "--yes", "--no-install-recommends", "-t"])
                .arg(suite)
                .args(packages),
        )
    }

    fn apt_get(&self, list: &Path) -> Command {
        let mut apt_get = Command::new("apt-get");
        apt_get
            .arg("--quiet")
            .arg("-o")
            .arg(format!("Dir::Etc::sourcelist={}", list.display()))
            .args(["-o", "Dir::Etc::sourceparts=-"])
            .arg("-o")
            .arg(format!("Dir::State::lists={}/lists", self.folder.display()))
            .arg("-o")
            .arg(format!("Dir::Cache={}/cache", self.folder.display()))
            .args(["-o", "DPkg::Lock::Timeout=120"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Both prevent the packages' scripts from starting a service: the first under systemd,
            // the second under System V's init.
            .env("SYSTEMD_OFFLINE", "1")
            .env("RUNLEVEL", "1")
            .stdin(Stdio::null());
        apt_get
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If the folder can't be removed, it stays.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_line_entry_keeps_its_mirror_and_options() {
        let text = "\
# deb http://commented.test/debian bookworm main
deb-src http://mirror.test/debian bookworm main
deb [ arch=amd64 signed-by=/usr/share/keyrings/a.gpg ] http://mirror.test/debian bookworm main contrib # ours
deb http://mirror.test/debian-security bookworm-security main
deb http://other.test/apt bookworm stable
";
        assert_eq!(
            with_backports_one_line(text),
            ["\
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.test/debian bookworm-backports main
"]
        );
    }

    #[test]
    fn a_deb822_stanza_keeps_its_mirror_and_keys() {
        let text = "\
Types: deb deb-src
# a comment
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 key: of the mirror
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled.test/debian
Suites: bookworm
Components: main
";
        assert_eq!(
            with_backports_deb822(text),
            ["\
Types: deb
URIs: http://mirror.test/debian
Suites: bookworm bookworm-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 key: of the mirror
 -----END PGP PUBLIC KEY BLOCK-----
"]
        );
    }

    #[test]
    fn a_machine_without_debian_has_no_entry() {
        let sources = Sources {
            format: Format::OneLine,
            text: "deb http://archive.test/ubuntu noble main\n".into(),
        };
        assert_eq!(debian_sources(&[sources]), []);
    }

    #[test]
    fn debian_12_is_distinguished_from_its_relatives() {
        assert!(is_debian_12("ID=debian\nVERSION_CODENAME=bookworm\n"));
        assert!(!is_debian_12("ID=debian\nVERSION_CODENAME=trixie\n"));
        assert!(!is_debian_12(
            "ID=raspbian\nID_LIKE=debian\nVERSION_CODENAME=bookworm\n"
        ));
    }
}
