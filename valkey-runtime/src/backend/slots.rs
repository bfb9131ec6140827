//! The owners of a cluster's slots, and when the word of a node is doubted. Without I/O;
//! [`crate::backend::cluster`] queries the nodes.

use std::time::Duration;

use redis::{Arg, Cmd, RedisError, ServerErrorKind, Value};

use crate::backend::target::Host;
use crate::protocol::breaker::micros;

pub(crate) const SLOTS: usize = 16384;

/// The silence after which the word of a node is doubted. Others replace a primary that they have
/// not heard of for `cluster-node-timeout`, which nobody sets below two seconds.
const SILENCE: Duration = Duration::from_secs(1);

/// The owners of a cluster's slots, as a node of it reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// For each slot, the index of its primary.
    owners: Vec<Option<u16>>,
    pub(crate) primaries: Vec<Host>,
    /// For each primary, whether it has a replica that could take its place.
    replicated: Vec<bool>,
    pub(crate) replicas: Vec<Host>,
}

impl Slots {
    pub(crate) fn none() -> Self {
        Self {
            owners: vec![None; SLOTS],
            primaries: Vec::new(),
            replicated: Vec::new(),
            replicas: Vec::new(),
        }
    }

    /// Parses an answer to `CLUSTER SLOTS` by the node at `asked`. `None` if it is something else.
    pub(crate) fn parse(answer: &Value, asked: &Host) -> Option<Self> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let mut slots = Self::none();
        for range in ranges {
            let Value::Array(range) = range else {
                return None;
            };
            let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = &range[..] else {
                return None;
            };
            let range = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
            for replica in replicas {
                if let Some(host) = host_in(replica, asked)?
                    && !slots.replicas.contains(&host)
                {
                    slots.replicas.push(host);
                }
            }
            // A primary without an address has no owner here: another node knows the address, or
            // none does.
            if let Some(host) = host_in(primary, asked)? {
                let owner = slots.place_of(host)?;
                slots.replicated[usize::from(owner)] |= !replicas.is_empty();
                slots.owners.get_mut(range)?.fill(Some(owner));
            }
        }
        Some(slots)
    }

    /// The index of the primary that owns a slot.
    pub(crate) fn owner(&self, slot: u16) -> Option<usize> {
        let owner = self.owners.get(usize::from(slot)).copied().flatten();
        owner.map(usize::from)
    }

    /// Whether another node could have taken the place of this primary.
    pub(crate) fn is_replicated(&self, primary: &Host) -> bool {
        let place = self.primaries.iter().position(|known| known == primary);
        place.is_some_and(|place| self.replicated[place])
    }

    /// Records a node's redirection of one slot. False if it was known.
    pub(crate) fn moved(&mut self, slot: u16, to: Host) -> bool {
        let Some(owner) = self.place_of(to) else {
            return false;
        };
        match self.owners.get_mut(usize::from(slot)) {
            Some(known) if *known != Some(owner) => {
                *known = Some(owner);
                true
            }
            _ => false,
        }
    }

    fn place_of(&mut self, host: Host) -> Option<u16> {
        let known = self.primaries.iter().position(|known| *known == host);
        let place = known.unwrap_or_else(|| {
            self.primaries.push(host);
            self.replicated.push(false);
            self.primaries.len() - 1
        });
        u16::try_from(place).ok()
    }
}

/// The node in a part of an answer. `Some(None)` if its address is unknown.
fn host_in(node: &Value, asked: &Host) -> Option<Option<Host>> {
    let Value::Array(node) = node else {
        return None;
    };
    let [name, Value::Int(port), ..] = &node[..] else {
        return None;
    };
    let name = match name {
        Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
        Value::SimpleString(name) => name.clone(),
        Value::Nil => String::new(),
        _ => return None,
    };
    let name = match &*name {
        "" => asked.name.clone(),
        "?" => return Some(None),
        _ => name,
    };
    let port = u16::try_from(*port).ok()?;
    Some(Some(Host { name, port }))
}

/// The cluster's epoch in an answer to `CLUSTER INFO`: a number that grows with each failover, so
/// it shows how much the node knows. `None` if the answer has none.
pub(crate) fn epoch(answer: &Value) -> Option<u64> {
    let text = match answer {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    let epoch = text
        .lines()
        .find_map(|line| line.strip_prefix("cluster_current_epoch:"));
    epoch?.trim().parse().ok()
}

/// A redirection to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot belongs to that node. `None` if its address is unknown.
    Moved(u16, Option<Host>),
    /// The slot is moving there, and this key has moved already, if it exists.
    Ask(Host),
}

impl Redirect {
    /// The redirection in an answer by the node at `asked`.
    pub(crate) fn of(error: &RedisError, asked: &Host) -> Option<Self> {
        let (address, slot) = error.redirect_node()?;
        let (name, port) = address.rsplit_once(':')?;
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok()?;
        let host = match name {
            "" => Some(asked.name.clone()),
            "?" => None,
            _ => Some(name.to_owned()),
        };
        let host = host.map(|name| Host { name, port });
        match error.kind() == redis::ErrorKind::Server(ServerErrorKind::Ask) {
            true => host.map(Redirect::Ask),
            false => Some(Redirect::Moved(slot, host)),
        }
    }
}

/// The keys of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Keys<'c> {
    None,
    One(&'c [u8]),
    /// Keys in any slots.
    Many(Vec<&'c [u8]>),
}

impl<'c> Keys<'c> {
    pub(crate) fn of(command: &'c Cmd) -> Self {
        let mut words = command.args_iter().map(|word| match word {
            Arg::Simple(word) => word,
            // A cursor, which our commands never have.
            _ => b"0",
        });
        let key = match words.next() {
            Some(b"MGET") => return Keys::Many(words.collect()),
            // The script, the number of keys, and the keys.
            Some(b"EVAL" | b"EVALSHA") => words.nth(2).filter(|_| {
                let count = command.args_iter().nth(2);
                !matches!(count, Some(Arg::Simple(b"0")))
            }),
            Some(
                b"PING" | b"TIME" | b"CLUSTER" | b"INFO" | b"CONFIG" | b"ACL" | b"CLIENT"
                | b"SCRIPT" | b"COMMAND" | b"SCAN" | b"ROLE",
            ) => None,
            _ => words.next(),
        };
        key.map_or(Keys::None, Keys::One)
    }
}

/// The slot of a key: of the part between its first braces, unless that is empty.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % 16384
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = (at as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = match crc & 0x8000 {
                0 => crc << 1,
                _ => (crc << 1) ^ 0x1021,
            };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// The time of a node's last answer, and whether its word is doubted.
///
/// A primary may stand still for so long that a replica takes its place. When it goes on, it does
/// not know of this, and answers the requests in its socket from its old data. It was silent
/// meanwhile. So the first answer after a silence is doubted, and all later ones. This ends when
/// another node, asked after that answer, has reported the owners of the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The time of the last answer, by the clock of the cluster, in microseconds.
    last: Option<u64>,
    doubted: Option<u64>,
}

impl Heard {
    /// Records an answer of the node. Returns since when its word is doubted, if it is.
    pub(crate) fn answered(&mut self, now: u64) -> Option<u64> {
        let silent = self
            .last
            .is_none_or(|last| now.saturating_sub(last) >= micros(SILENCE));
        if silent {
            self.doubted = Some(now);
        }
        self.last = Some(now.max(self.last.unwrap_or(0)));
        self.doubted
    }

    /// Records that another node, asked at that time, has reported the owners of the slots.
    pub(crate) fn confirmed(&mut self, asked: u64) {
        if self.doubted.is_some_and(|since| since <= asked) {
            self.doubted = None;
        }
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        let name = name.to_owned();
        Host { name, port }
    }

    fn range(slots: (i64, i64), nodes: &[(&str, i64)]) -> Value {
        let node = |(name, port): &(&str, i64)| {
            let name = Value::BulkString(name.as_bytes().to_vec());
            Value::Array(vec![name, Value::Int(*port), Value::Nil])
        };
        let mut range = vec![Value::Int(slots.0), Value::Int(slots.1)];
        range.extend(nodes.iter().map(node));
        Value::Array(range)
    }

    #[test]
    fn the_first_node_of_each_range_has_its_slots() {
        let answer = Value::Array(vec![
            range((0, 99), &[("10.0.0.1", 7001), ("10.0.0.9", 7009)]),
            range((100, 199), &[("", 7002), ("", 7009)]),
            range((200, 299), &[("?", 7003)]),
            range((300, 16383), &[("10.0.0.1", 7001), ("10.0.0.9", 7009)]),
        ]);
        let slots = Slots::parse(&answer, &host("here", 7002)).unwrap();
        assert_eq!(
            slots.primaries,
            [host("10.0.0.1", 7001), host("here", 7002)]
        );
        assert_eq!(slots.replicas, [host("10.0.0.9", 7009), host("here", 7009)]);
        let owners = [0, 99, 100, 199, 200, 299, 300, 16383].map(|slot| slots.owner(slot));
        let [one, two, nobody] = [Some(0), Some(1), None];
        assert_eq!(owners, [one, one, two, two, nobody, nobody, one, one]);
        assert_eq!(slots.owner(16384), None);
        assert!(slots.is_replicated(&host("10.0.0.1", 7001)));
        assert!(slots.is_replicated(&host("here", 7002)));
        assert!(!slots.is_replicated(&host("10.0.0.9", 7009)));
        let alone = Value::Array(vec![range((0, 99), &[("h", 1)])]);
        let slots = Slots::parse(&alone, &host("h", 1)).unwrap();
        assert!(!slots.is_replicated(&host("h", 1)));
    }

    #[test]
    fn epochs() {
        let said = |text: &str| epoch(&Value::BulkString(text.into()));
        let text = "cluster_state:ok\r\ncluster_current_epoch:17\r\ncluster_my_epoch:2\r\n";
        assert_eq!(said(text), Some(17));
        assert_eq!(said("cluster_my_epoch:2"), None);
        assert_eq!(epoch(&Value::Okay), None);
    }

    #[test]
    fn rubbish_is_no_answer() {
        let asked = host("here", 7002);
        assert_eq!(
            Slots::parse(&Value::Array(vec![]), &asked),
            Some(Slots::none())
        );
        for rubbish in [
            Value::Okay,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![range((0, 1), &[])]),
            Value::Array(vec![range((0, 16384), &[("h", 1)])]),
            Value::Array(vec![range((-1, 1), &[("h", 1)])]),
            Value::Array(vec![range((0, 1), &[("h", 99_999)])]),
        ] {
            assert_eq!(Slots::parse(&rubbish, &asked), None, "{rubbish:?}");
        }
    }

    #[test]
    fn a_slot_that_moved_is_anothers() {
        let answer = Value::Array(vec![range((0, 16383), &[("h", 1)])]);
        let mut slots = Slots::parse(&answer, &host("h", 1)).unwrap();
        assert!(!slots.moved(7, host("h", 1)), "it was known");
        assert!(slots.moved(7, host("h", 2)));
        assert!(!slots.moved(7, host("h", 2)));
        assert_eq!(slots.primaries, [host("h", 1), host("h", 2)]);
        assert_eq!((slots.owner(6), slots.owner(7)), (Some(0), Some(1)));
    }

    #[test]
    fn where_an_answer_sends_us() {
        let asked = host("here", 7002);
        let sent = |line: &str| {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
            Redirect::of(&value.extract_error().unwrap_err(), &asked)
        };
        let moved = |host| Some(Redirect::Moved(7, host));
        assert_eq!(sent("MOVED 7 h:1"), moved(Some(host("h", 1))));
        assert_eq!(sent("MOVED 7 :1"), moved(Some(host("here", 1))));
        assert_eq!(sent("MOVED 7 ?:1"), moved(None));
        assert_eq!(sent("MOVED 7 ::1:1"), moved(Some(host("::1", 1))));
        assert_eq!(sent("ASK 7 h:1"), Some(Redirect::Ask(host("h", 1))));
        for other in ["MOVED", "MOVED 7", "MOVED x h:1", "ASK 7 ?:1", "ERR MOVED"] {
            assert_eq!(sent(other), None, "{other}");
        }
    }

    #[test]
    fn keys_of_commands() {
        let command = |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            command
        };
        for (words, key) in [
            (&["GET", "k"][..], Some("k")),
            (&["SET", "k", "v"], Some("k")),
            (&["EVALSHA", "sha", "1", "k", "a"], Some("k")),
            (&["EVAL", "return 1", "0"], None),
            (&["EVAL", "return 1", "0", "a"], None),
            (&["PING"], None),
            (&["CLUSTER", "SLOTS"], None),
            (&["SCAN", "0"], None),
        ] {
            let expected = key.map_or(Keys::None, |key| Keys::One(key.as_bytes()));
            assert_eq!(Keys::of(&command(words)), expected, "{words:?}");
        }
        let several = command(&["MGET", "a", "b"]);
        assert_eq!(Keys::of(&several), Keys::Many(vec![b"a", b"b"]));
    }

    #[test]
    fn slots_of_keys() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"bar"), 5061);
        for (key, like) in [
            ("{foo}:1", "foo"),
            ("a{foo}b{bar}", "foo"),
            ("{}foo", "{}foo"),
            ("a{foo", "a{foo"),
        ] {
            assert_eq!(
                slot(key.as_bytes()),
                crc16(like.as_bytes()) % 16384,
                "{key}"
            );
        }
    }

    #[test]
    fn a_node_is_believed_while_it_is_heard_of() {
        let mut heard = Heard::default();
        assert_eq!(heard.answered(5), Some(5), "the first word of all");
        assert_eq!(heard.answered(6), Some(5));
        heard.confirmed(4);
        assert_eq!(heard.answered(7), Some(5), "that was asked before");
        heard.confirmed(5);
        assert_eq!(heard.answered(8), None);
        let silence = micros(SILENCE);
        assert_eq!(heard.answered(8 + silence - 1), None);
        let late = 8 + 2 * silence;
        assert_eq!(heard.answered(late), Some(late));
        heard.confirmed(late + 1);
        assert_eq!(heard.answered(late + 2), None);
    }
}
