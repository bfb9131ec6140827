//! What the tests share: real servers, a scripted one, and a network that
//! fails on demand.
//!
//! - [`Server`] is a private `valkey-server` on a free port of this machine:
//!   plain, with TLS, or on a Unix socket; [`Cluster`] is three of them.
//! - [`FakeServer`] answers what a test tells it to, for the replies that a
//!   real server gives too rarely.
//! - [`Proxy`] stands between a client and a server and cuts, stalls or loses
//!   what passes.
//!
//! Nothing here knows `valkey-runtime`. All of it runs on threads and blocking
//! sockets, so that a test is free in its choice of async runtime and a stuck
//! runtime can't stall what it is tested with.
//!
//! Servers may live in a `static`: they end with the process of the test,
//! however that ends (see [`Server`]).
//!
//! ```no_run
//! use valkey_tests::{Proxy, Server};
//!
//! let server = Server::plain();
//! let proxy = Proxy::to(server.addr());
//! // … open a store on `proxy.url()` …
//! proxy.stall();
//! // … a `get` must now end with a timeout …
//! assert_eq!(server.cli(&["EXISTS", "airport:ANC"]), "0");
//! ```

mod cluster;
mod fake;
mod listen;
mod port;
mod process;
mod proxy;
pub mod resp;
mod server;
mod tls;
mod wait;

pub use cluster::Cluster;
pub use fake::{FakeServer, Reply};
pub use proxy::Proxy;
pub use server::{Server, ServerBuilder, valkey_cli};
pub use tls::Tls;
pub use wait::eventually;
