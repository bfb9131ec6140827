//! How much each caller may ask for.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use valkey_runtime::{Entry, RateLimiter, Ttl};

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
    api: Option<RateLimiter>,
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
        Ok(Self {
            api: api
                .map(|quota| limiter("api", quota).fixed_window().build())
                .transpose()?,
            login: limiter("login", login).build()?,
        })
    }
}

/// Refuses an address that has asked for too much.
pub(crate) async fn by_address(
    State(App { store, limits, .. }): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response> {
    if let Some(limiter) = &limits.api {
        let decision = limiter.check(&store, peer.ip()).await?;
        if !decision.is_allowed() {
            return Err(Error::TooMany(decision));
        }
    }
    Ok(next.run(request).await)
}

pub(crate) fn answer<T: Serialize>(entry: Entry<T>) -> Response {
    let source = entry.source().as_str();
    ([("cache-status", source)], Json(&*entry)).into_response()
}
