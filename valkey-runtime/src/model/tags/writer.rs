//! A writer: its changes of the row, the clock and the epoch, in that order. Each of its requests
//! runs and is answered in one step. Only the writer itself could notice an event in between, and
//! an immediate return makes the strictest demands on later reads.

use crate::model::explore::names::Visitor;
use crate::model::tags::Mutation;
use crate::model::tags::server::{Request, Row, Under};
use crate::model::tags::world::{Event, Steps, World};
use crate::protocol::envelope::placeholder::Lease;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Commits, and then invalidates the tag.
    Invalidate,
    /// The same by a deletion of the epoch, as the outbox delivers it: the clock advances first,
    /// too.
    Delete,
    /// Writes under a guard at the tag.
    Guard,
}

/// Its token is its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    kind: Kind,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Enters,
    /// Has its guard, and advances the clock before it writes.
    AdvancesFirst,
    Commits,
    Advances(Row),
    /// Is to invalidate with this clock, or to leave.
    Ends(Row, u64),
    Over,
    /// Does not renew its place any more. With the lease or claim at the key when it died, if a
    /// caller loaded under one.
    Dead(Option<Lease>),
}

impl Writer {
    pub(crate) fn new(kind: Kind) -> Self {
        let phase = match kind {
            Kind::Guard => Phase::Enters,
            Kind::Invalidate | Kind::Delete => Phase::Commits,
        };
        Self { kind, phase }
    }

    /// Whether its place in the guard at the epoch's key may run out. A live writer renews its
    /// place. A dead writer's place outlives the loads that were under way at its death. A place
    /// made by an old request belongs to nobody.
    pub(crate) fn may_run_out(&self, loading: Option<Lease>, mutation: Option<Mutation>) -> bool {
        match (self.phase, mutation) {
            (Phase::Over, _) | (Phase::Dead(_), Some(Mutation::ShortGuard)) => true,
            (Phase::Dead(Some(Lease::Claim { .. })), Some(Mutation::EndlessClaim)) => true,
            (Phase::Dead(then), _) => then.is_none() || then != loading,
            _ => false,
        }
    }

    /// Forgets a load that is over.
    pub(crate) fn forget(&mut self, loading: Option<Lease>) {
        if let Phase::Dead(then) = &mut self.phase
            && *then != loading
        {
            *then = None;
        }
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        match &mut self.phase {
            Phase::Ends(_, clock) if self.kind == Kind::Invalidate => visitor.clock(clock),
            Phase::Dead(Some(lease)) => visitor.lease(lease),
            _ => {}
        }
    }

    pub(crate) fn steps(at: usize, steps: &mut Steps<'_>) {
        let world = steps.world;
        let writer = &world.writers[at];
        let event = |what| Event::Writer(at, what);
        match writer.phase {
            Phase::Enters => steps.add(event("enters"), |world| {
                world.run(enter(at));
                let once = world.setup.0.mutation == Some(Mutation::AdvancedOnce);
                world.writers[at].phase = match once {
                    true => Phase::Commits,
                    false => Phase::AdvancesFirst,
                };
            }),
            Phase::AdvancesFirst => steps.add(event("advances the clock"), |world| {
                world.run(Request::Advance);
                world.writers[at].phase = Phase::Commits;
            }),
            Phase::Commits => steps.add(event("commits"), |world| world.commits(at)),
            Phase::Advances(row) => steps.add(event("advances the clock"), |world| {
                world.run(Request::Advance);
                // The clock has no other use.
                let clock = match world.writers[at].kind {
                    Kind::Invalidate => world.server.clock.unwrap_or(0),
                    Kind::Delete | Kind::Guard => 0,
                };
                world.writers[at].phase = Phase::Ends(row, clock);
            }),
            Phase::Ends(row, clock) => steps.add(event("ends, and returns"), |world| {
                world.run(world.writers[at].last(at, clock));
                world.floor = world.floor.max(row);
                world.writers[at].phase = Phase::Over;
            }),
            Phase::Over | Phase::Dead(_) => return,
        }
        // Before its first step a death makes no difference.
        if world.left.crashes > 0 && writer.phase != Writer::new(writer.kind).phase {
            steps.add(event("dies"), |world| world.dies(at));
        }
        if world.left.resends > 0
            && let Some(request) = writer.request(at)
        {
            steps.add(event("is heard, and will be again"), |world| {
                world.run_first(request);
            });
        }
    }

    fn request(&self, at: usize) -> Option<Request> {
        match self.phase {
            Phase::Enters => Some(enter(at)),
            Phase::AdvancesFirst | Phase::Advances(_) => Some(Request::Advance),
            Phase::Ends(_, clock) => Some(self.last(at, clock)),
            Phase::Commits | Phase::Over | Phase::Dead(_) => None,
        }
    }

    fn last(&self, at: usize, clock: u64) -> Request {
        match self.kind {
            Kind::Invalidate => Request::Raise { clock },
            Kind::Delete => Request::Delete,
            Kind::Guard => Request::Leave { token: at as u64 },
        }
    }
}

fn enter(at: usize) -> Request {
    Request::Enter { token: at as u64 }
}

impl World {
    /// Every later read must return a row that was written under a guard. If a guard may be
    /// evicted, this is promised only after the writer has returned.
    fn commits(&mut self, at: usize) {
        self.row += 1;
        if self.writers[at].kind == Kind::Guard && self.setup.0.budget.evictions == 0 {
            self.floor = self.row;
        }
        self.writers[at].phase = Phase::Advances(self.row);
    }

    /// Its sent requests may still run, as if it died later.
    fn dies(&mut self, at: usize) {
        self.left.crashes -= 1;
        let loading = self.server.loading();
        self.writers[at].phase = match self.writers[at].kind {
            Kind::Guard => Phase::Dead(loading),
            Kind::Invalidate | Kind::Delete => Phase::Over,
        };
    }

    pub(crate) fn places_run_out(steps: &mut Steps<'_>) {
        let world = steps.world;
        let Some(Under::Guard(guard)) = &world.server.epoch else {
            return;
        };
        for place in &guard.writers {
            let writer = usize::try_from(place.token).map(|at| &world.writers[at]);
            let (loading, mutation) = (world.server.loading(), world.setup.0.mutation);
            if writer.is_ok_and(|writer| writer.may_run_out(loading, mutation)) {
                let token = place.token;
                steps.add(
                    Event::Server("lets a place in the guard run out"),
                    |world| {
                        world.server.place_runs_out(token);
                    },
                );
            }
        }
    }
}
