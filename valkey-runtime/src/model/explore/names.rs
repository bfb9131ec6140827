//! Names without a meaning: two worlds that differ only in names are one.
//!
//! Moments matter only by their order within a process, and clocks of tags only by their order.
//! Flights, tokens and stamps matter only by equality. So after each step all of them are renamed:
//! moments, flights and clocks by their rank, tokens and stamps in the order of their first
//! occurrence. This also lets time pass: the names of the next request differ from all earlier
//! ones.

use crate::core::loads::parts::Moment;
use crate::protocol::envelope::placeholder::{Lease, Name};
use crate::protocol::envelope::timing::claim_token;

/// Visits names, and may change them.
pub(crate) trait Visitor {
    fn moment(&mut self, _: &mut Moment) {}
    fn flight(&mut self, _: &mut u64) {}
    fn clock(&mut self, _: &mut u64) {}
    fn token(&mut self, _: &mut u64) {}
    fn stamp(&mut self, _: &mut u64) {}

    fn name(&mut self, name: &mut Name) {
        self.token(&mut name.token);
        self.stamp(&mut name.stamp);
    }

    fn lease(&mut self, lease: &mut Lease) {
        match lease {
            Lease::Placed(name) => self.name(name),
            // The tokens of claims are those of their requests, which are small.
            Lease::Claim { token, stamp } => {
                let mut wide = u64::from(*token);
                self.token(&mut wide);
                *token = claim_token(wide);
                self.stamp(stamp);
            }
        }
    }
}

/// Rings when a flight changes. It has the flight's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bell(pub(crate) u64);

/// Gathers the names that have an order.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) moments: Vec<u64>,
    pub(crate) flights: Vec<u64>,
    pub(crate) clocks: Vec<u64>,
}

impl Visitor for Gathered {
    fn moment(&mut self, moment: &mut Moment) {
        self.moments.push(*moment);
    }

    fn flight(&mut self, flight: &mut u64) {
        self.flights.push(*flight);
    }

    fn clock(&mut self, clock: &mut u64) {
        self.clocks.push(*clock);
    }
}

/// Gives each moment and flight its rank among the gathered ones.
pub(crate) struct Ranked(Gathered);

/// The same for clocks, which are common to all processes.
pub(crate) struct RankedClocks(Gathered);

impl Gathered {
    fn sorted(mut self) -> Self {
        for names in [&mut self.moments, &mut self.flights, &mut self.clocks] {
            names.sort_unstable();
            names.dedup();
        }
        self
    }

    pub(crate) fn ranked(self) -> Ranked {
        Ranked(self.sorted())
    }

    pub(crate) fn ranked_clocks(self) -> RankedClocks {
        RankedClocks(self.sorted())
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

impl Visitor for RankedClocks {
    fn clock(&mut self, clock: &mut u64) {
        *clock = position(&self.0.clocks, *clock).unwrap_or(0);
    }
}

/// Numbers tokens and stamps in the order of their first occurrence.
#[derive(Default)]
pub(crate) struct Naming {
    pub(crate) tokens: Vec<u64>,
    pub(crate) stamps: Vec<u64>,
    /// A mutation: all stamps are equal.
    pub(crate) by_token_alone: bool,
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

/// Removes each name that has not occurred before: nobody knows it any more.
pub(crate) struct Known(pub(crate) Naming);

/// The token in place of all removed names. A claim with it belongs to no other holder, and is no
/// pause.
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
