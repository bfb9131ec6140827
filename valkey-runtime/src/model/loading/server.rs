//! The server: one key, of which the real transition functions make what they make.

use crate::model::explore::names::Visitor;
use crate::model::loading::{Mutation, Setup};
use crate::protocol::call::Seen;
use crate::protocol::envelope::placeholder::{Guard, Lease, Name};
use crate::protocol::envelope::timing::{Claim, Timing};
use crate::protocol::envelope::{Head, Header, Kind, Standing, head, standing};
use crate::protocol::transition::{Change, Placing, Put, Rejected, Verb, apply, apply_placing};
use crate::verbs::loading::sight::{Asked, seen};

/// The row in the database, by its number: each write makes the next.
pub(crate) type Row = u8;

/// When each request is run, in microseconds. Time passes in between all the same: what is made now is told from what was
/// made before, because that is renamed (see [`names`](crate::model::loading::names)).
const NOW: u64 = 1_000_000;
const MILLIS: u64 = NOW / 1000;
/// Long enough: what runs out does so by a step of its own.
const LIFE: u64 = 10_000;
/// The version in which writers store.
const VERSION: u16 = 1;
/// A stamp that is nobody else's. What is made in the same step has the low bits of a token, and there are few of those.
const OWN_STAMP: u64 = NOW << 12 | 0xfff;

/// What the key holds, as it is read. For the verbs it is the bytes.
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

/// What a value says of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowTiming {
    pub(crate) fresh: bool,
    /// The token of a claim that holds; 0 where it is a pause.
    pub(crate) claim: Option<u64>,
}

/// A value that the server showed to a caller, who may have to make do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    pub(crate) stamp: u64,
    pub(crate) row: Row,
}

/// What is sent to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Request {
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
    /// The row that was claimed is the present one.
    Confirm {
        lease: Lease,
        version: u16,
    },
    /// What was loaded is not to be stored.
    Discard(Lease),
    /// A pause is for what was claimed.
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
}

impl Request {
    /// A lease is given back.
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
                change(entry, lease(shown, token, Rejected::Any { version }));
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
            _ => entry.cloned(),
        }
    }

    /// Whether it can't do anything any more: it is for a lease that is gone. A claim that has run out comes again where the
    /// request for it does.
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

    /// How it asks for a lease, if it does.
    pub(crate) fn asked(self) -> Option<Asked> {
        match self {
            Request::Lease { token, rejected } => Some((token, rejected)),
            Request::FreshLease { token, version } => Some((token, Rejected::Any { version })),
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
        Change::Keep | Change::Live(_) | Change::Replace(_) => {}
        Change::Remove => *entry = None,
        Change::Put { bytes, .. } => *entry = Some(Entry::from_bytes(&bytes)),
        Change::Rewrite { header, .. } => rewrite(entry, &header),
    }
}

/// The stamp after a stamp might be another's, since they are named anew after each step: this one is nobody's.
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
        version,
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
    /// A row as it is stored: fresh, if it says.
    pub(crate) fn stored(row: Option<Row>, version: u16, stamp: u64, timed: bool) -> Self {
        Entry::Row {
            version,
            stamp,
            row,
            timing: (timed && row.is_some()).then_some(RowTiming::FRESH),
        }
    }

    /// The entry as if it were claimed by this.
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

    /// What it is to a loading verb of that version, as the shell sees it, and what that keeps of it. `asked`: how
    /// it asked for a lease, if it did; `serves`: what is no longer fresh may.
    pub(crate) fn seen(
        entry: Option<&Self>,
        own: u16,
        asked: Option<Asked>,
        serves: bool,
    ) -> (Seen<Row>, Option<Kept>) {
        let Some(entry) = entry else {
            return (Seen::Nothing, None);
        };
        let standing = standing(head(&entry.to_bytes()), own, || MILLIS);
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

    /// Its time is over, or it was expired.
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

    /// A writer's place runs out. With the last one the guard does.
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
