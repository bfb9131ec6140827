//! A caller of a loading verb. It does what the shell does, and the real [`Call`] says what that is.

use super::explorer::Flaw;
use super::names::Visitor;
use super::server::{Entry, Request, Row};
use super::world::{Bell, Event, Ghost, Steps, World};
use super::{Caller, Mutation};
use crate::envelope::placeholder::Lease;
use crate::loading::call::{Call, Loaded, Seen, Share, Step};
use crate::loading::flights::{FlightId, Flights, Moment};
use crate::transition::Rejected;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reader {
    name: Ghost<usize>,
    pub(super) process: usize,
    caller: Caller,
    /// No older row may be given to it.
    floor: Row,
    call: Call<()>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Has sent a request, which the server has not run yet.
    Sent(Query),
    /// It was run, and this is the answer.
    Answered(Query, Option<Entry>),
    /// Is to ask for a lease, at once or after a pause.
    Ask {
        rejected: Rejected,
    },
    /// Sleeps until the flight moves.
    Asleep(FlightId),
    /// It has moved.
    Woken,
    /// Is to read the row.
    Load(Load),
    /// Has read this one.
    Loading(Load, Row),
    Over,
}

/// A request of a caller that waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Query {
    request: Request,
    sent: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Load {
    lease: Option<Lease>,
    /// It has no lease, others of its process wait for it, and none of them was given one since it began.
    alone: bool,
}

impl Reader {
    pub(super) fn new(name: usize, process: usize, caller: Caller) -> Self {
        Self {
            name: Ghost(name),
            process,
            caller,
            floor: 0,
            call: Call::new((), 0),
            phase: Phase::Idle,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Over)
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(super) fn loads_alone(&self) -> bool {
        matches!(&self.phase, Phase::Load(load) | Phase::Loading(load, _) if load.alone)
    }

    /// What callers are sorted by: those of a process are interchangeable.
    pub(super) fn rank(&self) -> (usize, u8, Row) {
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
        };
        (self.process, phase, self.floor)
    }

    pub(super) fn visit(&mut self, visitor: &mut impl Visitor) {
        if !self.is_active() {
            return;
        }
        self.call.visit(visitor);
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
            Phase::Load(load) | Phase::Loading(load, _) => {
                load.lease.iter_mut().for_each(|lease| visitor.lease(lease));
            }
            Phase::Idle | Phase::Woken | Phase::Over => {}
        }
    }

    /// What the caller may do, and what may happen to it.
    pub(super) fn steps(at: usize, steps: &mut Steps<'_>) {
        let world = steps.world;
        let reader = &world.readers[at];
        let event = |what| Event::Reader(reader.name.0, what);
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
                let asked = matches!(query.request, Request::Lease { .. });
                if asked && matches!(answer, Some(Entry::Lease(_))) {
                    let event = event("is answered, and has waited too long");
                    steps.add(event, |world| world.is_answered(at, false));
                }
                if world.left.resends > 0 {
                    steps.add(event("is heard again"), |world| world.is_heard_again(at));
                }
            }
            Phase::Ask { .. } => steps.add(event("asks for a lease"), |world| world.asks(at)),
            Phase::Woken => steps.add(event("is woken"), |world| world.wakes(at)),
            Phase::Load(_) => steps.add(event("reads the row"), |world| world.reads(at)),
            Phase::Loading(..) => {
                steps.add(event("has loaded"), |world| world.has_loaded(at));
                if world.left.failed_loads > 0 {
                    steps.add(event("fails to load"), |world| world.fails(at));
                }
            }
            Phase::Asleep(_) if world.left.timeouts > 0 => {
                steps.add(event("waits no longer"), |world| world.waits_no_longer(at));
            }
            Phase::Asleep(_) | Phase::Over => {}
        }
        let waits = matches!(reader.phase, Phase::Sent(_) | Phase::Answered(..));
        if waits && world.left.lost_replies > 0 {
            steps.add(event("hears nothing"), |world| {
                world.left.lost_replies -= 1;
                world.hears_nothing(at);
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

/// What a caller does.
impl World {
    fn begins(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let sent = self.processes[reader.process].moment();
        // Who called before all others may follow any flight.
        let blind = self.setup.0.mutation == Some(Mutation::BlindJoin);
        reader.call = Call::new((), if blind { 0 } else { sent });
        reader.floor = self.floor;
        let Caller { version, fresh } = reader.caller;
        let request = if fresh {
            let token = self.token();
            Request::FreshLease { token, version }
        } else {
            Request::Get
        };
        self.readers[at].phase = Phase::Sent(Query { request, sent });
    }

    fn is_heard(&mut self, at: usize) {
        if let Phase::Sent(query) = self.readers[at].phase {
            self.run(query.request);
            self.readers[at].phase = Phase::Answered(query, self.entry.clone());
        }
    }

    /// A second copy of the request is run, and it is this one that is answered.
    fn is_heard_again(&mut self, at: usize) {
        if let Phase::Answered(query, _) = self.readers[at].phase {
            self.run_again(query.request);
            self.readers[at].phase = Phase::Answered(query, self.entry.clone());
        }
    }

    fn is_answered(&mut self, at: usize, patient: bool) {
        let reader = &self.readers[at];
        if let Phase::Answered(query, answer) = &reader.phase {
            let seen = Entry::seen(answer.as_ref(), reader.caller.version);
            self.sees(at, *query, seen, patient);
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
            _ => self.with(at, |call, flights, now| call.got(flights, now, seen)),
        };
        self.follow(at, step);
    }

    fn asks(&mut self, at: usize) {
        if let Phase::Ask { rejected } = self.readers[at].phase {
            let token = self.token();
            let sent = self.with(at, |call, flights, now| {
                call.asking(flights, now, token);
                now
            });
            let request = Request::Lease { token, rejected };
            self.readers[at].phase = Phase::Sent(Query { request, sent });
        }
    }

    fn wakes(&mut self, at: usize) {
        let step = self.with(at, |call, flights, now| call.moved(flights, now));
        self.follow(at, step);
    }

    /// It loads itself, and shares that with nobody.
    fn waits_no_longer(&mut self, at: usize) {
        self.left.timeouts -= 1;
        self.leaves(at);
        self.is_to_load(at, None);
    }

    fn reads(&mut self, at: usize) {
        if let Phase::Load(load) = self.readers[at].phase {
            self.readers[at].phase = Phase::Loading(load, self.row);
        }
    }

    /// Followers are told, and what was loaded is on its way to the server. The caller goes whatever is answered.
    fn has_loaded(&mut self, at: usize) {
        let reader = &self.readers[at];
        let Phase::Loading(Load { lease, .. }, row) = reader.phase else {
            return;
        };
        let version = reader.caller.version;
        let found = Some(row).filter(|row| self.setup.0.absent != Some(*row));
        let loaded = Loaded::Share(found.map_or(Share::Nothing, Share::Value));
        self.with(at, |call, flights, _| call.loaded(flights, loaded));
        if let Some(lease) = lease {
            let row = found;
            self.stray(Request::Fill {
                lease,
                version,
                row,
            });
        }
        self.gives(at, found);
    }

    fn fails(&mut self, at: usize) {
        if let Phase::Loading(Load { lease, .. }, _) = self.readers[at].phase {
            self.left.failed_loads -= 1;
            self.with(at, |call, flights, _| call.loaded(flights, Loaded::Failed));
            if let Some(lease) = lease {
                self.stray(Request::Release(lease));
            }
            self.ends(at);
        }
    }

    fn is_dropped(&mut self, at: usize) {
        self.left.drops -= 1;
        match self.setup.0.mutation {
            Some(Mutation::SilentDrop) => self.vanishes(at),
            _ => self.ends(at),
        }
    }

    /// The caller is given this row.
    fn gives(&mut self, at: usize, found: Option<Row>) {
        let row = found.or(self.setup.0.absent);
        if row < Some(self.readers[at].floor) {
            self.flaw = Some(Flaw::StaleRead);
        }
        self.ends(at);
    }

    /// The caller is done or dropped, and says so.
    fn ends(&mut self, at: usize) {
        self.leaves(at);
        self.vanishes(at);
    }

    /// A lease that nobody needs any more is given back.
    fn leaves(&mut self, at: usize) {
        let unneeded = self.with(at, |call, flights, _| call.dropped(flights));
        if let Some(lease) = unneeded {
            self.stray(Request::Release(lease));
        }
    }

    /// The caller is gone. What it has sent may still be run.
    pub(super) fn vanishes(&mut self, at: usize) {
        if let Phase::Sent(query) = self.readers[at].phase {
            self.stray(query.request);
        }
        let reader = &mut self.readers[at];
        *reader = Reader::new(reader.name.0, reader.process, reader.caller);
        reader.phase = Phase::Over;
    }

    /// Does what the call says.
    fn follow(&mut self, at: usize, step: Step<Row>) {
        match step {
            Step::Ask { rejected } => self.readers[at].phase = Phase::Ask { rejected },
            Step::Pause { .. } => {
                let step = self.readers[at].call.look_again();
                self.follow(at, step);
            }
            Step::Await(_) if self.setup.0.mutation == Some(Mutation::Restless) => {
                self.is_to_load(at, None);
            }
            Step::Await(flight) => self.listens(at, flight),
            Step::Load(lease) => self.is_to_load(at, lease),
            Step::Done(share) => match share {
                Share::Value(row) | Share::Stale(row) => self.gives(at, Some(row)),
                Share::Nothing => self.gives(at, None),
            },
        }
    }

    /// Having begun to listen it looks once more, since the flight may have moved before.
    fn listens(&mut self, at: usize, flight: FlightId) {
        let process = &self.processes[self.readers[at].process];
        let moves = process.flights.wake(flight).is_some();
        let step = self.with(at, |call, flights, now| call.moved(flights, now));
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

    /// Has the call make a step, and wakes whom that concerns.
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
