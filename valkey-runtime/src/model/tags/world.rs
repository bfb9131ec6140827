//! The world: a server, a database, processes with their callers, and writers.

use std::fmt;

use crate::core::loads::parts::{Flights, Moment};
use crate::model::explore::names::{Bell, Gathered, Known, Naming, Visitor};
use crate::model::explore::{Flaw, Ghost, State};
use crate::model::tags::reader::Reader;
use crate::model::tags::server::{Entry, Request, Row, Server, Under};
use crate::model::tags::writer::Writer;
use crate::model::tags::{Budget, Setup};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) server: Server,
    /// The row in the database.
    pub(crate) row: Row,
    /// No read that begins now may return an older row than this.
    pub(crate) floor: Row,
    pub(crate) processes: Vec<Process>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) writers: Vec<Writer>,
    /// Requests under way whose answers nobody awaits.
    pub(crate) strays: Vec<Request>,
    /// Requests that have run, and may run again.
    ran: Vec<Request>,
    pub(crate) left: Budget,
    /// The number of tokens in the world.
    tokens: u64,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) setup: Ghost<Setup>,
}

/// The state that the callers of a process share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) flights: Flights<(), Row, Bell>,
    /// The number of moments that were drawn in this step.
    drawn: Moment,
}

/// Later than all moments of earlier steps, which were renamed.
const NOW: Moment = 1 << 32;

impl Process {
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
    Request(Request, &'static str),
    Server(&'static str),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Reader(name, what) => write!(f, "reader {name} {what}"),
            Event::Writer(name, what) => write!(f, "writer {name} {what}"),
            Event::Request(request, what) => write!(f, "{request:?} {what}"),
            Event::Server(what) => write!(f, "the server {what}"),
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
            World::time_passes(&mut steps);
            World::the_server_evicts(&mut steps);
        }
        steps.found
    }

    fn flaw(&self) -> Option<Flaw> {
        let leaks = |(at, process): (usize, &Process)| {
            let mut readers = self.readers.iter().filter(|reader| reader.process == at);
            !process.flights.is_empty() && !readers.any(Reader::is_active)
        };
        let leaks = self.processes.iter().enumerate().any(leaks);
        self.flaw.or(leaks.then_some(Flaw::Leak))
    }

    fn is_over(&self) -> bool {
        self.readers.iter().all(Reader::is_over)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { key, epoch, clock } = &self.server;
        write!(f, "key {key:?}; epoch {epoch:?}; clock {clock:?}")?;
        write!(f, "; row {}, at least {}", self.row, self.floor)?;
        for Process { flights, .. } in &self.processes {
            write!(f, "; {flights:?}")?;
        }
        Ok(())
    }
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let callers = setup.processes.iter().enumerate();
        let callers = callers.flat_map(|(at, callers)| (0..*callers).map(move |_| at));
        let last = setup.processes.len();
        let gets = (0..setup.gets).map(|_| (last, true));
        let callers = callers.map(|process| (process, false)).chain(gets);
        let readers = callers.enumerate();
        let readers = readers.map(|(name, (process, gets))| Reader::new(name, process, gets));
        let process = Process {
            flights: Flights::new(),
            drawn: 0,
        };
        let mut world = Self {
            server: Server::new(&setup),
            row: 0,
            floor: 0,
            processes: vec![process; last + 1],
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

    /// A number above all earlier clocks, with which an evicted clock begins again.
    fn now(&mut self) -> u64 {
        let mut gathered = Gathered::default();
        self.visit_clocks(&mut gathered);
        1 + gathered.clocks.into_iter().max().unwrap_or(0)
    }

    pub(crate) fn read_clock(&mut self) -> u64 {
        let now = match self.server.clock {
            Some(_) => 0,
            None => self.now(),
        };
        self.server.read_clock(now)
    }

    /// The server runs a request.
    pub(crate) fn run(&mut self, request: Request) -> bool {
        if self.left.resends > 0 {
            self.ran.push(request);
        }
        let now = match request {
            Request::Advance => self.now(),
            _ => 0,
        };
        self.server.run(request, now, &self.setup.0)
    }

    /// It runs a request whose answer comes from another run.
    pub(crate) fn run_first(&mut self, request: Request) {
        self.left.resends -= 1;
        self.run(request);
        self.forget_what_ran();
    }

    fn forget_what_ran(&mut self) {
        if self.left.resends == 0 {
            self.ran.clear();
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
            steps.add(Event::Request(request, "is run again"), |world| {
                world.run_first(request);
            });
        }
    }

    /// Leases, claims, marks, and the places of dead writers run out.
    fn time_passes(steps: &mut Steps<'_>) {
        let server = &steps.world.server;
        match &server.key {
            Some(Entry::Lease(_)) => steps.add(Event::Server("lets the lease run out"), |world| {
                world.server.key = None;
            }),
            Some(Entry::Value(value)) if value.is_claimed() => {
                steps.add(Event::Server("lets the claim run out"), |world| {
                    world.server.claim_runs_out();
                });
            }
            Some(Entry::Value(_)) | None => {}
        }
        if let Some(Under::Mark(_)) = &server.epoch {
            steps.add(Event::Server("lets the mark run out"), |world| {
                world.server.epoch = None;
            });
        }
        World::places_run_out(steps);
    }

    fn the_server_evicts(steps: &mut Steps<'_>) {
        let world = steps.world;
        if world.left.evictions == 0 {
            return;
        }
        let mut evicts = |what, goes: fn(&mut Server)| {
            steps.add(Event::Server(what), |world| {
                world.left.evictions -= 1;
                goes(&mut world.server);
            });
        };
        // A lease can run out anyway.
        if let Some(Entry::Value(_)) = world.server.key {
            evicts("evicts the value", |server| server.key = None);
        }
        if let Some(Under::Epoch(_) | Under::Guard(_)) = world.server.epoch {
            evicts("evicts the epoch", |server| server.epoch = None);
        }
        if world.server.clock.is_some() {
            evicts("evicts the clock", |server| server.clock = None);
        }
    }

    /// Brings the world into the form in which worlds are compared.
    fn normalize(&mut self) {
        self.forget_what_is_void();
        self.readers.sort_by_key(Reader::rank);
        for process in 0..self.processes.len() {
            self.rank(process);
        }
        let mut gathered = Gathered::default();
        self.visit_clocks(&mut gathered);
        self.visit_clocks(&mut gathered.ranked_clocks());
        self.name();
    }

    /// Forgets requests without any possible effect. With a mutation they may have one.
    fn forget_what_is_void(&mut self) {
        let loading = self.server.loading();
        self.writers
            .iter_mut()
            .for_each(|writer| writer.forget(loading));
        if self.setup.0.mutation.is_none() {
            let (server, resends) = (&self.server, self.left.resends > 0);
            let is_void = |request: &Request| server.is_void(*request, resends);
            self.strays.retain(|request| !is_void(request));
            self.ran.retain(|request| !is_void(request));
        }
    }

    /// If no moment was drawn, nothing has happened.
    fn rank(&mut self, process: usize) {
        if self.processes[process].drawn > 0 {
            let mut gathered = Gathered::default();
            self.visit_process(process, &mut gathered);
            self.visit_process(process, &mut gathered.ranked());
            self.processes[process].drawn = 0;
        }
    }

    fn visit_process(&mut self, at: usize, visitor: &mut impl Visitor) {
        self.processes[at].flights.visit(visitor);
        let readers = self.readers.iter_mut();
        let readers = readers.filter(|reader| reader.process == at);
        readers.for_each(|reader| reader.visit(visitor));
    }

    /// Flights have no clocks.
    fn visit_clocks(&mut self, visitor: &mut impl Visitor) {
        self.server.visit(visitor);
        self.readers
            .iter_mut()
            .for_each(|reader| reader.visit(visitor));
        self.visit_others(visitor);
        self.ran
            .iter_mut()
            .for_each(|request| request.visit(visitor));
    }

    fn visit_others(&mut self, visitor: &mut impl Visitor) {
        self.writers
            .iter_mut()
            .for_each(|writer| writer.visit(visitor));
        self.strays
            .iter_mut()
            .for_each(|request| request.visit(visitor));
    }

    fn name(&mut self) {
        let mut naming = Naming::default();
        self.server.visit(&mut naming);
        for process in 0..self.processes.len() {
            self.visit_process(process, &mut naming);
        }
        self.visit_others(&mut naming);
        self.strays.sort_unstable();
        self.tokens = naming.tokens.len() as u64;
        let mut known = Known(naming);
        self.ran
            .iter_mut()
            .for_each(|request| request.visit(&mut known));
        self.ran.sort_unstable();
        self.ran.dedup();
    }
}
