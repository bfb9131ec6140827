//! The normal form: worlds that differ only in [names](crate::model::explore::names) are one.

use crate::model::explore::names::{Gathered, Known, Naming, Visitor};
use crate::model::loading::Mutation;
use crate::model::loading::server::{Entry, Request};
use crate::model::loading::world::{Process, World};

impl World {
    /// Brings the world into the form in which worlds are compared.
    pub(crate) fn normalize(&mut self) {
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

    /// Forgets requests without any possible effect. With a mutation they may have one.
    fn forget_what_is_void(&mut self) {
        if self.setup.0.mutation.is_none() {
            let (entry, resends) = (self.entry.as_ref(), self.left.resends > 0);
            let is_void = |request: &Request| request.is_void(entry, resends);
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
        let Process { flights, turns, .. } = &mut self.processes[at];
        flights.visit(visitor);
        turns.visit(visitor);
        let readers = self.readers.iter_mut();
        let readers = readers.filter(|reader| reader.process == at);
        readers.for_each(|reader| {
            reader.visit(visitor);
            let known = reader.flight();
            known.into_iter().for_each(|id| flights.knows(id));
        });
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
