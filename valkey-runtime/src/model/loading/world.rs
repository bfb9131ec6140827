//! The world: a server, a database, processes with their callers, and writers.

use std::fmt;

use crate::model::explore::names::Bell;
use crate::model::explore::{Flaw, Ghost, State};
use crate::model::loading::reader::Reader;
use crate::model::loading::server::{Entry, Request, Row};
use crate::model::loading::writer::Writer;
use crate::model::loading::{Budget, Setup};
use crate::protocol::flights::{Flights, Moment};
use crate::protocol::turns::Turns;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) entry: Option<Entry>,
    /// The row in the database.
    pub(crate) row: Row,
    /// No read that begins now may return an older row than this.
    pub(crate) floor: Row,
    /// No read that begins now may return an older row than this as a fresh one.
    pub(crate) soft: Row,
    pub(crate) processes: Vec<Process>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) writers: Vec<Writer>,
    /// Requests under way whose answers nobody awaits.
    pub(crate) strays: Vec<Request>,
    /// Requests that have run, and may run again.
    pub(crate) ran: Vec<Request>,
    pub(crate) left: Budget,
    /// The number of tokens in the world.
    pub(crate) tokens: u64,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) setup: Ghost<Setup>,
}

/// The state that the callers of a process share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) flights: Flights<(), Row, Bell>,
    pub(crate) turns: Turns<()>,
    /// The number of moments that were drawn in this step.
    pub(crate) drawn: Moment,
}

/// Later than all moments of earlier steps, which were renamed.
const NOW: Moment = 1 << 32;

impl Process {
    fn new(turns: usize) -> Self {
        Self {
            flights: Flights::new(),
            turns: Turns::new(turns),
            drawn: 0,
        }
    }

    pub(crate) fn moment(&mut self) -> Moment {
        self.drawn += 1;
        NOW + self.drawn
    }
}

/// The subject of an event, and the event.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Reader(usize, &'static str),
    Writer(usize, &'static str),
    Process(usize, &'static str),
    Request(Request, &'static str),
    Entry(&'static str),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Reader(name, what) => write!(f, "reader {name} {what}"),
            Event::Writer(name, what) => write!(f, "writer {name} {what}"),
            Event::Process(name, what) => write!(f, "process {name} {what}"),
            Event::Request(request, what) => write!(f, "{request:?} {what}"),
            Event::Entry(what) => write!(f, "the entry {what}"),
        }
    }
}

/// Gathers the possible steps of a world.
pub(crate) struct Steps<'w> {
    pub(crate) world: &'w World,
    found: Vec<(Event, World)>,
}

impl Steps<'_> {
    pub(crate) fn add(&mut self, event: Event, step: impl FnOnce(&mut World)) {
        let mut world = self.world.clone();
        step(&mut world);
        world.normalize();
        self.found.push((event, world));
    }
}

impl State for World {
    type Event = Event;

    fn steps(&self) -> Vec<(Event, Self)> {
        let (world, found) = (self, Vec::new());
        let mut steps = Steps { world, found };
        // Events after the last read do not matter.
        if !self.is_over() {
            (0..self.readers.len()).for_each(|at| Reader::steps(at, &mut steps));
            (0..self.writers.len()).for_each(|at| Writer::steps(at, &mut steps));
            World::strays_run(&mut steps);
            World::the_entry_goes(&mut steps);
            World::processes_crash(&mut steps);
        }
        steps.found
    }

    fn flaw(&self) -> Option<Flaw> {
        let mut processes = 0..self.processes.len();
        self.flaw
            .or_else(|| processes.find_map(|process| self.flaw_of(process)))
    }

    fn is_over(&self) -> bool {
        self.readers.iter().all(Reader::is_over)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row, floor, soft, ..
        } = self;
        match &self.entry {
            Some(entry) => write!(f, "{entry:?}")?,
            None => write!(f, "nothing")?,
        }
        write!(f, "; row {row}, at least {floor}, {soft} if fresh")?;
        for Process { flights, .. } in &self.processes {
            write!(f, "; {flights:?}")?;
        }
        Ok(())
    }
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let processes = setup.processes.iter().enumerate();
        let callers = processes.flat_map(|(at, callers)| callers.iter().map(move |c| (at, *c)));
        let readers = callers.enumerate();
        let readers = readers.map(|(name, (process, caller))| Reader::new(name, process, caller));
        let mut world = Self {
            entry: setup
                .cached
                .map(|version| Entry::stored(Some(0), version, 0, setup.timed)),
            row: 0,
            floor: 0,
            soft: 0,
            processes: vec![Process::new(setup.turns); setup.processes.len()],
            readers: readers.collect(),
            writers: setup.writers.iter().copied().map(Writer::new).collect(),
            strays: Vec::new(),
            ran: Vec::new(),
            left: setup.budget,
            tokens: 0,
            flaw: None,
            setup: Ghost(setup),
        };
        world.normalize();
        world
    }

    pub(crate) fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    /// The server runs a request.
    pub(crate) fn run(&mut self, request: Request) {
        request.run(&mut self.entry, &self.setup.0);
        if self.left.resends > 0 && request != Request::Get {
            self.ran.push(request);
        }
    }

    /// The server runs a request that it ran before.
    pub(crate) fn run_again(&mut self, request: Request) {
        self.left.resends -= 1;
        request.run(&mut self.entry, &self.setup.0);
        if self.left.resends == 0 {
            self.ran.clear();
        }
    }

    /// Nobody awaits the answer to this request: it runs at some time, or never.
    pub(crate) fn stray(&mut self, request: Request) {
        if request != Request::Get && !self.setup.0.down {
            self.strays.push(request);
        }
    }

    fn strays_run(steps: &mut Steps<'_>) {
        let world = steps.world;
        for (at, &request) in world.strays.iter().enumerate() {
            steps.add(Event::Request(request, "is run"), |world| {
                world.strays.remove(at);
                world.run(request);
            });
        }
        for &request in &world.ran {
            let event = Event::Request(request, "is run again");
            steps.add(event, |world| world.run_again(request));
        }
    }

    fn the_entry_goes(steps: &mut Steps<'_>) {
        let world = steps.world;
        World::its_time_passes(steps);
        match &world.entry {
            None => return,
            Some(Entry::Lease(_)) => {
                steps.add(Event::Entry("runs out"), |world| world.entry = None);
            }
            Some(Entry::Row { .. }) if world.left.expiries > 0 => {
                steps.add(Event::Entry("expires"), |world| {
                    world.left.expiries -= 1;
                    world.entry = None;
                });
            }
            Some(Entry::Row { .. }) => {}
            // A live writer renews its place.
            Some(Entry::Guard(guard)) => {
                let places = guard.writers.iter().filter(|place| place.deadline > 0);
                for place in places.filter(|place| world.is_dead(place.token)) {
                    let event = Event::Entry("is left by a dead writer");
                    steps.add(event, |world| {
                        Entry::place_runs_out(&mut world.entry, place.token)
                    });
                }
            }
        }
        if world.left.evictions > 0 {
            steps.add(Event::Entry("is evicted"), |world| {
                world.left.evictions -= 1;
                world.entry = None;
            });
        }
    }

    /// The freshness or the claim of a value ends.
    fn its_time_passes(steps: &mut Steps<'_>) {
        let world = steps.world;
        let Some(timing) = world.entry.as_ref().and_then(Entry::timing) else {
            return;
        };
        if timing.fresh && world.left.expiries > 0 {
            steps.add(Event::Entry("is no longer fresh"), |world| {
                world.left.expiries -= 1;
                Entry::is_no_longer_fresh(&mut world.entry);
            });
        }
        if timing.claim.is_some() {
            steps.add(Event::Entry("is claimed no longer"), |world| {
                Entry::claim_runs_out(&mut world.entry);
            });
        }
    }

    fn processes_crash(steps: &mut Steps<'_>) {
        let world = steps.world;
        for process in 0..world.processes.len() {
            if world.left.crashes > 0 && world.readers_of(process).any(Reader::is_active) {
                steps.add(Event::Process(process, "crashes"), |world| {
                    world.crash(process)
                });
            }
        }
    }

    fn crash(&mut self, process: usize) {
        self.left.crashes -= 1;
        self.processes[process] = Process::new(self.setup.0.turns);
        for at in 0..self.readers.len() {
            if self.readers[at].process == process && self.readers[at].is_active() {
                self.vanishes(at);
            }
        }
    }

    fn is_dead(&self, token: u64) -> bool {
        let writer = usize::try_from(token)
            .ok()
            .and_then(|at| self.writers.get(at));
        writer.is_some_and(Writer::is_dead)
    }

    fn readers_of(&self, process: usize) -> impl Iterator<Item = &Reader> {
        let readers = self.readers.iter();
        readers.filter(move |reader| reader.process == process)
    }

    fn flaw_of(&self, process: usize) -> Option<Flaw> {
        let loads = self
            .readers_of(process)
            .filter(|reader| reader.loads_alone());
        if loads.count() > 1 {
            return Some(Flaw::Herd);
        }
        if self.readers_of(process).any(Reader::holds_an_idle_lease) {
            return Some(Flaw::IdleLease);
        }
        let busy = self.readers_of(process).any(Reader::is_active);
        let Process { flights, turns, .. } = &self.processes[process];
        let empty = flights.is_empty() && turns.is_empty();
        (!busy && !empty).then_some(Flaw::Leak)
    }
}
