//! The rate limits of callers.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use valkey_runtime::http::{PeerAddress, RateLimitLayer};
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::{Store, Ttl};

/// A number of requests in a time: `100/15m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    count: u32,
    period: Duration,
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (count, period) = text.split_once('/')?;
            match (count.parse(), period.parse()) {
                (Ok(count), Ok(Ttl::After(period))) => Some(Self { count, period }),
                _ => None,
            }
        };
        parse().ok_or_else(|| format!("{text:?} is not a quota such as `100/15m`"))
    }
}

/// The limits.
#[derive(Debug)]
pub struct Limits {
    api: Option<RateLimiter>,
    pub(crate) login: RateLimiter,
}

impl Limits {
    /// Limits the requests of each address, if configured, and the logins of each e-mail.
    ///
    /// # Errors
    /// If a quota is out of bounds.
    pub fn new(api: Option<Quota>, login: Quota) -> valkey_runtime::Result<Self> {
        let limiter =
            |name, Quota { count, period }| RateLimiter::builder(name).quota(count, period);
        let api = api.map(|quota| limiter("api", quota).fixed_window().build());
        let login = limiter("login", login).build()?;
        Ok(Self {
            api: api.transpose()?,
            login,
        })
    }

    /// Refuses an address that is over its limit, and reports to each its remaining requests.
    /// (Behind a proxy all clients have its address: `ForwardedAddress` takes that of the client.)
    pub(crate) fn by_address(&self, store: &Store) -> RateLimitLayer {
        let peer =
            PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
        let layer = RateLimitLayer::new(store.clone());
        match &self.api {
            Some(limiter) => layer.limit(limiter.clone(), peer),
            None => layer,
        }
    }
}
