//! Counters: numbers under typed keys, which any number of processes add to at once.
//!
//! A counter is a decimal number in the server, as its own `INCRBY` keeps it. One script adds, and
//! sets the time at which the counter ends. See [`Counter`].

pub(crate) mod batch;
pub(crate) mod requests;
pub(crate) mod typed;

pub use crate::counter::batch::CounterBatch;
pub use crate::counter::typed::{Counter, CounterBuilder};
