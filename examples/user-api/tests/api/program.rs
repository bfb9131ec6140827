//! The service as a program of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use valkey_tests::example;

use crate::folder::Folder;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The program, ended when this is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    _folder: Folder,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    more: Condvar,
}

impl Program {
    /// Runs it with these variables, with a database of its own and on a port of its own unless
    /// they say otherwise.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let mut child = command()
            .env("DATABASE_URL", folder.database())
            .env("ADDRESS", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let log = Arc::new(Log::default());
        let output = child.stdout.take().expect("it is piped");
        thread::spawn({
            let log = log.clone();
            move || log.read(output)
        });
        let listening = log.wait_for("listening");
        let address = listening["address"].as_str().expect("an address");
        Self {
            child,
            address: address.parse().expect("an address"),
            log,
            _folder: folder,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The fields of the first line with this message, once it is there.
    pub(crate) fn wait_for(&self, message: &str) -> Value {
        self.log.wait_for(message)
    }

    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status();
        assert!(killed.expect("kill can be run").success());
    }

    /// The exit code, once it has ended.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it can be waited for").code()
    }

    /// A connection that is spoken to by hand.
    pub(crate) fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(LONG))?;
        Ok(stream)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Log {
    /// Every line is JSON.
    fn read(&self, output: impl Read) {
        for line in BufReader::new(output).lines() {
            let line = line.expect("text");
            let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            self.lines.lock().expect("no panic").push(line);
            self.more.notify_all();
        }
    }

    fn wait_for(&self, message: &str) -> Value {
        let found = |lines: &[Value]| {
            let mut fields = lines.iter().map(|line| &line["fields"]);
            fields.find(|fields| fields["message"] == message).cloned()
        };
        let lines = self.lines.lock().expect("no panic");
        let missing = |lines: &mut Vec<Value>| found(lines).is_none();
        let (lines, _) = self
            .more
            .wait_timeout_while(lines, LONG, missing)
            .expect("no panic");
        found(&lines).unwrap_or_else(|| panic!("no {message:?} in {lines:?}"))
    }
}

/// The program, with nothing of this machine's settings of a store.
pub(crate) fn command() -> Command {
    example::command(env!("CARGO_BIN_EXE_user-api"))
}

/// How many seconds a window lasts of which no test sees the end: windows begin with the clock's
/// own.
pub(crate) fn long_window() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let windows = [300, 347].map(|days| days * 86_400);
    let longest = windows.into_iter().max_by_key(|all| all - now % all);
    longest.expect("one of two")
}

/// Reads one line of a response, without its end.
pub(crate) fn read_line(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

pub(crate) fn write(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("it is open");
}
