//! The size of the largest value that the server accepts. A larger one costs everybody's
//! connection: the server closes it.
//!
//! A server reports its limits if the user may query them (`CONFIG GET`). Otherwise, or if it has
//! other limits, the size at which a connection was closed is remembered for a while. So are the
//! keys that were being read then, because their values may be larger than the server sends.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use redis::{Cmd, Value};

use crate::base::error::{Error, ErrorKind};
use crate::base::lock::lock;

/// The bytes of a command beside the value: names, a key, a few numbers.
const BESIDES: u64 = 64 << 10;
/// No limit of a server is meant to be lower. If less was being sent, the connection was closed for
/// another reason.
const LEAST: u64 = 512 << 10;
/// The most bytes that are read of a key that may be too large, until it is known to be small.
pub(crate) const CAREFUL: u64 = 256 << 10;
/// The time for which a size or a key is remembered, in microseconds. For a size it doubles each
/// time that it proves right, up to a bound.
const MEMORY: u64 = 60_000_000;
const LONGEST_MEMORY: u32 = 5;
const MOST_KEYS: usize = 4096;

const NAMES: [&str; 4] = [
    "proto-max-bulk-len",
    "client-query-buffer-limit",
    "client-output-buffer-limit",
    "maxmemory-clients",
];

#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// The size of the largest value that the server says it accepts; 0 if unknown.
    told: AtomicU64,
    /// The size of a value that was too large; 0 if there was none. Values of this size or more are
    /// not sent before `until`.
    seen: AtomicU64,
    until: AtomicU64,
    state: Mutex<State>,
    /// The number of suspected keys, usually 0.
    suspects: AtomicUsize,
    hasher: RandomState,
}

/// A key whose value may be larger than the server sends.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    until: u64,
    care: Care,
}

/// The care with which a key is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// Read it alone: the connection was closed while several keys were read at once.
    Alone,
    /// Read no more of it than is certainly sent: the connection was closed while it was read
    /// alone.
    Bounded,
}

#[derive(Debug, Default)]
struct State {
    /// The last connection that was closed while much was being sent, and the largest value under
    /// way.
    closed: Option<(u64, u64)>,
    /// The size that was remembered before that; 0 if there was none.
    earlier: u64,
    times: u32,
    suspects: HashMap<u64, Suspect>,
}

/// The command that queries the limits.
pub(crate) fn command() -> Cmd {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET");
    NAMES.iter().for_each(|name| {
        command.arg(*name);
    });
    command
}

/// The size of the largest value that the server accepts and sends, from its answer; `None` if it
/// reported no limit.
fn told_by(answer: &Value) -> Option<u64> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let pairs: Vec<_> = match answer {
        Value::Map(pairs) => pairs
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        Value::Array(items) => items
            .chunks_exact(2)
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect(),
        _ => return None,
    };
    let limit = |(name, value): (Option<String>, Option<String>)| {
        let (name, value) = (name?, value?);
        // A share of the memory has a `%`, and is no number.
        let bytes: u64 = match &*name {
            "client-output-buffer-limit" => {
                let words: Vec<_> = value.split(' ').collect();
                let of_normal = words.iter().position(|word| *word == "normal")?;
                words.get(of_normal + 1)?.parse().ok()?
            }
            _ => value.parse().ok()?,
        };
        match &*name {
            _ if bytes == 0 => None,
            "proto-max-bulk-len" => Some(bytes),
            _ => Some(bytes.saturating_sub(BESIDES).max(1)),
        }
    };
    pairs.into_iter().filter_map(limit).min()
}

/// The smaller of two sizes, of which the first may be 0 for none.
fn least(one: u64, other: u64) -> u64 {
    match one {
        0 => other,
        one => one.min(other),
    }
}

impl Limits {
    /// Takes the server's answer to [`command`].
    pub(crate) fn learn(&self, answer: &Value) {
        let told = told_by(answer).unwrap_or(0);
        self.told.store(told, Ordering::Relaxed);
    }

    /// The largest value that may be sent now; `None` for any.
    pub(crate) fn largest(&self, now: u64) -> Option<u64> {
        let told = Some(self.told.load(Ordering::Relaxed)).filter(|told| *told > 0);
        let seen = self.remembered(now).checked_sub(1);
        match (told, seen) {
            (Some(told), Some(seen)) => Some(told.min(seen)),
            (one, other) => one.or(other),
        }
    }

    /// Fails if a value of this size is larger than the server accepts.
    pub(crate) fn admit(&self, size: usize, now: u64) -> Result<(), Error> {
        match self.largest(now) {
            Some(largest) if size as u64 > largest => Err(too_large(size, largest)),
            _ => Ok(()),
        }
    }

    /// Records that the server rejected a value of this size as too large, and closed the
    /// connection.
    pub(crate) fn refused(&self, size: usize, now: u64) {
        let mut state = self.state();
        state.earlier = self.remembered(now);
        self.remember(&mut state, None, size as u64, now);
    }

    /// Records that the connection of that generation was closed while a value of this size was
    /// being sent. True if the size may be the reason.
    pub(crate) fn closed(&self, generation: u64, size: usize, now: u64) -> bool {
        let mut size = size as u64;
        if size < LEAST {
            return false;
        }
        let mut state = self.state();
        match state.closed {
            // Of all values under way, the largest is to blame.
            Some((closed, largest)) if closed == generation => {
                size = size.max(largest);
                let seen = least(state.earlier, size);
                state.closed = Some((generation, size));
                self.seen.store(seen, Ordering::Relaxed);
            }
            _ => {
                state.earlier = self.remembered(now);
                self.remember(&mut state, Some(generation), size, now);
            }
        }
        true
    }

    fn remember(&self, state: &mut State, generation: Option<u64>, size: u64, now: u64) {
        state.closed = generation.map(|generation| (generation, size));
        let memory = MEMORY << state.times.min(LONGEST_MEMORY);
        state.times += 1;
        self.seen
            .store(least(state.earlier, size), Ordering::Relaxed);
        let until = now.saturating_add(memory);
        self.until.store(until, Ordering::Relaxed);
    }

    /// The remembered size; 0 if there is none.
    fn remembered(&self, now: u64) -> u64 {
        match now < self.until.load(Ordering::Relaxed) {
            true => self.seen.load(Ordering::Relaxed),
            false => 0,
        }
    }

    /// Records that a value of this size was accepted. It refutes a remembered size that is not
    /// larger.
    pub(crate) fn took(&self, size: usize) {
        let seen = self.seen.load(Ordering::Relaxed);
        if seen > 0 && size as u64 >= seen {
            let mut state = self.state();
            self.seen.store(0, Ordering::Relaxed);
            *state = State {
                suspects: std::mem::take(&mut state.suspects),
                ..State::default()
            };
        }
    }

    /// Records that the connection was closed while this key was being read: its value may be
    /// larger than the server sends.
    pub(crate) fn suspect(&self, key: &[u8], care: Care, now: u64) {
        let name = self.hasher.hash_one(key);
        let mut state = self.state();
        if state.suspects.len() >= MOST_KEYS {
            state.suspects.retain(|_, suspect| suspect.until > now);
        }
        if state.suspects.len() < MOST_KEYS {
            let until = now.saturating_add(MEMORY);
            state.suspects.insert(name, Suspect { until, care });
        }
        self.suspects.store(state.suspects.len(), Ordering::Relaxed);
    }

    /// The care with which to read the key, if any. Takes a lock: see
    /// [`has_suspects`](Self::has_suspects).
    pub(crate) fn care(&self, key: &[u8], now: u64) -> Option<Care> {
        let name = self.hasher.hash_one(key);
        let mut state = self.state();
        let suspect = state.suspects.get(&name).copied()?;
        if suspect.until <= now {
            state.suspects.remove(&name);
            self.suspects.store(state.suspects.len(), Ordering::Relaxed);
            return None;
        }
        Some(suspect.care)
    }

    /// Whether any key needs care. Each read asks this.
    pub(crate) fn has_suspects(&self) -> bool {
        self.suspects.load(Ordering::Relaxed) > 0
    }

    /// Records that the key could be read.
    pub(crate) fn acquit(&self, key: &[u8]) {
        if self.has_suspects() {
            let mut state = self.state();
            state.suspects.remove(&self.hasher.hash_one(key));
            self.suspects.store(state.suspects.len(), Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

pub(crate) fn too_large(size: usize, largest: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "the entry has {size} bytes, and the server accepts at most {largest} (`proto-max-bulk-len`, \
             `client-query-buffer-limit`, `client-output-buffer-limit`): store less, or raise these settings"
        ),
    )
}

/// The error of another command beside a value that was too large: it failed with the connection.
pub(crate) fn beside_too_large() -> Error {
    Error::new(
        ErrorKind::Connection,
        "the server closed the connection, because another value was too large for it",
    )
}

/// The error of a value that was being read when the server closed the connection.
pub(crate) fn too_large_to_read() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "the server closed the connection while it sent this large entry: see its `client-output-buffer-limit` and \
         `maxmemory-clients`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const SECOND: u64 = 1_000_000;

    fn told(pairs: &[(&str, &str)]) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let pairs = pairs.iter();
        Value::Map(
            pairs
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        )
    }

    #[test]
    fn the_least_limit_that_the_server_reports_applies() {
        let besides = MIB as u64 - BESIDES;
        let bulk = ("proto-max-bulk-len", "2097152");
        for (pairs, expected) in [
            (&[][..], None),
            (&[bulk], Some(2 * MIB as u64)),
            (
                &[bulk, ("client-query-buffer-limit", "1048576")],
                Some(besides),
            ),
            (
                &[
                    bulk,
                    (
                        "client-output-buffer-limit",
                        "normal 1048576 0 0 slave 5 0 0 pubsub 3 2 1",
                    ),
                ],
                Some(besides),
            ),
            (
                &[
                    bulk,
                    (
                        "client-output-buffer-limit",
                        "normal 0 0 0 slave 5 0 0 pubsub 3 2 1",
                    ),
                    ("maxmemory-clients", "0"),
                ],
                Some(2 * MIB as u64),
            ),
            (&[bulk, ("maxmemory-clients", "5%")], Some(2 * MIB as u64)),
            (&[bulk, ("maxmemory-clients", "1048576")], Some(besides)),
        ] {
            let answer = told(pairs);
            assert_eq!(told_by(&answer), expected, "{answer:?}");
        }
        let flat = Value::Array(vec![
            Value::BulkString(b"proto-max-bulk-len".to_vec()),
            Value::BulkString(b"7".to_vec()),
        ]);
        assert_eq!(told_by(&flat), Some(7));
        assert_eq!(told_by(&Value::Okay), None);
    }

    #[test]
    fn a_refused_size_is_remembered_for_longer_each_time() {
        let limits = Limits::default();
        assert_eq!(limits.largest(0), None);
        limits.refused(2 * MIB, 0);
        assert!(limits.admit(2 * MIB - 1, SECOND).is_ok());
        let error = limits.admit(2 * MIB, SECOND).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(
            limits.admit(2 * MIB, 60 * SECOND).is_ok(),
            "it is tried again"
        );
        limits.refused(2 * MIB, 60 * SECOND);
        assert!(limits.admit(2 * MIB, 179 * SECOND).is_err());
        assert!(limits.admit(2 * MIB, 180 * SECOND).is_ok());
        for _ in 0..50 {
            limits.refused(2 * MIB, 0);
        }
        assert!(limits.admit(2 * MIB, 32 * 60 * SECOND).is_ok(), "bounded");
    }

    #[test]
    fn of_all_that_was_under_way_the_largest_is_to_blame() {
        let limits = Limits::default();
        assert!(
            !limits.closed(1, 1000, 0),
            "it was closed for another reason"
        );
        assert_eq!(limits.largest(0), None);
        assert!(limits.closed(1, MIB, 0));
        assert!(limits.closed(1, 3 * MIB, 0));
        assert!(limits.closed(1, 2 * MIB, 0));
        assert!(limits.admit(3 * MIB - 1, 0).is_ok());
        assert!(limits.admit(3 * MIB, 0).is_err());
        // Another connection, without so large a value.
        assert!(limits.closed(2, 2 * MIB, SECOND));
        assert!(limits.admit(2 * MIB, SECOND).is_err());
        assert!(limits.closed(2, 4 * MIB, SECOND));
        assert!(
            limits.admit(3 * MIB, SECOND).is_err(),
            "what is known is not forgotten"
        );
        assert!(limits.admit(2 * MIB, SECOND).is_ok());
    }

    #[test]
    fn an_accepted_size_clears_the_memory_of_a_refused_one() {
        let limits = Limits::default();
        limits.refused(2 * MIB, 0);
        limits.took(MIB);
        assert!(limits.admit(2 * MIB, 0).is_err());
        limits.took(2 * MIB);
        assert_eq!(limits.largest(0), None);
        limits.refused(2 * MIB, 0);
        assert!(
            limits.admit(2 * MIB, 60 * SECOND).is_ok(),
            "for a minute, as at first"
        );
    }

    #[test]
    fn reported_and_observed_limits_both_apply() {
        let limits = Limits::default();
        limits.learn(&told(&[("proto-max-bulk-len", "1048576")]));
        assert_eq!(limits.largest(0), Some(MIB as u64));
        limits.refused(MIB, 0);
        assert_eq!(limits.largest(0), Some(MIB as u64 - 1));
        assert_eq!(limits.largest(60 * SECOND), Some(MIB as u64));
        limits.learn(&told(&[]));
        assert_eq!(limits.largest(60 * SECOND), None);
    }

    #[test]
    fn keys_are_suspects_for_a_while_and_their_number_is_bounded() {
        let limits = Limits::default();
        assert_eq!(limits.care(b"user:1", 0), None);
        limits.suspect(b"user:1", Care::Alone, 0);
        assert_eq!(limits.care(b"user:1", 59 * SECOND), Some(Care::Alone));
        limits.suspect(b"user:1", Care::Bounded, 0);
        assert_eq!(limits.care(b"user:1", 59 * SECOND), Some(Care::Bounded));
        assert_eq!(limits.care(b"user:2", 0), None);
        assert_eq!(limits.care(b"user:1", 60 * SECOND), None);
        let suspects = || limits.suspects.load(Ordering::Relaxed);
        assert_eq!(suspects(), 0, "looked at without the lock");
        limits.suspect(b"user:1", Care::Bounded, 0);
        limits.acquit(b"user:1");
        assert_eq!((limits.care(b"user:1", 0), suspects()), (None, 0));
        for key in 0..2 * MOST_KEYS as u32 {
            limits.suspect(&key.to_be_bytes(), Care::Alone, 0);
        }
        assert_eq!(suspects(), MOST_KEYS);
        limits.suspect(b"user:1", Care::Alone, 61 * SECOND);
        let care = limits.care(b"user:1", 61 * SECOND);
        assert_eq!(care, Some(Care::Alone), "old ones make room");
    }
}
