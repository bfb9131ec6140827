//! Names that mean nothing: two worlds that differ by them alone are one.
//!
//! Moments count by their order within a process, and the clock of tags by its order; flights, tokens and stamps only by
//! whether they are the same. So after each step all of them are named anew: moments, flights and clocks by their rank, tokens
//! and stamps in the order in which they are met. That also lets time pass: what the next request makes is told from all that
//! was made before.

use crate::core::loads::parts::Moment;
use crate::protocol::envelope::placeholder::{Lease, Name};
use crate::protocol::envelope::timing::claim_token;

/// Is shown names, and may change them.
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

/// Rings when a flight moves. It has the flight's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bell(pub(crate) u64);

/// Gathers what has an order.
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

/// Gives each moment and flight its rank among those that were gathered.
pub(crate) struct Ranked(Gathered);

/// The same of clocks, which are one for all processes.
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

/// Numbers tokens and stamps in the order in which they are met.
#[derive(Default)]
pub(crate) struct Naming {
    pub(crate) tokens: Vec<u64>,
    pub(crate) stamps: Vec<u64>,
    /// All stamps are one: a mutation.
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

/// Takes the name from what was not met by then: nobody knows it any more.
pub(crate) struct Known(pub(crate) Naming);

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
