//! The key by which a request is counted.

use crate::key::limit_key::LimitKey;
use http::request::Parts;

/// The key by which a limit counts requests: a closure,
/// [`PeerAddress`](crate::http::address::PeerAddress),
/// [`ForwardedAddress`](crate::http::address::ForwardedAddress) or
/// [`HeaderKey`](crate::http::HeaderKey).
///
/// ```
/// # use std::time::Duration;
/// use valkey_runtime::http::RateLimitLayer;
/// use valkey_runtime::limit::RateLimiter;
/// use valkey_runtime::Store;
///
/// /// The user, which an authentication layer has put into the request.
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
    /// The subject of the limit.
    type Key: LimitKey;

    /// The key of this request, or `None` if the limit does not apply to it.
    fn key(&self, request: &Parts) -> Option<Self::Key>;

    /// As [`key`](Self::key), but also reports a missing address. The layer calls this method; by
    /// default it returns the result of [`key`](Self::key).
    fn count(&self, request: &Parts) -> Counted<Self::Key> {
        self.key(request).map_or(Counted::Not, Counted::For)
    }
}

/// The result of [`RequestKey::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counted<K> {
    /// The request counts for this key.
    For(K),
    /// The limit does not apply to the request.
    Not,
    /// The request has no address to count by. The policy for it, and the key that such requests
    /// share under [`WithoutAddress::Shared`].
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

/// The policy for requests without an address, under a limit by address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WithoutAddress {
    /// The request is refused with the status 500. The default.
    #[default]
    Refuse,
    /// The request is allowed, and this limit does not count it.
    Allow,
    /// The request shares one limit with all others without an address, as if all came from
    /// 0.0.0.0. One client can then use up the limit for all of them.
    Shared,
}
