//! Checks that explore every interleaving of the rules, and compare scripts and pages with them.

pub(crate) mod asked;
pub(crate) mod damaged;
pub(crate) mod differential;
pub(crate) mod explore;
pub(crate) mod fuzz;
pub(crate) mod key_limits;
pub(crate) mod loading;
pub(crate) mod locks;
pub(crate) mod modify;
pub(crate) mod near;
pub(crate) mod panics;
pub(crate) mod schedule;
pub(crate) mod table;
pub(crate) mod tags;
// Some of them are packed.
#[cfg(all(feature = "encrypt", feature = "lz4", feature = "zstd"))]
pub(crate) mod vectors;
