//! What a request is counted as.

use crate::key::limit_key::LimitKey;
use http::request::Parts;

/// Whom a request is counted for: a closure, [`PeerAddress`](crate::http::address::PeerAddress), [`ForwardedAddress`](crate::http::address::ForwardedAddress) or
/// [`HeaderKey`](crate::http::HeaderKey).
///
/// ```
/// # use std::time::Duration;
/// use valkey_runtime::http::RateLimitLayer;
/// use valkey_runtime::{RateLimiter, Store};
///
/// /// What an authentication before has put into the request.
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// # fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// let limiter = RateLimiter::builder("user").quota(100, Duration::from_secs(60)).build()?;
/// let layer = RateLimitLayer::new(store).limit(limiter, |request: &http::request::Parts| {
///     request.extensions.get::<UserId>().map(|user| user.0)
/// });
/// # Ok(())
/// # }
/// ```
pub trait RequestKey: Send + Sync + 'static {
    /// Whom the limit is for.
    type Key: LimitKey;

    /// Whom this request is counted for. `None` where the limit is not for it.
    fn key(&self, request: &Parts) -> Option<Self::Key>;

    /// The same, of what has to have an address: whether the request has one. The layer asks this; by default it is as
    /// [`key`](Self::key) says.
    fn count(&self, request: &Parts) -> Counted<Self::Key> {
        self.key(request).map_or(Counted::Not, Counted::For)
    }
}

/// Whom a request is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counted<K> {
    /// For this one.
    For(K),
    /// For nobody: the limit is not for it.
    Not,
    /// There is no address to count by. What becomes of it, and what all such requests share if they do.
    WithoutAddress(WithoutAddress, K),
}

impl<K> Counted<K> {
    pub(crate) fn into_key(self) -> Option<K> {
        match self {
            Counted::For(key) => Some(key),
            Counted::Not | Counted::WithoutAddress(WithoutAddress::Allow, _) => None,
            Counted::WithoutAddress(_, shared) => Some(shared),
        }
    }

    pub(crate) fn map<B>(self, written: impl FnOnce(K) -> B) -> Counted<B> {
        match self {
            Counted::For(key) => Counted::For(written(key)),
            Counted::Not => Counted::Not,
            Counted::WithoutAddress(policy, shared) => {
                Counted::WithoutAddress(policy, written(shared))
            }
        }
    }
}

/// What becomes of a request that has no address, where a limit is by address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WithoutAddress {
    /// It is refused, with the status 500. The default.
    #[default]
    Refuse,
    /// It goes on, and this limit does not count it.
    Allow,
    /// It is counted with all others that have none, as if they came from 0.0.0.0: one client can use up what there is for all.
    Shared,
}
