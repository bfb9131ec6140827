//! The test kit, for applications as for the runtime's own tests. The page `docs/testing.md` shows the tests of a service.
//!
//! [`Store::memory`] is a store in the process, and [`memory`] one with the clock that it goes by. [`Store::faults`] has requests of
//! any store fail, or wait until the test lets them go on, and [`Store::record`] has what was called.
//!
//! [`TestServer`] is a private `valkey-server` on a free port of this machine: plain, with TLS, or on a Unix socket;
//! [`TestCluster`] is three of them. [`ClosedPort`] is where no server is. All of it runs on threads and blocking sockets, so that a test is free in its choice of
//! async runtime and a stuck runtime can't stall what it is tested with.
//!
//! Servers may live in a `static`: they end with the process of the test, however that ends (see [`TestServer`]).

use std::sync::Arc;

use crate::{ManualClock, Store};

#[cfg(unix)]
mod cluster;
mod faults;
#[cfg(unix)]
mod port;
#[cfg(unix)]
mod process;
mod record;
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
pub use faults::{Fault, Faults, Held, Request};
#[cfg(unix)]
pub use port::ClosedPort;
pub use record::{Call, Outcome, Record};
pub(crate) use record::{Pending, Records};
#[cfg(unix)]
pub use resp::Value;
#[cfg(unix)]
pub use server::{TestServer, TestServerBuilder};
#[cfg(unix)]
pub use tls::Tls;

/// An in-process store, and the clock that it goes by: nothing in it expires but by [`ManualClock::advance`].
///
/// ```
/// use std::time::Duration;
///
/// use serde::{Deserialize, Serialize};
/// use valkey_runtime::{Cached, testing};
///
/// #[derive(Serialize, Deserialize, Cached)]
/// #[cached(ttl = "5m")]
/// struct User {
///     #[cached(key)]
///     id: u64,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// let (store, clock) = testing::memory();
/// User { id: 42 }.set(&store).await?;
/// clock.advance(Duration::from_secs(4 * 60));
/// assert!(User::exists(&store, 42).await?);
/// clock.advance(Duration::from_secs(60));
/// assert!(!User::exists(&store, 42).await?);
/// # Ok(())
/// # }
/// ```
///
/// A TTL is shortened by the jitter of its type, by up to 5 % unless that says otherwise: so a test looks well before the TTL is
/// over, and after all of it. What waits in a task, as a caller for another's load does, goes by tokio's time
/// (`#[tokio::test(start_paused = true)]`).
pub fn memory() -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = Store::builder()
        .memory()
        .clock(clock.clone())
        .connect_lazy();
    (
        store.expect("an in-process store needs nothing else"),
        clock,
    )
}

/// What the project's own harness is built of. Not part of the public interface: it may change in any release.
#[cfg(unix)]
#[doc(hidden)]
pub mod harness {
    pub use super::port::Port;
    pub use super::resp;
    pub use super::server::valkey_cli;
    pub use super::wait::{Backoff, eventually};
}
