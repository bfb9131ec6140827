//! The part of RESP that the harness needs: requests as arrays of bulk strings, and replies of
//! protocol version 2.
//!
//! The harness has its own client, so that it does not depend on the code under test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::testing::wait::DEADLINE;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A status such as `OK`.
    Simple(String),
    /// An error, beginning with its code: `WRONGTYPE Operation against …`.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A missing value.
    Null,
    /// An array of replies.
    Array(Vec<Value>),
}

impl Value {
    /// The text of a status, an error or a string. Bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Simple(text) | Value::Error(text) => Some(text.clone()),
            Value::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Value::Integer(_) | Value::Null | Value::Array(_) => None,
        }
    }
}

/// Encodes a command for the wire.
pub fn encode<A: AsRef<[u8]>>(command: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        let argument = argument.as_ref();
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads one reply.
pub fn read_value(input: &mut impl BufRead) -> io::Result<Value> {
    let line = read_line(input)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed(&line))?;
    Ok(match kind {
        "+" => Value::Simple(rest.to_owned()),
        "-" => Value::Error(rest.to_owned()),
        ":" => Value::Integer(number(rest)?),
        "$" => match usize::try_from(number(rest)?) {
            Ok(length) => Value::Bulk(read_bulk(input, length)?),
            Err(_) => Value::Null,
        },
        "*" => match usize::try_from(number(rest)?) {
            Ok(length) => {
                let values = (0..length).map(|_| read_value(input));
                Value::Array(values.collect::<io::Result<_>>()?)
            }
            Err(_) => Value::Null,
        },
        _ => return Err(malformed(&line)),
    })
}

/// Reads one command; `None` at the end of the input.
pub fn read_command(input: &mut impl BufRead) -> io::Result<Option<Vec<Vec<u8>>>> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let Value::Array(arguments) = read_value(input)? else {
        return Err(io::Error::other("a command is an array"));
    };
    let bytes = |argument| match argument {
        Value::Bulk(bytes) => Ok(bytes),
        other => Err(malformed(&format!("{other:?}"))),
    };
    arguments
        .into_iter()
        .map(bytes)
        .collect::<io::Result<_>>()
        .map(Some)
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_bulk(input: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    input.read_exact(&mut [0; 2])?;
    Ok(bytes)
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| malformed(text))
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {text:?}"))
}

/// A connection to a server's Unix socket.
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        // A paused server accepts and stays silent.
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn command<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Value> {
        self.stream.get_mut().write_all(&encode(command))?;
        read_value(&mut self.stream)
    }
}
