//! The keys whose changes are asked for, and how many of them a connection reports.
//!
//! A stream of invalidations needs all keys of the namespace. A near cache needs only the keys of
//! its types, and the epochs of tags. So a process with a near cache gets no messages about other
//! types, and keeps little unread in the server if it stops.
//!
//! A server adds prefixes to those that a connection has, and refuses prefixes that overlap. So a
//! connection that tracks prefixes is replaced when all keys are wanted.

use redis::Cmd;

/// The wanted keys. They only grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    all: bool,
    prefixes: Vec<Box<[u8]>>,
}

/// How many of the wanted prefixes are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tracked(usize);

impl Tracked {
    pub(crate) const NOTHING: Self = Self(0);
    pub(crate) const ALL: Self = Self(usize::MAX);

    /// Whether the prefix with this number is reported.
    pub(crate) fn covers(self, number: usize) -> bool {
        number < self.0
    }

    pub(crate) fn as_number(self) -> usize {
        self.0
    }

    pub(crate) fn from_number(number: usize) -> Self {
        Self(number)
    }
}

impl Wanted {
    pub(crate) fn want_all(&mut self) {
        self.all = true;
    }

    /// Adds a prefix, and returns its number.
    pub(crate) fn want(&mut self, prefix: &[u8]) -> usize {
        let known = self.prefixes.iter().position(|known| &**known == prefix);
        known.unwrap_or_else(|| {
            self.prefixes.push(prefix.into());
            self.prefixes.len() - 1
        })
    }

    /// What a connection tracks after [`command`](Self::command).
    pub(crate) fn tracked(&self) -> Tracked {
        match self.all {
            true => Tracked::ALL,
            false => Tracked(self.prefixes.len()),
        }
    }

    /// Whether a connection that tracks so much can track all that is wanted.
    pub(crate) fn is_reachable_from(&self, tracked: Tracked) -> bool {
        !self.all || matches!(tracked, Tracked::NOTHING | Tracked::ALL)
    }

    /// The command after which a connection tracks all that is wanted. `None` if it does already.
    pub(crate) fn command(&self, namespace: &str, tracked: Tracked) -> Option<Cmd> {
        let mut command = redis::cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("BCAST");
        match tracked {
            Tracked::ALL => return None,
            _ if self.all => {
                if !namespace.is_empty() {
                    command.arg("PREFIX").arg(namespace);
                }
            }
            Tracked(count) => {
                let new = self.prefixes.get(count..).unwrap_or_default();
                if new.is_empty() {
                    return None;
                }
                for prefix in new {
                    command.arg("PREFIX").arg(&**prefix);
                }
            }
        }
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: Option<Cmd>) -> Option<String> {
        let text = String::from_utf8(command?.get_packed_command()).unwrap();
        let words = text.split("\r\n").skip(2).step_by(2);
        Some(words.collect::<Vec<_>>().join(" "))
    }

    fn of(wanted: &Wanted, namespace: &str, tracked: Tracked) -> String {
        words(wanted.command(namespace, tracked)).unwrap_or_default()
    }

    #[test]
    fn a_stream_asks_for_the_keys_of_the_namespace_alone() {
        let mut wanted = Wanted::default();
        wanted.want_all();
        let command = of(&wanted, "ns:", Tracked::NOTHING);
        assert_eq!(command, "CLIENT TRACKING ON BCAST PREFIX ns:");
        let command = of(&wanted, "", Tracked::NOTHING);
        assert_eq!(command, "CLIENT TRACKING ON BCAST");
        assert_eq!(of(&wanted, "ns:", Tracked::ALL), "");
    }

    #[test]
    fn a_near_cache_asks_for_the_prefixes_of_its_types_each_once() {
        let mut wanted = Wanted::default();
        assert_eq!((wanted.want(b"::tag:"), wanted.want(b"user:")), (0, 1));
        let command = of(&wanted, "", Tracked::NOTHING);
        assert_eq!(
            command,
            "CLIENT TRACKING ON BCAST PREFIX ::tag: PREFIX user:"
        );
        let tracked = wanted.tracked();
        assert!(tracked.covers(1) && !tracked.covers(2));
        assert_eq!((wanted.want(b"user:"), wanted.want(b"team:")), (1, 2));
        let command = of(&wanted, "", tracked);
        assert_eq!(command, "CLIENT TRACKING ON BCAST PREFIX team:");
        assert!(wanted.is_reachable_from(tracked));
    }

    #[test]
    fn a_connection_with_prefixes_is_replaced_when_all_keys_are_wanted() {
        let mut wanted = Wanted::default();
        wanted.want(b"user:");
        let tracked = wanted.tracked();
        wanted.want_all();
        assert!(!wanted.is_reachable_from(tracked));
        assert!(wanted.is_reachable_from(Tracked::NOTHING));
        assert!(wanted.tracked().covers(0) && wanted.tracked().covers(7));
        // What comes later is covered.
        wanted.want(b"team:");
        assert_eq!(of(&wanted, "", Tracked::ALL), "");
    }
}
