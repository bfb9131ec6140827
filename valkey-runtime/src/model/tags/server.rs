//! The server: an entry, the epoch of its tag and the clock, changed by the real transition
//! functions.

use bytes::Bytes;

use crate::core::loads::parts::{Asked, Seen, seen};
use crate::model::explore::names::Visitor;
use crate::model::tags::{Mutation, Setup};
use crate::protocol::envelope;
use crate::protocol::envelope::epoch::{Epoch, Verdict};
use crate::protocol::envelope::placeholder::{Guard, Lease, Name};
use crate::protocol::envelope::timing::{Claim, FOR_EVER, Timing};
use crate::protocol::envelope::{Head, Header};
use crate::protocol::found::Found;
use crate::protocol::transition;
use crate::protocol::transition::{
    Change, Placing, Put, Raise, Rejected, Tick, Verb, apply, apply_placing,
};
use crate::verbs::tags::read::verdict;

/// The number of a row in the database: each write makes the next.
pub(crate) type Row = u8;

/// The time at which each request runs, in microseconds. Time passes in between all the same: new
/// names differ from earlier ones, because the earlier ones are renamed.
const NOW: u64 = 1_000_000;
const MILLIS: u64 = NOW / 1000;
/// Long enough: entries run out by steps of their own.
const LIFE: u64 = 10_000;
/// A unique stamp. Other stamps of the same step end in the low bits of a token, and tokens are
/// few.
const OWN_STAMP: u64 = NOW << 12 | 0xfff;
const VERSION: u16 = 1;
const TAG: &str = "tag:t";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) key: Option<Entry>,
    pub(crate) epoch: Option<Under>,
    pub(crate) clock: Option<u64>,
}

/// The content of the key, as it is read. The verbs see its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    Value(Value),
    Lease(Name),
}

/// A value with the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) stamp: u64,
    row: Row,
    clock: u64,
    /// Only of a timed value: the token of the caller that refreshes it, if one does.
    claim: Option<Option<u64>>,
}

/// The content of the epoch's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Under {
    Epoch(Epoch),
    /// The mark of a load that found nothing.
    Mark(Name),
    Guard(Guard),
}

/// A request that changes the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Request {
    Lease {
        token: u64,
        rejected: Rejected,
    },
    Fill {
        lease: Lease,
        row: Row,
        clock: u64,
    },
    Release(Lease),
    /// A load marks the epoch.
    Mark {
        token: u64,
    },
    /// This epoch replaces the mark.
    Settle {
        mark: Name,
        clock: u64,
    },
    /// The same without a mark: a mutation.
    Mint {
        clock: u64,
    },
    Advance,
    /// This and the following requests are at the epoch, too.
    Raise {
        clock: u64,
    },
    Delete,
    Enter {
        token: u64,
    },
    Leave {
        token: u64,
    },
}

impl Server {
    pub(crate) fn new(setup: &Setup) -> Self {
        let (stamp, row, clock) = (OWN_STAMP, 0, 1);
        let claim = setup.is_timed().then_some(None);
        let value = Value {
            stamp,
            row,
            clock,
            claim,
        };
        let is = setup.cached;
        Self {
            key: is.then_some(Entry::Value(value)),
            epoch: is.then_some(Under::Epoch(Epoch::new(clock))),
            clock: is.then_some(clock),
        }
    }

    /// Returns whether the request took effect. `now` is above all earlier clocks.
    pub(crate) fn run(&mut self, request: Request, now: u64, setup: &Setup) -> bool {
        match request {
            Request::Lease { token, rejected } => {
                let life = LIFE;
                let verb = Placing::Lease {
                    token,
                    life,
                    rejected,
                };
                let key = self.key.map(Entry::to_bytes);
                self.change_key(apply_placing(key.as_deref(), &verb, NOW));
                true
            }
            Request::Fill { lease, row, clock } => {
                let stamp = match lease {
                    Lease::Placed(name) => name.stamp,
                    Lease::Claim { .. } => OWN_STAMP,
                };
                let claim = setup.is_timed().then_some(None);
                let value = Value {
                    stamp,
                    row,
                    clock,
                    claim,
                };
                let bytes = Entry::Value(value).to_bytes();
                let put = put(VERSION, &bytes);
                self.apply_to_key(&Verb::Fill { lease, put })
            }
            Request::Release(lease) => self.apply_to_key(&Verb::Release { lease, pause: 0 }),
            Request::Mark { token } => {
                let rejected = Rejected::Any {
                    version: 0,
                    newer_wins: u64::MAX,
                };
                let life = LIFE;
                let verb = Placing::Lease {
                    token,
                    life,
                    rejected,
                };
                self.place_at_epoch(&verb);
                true
            }
            Request::Settle { mark, clock } => {
                let bytes = Epoch::new(clock).to_bytes();
                let (lease, put) = (Lease::Placed(mark), put(0, &bytes));
                let by_token = setup.mutation == Some(Mutation::MarkNamedByToken);
                match &mut self.epoch {
                    // The verb is to take it for this very mark.
                    Some(Under::Mark(name)) if by_token && name.token == mark.token => *name = mark,
                    _ => {}
                }
                self.apply_to_epoch(&Verb::Fill { lease, put })
            }
            Request::Mint { clock } => {
                let bytes = Epoch::new(clock).to_bytes();
                let verb = Verb::SetIfAbsent(put(0, &bytes), None, u64::MAX);
                self.epoch.is_none() && self.apply_to_epoch(&verb)
            }
            Request::Advance => {
                self.clock = Some(transition::ticked(self.clock, Tick::Advance, now));
                true
            }
            Request::Raise { clock } => {
                let is_known = !matches!(self.epoch, None | Some(Under::Mark(_)));
                if setup.mutation == Some(Mutation::RaiseMissing) && !is_known {
                    self.epoch = Some(Under::Epoch(Epoch::new(clock)));
                }
                self.apply_to_epoch(&Verb::Raise(Raise { clock, over: None }))
            }
            Request::Delete => self.apply_to_epoch(&Verb::Delete(None)),
            Request::Enter { token } => {
                self.place_at_epoch(&Placing::Enter {
                    token,
                    life: LIFE,
                    ours: false,
                });
                true
            }
            Request::Leave { token } => self.apply_to_epoch(&Verb::Leave { token, hold: 0 }),
        }
    }

    /// Reads the clock, and creates it if it is missing.
    pub(crate) fn read_clock(&mut self, now: u64) -> u64 {
        let clock = transition::ticked(self.clock, Tick::Read, now);
        *self.clock.insert(clock)
    }

    /// Reads the epoch for a caller that is about to store a value.
    pub(crate) fn extend(&mut self) -> Found {
        self.place_at_epoch(&Placing::Extend { life: Some(LIFE) });
        self.found_epoch()
    }

    pub(crate) fn found_epoch(&self) -> Found {
        found(self.epoch.as_ref())
    }

    /// The lease or claim under which a caller loads.
    pub(crate) fn loading(&self) -> Option<Lease> {
        match self.key? {
            Entry::Lease(name) => Some(Lease::Placed(name)),
            Entry::Value(Value { stamp, claim, .. }) => Some(Lease::Claim {
                token: small(claim??),
                stamp,
            }),
        }
    }

    /// A claim runs out, and the value stays.
    pub(crate) fn claim_runs_out(&mut self) {
        if let Some(Entry::Value(value)) = &mut self.key {
            value.claim = value.claim.map(|_| None);
        }
    }

    /// A writer's place runs out. The guard ends with its last place.
    pub(crate) fn place_runs_out(&mut self, token: u64) {
        if let Some(Under::Guard(guard)) = &mut self.epoch {
            guard.writers.retain(|place| place.token != token);
            if guard.writers.is_empty() {
                self.epoch = None;
            }
        }
    }

    /// Whether it can have no effect any more, because its lease or mark is gone. A claim that has
    /// run out can come back if its request runs again.
    pub(crate) fn is_void(&self, request: Request, resends: bool) -> bool {
        match request {
            Request::Fill { lease, .. } | Request::Release(lease) => match (lease, self.key) {
                (Lease::Placed(own), Some(Entry::Lease(name))) => name != own,
                (Lease::Claim { token, stamp }, Some(Entry::Value(value))) => {
                    value.stamp != stamp || !resends && value.claim != Some(Some(token.into()))
                }
                _ => true,
            },
            Request::Settle { mark, .. } => self.epoch != Some(Under::Mark(mark)),
            _ => false,
        }
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        if let Some(entry) = &mut self.key {
            entry.visit(visitor);
        }
        if let Some(under) = &mut self.epoch {
            under.visit(visitor);
        }
        if let Some(clock) = &mut self.clock {
            visitor.clock(clock);
        }
    }

    fn apply_to_key(&mut self, verb: &Verb<'_>) -> bool {
        let key = self.key.map(Entry::to_bytes);
        let (change, answer) = apply(key.as_deref(), verb, NOW);
        self.change_key(change);
        answer
    }

    fn change_key(&mut self, change: Change<'_>) {
        match change {
            Change::Keep | Change::Live(_) => {}
            Change::Remove => self.key = None,
            Change::Put { bytes, .. } => self.key = Some(Entry::from_bytes(&bytes)),
            Change::Rewrite { header, .. } => {
                let Some(Entry::Value(before)) = self.key else {
                    unreachable!("only values are rewritten, and not {:?}", self.key)
                };
                let mut bytes = Entry::Value(before).to_bytes();
                bytes[..header.len()].copy_from_slice(&header);
                let mut after = Entry::from_bytes(&bytes);
                // The stamp after a stamp could equal another one, because stamps are renamed after
                // each step. So it is replaced by a unique one.
                if let Entry::Value(Value { stamp, .. }) = &mut after
                    && *stamp != before.stamp
                {
                    *stamp = OWN_STAMP;
                }
                self.key = Some(after);
            }
            Change::Replace(_) => unreachable!("only epochs are replaced"),
        }
    }

    fn apply_to_epoch(&mut self, verb: &Verb<'_>) -> bool {
        let epoch = self.epoch.as_ref().map(Under::to_bytes);
        let (change, answer) = apply(epoch.as_deref(), verb, NOW);
        self.change_epoch(change);
        answer
    }

    fn place_at_epoch(&mut self, verb: &Placing) {
        let epoch = self.epoch.as_ref().map(Under::to_bytes);
        self.change_epoch(apply_placing(epoch.as_deref(), verb, NOW));
    }

    fn change_epoch(&mut self, change: Change<'_>) {
        match change {
            Change::Keep | Change::Live(_) => {}
            Change::Remove => self.epoch = None,
            Change::Put { bytes, .. } => self.epoch = Some(Under::from_bytes(&bytes)),
            Change::Replace(bytes) => self.epoch = Some(Under::from_bytes(&bytes)),
            Change::Rewrite { .. } => unreachable!("only values are rewritten"),
        }
    }
}

fn put(version: u16, bytes: &[u8]) -> Put<'_> {
    let ttl = None;
    Put {
        versions: version.into(),
        bytes,
        ttl,
    }
}

/// The tokens of claims are those of their requests.
fn small(token: u64) -> u32 {
    u32::try_from(token).unwrap_or_else(|_| unreachable!("tokens are few"))
}

/// The result of reading the epoch's key.
pub(crate) fn found(under: Option<&Under>) -> Found {
    match under {
        None => Found::Nothing,
        Some(under) => Found::Entry(Bytes::from(under.to_bytes())),
    }
}

impl Request {
    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Request::Lease { token, rejected } => {
                visitor.token(token);
                visit_rejected(rejected, visitor);
            }
            Request::Fill { lease, clock, .. } => {
                visitor.lease(lease);
                visitor.clock(clock);
            }
            Request::Release(lease) => visitor.lease(lease),
            Request::Mark { token } => visitor.token(token),
            Request::Settle { mark, clock } => {
                visitor.name(mark);
                visitor.clock(clock);
            }
            Request::Mint { clock } | Request::Raise { clock } => visitor.clock(clock),
            // The tokens of writers keep their names.
            Request::Advance | Request::Delete | Request::Enter { .. } | Request::Leave { .. } => {}
        }
    }
}

pub(crate) fn visit_rejected(rejected: &mut Rejected, visitor: &mut impl Visitor) {
    if let Rejected::Stamp(stamp) | Rejected::Claim(stamp) = rejected {
        visitor.stamp(stamp);
    }
}

impl Value {
    fn timing(self) -> Option<Timing> {
        let claim = self
            .claim?
            .map(|token| Claim::new(small(token), MILLIS, LIFE));
        Some(Timing {
            until: FOR_EVER,
            claim: claim.unwrap_or(Claim::NONE),
        })
    }

    pub(crate) fn is_claimed(self) -> bool {
        matches!(self.claim, Some(Some(_)))
    }

    fn to_bytes(self) -> Vec<u8> {
        let header = Header {
            timing: self.timing(),
            clock: Some(self.clock),
            ..Header::value(VERSION, self.stamp)
        };
        let mut bytes = header.to_bytes().to_vec();
        envelope::tags::write([TAG].into_iter(), &mut bytes);
        bytes.push(self.row);
        bytes
    }

    /// Whether a caller may read it, if it was shown this content of the epoch's key.
    pub(crate) fn is_valid(self, epoch: &Found) -> bool {
        let bytes = self.to_bytes();
        let Head::Known(header) = envelope::head(&bytes) else {
            unreachable!("it is a value")
        };
        let tags = envelope::tags::read(&bytes[header.len()..]);
        let verdict = verdict(tags, |_| Some(epoch), self.clock, self.stamp);
        verdict == Some(Verdict::Valid)
    }

    /// The meaning of a valid value for a loading verb. `asked`: its request for a lease, if any.
    pub(crate) fn seen(self, asked: Option<Asked>) -> Seen<Row> {
        let timing = self.timing();
        let seen =
            timing.and_then(|timing| seen(self.stamp, timing, MILLIS, asked, false, || self.row));
        seen.unwrap_or(Seen::Hit(self.row))
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.stamp(&mut self.stamp);
        visitor.clock(&mut self.clock);
        if let Some(Some(token)) = &mut self.claim {
            visitor.token(token);
        }
    }
}

impl Entry {
    fn to_bytes(self) -> Vec<u8> {
        match self {
            Entry::Value(value) => value.to_bytes(),
            Entry::Lease(name) => name.to_lease().to_vec(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let value = || {
            let Head::Known(header) = envelope::head(bytes) else {
                return None;
            };
            let &[row] = bytes.get(header.payload_at(bytes)?..)? else {
                return None;
            };
            let claim = header.timing.map(|timing| {
                let claim = timing.claim;
                claim.is_live(MILLIS).then(|| claim.token().into())
            });
            Some(Entry::Value(Value {
                stamp: header.stamp,
                row,
                clock: header.clock?,
                claim,
            }))
        };
        let entry = Name::of_lease(bytes).map(Entry::Lease).or_else(value);
        entry.unwrap_or_else(|| unreachable!("nothing makes {bytes:?} of a value"))
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Entry::Value(value) => value.visit(visitor),
            Entry::Lease(name) => visitor.name(name),
        }
    }
}

impl Under {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Under::Epoch(epoch) => epoch.to_bytes(),
            Under::Mark(name) => name.to_lease().to_vec(),
            Under::Guard(guard) => guard.to_bytes(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let epoch = || Epoch::from_bytes(bytes).map(Under::Epoch);
        let mark = || Name::of_lease(bytes).map(Under::Mark);
        // Stamp and sharing of a guard matter only to a write-through, and there is none here.
        let plain = |guard: Guard| Guard {
            stamp: 0,
            shared: true,
            ..guard
        };
        let guard = || Guard::from_bytes(bytes).map(plain).map(Under::Guard);
        let under = epoch().or_else(mark).or_else(guard);
        under.unwrap_or_else(|| unreachable!("nothing makes {bytes:?} of an epoch"))
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Under::Epoch(epoch) => epoch.visit(visitor),
            Under::Mark(name) => visitor.name(name),
            Under::Guard(guard) => guard.writers.sort_unstable_by_key(|place| place.token),
        }
    }
}
