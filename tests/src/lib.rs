//! The shared parts of the tests: real servers, a scripted server, and a network that fails on
//! demand.
//!
//! - [`Server`] and [`Cluster`] are those of the runtime's test kit.
//! - [`FakeServer`] gives the answers of a script, for replies that a real server gives too rarely.
//! - [`Proxy`] forwards between a client and a server; it cuts, stalls or loses their data.
//! - [`example`] runs the programs of the examples.
//! - [`repeat`] runs a test again that failed while the machine stood still.
//!
//! They use threads and blocking sockets: a test may use any async runtime, and a stuck runtime
//! can't stall the kit.
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

// The test kit runs its servers on Unix alone.
#![cfg(unix)]

pub mod example;
mod fake;
mod listen;
mod proxy;
mod repeat;

pub use fake::{FakeServer, Reply};
pub use proxy::Proxy;
pub use repeat::{TURN, repeat};
pub use valkey_runtime::testing::harness::{eventually, resp, valkey_cli};
pub use valkey_runtime::testing::{
    ClosedPort, TestCluster as Cluster, TestServer as Server, TestServerBuilder as ServerBuilder,
    Tls,
};

use valkey_runtime::testing::harness::{Backoff, Port};
