//! Rate limits before an HTTP service.

use crate::http::request_key::{Counted, RequestKey};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HeaderName, ORIGIN, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::core::store::Store;
use crate::http::fields;
use crate::http::fields::{LIMIT, POLICY, Quoted};
use crate::http::request_key::WithoutAddress;
use crate::key::limit_key::LimitKey;
use crate::limit::decisions;
use crate::limit::key::Hashed;
use crate::limit::{Decision, LimitRequest, RateLimiter};

impl<F, K> RequestKey for F
where
    F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    K: LimitKey,
{
    type Key = K;

    fn key(&self, request: &Parts) -> Option<K> {
        self(request)
    }
}

/// Counts by the value of a header field, such as a token or an API key. It is [`Hashed`], so that
/// the server stores no secret.
///
/// The limit does not apply to requests without the field. The value is not verified: a client that
/// invents one gets a limit of its own. So combine it with a limit by address, or check the token
/// first.
#[derive(Clone, Debug)]
pub struct HeaderKey(HeaderName);

impl HeaderKey {
    /// Counts by the field of that name, in lower case.
    ///
    /// # Panics
    /// If the name is not a valid header name in lower case.
    pub const fn new(name: &'static str) -> Self {
        Self(HeaderName::from_static(name))
    }
}

impl RequestKey for HeaderKey {
    type Key = Hashed;

    fn key(&self, request: &Parts) -> Option<Hashed> {
        request.headers.get(&self.0).map(Hashed::of)
    }
}

/// A layer that checks [rate limits](RateLimiter) before each request: several at once, in one
/// round trip.
///
/// | decision | response |
/// |---|---|
/// | all limits allow it | the service's, with `RateLimit-Policy` and `RateLimit` |
/// | one limit refuses | 429, with `Retry-After`, both of these, and a problem of type `quota-exceeded` that names it |
/// | the state of one limit is unknown, and it fails closed | 503, with `Retry-After` |
/// | the request has no address, and a limit is [by address](crate::http::address::PeerAddress) | 500, unless its [policy](crate::http::request_key::WithoutAddress) says otherwise |
///
/// The fields are those of draft-ietf-httpapi-ratelimit-headers-11, which is not a standard yet.
/// `RateLimit-Policy` has an item for each limit that applies to the request: `"api";q=100;w=60` is
/// 100 in a minute. `RateLimit` has one for each limit that was checked: `"api";r=50;t=3` means
/// that fifty remain, and that there are more in three seconds. If a limit is [known to
/// refuse](RateLimiter#a-key-that-is-refused-again-and-again), the others are not checked. A burst
/// that differs from the quota shows only in `r`.
///
/// A request is counted whatever its later result. A refused request never reaches the service, and
/// its body is not read.
///
/// Preflights of browsers and health checks are ordinary requests, and come from limited addresses.
/// Exempt them:
///
/// ```
/// # use std::net::SocketAddr;
/// # use std::time::Duration;
/// # use axum::extract::ConnectInfo;
/// # use valkey_runtime::http::{PeerAddress, RateLimitLayer};
/// # use valkey_runtime::limit::RateLimiter;
/// # use valkey_runtime::Store;
/// # fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// # let limiter = RateLimiter::builder("address").quota(300, Duration::from_secs(60)).build()?;
/// # let peer = PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
/// let limits = RateLimitLayer::new(store)
///     .limit(limiter, peer)
///     .exempt_preflight()
///     .exempt_paths(["/health"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimitLayer(Arc<Limits>);

#[derive(Clone)]
struct Limits {
    store: Store,
    limits: Vec<Arc<Limit>>,
    exempt: Vec<Arc<Exempt>>,
    told: bool,
}

/// Whether no limit applies to a request.
type Exempt = dyn Fn(&Parts) -> bool + Send + Sync;

struct Limit {
    limiter: RateLimiter,
    policy: String,
    key: KeyOf,
}

/// Computes the key under which a request is counted.
type KeyOf = Box<dyn Fn(&RateLimiter, &Parts) -> Counted<Vec<u8>> + Send + Sync>;

impl RateLimitLayer {
    /// Creates a layer without limits; add them with [`limit`](Self::limit).
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Limits {
            store,
            limits: Vec::new(),
            exempt: Vec::new(),
            told: true,
        }))
    }

    /// Adds a limit.
    #[must_use]
    pub fn limit(mut self, limiter: RateLimiter, key: impl RequestKey) -> Self {
        let limit = Limit {
            policy: fields::policy(limiter.name(), limiter.quota()),
            limiter,
            key: Box::new(move |limiter, request| {
                let counted = key.count(request);
                counted.map(|key| limiter.request(key).into_key())
            }),
        };
        Arc::make_mut(&mut self.0).limits.push(Arc::new(limit));
        self
    }

    /// Exempts requests for which the function returns true. They pass, no limit counts them, and
    /// their responses get no fields.
    #[must_use]
    pub fn exempt(mut self, is: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).exempt.push(Arc::new(is));
        self
    }

    /// Exempts the preflights of browsers: `OPTIONS` with `Origin` and
    /// `Access-Control-Request-Method`.
    #[must_use]
    pub fn exempt_preflight(self) -> Self {
        self.exempt(|request| {
            let has = |name| request.headers.contains_key(name);
            request.method == Method::OPTIONS && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
        })
    }

    /// Exempts requests for these paths, such as that of a health check. The whole path must match;
    /// any method does.
    #[must_use]
    pub fn exempt_paths<P: Into<String>>(self, paths: impl IntoIterator<Item = P>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(Into::into).collect();
        self.exempt(move |request| paths.iter().any(|path| path == request.uri.path()))
    }

    /// Leaves `RateLimit-Policy` and `RateLimit` out of responses, so that clients do not learn the
    /// limits.
    #[must_use]
    pub fn untold(mut self) -> Self {
        Arc::make_mut(&mut self.0).told = false;
        self
    }
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.0.limits.iter().map(|limit| &limit.limiter);
        f.debug_list().entries(limits).finish()
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        RateLimitService {
            inner,
            limits: self.clone(),
        }
    }
}

/// A service behind a [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimitService<S> {
    inner: S,
    limits: RateLimitLayer,
}

impl<S, B, R> Service<Request<B>> for RateLimitService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let limits = &self.limits.0;
        let is_exempt = limits.exempt.iter().any(|is| is(&parts));
        let (mut asked, mut keys) = (Vec::new(), Vec::new());
        let (mut without_address, mut refused) = (false, false);
        for limit in limits.limits.iter().filter(|_| !is_exempt) {
            let counted = (limit.key)(&limit.limiter, &parts);
            if let Counted::WithoutAddress(policy, _) = counted {
                without_address = true;
                refused |= policy == WithoutAddress::Refuse;
            }
            if let Some(key) = counted.into_key() {
                asked.push(limit.clone());
                keys.push(key);
            }
        }
        if without_address {
            limits.store.inner().counters.request_without_address();
        }
        if refused {
            return ResponseFuture::refused(Refusal::without_address());
        }
        let request = Request::from_parts(parts, body);
        if asked.is_empty() {
            let call = self.inner.call(request);
            return ResponseFuture::calling(call, Told::default());
        }
        // The service that reported readiness is the one to call; its clone must become ready
        // again.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let (store, told) = (self.limits.0.store.clone(), self.limits.0.told);
        ResponseFuture {
            state: State::Checking {
                check: Box::pin(check(store, asked, keys, told)),
                waiting: Some((inner, request)),
            },
        }
    }
}

/// The header fields that a response gets.
#[derive(Debug, Default)]
struct Told {
    policy: Option<HeaderValue>,
    limit: Option<HeaderValue>,
}

/// A response in place of the service's.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    retry_after: Option<u64>,
    problem: String,
}

async fn check(
    store: Store,
    limits: Vec<Arc<Limit>>,
    keys: Vec<Vec<u8>>,
    told: bool,
) -> (Told, Option<Refusal>) {
    let requests = limits.iter().zip(keys);
    let requests = requests.map(|(limit, key)| LimitRequest::written(&limit.limiter, key));
    let requests: Vec<_> = requests.collect();
    let decisions = decisions(store.inner(), &requests).await;
    let told = match told {
        true => {
            let known = decisions.iter().filter(|one| one.failure().is_none());
            Told {
                policy: fields::list(limits.iter().map(|limit| &limit.policy)),
                limit: fields::list(known.map(fields::limit)),
            }
        }
        false => Told::default(),
    };
    (told, Refusal::of(&decisions))
}

impl Refusal {
    /// A limit that refuses takes precedence over one whose state is unknown. `Retry-After` is the
    /// longest of all.
    fn of(decisions: &[Decision]) -> Option<Self> {
        let refused = decisions.iter().filter(|one| !one.is_allowed());
        let retry_after = refused.map(Decision::retry_after).max()?;
        let mut violated = String::new();
        for decision in decisions.iter().filter(|one| one.is_refusal()) {
            let comma = if violated.is_empty() { "" } else { "," };
            violated += &format!("{comma}{}", Quoted(decision.name()));
        }
        let (status, problem) = match violated.is_empty() {
            false => (
                StatusCode::TOO_MANY_REQUESTS,
                format!(
                    r#"{{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded","status":429,"violated-policies":[{violated}]}}"#
                ),
            ),
            true => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"title":"Service Unavailable","status":503}"#.to_owned(),
            ),
        };
        Some(Self {
            status,
            retry_after: Some(fields::seconds(retry_after).max(1)),
            problem,
        })
    }

    /// A mistake in the set-up of the service, which a client can't correct.
    fn without_address() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            retry_after: None,
            problem: r#"{"title":"Internal Server Error","status":500}"#.to_owned(),
        }
    }

    fn response<R: From<String>>(self) -> Response<R> {
        let mut response = Response::new(self.problem.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, problem);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl Told {
    /// Appends to the fields of an inner layer: both fields are lists.
    fn append_to<R>(&mut self, response: &mut Response<R>) {
        let fields = [(POLICY, self.policy.take()), (LIMIT, self.limit.take())];
        for (name, value) in fields {
            if let Some(value) = value {
                response.headers_mut().append(name, value);
            }
        }
    }
}

pin_project! {
    /// The future of a [`RateLimitService`]: checks the limits, then calls the service.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Q>
    where
        S: Service<Q>,
    {
        #[pin]
        state: State<S, Q>,
    }
}

/// Boxed, since the store's future has no name.
type Check = Pin<Box<dyn Future<Output = (Told, Option<Refusal>)> + Send>>;

pin_project! {
    #[project = StateOf]
    enum State<S, Q>
    where
        S: Service<Q>,
    {
        Checking {
            check: Check,
            waiting: Option<(S, Q)>,
        },
        Calling {
            #[pin]
            call: S::Future,
            told: Told,
        },
        Refused {
            refusal: Option<Refusal>,
        },
    }
}

impl<S: Service<Q>, Q> ResponseFuture<S, Q> {
    fn calling(call: S::Future, told: Told) -> Self {
        Self {
            state: State::Calling { call, told },
        }
    }

    fn refused(refusal: Refusal) -> Self {
        let refusal = Some(refusal);
        Self {
            state: State::Refused { refusal },
        }
    }
}

impl<S: Service<Q>, Q> fmt::Debug for ResponseFuture<S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, Q, R> Future for ResponseFuture<S, Q>
where
    S: Service<Q, Response = Response<R>>,
    R: From<String>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateOf::Checking { check, waiting } => {
                    let (mut told, refusal) = ready!(check.as_mut().poll(cx));
                    match (refusal, waiting.take()) {
                        (Some(refusal), _) => {
                            let mut response = refusal.response();
                            told.append_to(&mut response);
                            return Poll::Ready(Ok(response));
                        }
                        (None, Some((mut service, request))) => State::Calling {
                            call: service.call(request),
                            told,
                        },
                        (None, None) => {
                            unreachable!("the check has ended, and is not polled again")
                        }
                    }
                }
                StateOf::Refused { refusal } => match refusal.take() {
                    Some(refusal) => return Poll::Ready(Ok(refusal.response())),
                    None => unreachable!("the response is given, and this is not polled again"),
                },
                StateOf::Calling { call, told } => {
                    let mut response = ready!(call.poll(cx))?;
                    told.append_to(&mut response);
                    return Poll::Ready(Ok(response));
                }
            };
            state.set(next);
        }
    }
}
