//! How much each caller may ask for.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use valkey_runtime::{RateLimiter, Ttl};

use crate::{App, Error, Result};

/// So many in a time: `100/15m`.
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
        parse().ok_or_else(|| format!("{text:?} is no quota such as `100/15m`"))
    }
}

/// The limits.
#[derive(Debug)]
pub struct Limits {
    api: Option<(RateLimiter, Quota)>,
    pub(crate) login: RateLimiter,
}

impl Limits {
    /// Requests of each address, if they are limited, and logins of each e-mail.
    ///
    /// # Errors
    /// Where a quota is out of bounds.
    pub fn new(api: Option<Quota>, login: Quota) -> valkey_runtime::Result<Self> {
        let limiter =
            |name, Quota { count, period }| RateLimiter::builder(name).quota(count, period);
        let api = match api {
            Some(quota) => Some((limiter("api", quota).fixed_window().build()?, quota)),
            None => None,
        };
        let login = limiter("login", login).build()?;
        Ok(Self { api, login })
    }
}

/// Refuses an address that has asked for too much, and tells each what it has left: by the fields of the IETF's draft
/// "RateLimit header fields for HTTP".
pub(crate) async fn by_address(
    State(App { store, limits, .. }): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let Some((limiter, Quota { count, period })) = &limits.api else {
        return Ok(next.run(request).await);
    };
    let decision = limiter.check(&store, peer.ip()).await?;
    let (name, window) = (decision.name(), period.as_secs());
    let policy = format!("\"{name}\";q={count};w={window}");
    let (left, reset) = (decision.remaining(), seconds(decision.reset()));
    let left = format!("\"{name}\";r={left};t={reset}");
    let response = match decision.is_allowed() {
        true => next.run(request).await,
        false => Error::TooMany(decision).into_response(),
    };
    let fields = [("ratelimit-policy", policy), ("ratelimit", left)];
    Ok((AppendHeaders(fields), response).into_response())
}

/// In whole seconds, none of which is too early.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_nanos().div_ceil(1_000_000_000) as u64
}
