//! A server with scripted answers.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::listen::{Acceptor, listen};
use crate::{Port, resp};

/// The reaction of a [`FakeServer`] to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Sends these bytes unchanged, well-formed or not.
    Raw(Vec<u8>),
    /// Sends an error with its code: `LOADING server is loading the dataset in memory`.
    Error(String),
    /// Sends no answer to this command, nor to any later one on this connection, as replies are
    /// ordered. The connection stays open.
    Nothing,
    /// Closes the connection.
    Close,
}

impl Reply {
    /// `OK`.
    pub fn ok() -> Self {
        Self::raw("+OK\r\n")
    }

    /// The null reply of protocol version 3.
    pub fn null() -> Self {
        Self::raw("_\r\n")
    }

    /// An integer.
    pub fn integer(number: i64) -> Self {
        Self::raw(format!(":{number}\r\n"))
    }

    /// A string of bytes.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut raw = format!("${}\r\n", bytes.len()).into_bytes();
        raw.extend_from_slice(bytes);
        raw.extend_from_slice(b"\r\n");
        Self::Raw(raw)
    }

    /// [`Reply::Raw`] of bytes or text.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Raw(bytes.into())
    }

    /// [`Reply::Error`] of a text.
    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }
}

/// A server on 127.0.0.1 that answers by a closure, and records the commands that it receives.
///
/// ```
/// use valkey_tests::{FakeServer, Reply};
///
/// let server = FakeServer::start(|command| match &*command[0] {
///     b"GET" => Reply::error("LOADING server is loading the dataset in memory"),
///     _ => Reply::ok(),
/// });
/// assert_eq!(server.count("GET"), 0);
/// ```
#[derive(Debug)]
pub struct FakeServer {
    port: Port,
    shared: Arc<Shared>,
    /// `None` only during the drop.
    acceptor: Option<Acceptor>,
}

type Answer = dyn Fn(&[Vec<u8>]) -> Reply + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    state: Mutex<State>,
    received: Condvar,
}

#[derive(Debug, Default)]
struct State {
    commands: Vec<Vec<Vec<u8>>>,
    connections: Vec<TcpStream>,
}

impl FakeServer {
    /// Starts a server that answers the [`handshake`] of clients as a real server does, and all
    /// other commands by `answer`.
    ///
    /// `answer` runs on the thread of the connection. While it blocks, only that connection waits.
    /// So a test can hold back a reply.
    ///
    /// [`handshake`]: FakeServer::handshake
    pub fn start(answer: impl Fn(&[Vec<u8>]) -> Reply + Send + Sync + 'static) -> Self {
        Self::scripted(move |command| Self::handshake(command).unwrap_or_else(|| answer(command)))
    }

    /// Starts a server that answers every command by `answer`, including those of the handshake.
    pub fn scripted(answer: impl Fn(&[Vec<u8>]) -> Reply + Send + Sync + 'static) -> Self {
        let port = Port::free();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            state: Mutex::default(),
            received: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = Acceptor::start(listen(&port), port.number(), move |stream| {
            if let Ok(handle) = stream.try_clone() {
                accepting.state().connections.push(handle);
            }
            let shared = Arc::clone(&accepting);
            thread::spawn(move || {
                // After any error the client will notice the closed connection.
                let _ = shared.serve(&stream);
                let _ = stream.shutdown(Shutdown::Both);
            });
        });
        Self {
            port,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// The reply of an ordinary server without a password to `HELLO`, `AUTH`, `SELECT`, `PING`,
    /// `CLIENT SETINFO` and `CLIENT SETNAME`. `None` for all other commands.
    pub fn handshake(command: &[Vec<u8>]) -> Option<Reply> {
        match name(command).as_str() {
            "HELLO" => Some(hello(command)),
            "PING" => Some(Reply::raw("+PONG\r\n")),
            "AUTH" | "SELECT" | "CLIENT SETINFO" | "CLIENT SETNAME" => Some(Reply::ok()),
            _ => None,
        }
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address with [`FakeServer::port`].
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// The URL of the server for a store.
    pub fn url(&self) -> String {
        format!("valkey://127.0.0.1:{}/", self.port.number())
    }

    /// All commands received so far, including the handshake. Not included are a store's queries of
    /// rights and limits when it connects.
    pub fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        self.shared.state().commands.clone()
    }

    /// The number of times a command was received. `name` is in upper case, with two words for
    /// subcommands of `CLIENT`, `CLUSTER`, `CONFIG` and `SCRIPT`.
    pub fn count(&self, name: &str) -> usize {
        self.shared.state().count(name)
    }

    /// The number of times each command was received, by the names of [`FakeServer::count`].
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for command in &self.shared.state().commands {
            *counts.entry(name(command)).or_default() += 1;
        }
        counts
    }

    /// The number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// Waits until a command was received `times` in total. Returns `false` if it was not within
    /// `timeout`.
    pub fn wait_for(&self, name: &str, times: usize, timeout: Duration) -> bool {
        let (state, _) = self
            .shared
            .received
            .wait_timeout_while(self.shared.state(), timeout, |state| {
                state.count(name) < times
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.count(name) >= times
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        // First, so that no connection is added while they are closed.
        self.acceptor = None;
        // Ends threads that wait for a command. A thread whose closure blocks ends when that
        // returns.
        for connection in self.shared.state().connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut input = BufReader::new(stream);
        let mut output = stream;
        let mut silent = false;
        while let Some(command) = resp::read_command(&mut input)? {
            if is_about_the_server(&command) {
                if !silent {
                    output.write_all(b"*0\r\n")?;
                }
                continue;
            }
            self.state().commands.push(command.clone());
            self.received.notify_all();
            let reply = (self.answer)(&command);
            match reply {
                Reply::Close => return Ok(()),
                Reply::Nothing => silent = true,
                _ if silent => {}
                Reply::Raw(bytes) => output.write_all(&bytes)?,
                Reply::Error(text) => output.write_all(format!("-{text}\r\n").as_bytes())?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl State {
    fn count(&self, wanted: &str) -> usize {
        self.commands
            .iter()
            .filter(|command| name(command) == wanted)
            .count()
    }
}

/// Whether the command is a store's query of rights and limits at a connection: a script without
/// keys, or `CONFIG GET`. A fake server answers it with an empty array and does not record it.
fn is_about_the_server(command: &[Vec<u8>]) -> bool {
    match name(command).as_str() {
        "EVAL" | "EVALSHA" => command.get(2).is_some_and(|keys| keys == b"0"),
        name => name == "CONFIG GET",
    }
}

/// The upper-case name of a command, with its subcommand if it has one.
fn name(command: &[Vec<u8>]) -> String {
    let word = |index: usize| {
        let bytes = command.get(index).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).to_uppercase()
    };
    match word(0) {
        container if ["CLIENT", "CLUSTER", "CONFIG", "SCRIPT"].contains(&&*container) => {
            format!("{container} {}", word(1))
        }
        name => name,
    }
}

fn hello(command: &[Vec<u8>]) -> Reply {
    // The same pairs: a map in protocol version 3, an array in version 2.
    let (start, protocol) = match command.get(1).map(Vec::as_slice) {
        Some(b"3") => ("%7\r\n", 3),
        _ => ("*14\r\n", 2),
    };
    let mut raw = start.to_owned();
    let mut pair = |key: &str, value: String| {
        raw.push_str(&format!("${}\r\n{key}\r\n{value}\r\n", key.len()));
    };
    let bulk = |text: &str| format!("${}\r\n{text}", text.len());
    pair("server", bulk("valkey"));
    pair("version", bulk("8.0.1"));
    pair("proto", format!(":{protocol}"));
    pair("id", ":1".into());
    pair("mode", bulk("standalone"));
    pair("role", bulk("master"));
    pair("modules", "*0".into());
    Reply::raw(raw)
}
