//! The commands that are sent most are written straight into the queue.

use redis::Cmd;
use std::borrow::Cow;

/// A command to be sent.
#[derive(Clone, Copy)]
pub(crate) enum Request<'r> {
    Command(&'r Cmd),
    Get {
        key: &'r [u8],
    },
    /// With a time to live in milliseconds, or without an end.
    Set {
        key: &'r [u8],
        value: &'r [u8],
        ttl: Option<u64>,
    },
}

impl<'r> From<&'r Cmd> for Request<'r> {
    fn from(command: &'r Cmd) -> Self {
        Request::Command(command)
    }
}

impl<'r> Request<'r> {
    /// The number of bytes after the key of a [`Get`](Self::Get), as it is written.
    pub(super) const AFTER_KEY: usize = 2;

    /// The key, of a command that reads one key and does nothing else.
    pub(super) fn read(&self) -> Option<&'r [u8]> {
        match *self {
            Request::Get { key } => Some(key),
            Request::Command(_) | Request::Set { .. } => None,
        }
    }

    /// Writes it as a server reads it (RESP: an array of strings).
    pub(super) fn pack(&self, bytes: &mut Vec<u8>) {
        match *self {
            Request::Command(command) => command.write_packed_command(bytes),
            Request::Get { key } => {
                bytes.reserve(key.len() + 40);
                bytes.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                word(key, bytes);
            }
            Request::Set { key, value, ttl } => {
                bytes.reserve(key.len() + value.len() + 100);
                let head: &[u8] = match ttl {
                    Some(_) => b"*5\r\n$3\r\nSET\r\n",
                    None => b"*3\r\n$3\r\nSET\r\n",
                };
                bytes.extend_from_slice(head);
                word(key, bytes);
                word(value, bytes);
                if let Some(ttl) = ttl {
                    bytes.extend_from_slice(b"$2\r\nPX\r\n");
                    word(itoa::Buffer::new().format(ttl).as_bytes(), bytes);
                }
            }
        }
    }

    /// The same command of the client library.
    pub(crate) fn command(&self) -> Cow<'r, Cmd> {
        match *self {
            Request::Command(command) => Cow::Borrowed(command),
            Request::Get { key } => {
                let mut command = Cmd::with_capacity(2, key.len() + 3);
                command.arg(b"GET").arg(key);
                Cow::Owned(command)
            }
            Request::Set { key, value, ttl } => {
                let mut command = Cmd::with_capacity(5, key.len() + value.len() + 32);
                command.arg(b"SET").arg(key).arg(value);
                if let Some(ttl) = ttl {
                    command.arg(b"PX").arg(ttl);
                }
                Cow::Owned(command)
            }
        }
    }
}

fn word(word: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(b'$');
    bytes.extend_from_slice(itoa::Buffer::new().format(word.len()).as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(word);
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_the_client_library_writes_it() {
        let words: [&[u8]; 4] = [b"", b"a", b"user:1\r\n\0\xff", &[b'x'; 1000]];
        let mut requests = Vec::new();
        for key in words {
            requests.push(Request::Get { key });
            for value in words {
                for ttl in [None, Some(1), Some(u64::MAX)] {
                    requests.push(Request::Set { key, value, ttl });
                }
            }
        }
        for request in requests {
            let mut own = b"before".to_vec();
            request.pack(&mut own);
            assert_eq!(
                own,
                [b"before", &*request.command().get_packed_command()].concat()
            );
        }
    }
}
