//! Processes and folders that end with the test process.
//!
//! A test process may be killed, and its statics are never dropped, so destructors are not enough.
//! A shell watches each process and folder. It holds the reading end of a pipe, and this process
//! holds the writing end. However this process ends, the system closes that end, and the shell
//! cleans up. The standard library opens pipes so that no other child inherits them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// Prints the folder's path, waits for the end of its input, and removes the folder.
const KEEP_FOLDER: &str = r#"
folder=$(mktemp -d "$1/valkey-runtime-test.XXXXXX") || exit
echo "$folder"
cat >/dev/null
rm -rf "$folder"
"#;

/// Runs `$1 $2` with output to `$3`, sends it each signal named on the input, kills it at the end
/// of the input, and exits when it has ended.
///
/// The waiting shell is the parent of the process, so the process id is not reused before the shell
/// ends. A background job has no input, hence the detour by descriptor 3.
const WATCH_PROCESS: &str = r#"
exec 3<&0
"$1" "$2" </dev/null 3<&- >>"$3" 2>&1 &
process=$!
{
    while read -r signal <&3; do
        kill -s "$signal" "$process"
        echo sent
    done
    kill -s KILL "$process"
} 2>/dev/null &
watcher=$!
wait "$process" 2>/dev/null
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// A temporary folder. It is removed when this value is dropped or this process has ended, after
/// the end of all processes started for it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keeper: Child,
    /// `None` once the folder is released.
    held: Option<OwnedFd>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let mut keeper = shell(KEEP_FOLDER)
            .arg(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`sh` can be run");
        let held = keeper.stdin.take().expect("it is piped").into();
        let mut path = String::new();
        BufReader::new(keeper.stdout.take().expect("it is piped"))
            .read_line(&mut path)
            .expect("a pipe can be read");
        let path = PathBuf::from(path.trim_end());
        assert!(
            path.is_dir(),
            "no folder can be created in {}: set TMPDIR to a writable folder",
            std::env::temp_dir().display()
        );
        Self {
            path,
            keeper,
            held: Some(held),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Duplicates the pipe that keeps the folder, for a process that works in it.
    fn hold(&self) -> OwnedFd {
        self.held
            .as_ref()
            .and_then(|held| held.try_clone().ok())
            .expect("a pipe can be duplicated")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.held = None;
        // The folder is removed when this returns, unless its keeper was killed.
        let _ = self.keeper.wait();
    }
}

/// A running process. It is killed when this value is dropped or this process has ended.
#[derive(Debug)]
pub(crate) struct Process {
    watcher: Child,
    signals: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Runs `program argument`, with its output in `log` and its files in `folder`.
    pub(crate) fn start(program: &Path, argument: &Path, log: &Path, folder: &Folder) -> Self {
        File::create(log).expect("a file can be made in the folder");
        let mut watcher = shell(WATCH_PROCESS)
            .args([program, argument, log])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Carries no output: it keeps the folder until the process has ended.
            .stderr(folder.hold())
            .spawn()
            .expect("`sh` can be run");
        Self {
            signals: watcher.stdin.take(),
            answers: BufReader::new(watcher.stdout.take().expect("it is piped")),
            watcher,
        }
    }

    /// Sends a signal (`STOP`, `CONT`). Returns `false` if the process has ended.
    pub(crate) fn signal(&mut self, name: &str) -> bool {
        let Some(signals) = &mut self.signals else {
            return false;
        };
        let mut answer = String::new();
        writeln!(signals, "{name}").is_ok()
            && self.answers.read_line(&mut answer).is_ok()
            && answer == "sent\n"
    }

    /// Kills the process and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.signals = None;
        // An error would mean that the shell was already waited for.
        let _ = self.watcher.wait();
    }

    /// The exit status, if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.watcher
            .try_wait()
            .expect("the state of a child can be asked for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell in its own process group, so that neither Ctrl-C nor a kill of this process group
/// prevents its cleanup.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .process_group(0)
        .stderr(Stdio::null());
    command
}
