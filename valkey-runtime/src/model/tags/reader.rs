//! A caller of a loading verb. It acts as the shell does, and the real [`Call`] and [`Settling`]
//! decide the actions.

use crate::core::loads::parts::{
    Asked, Call, FlightId, Flights, Loaded, Moment, Seen, Share, Step,
};
use crate::model::explore::names::{Bell, Visitor};
use crate::model::explore::{Flaw, Ghost};
use crate::model::tags::Mutation;
use crate::model::tags::server::{Entry, Request, Row, Under, Value, found, visit_rejected};
use crate::model::tags::world::{Event, Steps, World};
use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::found::Found;
use crate::protocol::settle;
use crate::protocol::settle::Settling;
use crate::protocol::transition::Rejected;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    name: Ghost<usize>,
    pub(crate) process: usize,
    /// It loads nothing.
    gets: bool,
    /// It may get no older row.
    floor: Row,
    /// The tag clock before its load.
    clock: Option<u64>,
    /// The caller has its answer: further work goes on beside it.
    served: bool,
    call: Call<()>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Has sent its requests for the entry, and for the epoch if that follows from the key.
    Looks(Query),
    /// The epoch was read first, with this result.
    LooksLate(Query, Option<Under>),
    /// Has found this value, and is to read the epoch.
    Judges(Query, Value),
    /// Is to request a lease, at once or after a pause.
    Asks {
        rejected: Rejected,
    },
    /// Has sent its requests for a lease and for the clock. With their answers so far.
    Asking(Query, Option<Option<Entry>>, Told),
    /// Sleeps until the flight changes.
    Asleep(FlightId),
    /// The flight has changed.
    Woken,
    /// Is to read the clock, if it has a lease and no clock, and then the row.
    Load(Option<Lease>),
    /// Has read this row.
    Loading(Option<Lease>, Row),
    /// Is to do this step, by which the epoch becomes known.
    Settles(Lease, Row, Settling, settle::Step),
    /// Has settled the epoch. Sends this request, and is done.
    Ends(Request, Row),
    Over,
}

/// Whether it knows the clock.
type Told = bool;

/// The answer for which a caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Query {
    Get,
    /// A second look, because another process loads.
    Look {
        sent: Moment,
    },
    Lease {
        token: u64,
        rejected: Rejected,
        sent: Moment,
    },
}

/// The found entry, as far as the tag allows it to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Nothing,
    Lease(Lease),
    Outdated(u64),
    Value(Value),
}

impl Reader {
    pub(crate) fn new(name: usize, process: usize, gets: bool) -> Self {
        Self {
            name: Ghost(name),
            process,
            gets,
            floor: 0,
            clock: None,
            served: false,
            call: Call::new((), 0),
            phase: Phase::Idle,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Over)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The sort key of callers: those of a process are interchangeable.
    pub(crate) fn rank(&self) -> (usize, u8, Row) {
        let phase = match &self.phase {
            Phase::Idle => 0,
            Phase::Looks(_) => 1,
            Phase::LooksLate(..) => 2,
            Phase::Judges(Query::Get, _) => 3,
            Phase::Judges(..) => 4,
            Phase::Asking(_, None, _) => 5,
            Phase::Asking(..) => 6,
            Phase::Asleep(_) => 7,
            Phase::Woken => 8,
            Phase::Asks { .. } => 9,
            Phase::Load(_) => 10,
            Phase::Loading(..) => 11,
            Phase::Settles(..) => 12,
            Phase::Ends(..) => 13,
            Phase::Over => 14,
        };
        (self.process, phase, self.floor)
    }

    pub(crate) fn visit(&mut self, visitor: &mut impl Visitor) {
        if !self.is_active() {
            return;
        }
        self.call.visit(visitor);
        if let Some(clock) = &mut self.clock {
            visitor.clock(clock);
        }
        match &mut self.phase {
            Phase::Looks(query) => query.visit(visitor),
            Phase::LooksLate(query, under) => {
                query.visit(visitor);
                under.iter_mut().for_each(|under| under.visit(visitor));
            }
            Phase::Judges(query, value) => {
                query.visit(visitor);
                value.visit(visitor);
            }
            Phase::Asks { rejected } => visit_rejected(rejected, visitor),
            Phase::Asking(query, placed, _) => {
                query.visit(visitor);
                if let Some(Some(entry)) = placed {
                    entry.visit(visitor);
                }
            }
            Phase::Asleep(flight) => flight.visit(visitor),
            Phase::Load(Some(lease)) | Phase::Loading(Some(lease), _) => visitor.lease(lease),
            Phase::Settles(lease, _, settling, step) => {
                visitor.lease(lease);
                settling.visit(visitor);
                step.visit(visitor);
            }
            Phase::Ends(request, _) => request.visit(visitor),
            Phase::Idle
            | Phase::Woken
            | Phase::Load(None)
            | Phase::Loading(None, _)
            | Phase::Over => {}
        }
    }

    /// The actions of the caller, and the events that may happen to it.
    pub(crate) fn steps(at: usize, steps: &mut Steps<'_>) {
        let world = steps.world;
        let reader = &world.readers[at];
        let event = |what| Event::Reader(reader.name.0, what);
        match &reader.phase {
            Phase::Idle => steps.add(event("calls"), |world| world.begins(at)),
            &Phase::Looks(query) => {
                match world.server.key {
                    Some(Entry::Value(value)) => steps.add(event("finds a value"), |world| {
                        world.readers[at].phase = Phase::Judges(query, value);
                    }),
                    key => steps.answer(at, query, Answer::of(key), "finds none", |_| {}),
                }
                if world.setup.0.by_key {
                    steps.add(event("looks at the epoch first"), |world| {
                        let epoch = world.server.epoch.clone();
                        world.readers[at].phase = Phase::LooksLate(query, epoch);
                    });
                }
            }
            Phase::LooksLate(query, epoch) => {
                let answer = match world.server.key {
                    Some(Entry::Value(value)) => Answer::judged(value, &found(epoch.as_ref())),
                    key => Answer::of(key),
                };
                steps.answer(at, *query, answer, "looks at the key", |_| {});
            }
            &Phase::Judges(query, value) => {
                let answer = Answer::judged(value, &world.server.found_epoch());
                steps.answer(at, query, answer, "looks at the epoch", |_| {});
            }
            Phase::Asks { .. } => steps.add(event("asks for a lease"), |world| world.asks(at)),
            &Phase::Asking(query, placed, told) => Reader::asking(at, query, placed, told, steps),
            Phase::Woken => steps.add(event("is woken"), |world| world.wakes(at)),
            Phase::Load(Some(_)) if reader.clock.is_none() => {
                steps.add(event("looks at the clock"), |world| {
                    world.readers[at].clock = Some(world.read_clock());
                });
            }
            Phase::Load(_) => steps.add(event("reads the row"), |world| world.reads(at)),
            Phase::Loading(..) => steps.add(event("has loaded"), |world| world.has_loaded(at)),
            Phase::Settles(_, _, _, step) => {
                let what = match step {
                    settle::Step::Mark(_) => "marks the epoch",
                    settle::Step::Clock => "looks at the clock again",
                    settle::Step::Fill(..) => "settles the epoch",
                    settle::Step::Done => unreachable!("it goes on at once"),
                };
                steps.add(event(what), |world| world.settles(at));
            }
            Phase::Ends(..) => steps.add(event("ends its load"), |world| world.ends_load(at)),
            Phase::Asleep(_) | Phase::Over => {}
        }
        if world.left.resends > 0
            && let Some(request) = reader.request()
        {
            steps.add(event("is heard, and will be again"), |world| {
                world.run_first(request);
            });
        }
        if reader.is_active() && !reader.gets && world.left.drops > 0 {
            steps.add(event("is dropped"), |world| {
                world.left.drops -= 1;
                world.ends(at);
            });
        }
    }

    /// The two requests run in the order of sending, or in any order. The last answer arrives at
    /// once.
    fn asking(
        at: usize,
        query: Query,
        placed: Option<Option<Entry>>,
        told: Told,
        steps: &mut Steps<'_>,
    ) {
        let name = steps.world.readers[at].name.0;
        let event = |what| Event::Reader(name, what);
        match (placed, told) {
            (None, _) => steps.add(event("is given the entry at the key"), |world| {
                world.is_placed(at);
            }),
            (Some(Some(Entry::Value(value))), false) => {
                steps.add(event("is told the clock"), |world| {
                    world.learns_clock(at);
                    world.readers[at].phase = Phase::Judges(query, value);
                });
            }
            (Some(entry), false) => {
                let told = move |world: &mut World| world.learns_clock(at);
                steps.answer(at, query, Answer::of(entry), "is told the clock", told);
            }
            (Some(Some(Entry::Value(value))), true) => {
                let answer = Answer::judged(value, &steps.world.server.found_epoch());
                steps.answer(at, query, answer, "looks at the epoch", |_| {});
            }
            (Some(entry), true) => {
                steps.answer(at, query, Answer::of(entry), "is answered", |_| {});
            }
        }
        if placed.is_none() && !told && steps.world.setup.0.any_order {
            steps.add(event("is told the clock first"), |world| {
                world.learns_clock(at);
                world.readers[at].phase = Phase::Asking(query, None, true);
            });
        }
    }

    /// The request that it has sent.
    fn request(&self) -> Option<Request> {
        match &self.phase {
            &Phase::Asking(
                Query::Lease {
                    token, rejected, ..
                },
                None,
                _,
            ) => Some(Request::Lease { token, rejected }),
            Phase::Settles(_, _, settling, settle::Step::Mark(_)) => {
                let token = settling.token();
                Some(Request::Mark { token })
            }
            Phase::Settles(_, _, _, settle::Step::Fill(marks, epoch)) => {
                let &(_, mark) = marks.first()?;
                let clock = epoch.hard;
                Some(Request::Settle { mark, clock })
            }
            &Phase::Ends(request, _) => Some(request),
            _ => None,
        }
    }
}

impl Query {
    fn asked(self) -> Option<Asked> {
        match self {
            Query::Get | Query::Look { .. } => None,
            Query::Lease {
                token, rejected, ..
            } => Some((token, rejected)),
        }
    }

    fn visit(&mut self, visitor: &mut impl Visitor) {
        match self {
            Query::Get => {}
            Query::Look { sent } => visitor.moment(sent),
            Query::Lease {
                token,
                rejected,
                sent,
            } => {
                visitor.token(token);
                visit_rejected(rejected, visitor);
                visitor.moment(sent);
            }
        }
    }
}

impl Answer {
    /// For a key without a value.
    fn of(entry: Option<Entry>) -> Self {
        match entry {
            None => Answer::Nothing,
            Some(Entry::Lease(name)) => Answer::Lease(Lease::Placed(name)),
            Some(Entry::Value(value)) => unreachable!("{value:?} is to be judged"),
        }
    }

    fn judged(value: Value, epoch: &Found) -> Self {
        match value.is_valid(epoch) {
            true => Answer::Value(value),
            false => Answer::Outdated(value.stamp),
        }
    }

    fn seen(self, asked: Option<Asked>) -> Seen<Row> {
        match self {
            Answer::Nothing => Seen::Nothing,
            Answer::Lease(lease) => Seen::Lease(lease),
            Answer::Outdated(stamp) => Seen::Old(stamp),
            Answer::Value(value) => value.seen(asked),
        }
    }
}

impl Steps<'_> {
    /// The caller gets its answer, after `first` has happened.
    fn answer(
        &mut self,
        at: usize,
        query: Query,
        answer: Answer,
        what: &'static str,
        first: impl Fn(&mut World),
    ) {
        let reader = &self.world.readers[at];
        let refreshes = self.world.left.refreshes > 0 && !reader.gets;
        let (name, served) = (reader.name.0, reader.served);
        let is_answered = |world: &mut World, patient| {
            first(world);
            world.is_answered(at, query, answer, patient);
        };
        self.add(Event::Reader(name, what), |world| is_answered(world, true));
        let is_anothers = match (query, answer) {
            (Query::Get, _) => false,
            (_, Answer::Lease(_)) => true,
            (_, Answer::Value(value)) => value.is_claimed(),
            (_, Answer::Nothing | Answer::Outdated(_)) => false,
        };
        if is_anothers && !served {
            let event = Event::Reader(name, "is answered, and has waited too long");
            self.add(event, |world| is_answered(world, false));
        }
        if let (Query::Get, Answer::Value(value)) = (query, answer)
            && refreshes
            && !value.is_claimed()
        {
            let event = Event::Reader(name, "is answered, and refreshes");
            self.add(event, |world| world.refreshes(at, value));
        }
    }
}

/// The actions of a caller.
impl World {
    fn begins(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let began = self.processes[reader.process].moment();
        reader.call = Call::new((), began);
        reader.floor = self.floor;
        reader.phase = Phase::Looks(Query::Get);
    }

    fn is_answered(&mut self, at: usize, query: Query, answer: Answer, patient: bool) {
        let seen = answer.seen(query.asked());
        if self.readers[at].gets {
            return match seen {
                Seen::Hit(row) => self.gives(at, row),
                _ => self.ends(at),
            };
        }
        let step = self.with(at, |call, flights, now| match query {
            Query::Get => call.got(flights, seen),
            Query::Look { sent } => call.looked(flights, sent, seen, patient),
            Query::Lease { token, sent, .. } => {
                call.asked(flights, now, (sent, token), seen, patient)
            }
        });
        match step {
            Step::Load(Some(_)) => self.follow(at, step),
            // Its load is only a refresh, so it does not wait.
            _ if self.readers[at].served => self.ends(at),
            _ => self.follow(at, step),
        }
    }

    /// The caller has its value, and wants the next one.
    fn refreshes(&mut self, at: usize, value: Value) {
        self.left.refreshes -= 1;
        if let Seen::Hit(row) = value.seen(None) {
            self.is_given(at, row);
        }
        self.readers[at].served = true;
        let step = self.with(at, |call, flights, _| call.refreshes(flights, value.stamp));
        match step {
            Some(step) => self.follow(at, step),
            None => self.ends(at),
        }
    }

    fn asks(&mut self, at: usize) {
        if let Phase::Asks { rejected } = self.readers[at].phase {
            let token = self.token();
            let sent = self.with(at, |call, flights, now| {
                call.asking(flights, now, token);
                now
            });
            let query = Query::Lease {
                token,
                rejected,
                sent,
            };
            self.readers[at].phase = Phase::Asking(query, None, false);
        }
    }

    fn is_placed(&mut self, at: usize) {
        if let Some(request) = self.readers[at].request()
            && let Phase::Asking(query, _, told) = self.readers[at].phase
        {
            self.run(request);
            self.readers[at].phase = Phase::Asking(query, Some(self.server.key), told);
        }
    }

    fn learns_clock(&mut self, at: usize) {
        self.readers[at].clock = Some(self.read_clock());
    }

    fn wakes(&mut self, at: usize) {
        let step = self.with(at, |call, flights, _| call.moved(flights));
        self.follow(at, step);
    }

    fn reads(&mut self, at: usize) {
        if let Phase::Load(lease) = self.readers[at].phase {
            self.readers[at].phase = Phase::Loading(lease, self.row);
        }
    }

    /// A value loaded without a lease is not stored, and its followers joined before.
    fn has_loaded(&mut self, at: usize) {
        match self.readers[at].phase {
            Phase::Loading(Some(lease), row) => {
                if self.setup.0.mutation != Some(Mutation::JoinedLate) {
                    self.with(at, |call, flights, _| call.closing(flights));
                }
                let token = self.token();
                let seen = settle::Seen::of(&self.server.extend());
                let (settling, step) = Settling::new(token, vec![seen]);
                self.goes_on(at, lease, row, settling, step);
            }
            Phase::Loading(None, row) => {
                self.shares(at, Loaded::Share(Share::Value(row)));
                self.gives(at, row);
            }
            _ => {}
        }
    }

    fn settles(&mut self, at: usize) {
        let reader = &self.readers[at];
        let request = reader.request();
        let Phase::Settles(lease, row, mut settling, step) = reader.phase.clone() else {
            return;
        };
        let step = match step {
            settle::Step::Mark(places) => {
                if self.setup.0.mutation == Some(Mutation::NoMark) {
                    settle::Step::Clock
                } else {
                    if let Some(request) = request {
                        self.run(request);
                    }
                    let seen = settle::Seen::of(&self.server.found_epoch());
                    settling.marked(places.into_iter().map(|place| (place, seen)))
                }
            }
            settle::Step::Clock => settling.clock(self.read_clock()),
            settle::Step::Fill(_, epoch) => {
                // Only the mutation leaves the mark out.
                let request = request.unwrap_or(Request::Mint { clock: epoch.hard });
                let filled = self.run(request);
                settling.filled(epoch, [(0, filled)])
            }
            settle::Step::Done => settle::Step::Done,
        };
        self.goes_on(at, lease, row, settling, step);
    }

    fn goes_on(
        &mut self,
        at: usize,
        lease: Lease,
        row: Row,
        settling: Settling,
        step: settle::Step,
    ) {
        if step != settle::Step::Done {
            self.readers[at].phase = Phase::Settles(lease, row, settling, step);
            return;
        }
        let mut epochs = settling.epochs().flatten();
        if let Some(epoch) = epochs.next()
            && self.setup.0.mutation == Some(Mutation::ClockAfterLoad)
        {
            self.readers[at].clock = Some(epoch.hard);
        }
        let clock = self.readers[at].clock;
        let admits = |clock| {
            let mut epochs = settling.epochs();
            epochs.all(|epoch| epoch.is_some_and(|epoch| epoch.admits(clock)))
        };
        let reader = &mut self.readers[at];
        let request = match clock.filter(|clock| admits(*clock)) {
            Some(clock) => Request::Fill { lease, row, clock },
            None => Request::Release(lease),
        };
        reader.clock = None;
        reader.phase = Phase::Ends(request, row);
    }

    /// Followers get the row if it was stored.
    fn ends_load(&mut self, at: usize) {
        let Phase::Ends(request, row) = self.readers[at].phase else {
            return;
        };
        let held = self.run(request);
        let fills = matches!(request, Request::Fill { .. });
        let shares = match self.setup.0.mutation {
            Some(Mutation::OvertakenShared) => true,
            Some(Mutation::UnstoredShared) => fills,
            _ => fills && held,
        };
        let loaded = match shares {
            true => Loaded::Share(Share::Value(row)),
            false => Loaded::Overtaken,
        };
        self.shares(at, loaded);
        self.readers[at].phase = Phase::Woken;
        self.gives(at, row);
    }

    fn shares(&mut self, at: usize, loaded: Loaded<Row>) {
        self.with(at, |call, flights, _| call.loaded(flights, loaded));
    }

    /// The caller gets this row, and is done.
    fn gives(&mut self, at: usize, row: Row) {
        self.is_given(at, row);
        self.ends(at);
    }

    /// The row must not be older than allowed. Later rows go to nobody.
    fn is_given(&mut self, at: usize, row: Row) {
        let Reader { floor, served, .. } = self.readers[at];
        if !served && row < floor {
            self.flaw = Some(Flaw::StaleRead);
        }
    }

    /// The caller is done or dropped, and reports it. It gives back a lease that nobody needs any
    /// more. Its sent request may still run.
    fn ends(&mut self, at: usize) {
        let unneeded = self.with(at, |call, flights, _| call.dropped(flights));
        let reader = &mut self.readers[at];
        let sent = reader.request();
        *reader = Reader::new(reader.name.0, reader.process, reader.gets);
        reader.phase = Phase::Over;
        let unneeded = unneeded.map(Request::Release);
        self.strays.extend(sent.into_iter().chain(unneeded));
    }

    /// Carries out the step of the call.
    fn follow(&mut self, at: usize, step: Step<Row>) {
        match step {
            Step::Ask { rejected } => self.readers[at].phase = Phase::Asks { rejected },
            // Turns are not limited.
            Step::Turn => {
                let step = self.with(at, |call, flights, now| call.at_turn(flights, now, false));
                self.follow(at, step);
            }
            Step::Look => {
                let sent = self.processes[self.readers[at].process].moment();
                self.readers[at].phase = Phase::Looks(Query::Look { sent });
            }
            Step::Pause { .. } => {
                let step = self.readers[at].call.look_again();
                self.follow(at, step);
            }
            Step::Await(flight) => self.listens(at, flight),
            Step::Load(lease) => {
                // Without a lease the clock has no use.
                self.readers[at].clock = self.readers[at].clock.filter(|_| lease.is_some());
                self.readers[at].phase = Phase::Load(lease);
            }
            Step::Done(Share::Value(row)) => self.gives(at, row),
            Step::Done(share) => unreachable!("there always is a row, and not {share:?}"),
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

    /// Lets the call make a step, and wakes the callers concerned.
    fn with<R>(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Call<()>, &mut Flights<(), Row, Bell>, Moment) -> R,
    ) -> R {
        let reader = &mut self.readers[at];
        let own = reader.process;
        let process = &mut self.processes[own];
        let now = process.moment();
        let result = step(&mut reader.call, &mut process.flights, now);
        let rung = process.flights.take_wakes();
        for (other, reader) in self.readers.iter_mut().enumerate() {
            if other != at
                && reader.process == own
                && let Phase::Asleep(flight) = reader.phase
                && rung.contains(&flight.bell())
            {
                reader.phase = Phase::Woken;
            }
        }
        result
    }
}
