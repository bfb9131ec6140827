//! Answers of a server: where each ends in the received bytes, and its value (RESP3, as in the
//! protocol specification of Redis).

use bytes::Bytes;
use redis::{RedisResult, Value, parse_redis_value};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// A string of bytes, within the receive buffer.
    Bytes(Bytes),
    Nil,
    /// An array of strings and nils, as bulk reads have it.
    Array(Vec<Option<Bytes>>),
    Other(Value),
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::BulkString(bytes) => Reply::Bytes(bytes.into()),
            Value::Nil => Reply::Nil,
            value => Reply::Other(value),
        }
    }
}

impl Reply {
    /// The error that the server answers.
    pub(crate) fn extract_error(self) -> RedisResult<Self> {
        match self {
            Reply::Other(value) => value.extract_error().map(Reply::Other),
            reply => Ok(reply),
        }
    }

    /// The answer as the client library has it, with its own copy of the bytes.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Reply::Bytes(bytes) => Value::BulkString(bytes.into()),
            Reply::Nil => Value::Nil,
            Reply::Array(items) => {
                let value = |item: Option<Bytes>| match item {
                    Some(bytes) => Value::BulkString(bytes.into()),
                    None => Value::Nil,
                };
                Value::Array(items.into_iter().map(value).collect())
            }
            Reply::Other(value) => value,
        }
    }
}

/// Bytes that are not an answer of a server.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

/// The search for the end of an answer, which goes on when more bytes have come.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The bytes that are known to belong to it.
    at: usize,
    /// The elements that are still to come, after the first.
    left: u64,
    begun: bool,
}

impl Scan {
    /// The length of the answer at the start of the bytes, once it is complete. Until then, the
    /// next call has the same bytes and more.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        if !self.begun {
            *self = Self {
                at: 0,
                left: 1,
                begun: true,
            };
        }
        while self.left > 0 {
            let rest = &bytes[self.at..];
            let Some(line) = line(rest) else {
                return Ok(None);
            };
            let (kind, digits) = line.split_first().ok_or(Malformed)?;
            let (mut length, mut left) = (line.len() + 2, self.left - 1);
            match kind {
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {}
                b'$' | b'=' | b'!' => {
                    if let Some(size) = number(digits)? {
                        length += usize::try_from(size).map_err(|_| Malformed)? + 2;
                    }
                }
                b'*' | b'~' | b'>' => left += number(digits)?.unwrap_or(0),
                b'%' => left += 2 * number(digits)?.unwrap_or(0),
                // Attributes, and then the element that they are about.
                b'|' => left += 2 * number(digits)?.unwrap_or(0) + 1,
                _ => return Err(Malformed),
            }
            if rest.len() < length {
                return Ok(None);
            }
            self.at += length;
            self.left = left;
        }
        self.begun = false;
        Ok(Some(self.at))
    }
}

/// The first line, without its end.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    // Text has no line breaks, and a string of bytes comes after its line.
    (bytes.get(end + 1)? == &b'\n').then(|| &bytes[..end])
}

/// A length; `None` for -1, the nil of RESP2.
fn number(digits: &[u8]) -> Result<Option<u64>, Malformed> {
    if digits == b"-1" {
        return Ok(None);
    }
    if digits.is_empty() || digits.len() > 10 {
        return Err(Malformed);
    }
    digits
        .iter()
        .try_fold(0_u64, |number, digit| {
            let digit = digit.wrapping_sub(b'0');
            (digit < 10).then(|| number * 10 + u64::from(digit))
        })
        .map(Some)
        .ok_or(Malformed)
}

/// Whether these bytes are a message that answers no command.
pub(super) fn is_push(frame: &[u8]) -> bool {
    frame.first() == Some(&b'>')
}

/// The value of a complete answer.
pub(super) fn reply(frame: Bytes) -> RedisResult<Reply> {
    match frame.first() {
        Some(b'$') => {
            if let Some((item, _)) = string(&frame, 0) {
                return Ok(item.map_or(Reply::Nil, Reply::Bytes));
            }
        }
        Some(b'_') => return Ok(Reply::Nil),
        Some(b'+') if *frame == b"+OK\r\n"[..] => return Ok(Reply::Other(Value::Okay)),
        Some(b'*') => {
            if let Some(items) = strings(&frame) {
                return Ok(Reply::Array(items));
            }
        }
        _ => {}
    }
    parse_redis_value(&frame).map(Reply::Other)
}

/// The string or nil at a place of a complete answer, and the place behind it. `None` if something
/// else is there.
fn string(frame: &Bytes, at: usize) -> Option<(Option<Bytes>, usize)> {
    let head = line(&frame[at..])?;
    let start = at + head.len() + 2;
    match head.split_first()? {
        (b'_', _) => Some((None, start)),
        (b'$', digits) => match number(digits).ok()? {
            None => Some((None, start)),
            Some(size) => {
                let end = start + usize::try_from(size).ok()?;
                Some((Some(frame.slice(start..end)), end + 2))
            }
        },
        _ => None,
    }
}

/// The items of an array of strings and nils. `None` if it has others.
fn strings(frame: &Bytes) -> Option<Vec<Option<Bytes>>> {
    let head = line(frame)?;
    let count = usize::try_from(number(&head[1..]).ok()??).ok()?;
    // An item has at least three bytes.
    let mut items = Vec::with_capacity(count.min(frame.len() / 3));
    let mut at = head.len() + 2;
    for _ in 0..count {
        let (item, next) = string(frame, at)?;
        items.push(item);
        at = next;
    }
    Some(items)
}
