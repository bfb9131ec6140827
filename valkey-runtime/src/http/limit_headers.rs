//! The header fields of a limit, for responses that a handler makes itself.

use http::header::{HeaderMap, RETRY_AFTER};

use crate::http::fields::{self, LIMIT, POLICY};
use crate::limit::Decision;

/// The header fields of decisions, for a response that a handler makes itself: those that
/// [`RateLimitLayer`](crate::http::RateLimitLayer) adds.
///
/// | field | content |
/// |---|---|
/// | `RateLimit-Policy` | each limit: its name, its quota, and its period in seconds |
/// | `RateLimit` | each limit whose state is known: what remains, and the seconds until there is more |
/// | `Retry-After` | seconds, if a limit refuses: the longest of all, and at least 1 |
///
/// A refusal is answered with 429. If the [state is unknown](Decision::failure) and the limit fails
/// closed, answer with 503.
///
/// ```
/// # use std::time::Duration;
/// use axum::http::StatusCode;
/// use axum::response::{IntoResponse, Response};
/// use valkey_runtime::http::limit_headers;
/// use valkey_runtime::limit::RateLimiter;
/// # use valkey_runtime::Store;
///
/// async fn login(store: &Store, logins: &RateLimiter, email: &str) -> valkey_runtime::Result<Response> {
///     let decision = logins.check(store, email).await?;
///     if !decision.is_allowed() {
///         return Ok((StatusCode::TOO_MANY_REQUESTS, limit_headers([&decision])).into_response());
///     }
///     Ok((limit_headers([&decision]), "welcome").into_response())
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// # let logins = RateLimiter::builder("login").quota(1, Duration::from_secs(60)).build()?;
/// # login(&store, &logins, "ada@example.org").await?;
/// # let refused = login(&store, &logins, "ada@example.org").await?;
/// # assert_eq!(refused.status(), 429);
/// assert_eq!(refused.headers()["retry-after"], "60");
/// assert_eq!(refused.headers()["ratelimit"], r#""login";r=0;t=60"#);
/// # Ok(())
/// # }
/// ```
pub fn limit_headers<'d>(decisions: impl IntoIterator<Item = &'d Decision>) -> HeaderMap {
    let decisions: Vec<&Decision> = decisions.into_iter().collect();
    let mut map = HeaderMap::with_capacity(3);
    let policies = decisions
        .iter()
        .map(|one| fields::policy(one.name(), one.quota()));
    let known = decisions.iter().filter(|one| one.failure().is_none());
    let limits = known.map(|one| fields::limit(one));
    for (name, field) in [
        (POLICY, fields::list(policies)),
        (LIMIT, fields::list(limits)),
    ] {
        if let Some(field) = field {
            map.insert(name, field);
        }
    }
    let refused = decisions.iter().filter(|one| !one.is_allowed());
    if let Some(longest) = refused.map(|one| one.retry_after()).max() {
        map.insert(RETRY_AFTER, fields::seconds(longest).max(1).into());
    }
    map
}
