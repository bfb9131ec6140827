//! Tests that run the program of an example.
//!
//! [`command`] is the program in an environment that names no server, and [`printed`] is the output
//! of one that succeeded. [`steady`] and [`steady_on`] run a test that goes by real time: they
//! repeat it where it fails while the machine stood still. A program that shares a server goes by
//! real time, for its commands have their default deadline.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Server, TURN, repeat};

/// The program, without the variables `VALKEY_*` of this environment.
pub fn command(binary: &str) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VALKEY_") {
            command.env_remove(name);
        }
    }
    command
}

/// The standard output of a program that succeeded.
///
/// # Panics
///
/// With its standard error, if it failed.
#[track_caller]
pub fn printed(output: Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs a test that goes by real time, and runs it again where it fails while the machine stood
/// still.
///
/// # Panics
///
/// As [`repeat`] does.
pub fn steady(test: impl Fn()) {
    repeat(|| watched(&test, || ()));
}

/// As [`steady`], for a test on a server: it may stand still as well.
///
/// # Panics
///
/// As [`repeat`] does.
pub fn steady_on(server: &Server, test: impl Fn()) {
    // A server that the test has ended refuses at once.
    repeat(|| watched(&test, || drop(ping(server))));
}

/// Waits for the answer of a server.
fn ping(server: &Server) -> io::Result<()> {
    let mut server = UnixStream::connect(server.socket())?;
    server.write_all(b"PING\r\n")?;
    server.read_exact(&mut [0])
}

/// Runs a test, and measures the longest that a thread beside it had no turn, or that `ping` took.
fn watched(test: impl Fn(), ping: impl Fn() + Send) -> (thread::Result<()>, Duration) {
    let (running, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let mut longest = Duration::ZERO;
            loop {
                let began = Instant::now();
                let wait = ended.recv_timeout(TURN / 40);
                ping();
                longest = longest.max(began.elapsed());
                if wait != Err(RecvTimeoutError::Timeout) {
                    return longest;
                }
            }
        });
        let outcome = catch_unwind(AssertUnwindSafe(test));
        drop(running);
        (outcome, watch.join().expect("nothing in it panics"))
    })
}
