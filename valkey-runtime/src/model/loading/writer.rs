//! A writer: what it does to the row and to the key, in that order.
//!
//! Its requests are run and answered in one step. In between nobody but itself could tell; what it is told when it enters it
//! needs only after the write, and to return at once is what asks most of those who read after.

use crate::model::explore::names::Visitor;
use crate::model::loading::Mutation;
use crate::model::loading::server::{Entry, Request, Row};
use crate::model::loading::world::{Event, Steps, World};
use crate::protocol::envelope::placeholder::Name;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A guarded update.
    Update,
    /// The same, and stores what it wrote.
    Through,
    /// A plain write, then a deletion.
    Delete,
    /// A plain write, then a soft expiry.
    MarkStale,
}

/// Its token is its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    kind: Kind,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Has asked for a guard.
    Entering,
    /// Is to write, under a guard that was made then.
    Ready { stamp: u64 },
    /// The write has reported an error, and may be committed yet.
    Unsure,
    /// Has written this row, and told the server.
    Leaving(Request, Row),
    /// Does nothing any more. Nor does it renew its place.
    Dead,
}

impl Writer {
    pub(crate) fn new(kind: Kind) -> Self {
        let phase = match kind {
            Kind::Update | Kind::Through => Phase::Entering,
            Kind::Delete | Kind::MarkStale => Phase::Ready { stamp: 0 },
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
            Phase::Entering | Phase::Ready { .. } | Phase::Unsure | Phase::Dead => {}
        }
    }

    /// What the writer may do, and what may happen to it.
    pub(crate) fn steps(at: usize, steps: &mut Steps<'_>) {
        let world = steps.world;
        let writer = &world.writers[at];
        let event = |what| Event::Writer(at, what);
        match writer.phase {
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

/// What a writer does.
impl World {
    fn has_entered(&mut self, at: usize) {
        let stamp = match (&self.entry, self.writers[at].kind) {
            (Some(Entry::Guard(guard)), Kind::Through) => guard.stamp,
            // It has no use for it.
            _ => 0,
        };
        self.writers[at].phase = Phase::Ready { stamp };
    }

    /// A row that is written under a guard is given to every read from now on. Where a guard may be evicted no one promises
    /// that before the writer has returned.
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
        };
        self.writers[at].phase = Phase::Leaving(request, row);
    }

    /// It says that it wrote this row.
    fn returns(&mut self, at: usize, row: Row) {
        let least = match self.writers[at].kind {
            Kind::Update | Kind::Through | Kind::Delete => &mut self.floor,
            Kind::MarkStale => &mut self.soft,
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

    /// Who was not given its guard does not write, and takes it away if it is there after all. Who is not told that it has
    /// left does not say that it wrote, and has the key deleted later.
    fn hears_no_answer(&mut self, at: usize) {
        self.left.lost_replies -= 1;
        let after = match self.writers[at].phase {
            Phase::Entering => leave(at),
            _ => Request::Delete,
        };
        self.gives_up(at);
        self.stray(after);
    }

    /// What it has sent may still be run.
    fn gives_up(&mut self, at: usize) {
        match self.writers[at].phase {
            Phase::Entering => self.stray(enter(at)),
            Phase::Leaving(request, _) => self.stray(request),
            Phase::Ready { .. } | Phase::Unsure | Phase::Dead => {}
        }
        self.dies(at);
    }

    fn dies(&mut self, at: usize) {
        self.writers[at].phase = Phase::Dead;
    }
}
