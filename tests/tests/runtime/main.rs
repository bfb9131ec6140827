//! The runtime against the in-process store and real servers. One binary, so that its tests share the servers.

mod conformance;
mod faults;
mod servers;
mod stores;
