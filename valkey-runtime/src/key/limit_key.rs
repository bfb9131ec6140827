//! The key of a rate limit.

use crate::key::writer::KeyWriter;

/// The user, client or address that a limit applies to. It is text, an integer, an address or its
/// [`Subnet`](crate::limit::Subnet), a type that derives [`KeyPart`](macro@crate::KeyPart), or a
/// tuple of up to six of these. With features it may be a UUID or a date. With `()` all requests
/// count together.
///
/// Each part is escaped like the parts of cache keys, so two different keys of one type never count
/// together. Text and numbers are not distinguished: `"42"` and `42` are one key.
///
/// ```
/// # use std::{net::Ipv4Addr, time::Duration};
/// use valkey_runtime::limit::RateLimiter;
/// use valkey_runtime::{KeyPart, Store};
///
/// #[derive(KeyPart)]
/// struct UserId(u64);
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// # let limiter = RateLimiter::builder("login").quota(5, Duration::from_secs(60)).build()?;
/// let (user, address) = (UserId(42), Ipv4Addr::new(203, 0, 113, 7));
/// assert!(limiter.check(&store, ("password", &user, address)).await?.is_allowed());
/// assert_eq!(limiter.peek(&store, ("password", 42, "203.0.113.7")).await?.remaining(), 4);
/// assert_eq!(limiter.peek(&store, ()).await?.remaining(), 5);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the key of a limit",
    label = "not a `LimitKey`",
    note = "keys of a limit are text, integers, IP addresses, tuples of these, and types that derive `KeyPart`"
)]
pub trait LimitKey {
    /// Writes the key: different bytes for different values.
    fn write_key(&self, out: &mut KeyWriter);
}
