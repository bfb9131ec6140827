//! A writer: its changes of the row and of the key, in that order.
//!
//! Each of its requests runs and is answered in one step. Only the writer itself could notice an
//! event in between. It needs the answer to its request for a guard only after the write. And an
//! immediate return makes the strictest demands on later reads.

use crate::model::explore::names::Visitor;
use crate::model::loading::Mutation;
use crate::model::loading::server::{Entry, Request, Row};
use crate::model::loading::world::{Event, Steps, World};
use crate::protocol::envelope::placeholder::Name;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A guarded update.
    Update,
    /// A guarded update that stores the written row.
    Through,
    /// A plain write, then a deletion.
    Delete,
    /// A plain write, then a soft expiry.
    MarkStale,
    /// No writer, but a reader of a later version: it converts a row that it finds, and writes that
    /// back.
    WriteBack,
}

/// The version of the rows that are converted.
const OLDER: u16 = 1;

/// Its token is its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    kind: Kind,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Is to look at the entry.
    Looking,
    /// Has requested a guard.
    Entering,
    /// Is to write, under the guard with this stamp.
    Ready { stamp: u64 },
    /// The write has reported an error, but may still commit.
    Unsure,
    /// Has written this row, and sent this request to the server.
    Leaving(Request, Row),
    /// Does nothing any more, and does not renew its place.
    Dead,
}

impl Writer {
    pub(crate) fn new(kind: Kind) -> Self {
        let phase = match kind {
            Kind::Update | Kind::Through => Phase::Entering,
            Kind::Delete | Kind::MarkStale => Phase::Ready { stamp: 0 },
            Kind::WriteBack => Phase::Looking,
        };
        Self { kind, phase }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }

    fn is_guarded(&self) -> bool {
        matches!(self.kind, Kind::Update | Kind::Through)
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        match &mut self.phase {
            Phase::Ready { stamp } if self.kind == Kind::Through => visitor.stamp(stamp),
            Phase::Leaving(request, _) => request.visit(visitor),
            Phase::Looking
            | Phase::Entering
            | Phase::Ready { .. }
            | Phase::Unsure
            | Phase::Dead => {}
        }
    }

    /// The actions of the writer, and the events that may happen to it.
    pub(crate) fn steps(at: usize, steps: &mut Steps<'_>) {
        let world = steps.world;
        let writer = &world.writers[at];
        let event = |what| Event::Writer(at, what);
        match writer.phase {
            Phase::Looking => steps.add(event("looks"), |world| world.converts(at)),
            Phase::Entering => steps.add(event("enters"), |world| {
                world.run(enter(at));
                world.has_entered(at);
            }),
            Phase::Ready { .. } => {
                steps.add(event("writes"), |world| world.writes(at));
                if writer.is_guarded() {
                    steps.add(event("hears an error"), |world| world.is_unsure(at));
                }
                if writer.is_guarded() && world.left.resends > 0 {
                    steps.add(event("enters again"), |world| {
                        world.run_again(enter(at));
                        world.has_entered(at);
                    });
                }
            }
            Phase::Unsure => {
                steps.add(event("has written all the same"), |world| {
                    world.commits(at);
                    world.dies(at);
                });
                steps.add(event("has not written"), |world| world.dies(at));
            }
            Phase::Leaving(request, row) => steps.add(event("leaves, and returns"), |world| {
                world.run(request);
                world.returns(at, row);
            }),
            Phase::Dead => {}
        }
        let waits = matches!(writer.phase, Phase::Entering | Phase::Leaving(..));
        if waits && world.left.lost_replies > 0 {
            steps.add(event("hears nothing"), |world| world.hears_no_answer(at));
        }
        let can_crash = waits || matches!(writer.phase, Phase::Ready { .. });
        if can_crash && world.left.crashes > 0 {
            steps.add(event("crashes"), |world| {
                world.left.crashes -= 1;
                world.gives_up(at);
            });
        }
    }
}

fn enter(at: usize) -> Request {
    Request::Enter { token: at as u64 }
}

fn leave(at: usize) -> Request {
    Request::Leave { token: at as u64 }
}

/// The actions of a writer.
impl World {
    fn has_entered(&mut self, at: usize) {
        let stamp = match (&self.entry, self.writers[at].kind) {
            (Some(Entry::Guard(guard)), Kind::Through) => guard.stamp,
            // The stamp has no other use.
            _ => 0,
        };
        self.writers[at].phase = Phase::Ready { stamp };
    }

    /// A fresh row of the older version is converted and about to be written back.
    fn converts(&mut self, at: usize) {
        match self.entry {
            Some(Entry::Row {
                version: OLDER,
                stamp,
                row: Some(row),
                timing,
            }) if timing.is_none_or(|timing| timing.fresh) => {
                self.writers[at].phase = Phase::Leaving(Request::Migrate { stamp, row }, row);
            }
            _ => self.dies(at),
        }
    }

    /// Every later read must return a row that was written under a guard. If a guard may be
    /// evicted, this is promised only after the writer has returned.
    fn commits(&mut self, at: usize) {
        self.row += 1;
        if self.writers[at].is_guarded() && self.setup.0.budget.evictions == 0 {
            self.floor = self.row;
        }
    }

    fn writes(&mut self, at: usize) {
        let Writer {
            kind,
            phase: Phase::Ready { stamp },
        } = self.writers[at]
        else {
            return;
        };
        self.commits(at);
        let (token, row) = (at as u64, self.row);
        let request = match kind {
            Kind::Update => leave(at),
            Kind::Through => {
                let guard = Name { token, stamp };
                Request::StoreThrough { guard, row }
            }
            Kind::Delete => Request::Delete,
            Kind::MarkStale => Request::MarkStale,
            Kind::WriteBack => unreachable!("it writes no row"),
        };
        self.writers[at].phase = Phase::Leaving(request, row);
    }

    /// It reports that it wrote this row.
    fn returns(&mut self, at: usize, row: Row) {
        let least = match self.writers[at].kind {
            Kind::Update | Kind::Through | Kind::Delete => &mut self.floor,
            Kind::MarkStale => &mut self.soft,
            // It has promised nothing.
            Kind::WriteBack => return self.dies(at),
        };
        *least = row.max(*least);
        self.dies(at);
    }

    fn is_unsure(&mut self, at: usize) {
        self.writers[at].phase = Phase::Unsure;
        if self.setup.0.mutation == Some(Mutation::LeaveOnError) {
            self.stray(leave(at));
        }
    }

    /// A writer that did not get its guard does not write, and removes the guard if it exists after
    /// all. A writer without an answer to its last request does not report its write, and has the
    /// key deleted later.
    fn hears_no_answer(&mut self, at: usize) {
        self.left.lost_replies -= 1;
        let after = match (self.writers[at].phase, self.writers[at].kind) {
            (Phase::Entering, _) => Some(leave(at)),
            // Its value may or may not have been written back.
            (_, Kind::WriteBack) => None,
            _ => Some(Request::Delete),
        };
        self.gives_up(at);
        if let Some(after) = after {
            self.stray(after);
        }
    }

    /// Its sent request may still run.
    fn gives_up(&mut self, at: usize) {
        match self.writers[at].phase {
            Phase::Entering => self.stray(enter(at)),
            Phase::Leaving(request, _) => self.stray(request),
            Phase::Looking | Phase::Ready { .. } | Phase::Unsure | Phase::Dead => {}
        }
        self.dies(at);
    }

    fn dies(&mut self, at: usize) {
        self.writers[at].phase = Phase::Dead;
    }
}
