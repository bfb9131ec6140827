//! A real server behind a scripted one: a test sees each command, and decides what becomes of it
//! and of its reply.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock, Mutex};

use valkey_tests::resp::{self, Value};
use valkey_tests::{FakeServer, Reply, Server};

/// A server for relays to stand before: no test has it forget its scripts.
pub(crate) static BEHIND: LazyLock<Server> = LazyLock::new(Server::plain);

/// The commands that a store sends to a real server.
pub(crate) struct Relay {
    front: FakeServer,
    seen: Arc<Mutex<Vec<&'static str>>>,
}

impl Relay {
    /// Passes everything on.
    pub(crate) fn to(server: &Server) -> Self {
        Self::meddling(server, |_, pass_on| pass_on())
    }

    /// Passes on what the closure passes on. The closure gets the purpose of the command and gives
    /// the reply. A script that the server does not know is answered so beforehand: the commands
    /// that the closure sees will be carried out.
    pub(crate) fn meddling(
        server: &Server,
        meddle: impl Fn(&'static str, &dyn Fn() -> Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let behind = TcpStream::connect(server.addr()).unwrap();
        behind.set_nodelay(true).unwrap();
        let behind = Mutex::new(BufReader::new(behind));
        let ask = move |command: &[&[u8]]| {
            let mut behind = behind.lock().unwrap();
            behind.get_mut().write_all(&resp::encode(command)).unwrap();
            resp::read_value(&mut *behind).unwrap()
        };
        let front = FakeServer::start(move |command| {
            let command: Vec<_> = command.iter().map(Vec::as_slice).collect();
            if command[0] == b"EVALSHA"
                && ask(&[b"SCRIPT", b"EXISTS", command[1]]) == Value::Array(vec![Value::Integer(0)])
            {
                log.lock().unwrap().push("unknown script");
                return Reply::error("NOSCRIPT No matching script.");
            }
            let purpose = purpose(&command);
            log.lock().unwrap().push(purpose);
            meddle(purpose, &|| Reply::Raw(encoded(ask(&command))))
        });
        Self { front, seen }
    }

    pub(crate) fn url(&self) -> String {
        self.front.url()
    }

    /// The purposes seen since the last call of this, and how often, except for the commands with
    /// which a connection begins.
    pub(crate) fn take(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for purpose in std::mem::take(&mut *self.seen.lock().unwrap()) {
            *counts.entry(purpose).or_default() += 1;
        }
        counts
    }
}

/// The purpose of a command. (Scripts are recognised by their arguments, which the protocol of each
/// script names.)
fn purpose(command: &[&[u8]]) -> &'static str {
    match (command[0], command.get(4..).unwrap_or_default()) {
        (b"GET", _) if command[1].ends_with(b"::clock") => "clock",
        (b"GET", _) => "read",
        (b"MGET", _) => "read many",
        (b"SET", _) => "set",
        (b"TIME", _) => "time",
        (b"EVAL" | b"EVALSHA", [b"limit", ..]) => "limit",
        (b"EVAL" | b"EVALSHA", [b"count" | b"counted", ..]) => "count",
        (b"EVAL" | b"EVALSHA", [b"lock", ..]) => "lock",
        (b"EVAL" | b"EVALSHA", [b"read"]) => "clock",
        (b"EVAL" | b"EVALSHA", [b"advance"]) => "advance",
        (b"EVAL" | b"EVALSHA", [life, _to])
            if (1..8).contains(&life.len()) && life.iter().all(u8::is_ascii_digit) =>
        {
            "epoch"
        }
        (b"EVAL" | b"EVALSHA", [clock, _over])
            if clock.len() > 8 && clock.iter().all(u8::is_ascii_digit) =>
        {
            "raise"
        }
        (b"EVAL" | b"EVALSHA", [b"", b"0"]) => "delete",
        (b"EVAL" | b"EVALSHA", [b"mark_stale", _keep]) => "mark_stale",
        (b"EVAL" | b"EVALSHA", [token, b"0"]) if token.len() == 8 => "leave",
        (b"EVAL" | b"EVALSHA", [token, _life]) if token.len() == 8 => "enter",
        (b"EVAL" | b"EVALSHA", [_token, _life, b"nothing" | b"stamp" | b"any", ..]) => "lease",
        (b"EVAL" | b"EVALSHA", [_token, _life, b"claim", _stamp]) => "claim",
        (b"EVAL" | b"EVALSHA", [_lease, b"fill", ..]) => "fill",
        (b"EVAL" | b"EVALSHA", [_lease, b"renew", ..]) => "renew",
        (b"EVAL" | b"EVALSHA", [_lease, b"confirm", ..]) => "confirm",
        (b"EVAL" | b"EVALSHA", [_lease, b"discard"]) => "discard",
        (b"EVAL" | b"EVALSHA", [_lease, b"release", _pause]) => "release",
        (b"EVAL" | b"EVALSHA", [_token, _stamp, _hold, _bytes, _ttl]) => "store through",
        _ => "other",
    }
}

fn encoded(reply: Value) -> Vec<u8> {
    match reply {
        Value::Simple(text) => format!("+{text}\r\n").into_bytes(),
        Value::Error(text) => format!("-{text}\r\n").into_bytes(),
        Value::Integer(number) => format!(":{number}\r\n").into_bytes(),
        Value::Bulk(bytes) => [
            format!("${}\r\n", bytes.len()).into_bytes(),
            bytes,
            b"\r\n".to_vec(),
        ]
        .concat(),
        Value::Null => b"_\r\n".to_vec(),
        Value::Array(items) => {
            let head = format!("*{}\r\n", items.len()).into_bytes();
            head.into_iter()
                .chain(items.into_iter().flat_map(encoded))
                .collect()
        }
    }
}
