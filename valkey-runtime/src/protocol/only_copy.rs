//! Which entries a `set` replaces whose type has its only copy in the store.
//!
//! A plain `set` replaces everything but a newer value: this release does not know what it would
//! lose. A `set` that asks for an absent value also leaves entries that it can't read.

use crate::protocol::envelope::{Head, Header, Kind};

/// The content of the key.
pub(crate) struct There {
    pub(crate) head: Head,
    /// Whether its header names the same key as the new entry.
    pub(crate) is_for_key: bool,
    /// Whether it is a placeholder without a holder.
    pub(crate) is_left_over: bool,
}

impl There {
    /// Whether a value of this version is stored over it. `now` is in milliseconds.
    pub(crate) fn admits(&self, version: u16, absent: bool, now: u64) -> bool {
        match self.head {
            Head::Newer => false,
            Head::Corrupt(_) => !absent,
            Head::Known(Header {
                kind: Kind::Absence | Kind::Lease,
                ..
            }) => true,
            Head::Known(Header {
                kind: Kind::Guard, ..
            }) => !absent || self.is_left_over,
            Head::Known(header) => {
                let is_newer = self.is_for_key && header.version > version;
                let is_over = header.timing.is_some_and(|timing| !timing.is_fresh(now));
                !is_newer && (!absent || self.is_for_key && is_over)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope::timing::Timing;

    const VERSION: u16 = 2;

    /// Whether a plain `set`, and one for an absent value, are admitted.
    fn admitted(head: Head, is_for_key: bool, is_left_over: bool) -> [bool; 2] {
        let there = There {
            head,
            is_for_key,
            is_left_over,
        };
        [false, true].map(|absent| there.admits(VERSION, absent, 100))
    }

    fn of(kind: Kind, version: u16) -> Head {
        Head::Known(Header {
            kind,
            ..Header::value(version, 7)
        })
    }

    fn until(until: u64, version: u16) -> Head {
        Head::Known(Header {
            timing: Some(Timing::fresh_until(until)),
            ..Header::value(version, 7)
        })
    }

    #[test]
    fn a_value_is_never_lost_to_a_set_that_does_not_know_of_it() {
        for (head, expected) in [
            (of(Kind::Value, 1), [true, false]),
            (of(Kind::Value, VERSION), [true, false]),
            (of(Kind::Value, 3), [false, false]),
            (Head::Newer, [false, false]),
            (Head::Corrupt("x"), [true, false]),
            (of(Kind::Absence, 3), [true, true]),
            (of(Kind::Lease, 0), [true, true]),
            (of(Kind::Guard, 0), [true, false]),
            (until(101, VERSION), [true, false]),
            (until(100, VERSION), [true, true]),
            (until(100, 1), [true, true]),
            (until(100, 3), [false, false]),
        ] {
            assert_eq!(admitted(head, true, false), expected, "{head:?}");
        }
        assert_eq!(admitted(of(Kind::Guard, 0), true, true), [true, true]);
        // An entry of another key is damage.
        assert_eq!(admitted(of(Kind::Value, 3), false, false), [true, false]);
        assert_eq!(admitted(until(100, 1), false, false), [true, false]);
    }
}
