//! The server: one key, of which the real transition functions make what they make.

use super::Mutation;
use super::names::Visitor;
use crate::envelope::placeholder::{Guard, Lease, Name};
use crate::envelope::{HEADER, Head, Header, Kind, Standing, head, standing};
use crate::loading::call::Seen;
use crate::transition::{Change, Placing, Put, Rejected, Verb, apply, apply_placing};

/// The row in the database, by its number: each write makes the next.
pub(super) type Row = u8;

/// When each request is run, in microseconds. Time passes in between all the same: what is made now is told from what was
/// made before, because that is renamed (see [`names`](super::names)).
const NOW: u64 = 1_000_000;
/// Long enough: what runs out does so by a step of its own.
const LIFE: u64 = 10_000;
/// The version in which writers store.
const VERSION: u16 = 1;

/// What the key holds, as it is read. For the verbs it is the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Entry {
    /// A value, or an absence.
    Row {
        version: u16,
        stamp: u64,
        row: Option<Row>,
    },
    Lease(Name),
    Guard(Guard),
}

/// What is sent to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Request {
    Get,
    /// Asks for a lease, of a caller that rejects what has this stamp.
    Lease {
        token: u64,
        rejected: Rejected,
    },
    /// The same, of a caller that rejects whatever is there.
    FreshLease {
        token: u64,
        version: u16,
    },
    Fill {
        lease: Lease,
        version: u16,
        row: Option<Row>,
    },
    Release(Lease),
    Enter {
        token: u64,
    },
    Leave {
        token: u64,
    },
    StoreThrough {
        guard: Name,
        row: Row,
    },
    Delete,
}

impl Request {
    /// The server runs it.
    pub(super) fn run(self, entry: &mut Option<Entry>, mutation: Option<Mutation>) {
        let shown = self.shown(entry.as_ref(), mutation);
        let shown = shown.as_ref().map(Entry::to_bytes);
        let shown = shown.as_deref();
        let mut make = |verb: &Verb<'_>| change(entry, apply(shown, verb, NOW).0);
        match self {
            Request::Get => {}
            Request::Lease { token, rejected } => {
                change(entry, lease(shown, token, rejected));
            }
            Request::FreshLease { token, version } => {
                change(entry, lease(shown, token, Rejected::Any { version }));
            }
            Request::Enter { token } => {
                let verb = Placing::Enter { token, life: LIFE };
                change(entry, apply_placing(shown, &verb, NOW));
            }
            Request::Fill {
                lease,
                version,
                row,
            } => {
                let stamp = match lease {
                    Lease::Placed(name) => name.stamp,
                    Lease::Claim { stamp, .. } => stamp,
                };
                let bytes = row_to_bytes(version, stamp, row);
                let put = put(version, &bytes);
                make(&Verb::Fill { lease, put });
            }
            Request::StoreThrough { guard, row } => {
                let bytes = row_to_bytes(VERSION, guard.stamp, Some(row));
                let (hold, put) = (0, put(VERSION, &bytes));
                make(&Verb::StoreThrough { guard, hold, put });
            }
            Request::Release(lease) => make(&Verb::Release { lease, pause: 0 }),
            Request::Leave { token } => make(&Verb::Leave { token, hold: 0 }),
            Request::Delete => make(&Verb::Delete(None)),
        }
    }

    /// The entry that the verb is shown: the one that is there, unless a mutation has it take that for another.
    fn shown(self, entry: Option<&Entry>, mutation: Option<Mutation>) -> Option<Entry> {
        match (mutation, self, entry) {
            (Some(Mutation::PlainFill), Request::Fill { lease, .. }, entry)
                if !matches!(entry, Some(Entry::Guard(_))) =>
            {
                match lease {
                    Lease::Placed(name) => Some(Entry::Lease(name)),
                    Lease::Claim { .. } => entry.cloned(),
                }
            }
            (Some(Mutation::GuardDeleted), Request::Delete, Some(Entry::Guard(guard))) => {
                Some(Entry::of_row(Some(0), VERSION, guard.stamp))
            }
            (
                Some(Mutation::SharingForgotten),
                Request::StoreThrough { guard: name, .. },
                Some(Entry::Guard(guard)),
            ) => {
                let (stamp, shared) = (name.stamp, false);
                let writers = guard.writers.clone();
                Some(Entry::Guard(Guard {
                    stamp,
                    shared,
                    writers,
                }))
            }
            _ => entry.cloned(),
        }
    }

    /// Whether it can't do anything any more: it is for a lease that is gone.
    pub(super) fn is_void(self, entry: Option<&Entry>) -> bool {
        match self {
            Request::Fill { lease, .. } | Request::Release(lease) => {
                !matches!((entry, lease), (Some(Entry::Lease(name)), Lease::Placed(own)) if *name == own)
            }
            _ => false,
        }
    }

    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Request::Lease { token, rejected } => {
                visitor.token(token);
                if let Rejected::Stamp(stamp) | Rejected::Claim(stamp) = rejected {
                    visitor.stamp(stamp);
                }
            }
            Request::FreshLease { token, .. } => visitor.token(token),
            Request::Fill { lease, .. } | Request::Release(lease) => visitor.lease(lease),
            // The tokens of writers keep their names.
            Request::StoreThrough { guard, .. } => visitor.stamp(&mut guard.stamp),
            Request::Get | Request::Enter { .. } | Request::Leave { .. } | Request::Delete => {}
        }
    }
}

fn change(entry: &mut Option<Entry>, change: Change<'_>) {
    match change {
        Change::Keep | Change::Expire { .. } | Change::Rewrite { .. } => {}
        Change::Remove => *entry = None,
        Change::Put { bytes, .. } => *entry = Some(Entry::from_bytes(&bytes)),
    }
}

fn lease(shown: Option<&[u8]>, token: u64, rejected: Rejected) -> Change<'static> {
    let life = LIFE;
    let verb = Placing::Lease {
        token,
        life,
        rejected,
    };
    apply_placing(shown, &verb, NOW)
}

fn put(version: u16, bytes: &[u8]) -> Put<'_> {
    let ttl = None;
    Put {
        version,
        bytes,
        ttl,
    }
}

fn row_to_bytes(version: u16, stamp: u64, row: Option<Row>) -> Vec<u8> {
    match row {
        Some(row) => [&Header::value(version, stamp).to_bytes()[..], &[row]].concat(),
        None => Header::absence(version, stamp).to_vec(),
    }
}

impl Entry {
    pub(super) fn of_row(row: Option<Row>, version: u16, stamp: u64) -> Self {
        Entry::Row {
            version,
            stamp,
            row,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Entry::Row {
                version,
                stamp,
                row,
            } => row_to_bytes(*version, *stamp, *row),
            Entry::Lease(name) => name.to_lease().to_vec(),
            Entry::Guard(guard) => guard.to_bytes(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let lease = || Name::of_lease(bytes).map(Entry::Lease);
        let guard = || Guard::from_bytes(bytes).map(Entry::Guard);
        let row = || match (head(bytes), bytes.get(HEADER..)?) {
            (
                Head::Known(Header {
                    kind,
                    version,
                    stamp,
                    ..
                }),
                &[payload],
            ) => {
                let row = (kind == Kind::Value).then_some(payload);
                Some(Entry::of_row(row, version, stamp))
            }
            _ => None,
        };
        let entry = lease().or_else(guard).or_else(row);
        entry.unwrap_or_else(|| unreachable!("nothing makes {bytes:?}"))
    }

    /// What it is to a loading verb of that version, as the shell sees it.
    pub(super) fn seen(entry: Option<&Self>, own: u16) -> Seen<Row> {
        let Some(entry) = entry else {
            return Seen::Nothing;
        };
        let standing = standing(head(&entry.to_bytes()), own, || NOW / 1000);
        match (entry, standing) {
            (Entry::Lease(name), _) => Seen::Lease(Lease::Placed(*name)),
            (
                Entry::Row {
                    row: None, version, ..
                },
                _,
            ) if *version == own => Seen::Absent,
            (Entry::Row { row: Some(row), .. }, Standing::Own) => Seen::Hit(*row),
            (Entry::Row { stamp, .. }, Standing::Replaceable) => Seen::Old(*stamp),
            _ => Seen::Closed,
        }
    }

    /// A writer's place runs out. With the last one the guard does.
    pub(super) fn place_runs_out(entry: &mut Option<Self>, token: u64) {
        if let Some(Entry::Guard(guard)) = entry {
            for place in &mut guard.writers {
                if place.token == token {
                    place.deadline = 0;
                }
            }
            if guard.writers.iter().all(|place| place.deadline == 0) {
                *entry = None;
            }
        }
    }

    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Entry::Row { stamp, .. } => visitor.stamp(stamp),
            Entry::Lease(name) => visitor.name(name),
            Entry::Guard(guard) => visitor.stamp(&mut guard.stamp),
        }
    }
}
