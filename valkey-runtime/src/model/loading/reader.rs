//! A caller of a loading verb. It acts as the shell does, and the real [`Call`] decides the
//! actions.

use crate::model::explore::names::{Bell, Visitor};
use crate::model::explore::{Flaw, Ghost};
use crate::model::loading::server::{Entry, Kept, Request, Row};
use crate::model::loading::world::{Event, Steps, World};
use crate::model::loading::{Caller, Mutation};
use crate::protocol::call::{Call, Loaded, Seen, Step};
use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::flights::{FlightId, Flights, Moment};
use crate::protocol::share::Share;
use crate::protocol::transition::Rejected;
use crate::protocol::turns::TurnId;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    name: Ghost<usize>,
    pub(crate) process: usize,
    caller: Caller,
    /// It may get no older row.
    floor: Row,
    /// It may get no older row than this as a fresh one.
    soft: Row,
    /// The stale or claimed value that it was shown.
    kept: Option<Kept>,
    /// The caller has its answer: further work goes on beside it.
    served: bool,
    call: Call<()>,
    phase: Phase,
    /// Its turn, if turns are limited.
    turn: Option<TurnId>,
    /// Its future is not polled.
    still: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Has sent a request, which the server has not run yet.
    Sent(Query),
    /// The request has run, and this is the answer.
    Answered(Query, Option<Entry>),
    /// Waits for its turn. With a mutation it has a lease already.
    Queued(Option<Lease>),
    /// Is to request a lease.
    Ask {
        rejected: Rejected,
    },
    /// Is to look again, after a pause or at its turn.
    Look,
    /// Sleeps until the flight changes.
    Asleep(FlightId),
    /// The flight has changed.
    Woken,
    /// Is to read the row.
    Load(Load),
    /// Has read this row.
    Loading(Load, Row),
    /// Its loader never ends.
    Hung(Load),
    Over,
}

/// A request of a caller that waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Query {
    request: Request,
    sent: Moment,
    /// It is not the caller's first look.
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Load {
    lease: Option<Lease>,
    /// It has no lease, other callers of its process wait for it, and none of them got one since it
    /// began.
    alone: bool,
}

impl Reader {
    pub(crate) fn new(name: usize, process: usize, caller: Caller) -> Self {
        Self {
            name: Ghost(name),
            process,
            caller,
            floor: 0,
            soft: 0,
            kept: None,
            served: false,
            call: Call::new((), 0),
            phase: Phase::Idle,
            turn: None,
            still: false,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Over)
    }

    /// Whether nothing more has to happen to it.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over || self.still
    }

    pub(crate) fn flight(&self) -> Option<FlightId> {
        self.call.flight().filter(|_| self.is_active())
    }

    /// Whether it has a lease but waits to load.
    pub(crate) fn holds_an_idle_lease(&self) -> bool {
        matches!(self.phase, Phase::Queued(Some(_)))
    }

    pub(crate) fn loads_alone(&self) -> bool {
        let loads =
            matches!(&self.phase, Phase::Load(load) | Phase::Loading(load, _) if load.alone);
        loads && !self.still
    }

    /// The sort key of callers: those of a process are interchangeable.
    pub(crate) fn rank(&self) -> (usize, u8, Row, Row) {
        let phase = match &self.phase {
            Phase::Idle => 0,
            Phase::Sent(query) => 1 + u8::from(query.request == Request::Get),
            Phase::Answered(query, _) => 3 + u8::from(query.request == Request::Get),
            Phase::Ask { .. } => 5,
            Phase::Asleep(_) => 6,
            Phase::Woken => 7,
            Phase::Load(_) => 8,
            Phase::Loading(..) => 9,
            Phase::Over => 10,
            Phase::Queued(_) => 11,
            Phase::Look => 12,
            Phase::Hung(_) => 13,
        };
        (self.process, phase, self.floor, self.soft)
    }

    /// The value for which it loads, if its lease is a claim: a value that it has not claimed may
    /// be gone.
    fn claimed(&self, lease: Option<Lease>) -> Option<Kept> {
        let is_on =
            |kept: &Kept| matches!(lease, Some(Lease::Claim { stamp, .. }) if stamp == kept.stamp);
        self.kept.filter(is_on)
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        if !self.is_active() {
            return;
        }
        self.call.visit(visitor);
        self.turn.iter_mut().for_each(|turn| visitor.moment(turn));
        let kept = self.kept.iter_mut();
        kept.for_each(|kept| visitor.stamp(&mut kept.stamp));
        match &mut self.phase {
            Phase::Sent(query) => query.visit(visitor),
            Phase::Answered(query, answer) => {
                query.visit(visitor);
                answer.iter_mut().for_each(|entry| entry.visit(visitor));
            }
            Phase::Ask { rejected } => {
                if let Rejected::Stamp(stamp) | Rejected::Claim(stamp) = rejected {
                    visitor.stamp(stamp);
                }
            }
            Phase::Asleep(flight) => flight.visit(visitor),
            Phase::Load(load) | Phase::Loading(load, _) | Phase::Hung(load) => {
                load.lease.iter_mut().for_each(|lease| visitor.lease(lease));
            }
            Phase::Queued(lease) => lease.iter_mut().for_each(|lease| visitor.lease(lease)),
            Phase::Idle | Phase::Look | Phase::Woken | Phase::Over => {}
        }
    }

    /// The actions of the caller, and the events that may happen to it.
    pub(crate) fn steps(at: usize, steps: &mut Steps<'_>) {
        let world = steps.world;
        let reader = &world.readers[at];
        let event = |what| Event::Reader(reader.name.0, what);
        if reader.still {
            return world.still_steps(at, steps);
        }
        match &reader.phase {
            Phase::Idle => steps.add(event("calls"), |world| world.begins(at)),
            Phase::Sent(_) if world.setup.0.down => {
                steps.add(event("finds the server down"), |world| {
                    world.hears_nothing(at)
                });
            }
            Phase::Sent(_) => steps.add(event("is heard"), |world| world.is_heard(at)),
            Phase::Answered(query, answer) => {
                steps.add(event("is answered"), |world| world.is_answered(at, true));
                let asked = query.again || matches!(query.request, Request::Lease { .. });
                let asked = asked && !reader.served;
                let others = |entry: &Entry| match entry {
                    Entry::Lease(_) => true,
                    _ => entry.timing().is_some_and(|timing| timing.claim.is_some()),
                };
                if asked && answer.as_ref().is_some_and(others) {
                    let event = event("is answered, and has waited too long");
                    steps.add(event, |world| world.is_answered(at, false));
                }
                if world.left.resends > 0 {
                    steps.add(event("is heard again"), |world| world.is_heard_again(at));
                }
            }
            Phase::Ask { .. } => steps.add(event("asks for a lease"), |world| world.asks(at)),
            Phase::Look => steps.add(event("looks again"), |world| world.looks(at)),
            Phase::Queued(_) if world.has_turn(at) => {
                steps.add(event("is at its turn"), |world| world.is_at_turn(at));
            }
            Phase::Queued(_) if world.lost_turn(at) => {
                steps.add(event("asks for a turn once more"), |world| world.enters(at));
            }
            Phase::Queued(_) => {}
            Phase::Woken => steps.add(event("is woken"), |world| world.wakes(at)),
            Phase::Load(_) => steps.add(event("reads the row"), |world| world.reads(at)),
            Phase::Loading(load, row) => {
                steps.add(event("has loaded"), |world| world.has_loaded(at));
                let claimed = reader.claimed(load.lease);
                if claimed.is_some_and(|kept| kept.row == *row) {
                    let event = event("has loaded, and nothing has changed");
                    steps.add(event, |world| world.has_confirmed(at));
                }
                if world.left.discards > 0 {
                    let event = event("has loaded what is not stored");
                    steps.add(event, |world| world.has_to_discard(at));
                }
                if world.left.failed_loads > 0 {
                    steps.add(event("fails to load"), |world| world.fails(at));
                }
                if world.left.hangs > 0 && !reader.served {
                    steps.add(event("hangs"), |world| world.hangs(at));
                }
            }
            Phase::Asleep(_) if world.left.timeouts > 0 => {
                steps.add(event("waits no longer"), |world| world.waits_no_longer(at));
            }
            Phase::Hung(_) => {
                if world.setup.0.mutation != Some(Mutation::NoDeadline) {
                    steps.add(event("passes its deadline"), |world| world.is_late(at));
                }
                return;
            }
            Phase::Asleep(_) | Phase::Over => {}
        }
        let may_be_served = !reader.served && world.serving(at).is_some();
        if may_be_served && world.left.timeouts > 0 {
            match &reader.phase {
                Phase::Ask { .. } | Phase::Look | Phase::Queued(_) | Phase::Asleep(_) => {
                    let event = event("waits no longer, and makes do");
                    steps.add(event, |world| world.makes_do(at));
                }
                Phase::Load(_) | Phase::Loading(..) => {
                    let event = event("makes do, and goes on");
                    steps.add(event, |world| world.is_overtaken(at));
                }
                _ => {}
            }
        }
        let waits = matches!(reader.phase, Phase::Sent(_) | Phase::Answered(..));
        if waits && world.left.lost_replies > 0 {
            steps.add(event("hears nothing"), |world| {
                world.left.lost_replies -= 1;
                world.hears_nothing(at);
            });
        }
        if reader.is_active() && world.left.stalls > 0 && !reader.served {
            steps.add(event("is not polled any more"), |world| {
                world.left.stalls -= 1;
                world.readers[at].still = true;
            });
        }
        if reader.is_active() && world.left.drops > 0 {
            steps.add(event("is dropped"), |world| world.is_dropped(at));
        }
    }
}

impl Query {
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.moment(&mut self.sent);
        self.request.visit(visitor);
    }
}

/// The actions of a caller.
impl World {
    fn begins(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let sent = self.processes[reader.process].moment();
        // A caller from before all others may follow any flight.
        let blind = self.setup.0.mutation == Some(Mutation::BlindJoin);
        reader.call = Call::new((), if blind { 0 } else { sent });
        (reader.floor, reader.soft) = (self.floor, self.soft);
        let Caller { version, fresh, .. } = reader.caller;
        let request = if fresh {
            let token = self.token();
            Request::FreshLease { token, version }
        } else {
            Request::Get
        };
        self.readers[at].phase = Phase::Sent(Query {
            request,
            sent,
            again: false,
        });
    }

    fn is_heard(&mut self, at: usize) {
        if let Phase::Sent(query) = self.readers[at].phase {
            self.run(query.request);
            self.readers[at].phase = Phase::Answered(query, self.entry.clone());
        }
    }

    /// A second copy of the request runs, and its answer counts.
    fn is_heard_again(&mut self, at: usize) {
        if let Phase::Answered(query, _) = self.readers[at].phase {
            self.run_again(query.request);
            self.readers[at].phase = Phase::Answered(query, self.entry.clone());
        }
    }

    fn is_answered(&mut self, at: usize, patient: bool) {
        let reader = &mut self.readers[at];
        let Phase::Answered(query, answer) = &reader.phase else {
            return;
        };
        let (query, asked) = (*query, query.request.asked());
        let (version, serves) = (reader.caller.version, self.setup.0.serves);
        let (seen, kept) = Entry::seen(answer.as_ref(), version, asked, serves);
        match (answer, seen) {
            (
                &Some(Entry::Row {
                    stamp,
                    timing: Some(timing),
                    ..
                }),
                Seen::Hit(row),
            ) if reader.caller.refresh && asked.is_none() && timing.claim.is_none() => {
                self.refreshes(at, stamp, row);
            }
            (_, seen) => {
                reader.kept = kept.or(reader.kept);
                self.sees(at, query, seen, patient);
            }
        }
    }

    /// The caller has its value, and wants the next one before the value is stale.
    fn refreshes(&mut self, at: usize, stamp: u64, row: Row) {
        self.is_given(at, Share::Value(row));
        self.readers[at].served = true;
        let step = self.with(at, |call, flights, _| call.refreshes(flights, stamp));
        match step {
            Some(step) => self.follow(at, step),
            None => self.ends(at),
        }
    }

    fn hears_nothing(&mut self, at: usize) {
        let query = match self.readers[at].phase {
            Phase::Sent(query) => {
                self.stray(query.request);
                query
            }
            Phase::Answered(query, _) => query,
            _ => return,
        };
        self.sees(at, query, Seen::Closed, true);
    }

    fn sees(&mut self, at: usize, query: Query, seen: Seen<Row>, patient: bool) {
        let step = match query.request {
            Request::Lease { token, .. } => self.with(at, |call, flights, now| {
                call.asked(flights, now, (query.sent, token), seen, patient)
            }),
            Request::FreshLease { token, .. } => match seen {
                Seen::Lease(lease) if lease.is_of(token) => Step::Load(Some(lease)),
                _ => Step::Load(None),
            },
            _ if query.again => self.with(at, |call, flights, _| {
                call.looked(flights, query.sent, seen, patient)
            }),
            _ => self.with(at, |call, flights, _| call.got(flights, seen)),
        };
        match step {
            Step::Load(Some(_)) => self.follow(at, step),
            // Its load is only a refresh, so it does not wait.
            _ if self.readers[at].served => self.ends(at),
            _ => self.follow(at, step),
        }
    }

    fn asks(&mut self, at: usize) {
        if let Phase::Ask { rejected } = self.readers[at].phase {
            let token = self.token();
            let sent = self.with(at, |call, flights, now| {
                call.asking(flights, now, token);
                now
            });
            let request = Request::Lease { token, rejected };
            self.readers[at].phase = Phase::Sent(Query {
                request,
                sent,
                again: false,
            });
        }
    }

    fn looks(&mut self, at: usize) {
        let sent = self.processes[self.readers[at].process].moment();
        self.readers[at].phase = Phase::Sent(Query {
            request: Request::Get,
            sent,
            again: true,
        });
    }

    fn wakes(&mut self, at: usize) {
        let step = self.with(at, |call, flights, _| call.moved(flights));
        self.follow(at, step);
    }

    /// It loads alone, and shares the result with nobody.
    fn waits_no_longer(&mut self, at: usize) {
        self.left.timeouts -= 1;
        self.leaves(at);
        let step = self.readers[at].call.goes_alone();
        self.follow(at, step);
    }

    /// It does not load either: it takes the fallback.
    fn makes_do(&mut self, at: usize) {
        self.left.timeouts -= 1;
        self.leaves(at);
        if let Some(kept) = self.serving(at) {
            self.gives(at, Share::Stale(kept.row));
        }
    }

    /// The same, while its load continues.
    fn is_overtaken(&mut self, at: usize) {
        self.left.timeouts -= 1;
        if let Some(kept) = self.serving(at) {
            self.is_given(at, Share::Stale(kept.row));
            self.readers[at].served = true;
        }
    }

    /// The value that may serve as a fallback.
    fn serving(&self, at: usize) -> Option<Kept> {
        self.readers[at].kept.filter(|_| self.setup.0.serves)
    }

    fn reads(&mut self, at: usize) {
        if let Phase::Load(load) = self.readers[at].phase {
            self.readers[at].phase = Phase::Loading(load, self.row);
        }
    }

    fn has_loaded(&mut self, at: usize) {
        let version = self.readers[at].caller.version;
        self.ends_load(at, |lease, row| Request::Fill {
            lease,
            version,
            row,
        });
    }

    fn has_confirmed(&mut self, at: usize) {
        let version = self.readers[at].caller.version;
        self.ends_load(at, |lease, _| Request::Confirm { lease, version });
    }

    fn has_to_discard(&mut self, at: usize) {
        self.left.discards -= 1;
        self.ends_load(at, |lease, _| Request::Discard(lease));
    }

    /// Followers get the result, and it is on its way to the server. The caller returns whatever
    /// the answer is.
    fn ends_load(&mut self, at: usize, then: impl FnOnce(Lease, Option<Row>) -> Request) {
        let Phase::Loading(Load { lease, .. }, row) = self.readers[at].phase else {
            return;
        };
        let found = Some(row).filter(|row| self.setup.0.absent != Some(*row));
        let share = found.map_or(Share::Nothing, Share::Value);
        let loaded = Loaded::Share(share.clone());
        self.with(at, |call, flights, _| call.loaded(flights, loaded));
        let unclaimed = Lease::Claim { token: 1, stamp: 0 };
        let unclaimed =
            Some(unclaimed).filter(|_| self.setup.0.mutation == Some(Mutation::UnclaimedFill));
        if let Some(lease) = lease.or(unclaimed) {
            self.stray(then(lease, found));
        }
        self.gives(at, share);
    }

    /// The value that the caller was shown may have to serve as a fallback.
    fn fails(&mut self, at: usize) {
        let Phase::Loading(Load { lease, .. }, _) = self.readers[at].phase else {
            return;
        };
        self.left.failed_loads -= 1;
        let loaded = self.told_of_failure(at, lease);
        self.with(at, |call, flights, _| call.loaded(flights, loaded));
        if let Some(lease) = lease {
            self.stray(Request::release(lease, true));
        }
        match self.serving(at) {
            Some(kept) => self.gives(at, Share::Stale(kept.row)),
            None => self.ends(at),
        }
    }

    /// The result for its followers. A value that it has claimed existed when all of them had
    /// called. A value that it saw earlier may be gone since.
    fn told_of_failure(&self, at: usize, lease: Option<Lease>) -> Loaded<Row> {
        let is_claimed = self.readers[at].claimed(lease).is_some();
        let mutation = self.setup.0.mutation;
        match self.serving(at) {
            Some(kept) if mutation == Some(Mutation::StaleServedAsFresh) => {
                Loaded::Share(Share::Value(kept.row))
            }
            Some(kept) if is_claimed || mutation == Some(Mutation::UnclaimedShared) => {
                Loaded::Share(Share::Stale(kept.row))
            }
            _ => Loaded::Failed,
        }
    }

    fn is_dropped(&mut self, at: usize) {
        self.left.drops -= 1;
        match self.setup.0.mutation {
            Some(Mutation::SilentDrop) => self.vanishes(at),
            _ => self.ends(at),
        }
    }

    /// The caller gets this result, and is done.
    fn gives(&mut self, at: usize, share: Share<Row>) {
        self.is_given(at, share);
        self.ends(at);
    }

    /// The result must not be older than allowed. Later results go to nobody.
    fn is_given(&mut self, at: usize, share: Share<Row>) {
        let Reader { floor, soft, .. } = self.readers[at];
        let (row, least) = match share {
            Share::Value(row) => (Some(row), floor.max(soft)),
            Share::Stale(row) => (Some(row), floor),
            Share::Nothing => (self.setup.0.absent, floor.max(soft)),
        };
        if !self.readers[at].served && row < Some(least) {
            self.flaw = Some(Flaw::StaleRead);
        }
    }

    /// The caller is done or dropped, and reports it.
    fn ends(&mut self, at: usize) {
        self.leaves(at);
        self.vanishes(at);
    }

    /// Gives back a lease that nobody needs any more.
    fn leaves(&mut self, at: usize) {
        let unneeded = self.with(at, |call, flights, _| call.dropped(flights));
        if let Some(lease) = unneeded {
            self.stray(Request::release(lease, false));
        }
    }

    /// It requests its turn, if turns are limited.
    fn enters(&mut self, at: usize) {
        let come = match self.setup.0.turns {
            0 => true,
            _ if self.has_turn(at) => true,
            _ if self.setup.0.mutation == Some(Mutation::LeaseBeforeTurn) => true,
            _ => self.asks_for_turn(at),
        };
        if come {
            return self.goes_on(at, false);
        }
        // No lease is kept for a load that waits.
        let unneeded = self.with(at, |call, flights, _| call.queues(flights));
        if let Some(lease) = unneeded {
            self.stray(Request::release(lease, false));
        }
        self.readers[at].phase = Phase::Queued(None);
    }

    /// True if the turn is granted at once.
    fn asks_for_turn(&mut self, at: usize) -> bool {
        let process = &mut self.processes[self.readers[at].process];
        let turn = process.moment();
        self.readers[at].turn = Some(turn);
        process.turns.enter(turn, ())
    }

    /// A mutation: the lease comes first.
    fn is_to_queue(&mut self, at: usize) -> bool {
        let early = self.setup.0.mutation == Some(Mutation::LeaseBeforeTurn);
        early && self.setup.0.turns > 0 && !self.asks_for_turn(at)
    }

    fn has_turn(&self, at: usize) -> bool {
        let reader = &self.readers[at];
        let turns = &self.processes[reader.process].turns;
        reader.turn.is_some_and(|turn| turns.has(turn))
    }

    /// The turn was taken away while the caller stood still.
    fn lost_turn(&self, at: usize) -> bool {
        let reader = &self.readers[at];
        let turns = &self.processes[reader.process].turns;
        reader.turn.is_some_and(|turn| !turns.contains(turn))
    }

    fn is_at_turn(&mut self, at: usize) {
        match self.readers[at].phase {
            Phase::Queued(Some(lease)) => self.is_to_load(at, Some(lease)),
            _ => self.goes_on(at, true),
        }
    }

    fn goes_on(&mut self, at: usize, waited: bool) {
        let step = self.with(at, |call, flights, now| call.at_turn(flights, now, waited));
        self.follow(at, step);
    }

    fn leaves_turn(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        if let Some(turn) = reader.turn.take() {
            self.processes[reader.process].turns.leave(turn);
        }
    }

    /// The events for a caller that is not polled: others go on without it, and then it may be
    /// polled again.
    fn still_steps(&self, at: usize, steps: &mut Steps<'_>) {
        let reader = &self.readers[at];
        let event = |what| Event::Reader(reader.name.0, what);
        let process = &self.processes[reader.process];
        let flight = reader.call.leads();
        let flight = flight.filter(|flight| process.flights.contains(*flight));
        let holds = reader.turn.is_some_and(|turn| process.turns.has(turn));
        if flight.is_none() && !holds {
            steps.add(event("is polled again"), |world| {
                world.readers[at].still = false;
            });
        }
        if self.setup.0.mutation == Some(Mutation::Unwatched) {
            return;
        }
        if let Some(flight) = flight {
            steps.add(event("is seen to stand still by who follows it"), |world| {
                world.with(at, |_, flights, _| flights.depose(flight));
                world.loses_turn(at);
                let phase = &mut world.readers[at].phase;
                if let Phase::Load(load) | Phase::Loading(load, _) = phase {
                    load.alone = false;
                }
            });
        }
        if holds {
            steps.add(event("is seen to stand still by who is queued"), |world| {
                world.loses_turn(at);
            });
        }
    }

    /// It loses its turn to another caller, and does not know.
    fn loses_turn(&mut self, at: usize) {
        let reader = &self.readers[at];
        if let Some(turn) = reader.turn {
            self.processes[reader.process].turns.leave(turn);
        }
    }

    fn hangs(&mut self, at: usize) {
        self.left.hangs -= 1;
        if let Phase::Loading(load, _) = self.readers[at].phase {
            self.readers[at].phase = Phase::Hung(load);
        }
    }

    /// Its load has failed for all but its own caller. That caller continues to wait; here it is
    /// gone.
    fn is_late(&mut self, at: usize) {
        if let Phase::Hung(Load { lease, .. }) = self.readers[at].phase {
            self.with(at, |call, flights, _| {
                call.loaded(flights, Loaded::Overtaken)
            });
            if let Some(lease) = lease {
                self.stray(Request::release(lease, true));
            }
            self.ends(at);
        }
    }

    /// The caller is gone. Its sent request may still run.
    pub(crate) fn vanishes(&mut self, at: usize) {
        self.leaves_turn(at);
        if let Phase::Sent(query) = self.readers[at].phase {
            self.stray(query.request);
        }
        let reader = &mut self.readers[at];
        *reader = Reader::new(reader.name.0, reader.process, reader.caller);
        reader.phase = Phase::Over;
    }

    /// Carries out the step of the call.
    fn follow(&mut self, at: usize, step: Step<Row>) {
        match step {
            Step::Turn => self.enters(at),
            Step::Ask { rejected } => self.readers[at].phase = Phase::Ask { rejected },
            Step::Look => self.readers[at].phase = Phase::Look,
            Step::Pause { .. } => {
                self.leaves_turn(at);
                let step = self.readers[at].call.look_again();
                self.follow(at, step);
            }
            Step::Await(_) if self.setup.0.mutation == Some(Mutation::Restless) => {
                self.is_to_load(at, None);
            }
            Step::Await(flight) => {
                self.leaves_turn(at);
                self.listens(at, flight);
            }
            Step::Load(lease) if self.is_to_queue(at) => {
                self.readers[at].phase = Phase::Queued(lease);
            }
            Step::Load(lease) => self.is_to_load(at, lease),
            Step::Done(share) => self.gives(at, share),
        }
    }

    /// After it begins to listen it looks once more, because the flight may have changed before.
    fn listens(&mut self, at: usize, flight: FlightId) {
        let process = &self.processes[self.readers[at].process];
        let moves = process.flights.wake(flight).is_some();
        let step = self.with(at, |call, flights, _| call.moved(flights));
        if moves && step == Step::Await(flight) {
            self.readers[at].phase = Phase::Asleep(flight);
        } else {
            self.follow(at, step);
        }
    }

    fn is_to_load(&mut self, at: usize, lease: Option<Lease>) {
        let shared = self.readers[at].call.is_in_a_flight();
        if shared && lease.is_some() {
            for reader in self.others(at) {
                if let Phase::Load(load) | Phase::Loading(load, _) = &mut reader.phase {
                    load.alone = false;
                }
            }
        }
        let alone = shared && lease.is_none();
        self.readers[at].phase = Phase::Load(Load { lease, alone });
    }

    /// Lets the call make a step, and wakes the callers concerned.
    fn with<R>(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Call<()>, &mut Flights<(), Row, Bell>, Moment) -> R,
    ) -> R {
        let reader = &mut self.readers[at];
        let process = &mut self.processes[reader.process];
        let now = process.moment();
        let result = step(&mut reader.call, &mut process.flights, now);
        let rung = process.flights.take_wakes();
        if self.setup.0.mutation != Some(Mutation::Deaf) {
            for reader in self.others(at) {
                if let Phase::Asleep(flight) = reader.phase
                    && rung.contains(&flight.bell())
                {
                    reader.phase = Phase::Woken;
                }
            }
        }
        result
    }

    /// The other callers of its process.
    fn others(&mut self, at: usize) -> impl Iterator<Item = &mut Reader> {
        let process = self.readers[at].process;
        let readers = self.readers.iter_mut().enumerate();
        let others =
            readers.filter(move |(other, reader)| *other != at && reader.process == process);
        others.map(|(_, reader)| reader)
    }
}
