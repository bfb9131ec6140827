//! Locks by lease: one holder at a time across processes, or so many.
//!
//! A lock is one string in the server with its holders, the ends of their leases, and the last
//! fencing token. One script takes, renews and releases it, by the server's time. See [`Lock`].

pub(crate) mod acquire;
pub(crate) mod held;
pub(crate) mod typed;

pub use crate::lock::held::Held;
pub use crate::lock::typed::{Lock, LockBuilder, LockError};
