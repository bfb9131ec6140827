//! The test kit, for applications and for the runtime's own tests. See `docs/guides/testing.md` for
//! the tests of a service.
//!
//! [`Store::memory`] is a store in the process, and [`memory`] returns one with its clock.
//! [`Store::faults`] makes requests of any store fail, or wait until the test releases them.
//! [`Store::record`] records the calls. [`assert_round_trip`] shows whether a value can be stored.
//!
//! [`TestServer`] is a private `valkey-server` on a free port of this machine: plain, with TLS, or
//! on a Unix socket. [`TestCluster`] is three of them, or six with replicas. [`ClosedPort`] is a
//! port that refuses connections. They use threads and blocking sockets: a test may use any async
//! runtime, and a stuck runtime can't stall the kit.
//!
//! Servers may be in a `static`: they end with the test process, however that ends (see
//! [`TestServer`]).

#[cfg(unix)]
pub(crate) mod cluster;
pub(crate) mod connected;
#[cfg(unix)]
pub(crate) mod port;
#[cfg(unix)]
pub(crate) mod process;
#[cfg(unix)]
#[doc(hidden)]
pub mod resp;
pub(crate) mod round_trip;
#[cfg(unix)]
pub(crate) mod server;
#[cfg(unix)]
pub(crate) mod tls;
#[cfg(unix)]
pub(crate) mod wait;

use std::sync::Arc;

use crate::base::clock::ManualClock;
use crate::core::store::Store;

pub use crate::backend::faults::{Fault, Faults, Held, Request};
pub use crate::core::records::{Call, Outcome};
pub use crate::observe::record::Record;
#[cfg(unix)]
pub use crate::testing::cluster::TestCluster;
#[cfg(unix)]
pub use crate::testing::port::ClosedPort;
#[cfg(unix)]
pub use crate::testing::resp::Value;
pub use crate::testing::round_trip::{assert_round_trip, round_trip};
#[cfg(unix)]
pub use crate::testing::server::{TestServer, TestServerBuilder};
#[cfg(unix)]
pub use crate::testing::tls::Tls;

/// An in-process store and its clock: entries expire only by [`ManualClock::advance`].
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
/// The jitter of a type reduces its TTL, by up to 5 % by default. So check well before the end of
/// the TTL, or after the whole TTL. Waits in a task, such as that for another caller's load, use
/// tokio's time (`#[tokio::test(start_paused = true)]`).
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

impl Store {
    /// The faults of this store, which a test injects.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, ErrorKind, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let store = Store::memory();
    /// store.faults().fail_next(ErrorKind::Timeout);
    /// let error = User::get(&store, 42).await.err().unwrap();
    /// assert_eq!(error.kind(), ErrorKind::Timeout);
    /// assert!(User::get(&store, 42).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn faults(&self) -> &Faults {
        self.inner().gateway.faults()
    }
}

impl Store {
    /// Waits until all background work of this store has ended: detached loads, extensions of
    /// sliding entries, deliveries of deletions, and releases of leases. If the server is down,
    /// that is after its return. It does not wait for the renewal of a guard or the connections of
    /// a stream, which last as long as their owner.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use serde::{Deserialize, Serialize};
    /// # use valkey_runtime::{Cached, testing};
    /// #[derive(Serialize, Deserialize, Cached)]
    /// #[cached(ttl = "30m", sliding, max_age = "7d")]
    /// struct Session {
    ///     #[cached(key)]
    ///     token: String,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// let (store, clock) = testing::memory();
    /// Session { token: "x".into() }.set(&store).await?;
    /// for _ in 0..3 {
    ///     clock.advance(Duration::from_secs(20 * 60));
    ///     assert!(Session::get(&store, "x").await?.is_some());
    ///     store.settled().await; // the hit has extended the session's life
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn settled(&self) {
        self.inner().background.all_settled().await;
    }
}

/// The building blocks of the project's own test harness. Not part of the public API: they may
/// change in any release.
#[cfg(unix)]
#[doc(hidden)]
pub mod harness {
    pub use crate::testing::port::Port;
    pub use crate::testing::resp;
    pub use crate::testing::server::valkey_cli;
    pub use crate::testing::wait::{Backoff, eventually};
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;
    use crate::base::paused::PAUSED;
    use crate::base::paused::is_time_paused;
    use std::time::Duration;

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_server_under_a_paused_clock_is_refused_with_a_word_on_what_to_do() {
        assert!(is_time_paused());
        let nobody = ClosedPort::new();
        let builder = || Store::builder().url(&nobody.url());
        for refused in [builder().connect().await, builder().connect_lazy()] {
            let error = refused.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert_eq!(error.to_string(), format!("config: {PAUSED}"));
        }
        tokio::time::resume();
        assert!(!is_time_paused());
        let error = builder().require_server().connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection);
        tokio::time::pause();
        assert!(Store::builder().memory().connect().await.is_ok());
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "tokio's clock is paused")]
    async fn a_test_server_gives_no_store_under_a_paused_clock() {
        TestServer::plain().store().await;
    }

    /// The clock may also be paused after the store was opened.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_deadline_that_passed_in_no_time_says_why() {
        let server = TestServer::plain();
        let builder = server.store_builder();
        let store = builder.clone().command_timeout(Duration::from_secs(20));
        let store = store.connect().await.unwrap();
        server.pause();
        tokio::time::pause();
        let error = store.ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains(PAUSED), "{error}");
        tokio::time::resume();
        // The deadline follows the machine's clock again.
        let store = builder.command_timeout(Duration::from_millis(10));
        let error = store.connect_lazy().unwrap().ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(!error.to_string().contains("paused"), "{error}");
        server.resume();
    }

    #[test]
    fn outside_of_a_runtime_no_clock_is_paused() {
        assert!(!is_time_paused());
    }
}
