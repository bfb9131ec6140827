//! A cache of whole responses before an HTTP service: its settings.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::HeaderName;
use http::{Extensions, Request, Response, StatusCode, Uri};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::base::error::Result;
use crate::core::store::Store;
use crate::http::body::CacheBody;
use crate::http::cache_rules::{FindUri, Rules};
use crate::http::exchange;
use crate::http::response_key::Parameters;
use crate::http::storing::{Storing, may_be_listed};
use crate::key::tag::Tag;

/// A layer that stores the responses to `GET` requests and answers later requests with them
/// (RFC 9111).
///
/// ```
/// # use std::time::Duration;
/// # use axum::{Extension, Router, body::Body, extract::Path, http::Request, response::IntoResponse, routing::get};
/// # use tower::ServiceExt;
/// # use valkey_runtime::Store;
/// use valkey_runtime::http::{CacheLayer, ResponsePolicy};
///
/// async fn members(Path(org): Path<u64>) -> impl IntoResponse {
///     let policy = ResponsePolicy::new().tag(format!("members:{org}"));
///     (Extension(policy), "Ada, Grace")
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// let cache = CacheLayer::new(store.clone(), "members").ttl(Duration::from_secs(300)).query(["page"]);
/// let service = Router::new().route("/orgs/{id}/members", get(members).layer(cache));
///
/// # let request = || Request::builder().uri("/orgs/42/members").body(Body::empty()).unwrap();
/// # let first = service.clone().oneshot(request()).await.unwrap();
/// # assert!(!first.headers().contains_key("age"));
/// # let second = service.clone().oneshot(request()).await.unwrap();
/// # assert_eq!(second.headers()["age"], "0");
/// // After a member has joined:
/// store.invalidate_tag("members:42").await?;
/// # let third = service.oneshot(request()).await.unwrap();
/// # assert!(!third.headers().contains_key("age"));
/// # Ok(())
/// # }
/// ```
///
/// Concurrent requests with one key call the service once, across all processes, if its response
/// may be stored. `docs/guides/responses.md` says which responses are stored, and which requests
/// pass the cache by.
///
/// **The key** is made of the layer's name, the host, the path, the query parameters, and the
/// [header fields](Self::header) that are chosen here. A response may depend on more only if it
/// says so by `Vary`. A field that the service reads and that is in neither of them lets one client
/// choose what others get (cache poisoning).
///
/// A layer below `Router::nest` of axum sees the rest of the path only: use
/// [`uri_in_extension`](Self::uri_in_extension) there, or another name for each of the nested
/// routers.
#[derive(Clone)]
pub struct CacheLayer(Arc<Rules>);

impl CacheLayer {
    /// Creates a layer that stores what its responses allow. `name` is part of all its keys: layers
    /// with one name share their responses, also those of other processes. A response is not
    /// checked against the code that made it, so change the name with the form of the responses.
    pub fn new(store: Store, name: impl Into<String>) -> Self {
        Self(Arc::new(Rules {
            store,
            name: name.into(),
            storing: Storing {
                ttl: None,
                stale: Duration::ZERO,
                most_bytes: 1 << 20,
                statuses: vec![StatusCode::OK],
            },
            longest_body: Duration::from_secs(1),
            parameters: Parameters::default(),
            fields: Vec::new(),
            with_host: true,
            takes_cookies: false,
            takes_authorization: false,
            minds_requests: true,
            told_as: None,
            uri: None,
        }))
    }

    fn with(mut self, set: impl FnOnce(&mut Rules)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets the time for which a response is fresh that has no time of its own. By default such a
    /// response is not stored.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|rules| rules.storing.ttl = Some(ttl))
    }

    /// Sets the time after that for which a stale response is served, while one request in the
    /// background gets a new one (RFC 5861). A response may set its own. Default 0.
    #[must_use]
    pub fn stale_while_revalidate(self, time: Duration) -> Self {
        self.with(|rules| rules.storing.stale = time)
    }

    /// Makes these query parameters part of the key, and no others: a request with another
    /// parameter passes the cache by. By default all are. This bounds the number of keys that a
    /// client can cause.
    #[must_use]
    pub fn query<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.with(|rules| rules.parameters.only = Some(names))
    }

    /// Leaves these query parameters out of the key, such as `utm_source`. The service must not
    /// read them.
    #[must_use]
    pub fn ignore_query<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        self.with(|rules| rules.parameters.ignored.extend(names))
    }

    /// Makes a header field of the request part of the key. For a field that few responses depend
    /// on, `Vary` in these responses is enough. Its values are stored in the server in plain text.
    #[must_use]
    pub fn header(self, name: HeaderName) -> Self {
        self.with(|rules| rules.fields.push(name))
    }

    /// Leaves the host out of the key, for a service that answers the same whatever the host.
    #[must_use]
    pub fn ignore_host(self) -> Self {
        self.with(|rules| rules.with_host = false)
    }

    /// Takes requests with `Cookie` too. The service must not read the cookies of the requests that
    /// reach it by this layer. By default such requests pass the cache by.
    #[must_use]
    pub fn allow_cookies(self) -> Self {
        self.with(|rules| rules.takes_cookies = true)
    }

    /// Takes requests with `Authorization` too. A response to one of them is stored only if it says
    /// `public`, `must-revalidate` or `s-maxage` (RFC 9111, section 3.5). By default such requests
    /// pass the cache by.
    ///
    /// The cache answers before the service could check who asks. So the check must be in a layer
    /// around this one.
    #[must_use]
    pub fn allow_authorization(self) -> Self {
        self.with(|rules| rules.takes_authorization = true)
    }

    /// Stores responses with these statuses as well as 200: 404, for example. Partial (206) and
    /// unmodified (304) responses are never stored.
    #[must_use]
    pub fn statuses(self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        let statuses = statuses.into_iter().filter(|status| may_be_listed(*status));
        let statuses: Vec<_> = statuses.collect();
        self.with(|rules| rules.storing.statuses.extend(statuses))
    }

    /// Sets the size of the largest body that is stored, in bytes. A larger one is passed on, and
    /// little more than this is held in memory. Default 1 MiB.
    #[must_use]
    pub fn max_body(self, bytes: usize) -> Self {
        self.with(|rules| rules.storing.most_bytes = bytes)
    }

    /// Sets the longest time for which a body is read before its response is given. A slower body
    /// is passed on from then, and not stored. Default 1 s.
    #[must_use]
    pub fn body_timeout(self, longest: Duration) -> Self {
        self.with(|rules| rules.longest_body = longest)
    }

    /// Ignores `no-cache`, `max-age` and the like in requests, so that no client can cause loads.
    /// `no-store` and `only-if-cached` are still respected.
    #[must_use]
    pub fn ignore_request_directives(self) -> Self {
        self.with(|rules| rules.minds_requests = false)
    }

    /// Adds `Cache-Status` (RFC 9211) to responses, with this name. By default no response says
    /// whether it comes from the cache, but for its `Age`.
    #[must_use]
    pub fn cache_status(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with(|rules| rules.told_as = Some(name))
    }

    /// Takes the URI from an extension of this type, where the service changes that of the request.
    /// axum's `Router::nest` does:
    ///
    /// ```
    /// # use axum::http::Uri;
    /// # use valkey_runtime::{Store, http::CacheLayer};
    /// # #[derive(Clone)]
    /// # struct OriginalUri(Uri);
    /// # let store = Store::memory();
    /// // `OriginalUri` is axum's, of its feature `original-uri`.
    /// let cache = CacheLayer::new(store, "v1").uri_in_extension(|OriginalUri(uri): &OriginalUri| uri);
    /// # let _ = cache;
    /// ```
    #[must_use]
    pub fn uri_in_extension<E: Send + Sync + 'static>(
        self,
        uri: impl Fn(&E) -> &Uri + Send + Sync + 'static,
    ) -> Self {
        let find = found_by(move |extensions| extensions.get::<E>().map(&uri));
        self.with(|rules| rules.uri = Some(find))
    }

    /// The tag of all stored responses of this layer to requests for a path, whatever their query,
    /// host and fields. It can be given to
    /// [`invalidating`](crate::update::Update::invalidating), and to
    /// [`Store::invalidate_tags`](crate::Store::invalidate_tags).
    ///
    /// ```
    /// # use valkey_runtime::{Store, http::CacheLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> valkey_runtime::Result<()> {
    /// # let store = Store::memory();
    /// let cache = CacheLayer::new(store.clone(), "members");
    /// store.invalidate_tags([cache.path_tag("/orgs/42/members")]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn path_tag(&self, path: &str) -> Tag {
        self.0.path_tag(path)
    }

    /// Invalidates all stored responses of this layer to requests for a path.
    ///
    /// # Errors
    /// Those of [`Store::invalidate_tag`](crate::Store::invalidate_tag).
    pub async fn invalidate_path(&self, path: &str) -> Result<()> {
        self.0.store.invalidate_tag(self.path_tag(path)).await
    }
}

/// With this bound the closure borrows from its argument.
fn found_by(find: impl Fn(&Extensions) -> Option<&Uri> + Send + Sync + 'static) -> Arc<FindUri> {
    Arc::new(find)
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = &self.0;
        f.debug_struct("CacheLayer")
            .field("name", &rules.name)
            .field("storing", &rules.storing)
            .field("parameters", &rules.parameters)
            .field("fields", &rules.fields)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind a [`CacheLayer`].
#[derive(Clone, Debug)]
pub struct CacheService<S> {
    inner: S,
    layer: CacheLayer,
}

impl<S, B, R> Service<Request<B>> for CacheService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body + Send + 'static,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Send,
{
    type Response = Response<CacheBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, std::result::Result<Response<CacheBody<R>>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that reported readiness is the one to call; its clone must become ready
        // again.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(exchange::answer(self.layer.0.clone(), inner, request))
    }
}
