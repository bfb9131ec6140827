//! Names that mean nothing: two worlds that differ by them alone are one.
//!
//! Moments count by their order within a process; flights, tokens and stamps only by whether they are the same. So after
//! each step all of them are named anew: moments and flights by their rank, tokens and stamps in the order in which they are
//! met. That also lets time pass: what the next request makes is told from all that was made before.

use super::Mutation;
use super::server::{Entry, Request};
use super::world::{Process, World};
use crate::envelope::placeholder::{Lease, Name};
use crate::envelope::timing::claim_token;
use crate::loading::flights::Moment;

/// Is shown names, and may change them.
pub(in crate::loading) trait Visitor {
    fn moment(&mut self, _: &mut Moment) {}
    fn flight(&mut self, _: &mut u64) {}
    fn token(&mut self, _: &mut u64) {}
    fn stamp(&mut self, _: &mut u64) {}

    fn name(&mut self, name: &mut Name) {
        self.token(&mut name.token);
        self.stamp(&mut name.stamp);
    }

    fn lease(&mut self, lease: &mut Lease) {
        match lease {
            Lease::Placed(name) => self.name(name),
            // The tokens of claims are those of the requests for them, which are small.
            Lease::Claim { token, stamp } => {
                let mut wide = u64::from(*token);
                self.token(&mut wide);
                *token = claim_token(wide);
                self.stamp(stamp);
            }
        }
    }
}

/// Gathers the moments and the flights of a process.
#[derive(Default)]
struct Gathered {
    moments: Vec<u64>,
    flights: Vec<u64>,
}

impl Visitor for Gathered {
    fn moment(&mut self, moment: &mut Moment) {
        self.moments.push(*moment);
    }

    fn flight(&mut self, flight: &mut u64) {
        self.flights.push(*flight);
    }
}

/// Gives each its rank among those that were gathered.
struct Ranked(Gathered);

impl Ranked {
    fn new(mut gathered: Gathered) -> Self {
        for names in [&mut gathered.moments, &mut gathered.flights] {
            names.sort_unstable();
            names.dedup();
        }
        Self(gathered)
    }
}

impl Visitor for Ranked {
    fn moment(&mut self, moment: &mut Moment) {
        *moment = position(&self.0.moments, *moment).unwrap_or(0);
    }

    fn flight(&mut self, flight: &mut u64) {
        *flight = position(&self.0.flights, *flight).unwrap_or(0);
    }
}

/// Numbers tokens and stamps in the order in which they are met.
#[derive(Default)]
struct Naming {
    tokens: Vec<u64>,
    stamps: Vec<u64>,
    /// All stamps are one: a mutation.
    by_token_alone: bool,
}

impl Visitor for Naming {
    fn token(&mut self, token: &mut u64) {
        *token = name(&mut self.tokens, *token);
    }

    fn stamp(&mut self, stamp: &mut u64) {
        let alone = self.by_token_alone;
        *stamp = if alone {
            0
        } else {
            name(&mut self.stamps, *stamp)
        };
    }
}

/// Takes the name from what was not met by then: nobody knows it any more.
struct Known(Naming);

/// The token of all whose names were taken. A claim that is made with it is nobody's that has one, nor a pause.
const FORGOTTEN: u64 = 0xff_ffff;

impl Visitor for Known {
    fn token(&mut self, token: &mut u64) {
        *token = position(&self.0.tokens, *token).unwrap_or(FORGOTTEN);
    }

    fn stamp(&mut self, stamp: &mut u64) {
        *stamp = position(&self.0.stamps, *stamp).unwrap_or(0);
    }
}

fn name(names: &mut Vec<u64>, name: u64) -> u64 {
    position(names, name).unwrap_or_else(|| {
        names.push(name);
        names.len() as u64
    })
}

/// Counted from 1. There are few names.
fn position(names: &[u64], name: u64) -> Option<u64> {
    let at = names.iter().position(|known| *known == name)?;
    Some(at as u64 + 1)
}

impl World {
    /// Brings it into the form in which worlds are compared.
    pub(super) fn normalize(&mut self) {
        self.forget_what_is_void();
        if let Some(Entry::Guard(guard)) = &mut self.entry {
            guard.writers.sort_unstable_by_key(|place| place.token);
        }
        self.readers.sort_by_key(|reader| reader.rank());
        for process in 0..self.processes.len() {
            self.rank(process);
        }
        self.name();
    }

    /// Requests that can't do anything any more. With a mutation they may.
    fn forget_what_is_void(&mut self) {
        if self.setup.0.mutation.is_none() {
            let (entry, resends) = (self.entry.as_ref(), self.left.resends > 0);
            let is_void = |request: &Request| request.is_void(entry, resends);
            self.strays.retain(|request| !is_void(request));
            self.ran.retain(|request| !is_void(request));
        }
    }

    /// Where no moment was drawn nothing has happened.
    fn rank(&mut self, process: usize) {
        if self.processes[process].drawn > 0 {
            let mut gathered = Gathered::default();
            self.visit_process(process, &mut gathered);
            self.visit_process(process, &mut Ranked::new(gathered));
            self.processes[process].drawn = 0;
        }
    }

    fn visit_process(&mut self, at: usize, visitor: &mut impl Visitor) {
        let Process { flights, .. } = &mut self.processes[at];
        flights.visit(visitor);
        let readers = self.readers.iter_mut();
        let readers = readers.filter(|reader| reader.process == at);
        readers.for_each(|reader| reader.visit(visitor));
    }

    fn name(&mut self) {
        let mut naming = Naming {
            by_token_alone: self.setup.0.mutation == Some(Mutation::NamedByToken),
            ..Naming::default()
        };
        self.entry
            .iter_mut()
            .for_each(|entry| entry.visit(&mut naming));
        for process in 0..self.processes.len() {
            self.visit_process(process, &mut naming);
        }
        self.writers
            .iter_mut()
            .for_each(|writer| writer.visit(&mut naming));
        self.strays
            .iter_mut()
            .for_each(|request| request.visit(&mut naming));
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
