//! The server: one key, changed by the real transition functions.

use crate::model::explore::names::Visitor;
use crate::model::loading::{Mutation, Setup};
use crate::protocol::call::Seen;
use crate::protocol::envelope::placeholder::{Guard, Lease, Name};
use crate::protocol::envelope::timing::{Claim, Timing};
use crate::protocol::envelope::{Head, Header, Kind, Standing, head, standing};
use crate::protocol::transition::{Change, Placing, Put, Rejected, Verb, apply, apply_placing};
use crate::verbs::loading::sight::{Asked, seen};

/// The number of a row in the database: each write makes the next.
pub(crate) type Row = u8;

/// The time at which each request runs, in microseconds. Time passes in between all the same: new
/// names differ from earlier ones, because the earlier ones are renamed (see
/// [`names`](crate::model::loading::names)).
const NOW: u64 = 1_000_000;
const MILLIS: u64 = NOW / 1000;
/// Long enough: entries run out by steps of their own.
const LIFE: u64 = 10_000;
/// The version in which writers store.
const VERSION: u16 = 1;
/// A unique stamp. Other stamps of the same step end in the low bits of a token, and tokens are
/// few.
const OWN_STAMP: u64 = NOW << 12 | 0xfff;

/// The content of the key, as it is read. The verbs see its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A value, or an absence.
    Row {
        version: u16,
        stamp: u64,
        row: Option<Row>,
        timing: Option<RowTiming>,
    },
    Lease(Name),
    Guard(Guard),
}

/// The freshness and the claim of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowTiming {
    pub(crate) fresh: bool,
    /// The token of a live claim; 0 for a pause.
    pub(crate) claim: Option<u64>,
}

/// A value that the server showed to a caller, as a possible fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    pub(crate) stamp: u64,
    pub(crate) row: Row,
}

/// A request to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Request {
    Get,
    /// Requests a lease; the caller rejects this entry.
    Lease {
        token: u64,
        rejected: Rejected,
    },
    /// The same for a caller that rejects any entry.
    FreshLease {
        token: u64,
        version: u16,
    },
    Fill {
        lease: Lease,
        version: u16,
        row: Option<Row>,
    },
    /// The claimed row is unchanged.
    Confirm {
        lease: Lease,
        version: u16,
    },
    /// The loaded value is not to be stored.
    Discard(Lease),
    /// Only a claim can have a pause.
    Release {
        lease: Lease,
        pause: bool,
    },
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
    MarkStale,
    /// Puts what a reader of a later version has made of a row in its place.
    Migrate {
        stamp: u64,
        row: Row,
    },
}

impl Request {
    /// Gives a lease back.
    pub(crate) fn release(lease: Lease, pause: bool) -> Self {
        let pause = pause && matches!(lease, Lease::Claim { .. });
        Request::Release { lease, pause }
    }

    /// The server runs it.
    pub(crate) fn run(self, entry: &mut Option<Entry>, setup: &Setup) {
        let shown = self.shown(entry.as_ref(), setup.mutation);
        let shown = shown.as_ref().map(Entry::to_bytes);
        let shown = shown.as_deref();
        let mut make = |verb: &Verb<'_>| change(entry, apply(shown, verb, NOW).0);
        match self {
            Request::Get => {}
            Request::Lease { token, rejected } => {
                change(entry, lease(shown, token, rejected));
            }
            Request::FreshLease { token, version } => {
                change(
                    entry,
                    lease(
                        shown,
                        token,
                        Rejected::Any {
                            version,
                            newer_wins: u64::MAX,
                        },
                    ),
                );
            }
            Request::Enter { token } => {
                let verb = Placing::Enter {
                    token,
                    life: LIFE,
                    ours: false,
                };
                change(entry, apply_placing(shown, &verb, NOW));
            }
            Request::Fill {
                lease,
                version,
                row,
            } => {
                let stamp = match lease {
                    Lease::Placed(name) => name.stamp,
                    Lease::Claim { .. } => OWN_STAMP,
                };
                let bytes = Entry::stored(row, version, stamp, setup.timed).to_bytes();
                let put = put(version, &bytes);
                make(&Verb::Fill { lease, put });
            }
            Request::Confirm { lease, version } => {
                let timing = Some(RowTiming::FRESH.to_timing());
                let header = Header::value(version, OWN_STAMP);
                let header = Header { timing, ..header }.to_bytes();
                let ttl = None;
                make(&Verb::Confirm { lease, header, ttl });
            }
            Request::Discard(lease) => make(&Verb::Discard(lease)),
            Request::StoreThrough { guard, row } => {
                let stored = Entry::stored(Some(row), VERSION, guard.stamp, setup.timed);
                let bytes = stored.to_bytes();
                let (hold, put) = (0, put(VERSION, &bytes));
                make(&Verb::StoreThrough { guard, hold, put });
            }
            Request::Release { lease, pause } => {
                let pause = if pause { LIFE } else { 0 };
                make(&Verb::Release { lease, pause });
            }
            Request::Leave { token } => make(&Verb::Leave { token, hold: 0 }),
            Request::Delete if setup.mutation == Some(Mutation::SoftDeletion) => {
                make(&Verb::MarkStale { keep: LIFE });
            }
            Request::Delete => make(&Verb::Delete(None)),
            Request::MarkStale if setup.mutation == Some(Mutation::ClaimOutlivesExpiry) => {
                Entry::is_no_longer_fresh(entry);
            }
            Request::MarkStale => make(&Verb::MarkStale { keep: LIFE }),
            Request::Migrate { stamp, row } => {
                let converted = Entry::stored(Some(row), VERSION + 1, stamp, setup.timed);
                let (version, entry) = (VERSION, &*converted.to_bytes());
                make(&Verb::Migrate {
                    stamp,
                    version,
                    entry,
                });
            }
        }
    }

    /// The entry as the verb sees it: the stored one, unless a mutation makes the verb take it for
    /// another.
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
                Some(Entry::stored(Some(0), VERSION, guard.stamp, false))
            }
            (
                Some(Mutation::ClaimNamedByToken),
                Request::Fill { lease, .. },
                Some(Entry::Row {
                    timing: Some(_), ..
                }),
            ) => Entry::claimed(entry, lease),
            (
                Some(Mutation::UnclaimedFill),
                Request::Fill { lease, .. },
                Some(Entry::Row {
                    timing: Some(RowTiming { fresh: false, .. }),
                    ..
                }),
            ) => Entry::claimed(entry, lease),
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
            (Some(Mutation::BlindWriteBack), Request::Migrate { stamp, row }, entry)
                if !matches!(entry, Some(Entry::Guard(_))) =>
            {
                Some(Entry::stored(Some(row), VERSION, stamp, false))
            }
            _ => entry.cloned(),
        }
    }

    /// Whether it can have no effect any more, because its lease is gone. A claim that has run out
    /// can come back if its request runs again.
    pub(crate) fn is_void(self, entry: Option<&Entry>, resends: bool) -> bool {
        let lease = match self {
            Request::Fill { lease, .. }
            | Request::Confirm { lease, .. }
            | Request::Discard(lease)
            | Request::Release { lease, .. } => lease,
            _ => return false,
        };
        match (lease, entry) {
            (Lease::Placed(own), Some(Entry::Lease(name))) => *name != own,
            (
                Lease::Claim { token, stamp: on },
                Some(Entry::Row {
                    stamp,
                    timing: Some(RowTiming { claim, .. }),
                    ..
                }),
            ) => *stamp != on || !resends && *claim != Some(token.into()),
            _ => true,
        }
    }

    /// Its token and rejection, if it requests a lease.
    pub(crate) fn asked(self) -> Option<Asked> {
        match self {
            Request::Lease { token, rejected } => Some((token, rejected)),
            Request::FreshLease { token, version } => Some((
                token,
                Rejected::Any {
                    version,
                    newer_wins: u64::MAX,
                },
            )),
            _ => None,
        }
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Request::Lease { token, rejected } => {
                visitor.token(token);
                if let Rejected::Stamp(stamp) | Rejected::Claim(stamp) = rejected {
                    visitor.stamp(stamp);
                }
            }
            Request::FreshLease { token, .. } => visitor.token(token),
            Request::Fill { lease, .. }
            | Request::Confirm { lease, .. }
            | Request::Discard(lease)
            | Request::Release { lease, .. } => visitor.lease(lease),
            // The tokens of writers keep their names.
            Request::StoreThrough { guard, .. } => visitor.stamp(&mut guard.stamp),
            Request::Migrate { stamp, .. } => visitor.stamp(stamp),
            Request::Get
            | Request::Enter { .. }
            | Request::Leave { .. }
            | Request::Delete
            | Request::MarkStale => {}
        }
    }
}

fn change(entry: &mut Option<Entry>, change: Change<'_>) {
    match change {
        Change::Keep | Change::Live(_) => {}
        // Only a write-back replaces an entry here.
        Change::Replace(bytes) => {
            let mut converted = Entry::from_bytes(&bytes);
            if let Entry::Row { stamp, .. } = &mut converted {
                *stamp = OWN_STAMP;
            }
            *entry = Some(converted);
        }
        Change::Remove => *entry = None,
        Change::Put { bytes, .. } => *entry = Some(Entry::from_bytes(&bytes)),
        Change::Rewrite { header, .. } => rewrite(entry, &header),
    }
}

/// The stamp after a stamp could equal another one, because stamps are renamed after each step. So
/// it is replaced by a unique one.
fn rewrite(entry: &mut Option<Entry>, header: &[u8]) {
    let Some(Entry::Row {
        stamp: before,
        row: Some(row),
        ..
    }) = *entry
    else {
        unreachable!("only values are rewritten, and not {entry:?}")
    };
    let mut rewritten = Entry::from_bytes(&[header, &[row]].concat());
    if let Entry::Row { stamp, .. } = &mut rewritten
        && *stamp != before
    {
        *stamp = OWN_STAMP;
    }
    *entry = Some(rewritten);
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
        versions: version.into(),
        bytes,
        ttl,
    }
}

fn row_to_bytes(version: u16, stamp: u64, row: Option<Row>, timing: Option<RowTiming>) -> Vec<u8> {
    let timing = timing.map(RowTiming::to_timing);
    let header = Header::value(version, stamp);
    match row {
        Some(row) => [&Header { timing, ..header }.to_bytes()[..], &[row]].concat(),
        None => [&Header::absence(version, stamp).to_bytes()[..], &[0xc0]].concat(),
    }
}

impl RowTiming {
    const FRESH: Self = Self {
        fresh: true,
        claim: None,
    };

    fn to_timing(self) -> Timing {
        let until = if self.fresh { MILLIS + LIFE } else { 0 };
        let claim = match self.claim.map(u32::try_from) {
            Some(Ok(token)) => Claim::new(token, MILLIS, LIFE),
            Some(Err(_)) => unreachable!("tokens are few"),
            None => Claim::NONE,
        };
        Timing { until, claim }
    }

    fn of(timing: Timing) -> Self {
        let claim = timing.claim;
        Self {
            fresh: timing.is_fresh(MILLIS),
            claim: claim.is_live(MILLIS).then(|| claim.token().into()),
        }
    }
}

impl Entry {
    /// A stored row: fresh, if it has a freshness.
    pub(crate) fn stored(row: Option<Row>, version: u16, stamp: u64, timed: bool) -> Self {
        Entry::Row {
            version,
            stamp,
            row,
            timing: (timed && row.is_some()).then_some(RowTiming::FRESH),
        }
    }

    /// The entry as if this claim were on it.
    fn claimed(entry: Option<&Self>, lease: Lease) -> Option<Self> {
        let mut entry = entry.cloned();
        if let Lease::Claim { token, stamp: on } = lease
            && let Some(Entry::Row {
                stamp,
                timing: Some(timing),
                ..
            }) = &mut entry
        {
            *stamp = on;
            timing.claim = Some(token.into());
        }
        entry
    }

    pub(crate) fn timing(&self) -> Option<RowTiming> {
        match self {
            Entry::Row { timing, .. } => *timing,
            Entry::Lease(_) | Entry::Guard(_) => None,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Entry::Row {
                version,
                stamp,
                row,
                timing,
            } => row_to_bytes(*version, *stamp, *row, *timing),
            Entry::Lease(name) => name.to_lease().to_vec(),
            Entry::Guard(guard) => guard.to_bytes(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let lease = || Name::of_lease(bytes).map(Entry::Lease);
        let guard = || Guard::from_bytes(bytes).map(Entry::Guard);
        let row = || match head(bytes) {
            Head::Known(header) => match bytes.get(header.len()..)? {
                &[payload] => Some(Entry::Row {
                    version: header.version,
                    stamp: header.stamp,
                    row: (header.kind == Kind::Value).then_some(payload),
                    timing: header.timing.map(RowTiming::of),
                }),
                _ => None,
            },
            Head::Newer | Head::Corrupt(_) => None,
        };
        let entry = lease().or_else(guard).or_else(row);
        entry.unwrap_or_else(|| unreachable!("nothing makes {bytes:?}"))
    }

    /// The meaning of an entry for a loading verb of that version, as the shell sees it, and the
    /// value that it keeps. `asked`: its request for a lease, if any; `serves`: stale values may be
    /// returned.
    pub(crate) fn seen(
        entry: Option<&Self>,
        own: u16,
        asked: Option<Asked>,
        serves: bool,
    ) -> (Seen<Row>, Option<Kept>) {
        let Some(entry) = entry else {
            return (Seen::Nothing, None);
        };
        let standing = standing(head(&entry.to_bytes()), own, 0, || MILLIS);
        let seen = match (entry, standing) {
            (
                &Entry::Row {
                    stamp,
                    row: Some(row),
                    timing: Some(timing),
                    ..
                },
                Standing::Own | Standing::Stale,
            ) => {
                let kept = Kept { stamp, row };
                match seen(stamp, timing.to_timing(), MILLIS, asked, serves, || row) {
                    Some(seen @ (Seen::Old(_) | Seen::Closed)) => seen,
                    Some(seen) => return (seen, Some(kept)),
                    None => Seen::Hit(row),
                }
            }
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
        };
        (seen, None)
    }

    /// The freshness is over, or the value was expired.
    pub(crate) fn is_no_longer_fresh(entry: &mut Option<Self>) {
        if let Some(Entry::Row {
            timing: Some(timing),
            ..
        }) = entry
        {
            timing.fresh = false;
        }
    }

    /// A claim or a pause runs out.
    pub(crate) fn claim_runs_out(entry: &mut Option<Self>) {
        if let Some(Entry::Row {
            timing: Some(timing),
            ..
        }) = entry
        {
            timing.claim = None;
        }
    }

    /// A writer's place runs out. The guard ends with its last place.
    pub(crate) fn place_runs_out(entry: &mut Option<Self>, token: u64) {
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

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Entry::Row { stamp, timing, .. } => {
                visitor.stamp(stamp);
                let claim = timing.iter_mut().flat_map(|timing| &mut timing.claim);
                let claim = claim.filter(|token| **token != 0);
                claim.for_each(|token| visitor.token(token));
            }
            Entry::Lease(name) => visitor.name(name),
            Entry::Guard(guard) => visitor.stamp(&mut guard.stamp),
        }
    }
}
