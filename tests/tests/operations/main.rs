//! The conditions under which a service runs: runtimes that come and go, users with few rights,
//! servers with low limits, outages.

mod keeping;
mod log;
mod rights;
mod runtimes;
mod telling;
mod too_large;
