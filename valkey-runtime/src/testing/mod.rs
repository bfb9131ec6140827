//! The test kit, for applications as for the runtime's own tests.
//!
//! [`TestServer`] is a private `valkey-server` on a free port of this machine: plain, with TLS, or on a Unix socket;
//! [`TestCluster`] is three of them. All of it runs on threads and blocking sockets, so that a test is free in its choice of
//! async runtime and a stuck runtime can't stall what it is tested with.
//!
//! Servers may live in a `static`: they end with the process of the test, however that ends (see [`TestServer`]).

#[cfg(unix)]
mod cluster;
#[cfg(unix)]
mod port;
#[cfg(unix)]
mod process;
#[cfg(unix)]
#[doc(hidden)]
pub mod resp;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod tls;
#[cfg(unix)]
mod wait;

#[cfg(unix)]
pub use cluster::TestCluster;
#[cfg(unix)]
pub use resp::Value;
#[cfg(unix)]
pub use server::{TestServer, TestServerBuilder};
#[cfg(unix)]
pub use tls::Tls;

/// What the project's own harness is built of. Not part of the public interface: it may change in any release.
#[cfg(unix)]
#[doc(hidden)]
pub mod harness {
    pub use super::port::listener;
    pub use super::resp;
    pub use super::server::valkey_cli;
    pub use super::wait::{Backoff, eventually};
}
