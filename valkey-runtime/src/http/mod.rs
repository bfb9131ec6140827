//! HTTP: rate limits and a cache of responses as tower layers, and header fields from entries.
//! Requires the feature `http`.
//!
//! This module depends on no framework: a [`RateLimitLayer`] or a [`CacheLayer`] wraps any
//! [`Service`](tower_service::Service) of requests, and [`CacheHeaders`] gives a
//! [`HeaderMap`](::http::HeaderMap). With axum:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use axum::Router;
//! use axum::extract::{ConnectInfo, FromRef, Path, State};
//! use axum::http::{HeaderMap, StatusCode};
//! use axum::response::{IntoResponse, Response};
//! use axum::routing::get;
//! use serde::{Deserialize, Serialize};
//! use valkey_runtime::http::{CacheHeaders, ForwardedAddress, HeaderKey, PeerAddress, RateLimitLayer};
//! use valkey_runtime::limit::RateLimiter;
//! use valkey_runtime::{Cached, Store};
//!
//! #[derive(Serialize, Deserialize, Cached)]
//! #[cached(prefix = "user", ttl = "5m")]
//! struct User {
//!     #[cached(key)]
//!     id: u64,
//!     name: String,
//! }
//!
//! // `State<Store>` is taken from the state of the application.
//! #[derive(Clone, FromRef)]
//! struct App {
//!     store: Store,
//!     db: Db,
//! }
//!
//! async fn show(State(store): State<Store>, State(db): State<Db>, Path(id): Path<u64>, request: HeaderMap) -> Response {
//!     match store.of::<User>().load(id).entry().run(|| db.find_user(id)).await {
//!         Ok(Some(user)) => {
//!             let headers = CacheHeaders::private(&user);
//!             if headers.are_known_by(&request) {
//!                 return (StatusCode::NOT_MODIFIED, headers.to_map()).into_response();
//!             }
//!             (headers.to_map(), user.name.clone()).into_response()
//!         }
//!         Ok(None) => StatusCode::NOT_FOUND.into_response(),
//!         Err(DbError) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
//!     }
//! }
//!
//! fn service(store: Store, db: Db) -> valkey_runtime::Result<Router> {
//!     let minute = Duration::from_secs(60);
//!     let by_address = RateLimiter::builder("address").quota(300, minute).build()?;
//!     let by_token = RateLimiter::builder("token").quota(100, minute).build()?;
//!     let peer = PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
//!     let client = ForwardedAddress::x_forwarded_for(peer, ["10.0.0.0/8".parse()?]);
//!     let limits = RateLimitLayer::new(store.clone())
//!         .limit(by_address, client)
//!         .limit(by_token, HeaderKey::new("x-api-key"))
//!         .exempt_preflight()
//!         .exempt_paths(["/health"]);
//!     let app = App { store, db };
//!     Ok(Router::new().route("/users/{id}", get(show)).with_state(app).layer(limits))
//! }
//!
//! # struct DbError;
//! # #[derive(Clone)]
//! # struct Db;
//! # impl Db {
//! #     async fn find_user(&self, id: u64) -> Result<Option<User>, DbError> { Ok(Some(User { id, name: "Ada".into() })) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> valkey_runtime::Result<()> {
//! # use axum::{body::Body, http::Request};
//! # use tower::ServiceExt;
//! # let service = service(Store::memory(), Db)?;
//! # let peer = ConnectInfo(SocketAddr::from(([203, 0, 113, 7], 4711)));
//! # let request = || Request::builder().uri("/users/42").header("x-api-key", "secret").extension(peer);
//! let response = service.clone().oneshot(request().body(Body::empty()).unwrap()).await.unwrap();
//! let header = |name: &str| response.headers()[name].to_str().unwrap();
//! assert_eq!(header("ratelimit-policy"), r#""address";q=300;w=60, "token";q=100;w=60"#);
//! assert_eq!(header("ratelimit"), r#""address";r=299;t=1, "token";r=99;t=1"#);
//! assert_eq!(header("cache-status"), "valkey; fwd=uri-miss; stored");
//!
//! let known = request().header("if-none-match", header("etag")).body(Body::empty()).unwrap();
//! let response = service.oneshot(known).await.unwrap();
//! assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
//! # Ok(())
//! # }
//! ```
//!
//! An axum server reports the peer's address if it is started with
//! `into_make_service_with_connect_info::<SocketAddr>()`. Without it no request has an address: all
//! are refused with the status 500, and a warning says why. [`WithoutAddress`] has other choices.

pub(crate) mod address;
pub(crate) mod body;
pub(crate) mod cache_layer;
pub(crate) mod cache_rules;
pub(crate) mod caching;
pub(crate) mod directives;
pub(crate) mod entity_tag;
pub(crate) mod exchange;
pub(crate) mod fields;
pub(crate) mod layer;
pub(crate) mod limit_headers;
pub(crate) mod request_key;
pub(crate) mod response_key;
pub(crate) mod stored_response;
pub(crate) mod storing;

pub use crate::http::address::{ForwardedAddress, PeerAddress};
pub use crate::http::body::CacheBody;
pub use crate::http::cache_layer::{CacheLayer, CacheService};
pub use crate::http::caching::CacheHeaders;
pub use crate::http::layer::{HeaderKey, RateLimitLayer, RateLimitService, ResponseFuture};
pub use crate::http::limit_headers::limit_headers;
pub use crate::http::request_key::WithoutAddress;
pub use crate::http::request_key::{Counted, RequestKey};
pub use crate::http::storing::ResponsePolicy;
