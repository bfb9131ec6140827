//! Rate limits before a service, and entries in header fields, over every backend.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::get;
use futures_util::future::{Ready, ready};
use serde::{Deserialize, Serialize};
use sfv::{BareItem, List, ListEntry, Parser};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt};
use valkey_runtime::http::{
    CacheHeaders, ForwardedAddress, HeaderKey, PeerAddress, RateLimitLayer, WithoutAddress,
};
use valkey_runtime::limit::{Hashed, RateLimiter};
use valkey_runtime::{Cached, ManualClock, Store};

use crate::database::settle;
use crate::faults::Log;
use crate::stores::On;

suite! {
    crate::http =>
    headers_show_the_remaining_quota_and_excess_requests_are_refused
    an_entry_tells_where_it_came_from
}

const DAY: Duration = Duration::from_secs(86_400);

/// Counts the requests that reach it, each of which it has to have said it is ready for.
#[derive(Debug, Default)]
struct Inner {
    reached: Arc<AtomicUsize>,
    is_ready: bool,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self {
            reached: self.reached.clone(),
            is_ready: false,
        }
    }
}

impl Service<Request<()>> for Inner {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.is_ready, "it was not asked");
        self.is_ready = false;
        self.reached.fetch_add(1, SeqCst);
        ready(Ok(Response::new("reached".to_owned())))
    }
}

fn everybody(_: &axum::http::request::Parts) -> Option<()> {
    Some(())
}

async fn ask<S>(service: &mut S, request: Request<()>) -> Response<String>
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible>,
{
    service.ready().await.unwrap().call(request).await.unwrap()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers[name].to_str().unwrap()
}

/// The items of a list with their parameters, as a published parser of structured fields reads
/// them.
fn items(headers: &HeaderMap, name: &str) -> Vec<(String, BTreeMap<String, i64>)> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|line| line.as_bytes())
        .collect();
    let list: List = Parser::new(&lines.join(&b", "[..])).parse().unwrap();
    let item = |entry: ListEntry| {
        let ListEntry::Item(item) = entry else {
            panic!("{entry:?} is no item")
        };
        let BareItem::String(name) = item.bare_item else {
            panic!("{item:?} is no string")
        };
        let params = item.params.into_iter().map(|(key, value)| {
            let BareItem::Integer(number) = value else {
                panic!("{value:?} is no number")
            };
            (key.as_str().to_owned(), i64::from(number))
        });
        (name.as_str().to_owned(), params.collect())
    };
    list.into_iter().map(item).collect()
}

pub(crate) async fn headers_show_the_remaining_quota_and_excess_requests_are_refused(on: On) {
    let store = on.store("http-limit").await;
    let limiter = |name: &str, quota| RateLimiter::builder(name).quota(quota, DAY).build();
    let inner = Inner::default();
    let reached = inner.reached.clone();
    let mut service = RateLimitLayer::new(store.clone())
        .limit(limiter("every\"one", 3).unwrap(), everybody)
        .limit(limiter("token", 2).unwrap(), HeaderKey::new("x-token"))
        .layer(inner);
    let request = |token: Option<&str>| {
        let request = Request::builder();
        match token {
            Some(token) => request.header("x-token", token),
            None => request,
        }
        .body(())
        .unwrap()
    };
    let item = |name: &str, params: [(&str, i64); 2]| {
        let params = params.map(|(key, value)| (key.to_owned(), value));
        (name.to_owned(), BTreeMap::from(params))
    };
    for (left, of_token) in [(2, 1), (1, 0)] {
        let response = ask(&mut service, request(Some("secret"))).await;
        assert_eq!(response.status(), StatusCode::OK);
        let policies = [
            item("every\"one", [("q", 3), ("w", 86_400)]),
            item("token", [("q", 2), ("w", 86_400)]),
        ];
        assert_eq!(items(response.headers(), "ratelimit-policy"), policies);
        let limits = items(response.headers(), "ratelimit");
        let lefts: Vec<_> = limits.iter().map(|(name, of)| (&**name, of["r"])).collect();
        assert_eq!(lefts, [("every\"one", left), ("token", of_token)]);
        assert!(limits.iter().all(|(_, of)| of["t"] > 0));
    }
    let refused = ask(&mut service, request(Some("secret"))).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let retry_after: i64 = text(refused.headers(), "retry-after").parse().unwrap();
    let limits = items(refused.headers(), "ratelimit");
    let violated = &limits.iter().find(|(name, _)| name == "token").unwrap().1;
    assert_eq!(violated["r"], 0);
    assert!(retry_after >= violated["t"] && retry_after > 43_000 && retry_after <= 43_200);
    assert_eq!(
        text(refused.headers(), "content-type"),
        "application/problem+json"
    );
    let problem = r#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded","status":429,"violated-policies":["token"]}"#;
    assert_eq!(refused.body(), problem);
    assert_eq!(reached.load(SeqCst), 2);
    let token = limiter("token", 2).unwrap();
    let left = async |key| token.peek(&store, key).await.unwrap().remaining();
    assert_eq!(left(Hashed::of("secret")).await, 0);
    assert_eq!(left(Hashed::of("Secret")).await, 2);
    // The first limit counted it; and the limit for tokens does not apply to a request without one.
    let refused = ask(&mut service, request(None)).await;
    assert!(
        refused
            .body()
            .contains(r#""violated-policies":["every\"one"]"#)
    );
    assert_eq!(items(refused.headers(), "ratelimit-policy").len(), 1);
    assert_eq!(store.stats().rate_limited(), 2);
    // A layer without limits adds no headers.
    let mut free = RateLimitLayer::new(store).layer(Inner::default());
    let response = ask(&mut free, request(None)).await;
    assert!(response.headers().is_empty());
    assert_eq!(reached.load(SeqCst), 2);
}

#[tokio::test]
async fn requests_are_let_through_or_get_503_if_the_store_is_closed() {
    let store = Store::memory();
    store.close().await;
    let limiter = RateLimiter::builder("all").quota(3, DAY);
    let open =
        RateLimitLayer::new(store.clone()).limit(limiter.clone().build().unwrap(), everybody);
    let response = ask(&mut open.layer(Inner::default()), Request::new(())).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("ratelimit-policy"));
    assert!(!response.headers().contains_key("ratelimit"));
    let closed = limiter.fail_closed().build().unwrap();
    let closed = RateLimitLayer::new(store).limit(closed, everybody);
    let response = ask(&mut closed.layer(Inner::default()), Request::new(())).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(response.headers(), "retry-after"), "1");
    assert_eq!(
        response.body(),
        r#"{"title":"Service Unavailable","status":503}"#
    );
}

#[tokio::test]
async fn layers_within_layers_tell_together_and_one_that_is_untold_nothing() {
    let store = Store::memory();
    let layer = |name: &str, quota| {
        let limiter = RateLimiter::builder(name).quota(quota, DAY).build();
        RateLimitLayer::new(store.clone()).limit(limiter.unwrap(), everybody)
    };
    let untold = layer("untold", 1).untold();
    let mut service =
        layer("outer", 9).layer(untold.layer(layer("inner", 9).layer(Inner::default())));
    let response = ask(&mut service, Request::new(())).await;
    for field in ["ratelimit", "ratelimit-policy"] {
        let names: Vec<_> = items(response.headers(), field)
            .into_iter()
            .map(|item| item.0)
            .collect();
        assert_eq!(names, ["inner", "outer"]);
    }
    let response = ask(&mut service, Request::new(())).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(items(response.headers(), "ratelimit").len(), 1);
}

/// Of draft-ietf-httpapi-ratelimit-headers-11, sections 4.2, 7 and B: what a window of that quota
/// and length tells at that moment, where so much was taken before.
#[tokio::test]
async fn limits_are_told_as_in_the_examples_of_the_draft() {
    let examples = [
        ("default", 100, 60, 30, 49, 200, r#""default";r=50;t=30"#),
        ("default", 10, 60, 10, 9, 200, r#""default";r=0;t=50"#),
        ("default", 10, 10, 3, 8, 200, r#""default";r=1;t=7"#),
        (
            "dayLimit",
            5000,
            86_400,
            14 * 3600,
            4899,
            200,
            r#""dayLimit";r=100;t=36000"#,
        ),
        ("basic", 100, 60, 2, 39, 200, r#""basic";r=60;t=58"#),
        ("default", 10, 60, 55, 10, 429, r#""default";r=0;t=5"#),
        (
            "fixedwindow",
            100,
            60,
            10,
            0,
            200,
            r#""fixedwindow";r=99;t=50"#,
        ),
        ("dynamic", 100, 60, 10, 90, 200, r#""dynamic";r=9;t=50"#),
        ("dynamic", 15, 20, 0, 15, 429, r#""dynamic";r=0;t=20"#),
    ];
    for (name, quota, period, second, taken, status, field) in examples {
        // It begins at midnight.
        let clock = Arc::new(ManualClock::new());
        clock.advance(Duration::from_secs(second));
        let store = Store::builder()
            .memory()
            .clock(clock)
            .connect()
            .await
            .unwrap();
        let limiter = RateLimiter::builder(name).quota(quota, Duration::from_secs(period));
        let limiter = limiter.fixed_window().build().unwrap();
        if taken > 0 {
            assert!(
                limiter
                    .check_n(&store, (), taken)
                    .await
                    .unwrap()
                    .is_allowed()
            );
        }
        let layer = RateLimitLayer::new(store).limit(limiter, everybody);
        let response = ask(&mut layer.layer(Inner::default()), Request::new(())).await;
        assert_eq!(response.status(), status, "{field}");
        assert_eq!(text(response.headers(), "ratelimit"), field);
        let policy = format!("\"{name}\";q={quota};w={period}");
        assert_eq!(text(response.headers(), "ratelimit-policy"), policy);
        if status == 429 {
            // The draft's says the same as a date.
            let after = text(response.headers(), "retry-after");
            assert!(field.ends_with(&format!(";t={after}")), "{field} {after}");
        }
    }
}

/// A server of axum, which says who its peer is.
#[tokio::test]
async fn a_client_is_known_by_its_address_or_by_what_a_trusted_proxy_says() {
    let store = Store::memory();
    let limiter = |name: &str| RateLimiter::builder(name).quota(1, DAY).build().unwrap();
    let peer =
        || PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    let loopback = "127.0.0.0/8".parse().unwrap();
    let client = ForwardedAddress::x_forwarded_for(peer(), [loopback]);
    let layer = |limiter, key| RateLimitLayer::new(store.clone()).limit(limiter, key);
    let by_client = layer(limiter("client"), client);
    let by_peer = RateLimitLayer::new(store.clone()).limit(limiter("peer"), peer());
    let router = Router::new()
        .route("/client", get(async || "reached").layer(by_client))
        .route("/peer", get(async || "reached").layer(by_peer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async { axum::serve(listener, service).await });
    let ask = async |path: &str, forwarded: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-forwarded-for: {forwarded}\r\n\r\n"
        );
        let asked = tokio::task::spawn_blocking(move || {
            let mut connection = TcpStream::connect(address).unwrap();
            connection.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            connection.read_to_string(&mut response).unwrap();
            response
        });
        asked.await.unwrap()["HTTP/1.1 ".len()..][..3].to_owned()
    };
    assert_eq!(ask("/client", "198.51.100.1, 203.0.113.7").await, "200");
    assert_eq!(
        ask("/client", "198.51.100.2, 203.0.113.7").await,
        "429",
        "he made one up"
    );
    assert_eq!(ask("/client", "203.0.113.8").await, "200");
    assert_eq!(ask("/peer", "203.0.113.9").await, "200");
    assert_eq!(ask("/peer", "203.0.113.10").await, "429");
    let (by_peer, address) = (limiter("peer"), IpAddr::from([127, 0, 0, 1]));
    let counted = by_peer.peek(&store, address).await.unwrap();
    assert_eq!(counted.remaining(), 0);
    server.abort();
}

/// A server of axum with a limit of three by address, which knows its peers or not, and the status
/// of one request for the path from each of six clients.
async fn statuses_of_six(layer: RateLimitLayer, knows_peers: bool, path: &'static str) -> Vec<u16> {
    let routes = Router::new()
        .route("/", get(async || "reached"))
        .route("/health", get(async || "reached"));
    let router = routes.layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = match knows_peers {
        true => {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            tokio::spawn(async { axum::serve(listener, service).await })
        }
        false => tokio::spawn(async { axum::serve(listener, router).await }),
    };
    let mut statuses = Vec::new();
    for client in 2..8 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let own = SocketAddr::from(([127, 0, 0, client], 0));
        socket.bind(own).unwrap();
        let connection = socket.connect(address).await.unwrap();
        let mut connection = connection.into_std().unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-forwarded-for: 203.0.113.{client}\r\n\r\n"
        );
        let asked = tokio::task::spawn_blocking(move || {
            connection.set_nonblocking(false).unwrap();
            connection.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            connection.read_to_string(&mut response).unwrap();
            response
        });
        let response = asked.await.unwrap();
        statuses.push(response["HTTP/1.1 ".len()..][..3].parse().unwrap());
    }
    server.abort();
    statuses
}

/// Axum's address of the peer is a type of axum's, which only who names it can find; and where the
/// server does not tell it nobody can.
#[tokio::test]
async fn a_forgotten_address_is_no_bucket_for_the_world() {
    let limiter = || {
        RateLimiter::builder("address")
            .quota(3, DAY)
            .build()
            .unwrap()
    };
    let in_axum =
        || PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    let proxies = || ["127.0.0.0/8".parse().unwrap()];
    for (peer, knows_peers, statuses, without) in [
        (in_axum(), true, [200; 6], 0),
        (in_axum(), false, [500; 6], 6),
        (PeerAddress::default(), true, [500; 6], 6),
        (PeerAddress::default(), false, [500; 6], 6),
        (
            in_axum().without_address(WithoutAddress::Allow),
            false,
            [200; 6],
            6,
        ),
        (
            in_axum().without_address(WithoutAddress::Shared),
            false,
            [200, 200, 200, 429, 429, 429],
            6,
        ),
        (
            in_axum().without_address(WithoutAddress::Shared),
            true,
            [200; 6],
            0,
        ),
    ] {
        let what = format!("{peer:?} {knows_peers}");
        for forwarded in [false, true] {
            let store = Store::memory();
            let layer = RateLimitLayer::new(store.clone());
            let layer = match forwarded {
                false => layer.limit(limiter(), peer.clone()),
                true => {
                    let client = ForwardedAddress::x_forwarded_for(peer.clone(), proxies());
                    layer.limit(limiter(), client)
                }
            };
            let asked = statuses_of_six(layer, knows_peers, "/").await;
            assert_eq!(asked, statuses, "{what}");
            assert_eq!(store.stats().requests_without_address(), without, "{what}");
        }
    }
}

/// However many requests, limits and services there are over one key.
#[tokio::test]
async fn a_missing_address_is_warned_of_once_and_counted_by_the_request() {
    let log = Log::default();
    let _logging = log.takes();
    for (policy, word, status) in [
        (WithoutAddress::Refuse, "are refused", 500),
        (WithoutAddress::Allow, "are not limited", 200),
        (WithoutAddress::Shared, "share one limit", 200),
    ] {
        let store = Store::memory();
        let limiter = |name| RateLimiter::builder(name).quota(9, DAY).build().unwrap();
        let peer = PeerAddress::in_extension(|peer: &SocketAddr| peer.ip()).without_address(policy);
        let layer = RateLimitLayer::new(store.clone())
            .limit(limiter("a"), peer.clone())
            .limit(limiter("b"), peer);
        let (mut service, before) = (layer.layer(Inner::default()), log.text().len());
        for _ in 0..3 {
            let response = ask(&mut service, Request::new(())).await;
            assert_eq!(response.status(), status);
            if status == 500 {
                assert_eq!(
                    text(response.headers(), "content-type"),
                    "application/problem+json"
                );
                assert!(!response.headers().contains_key("retry-after"));
                assert!(!response.headers().contains_key("ratelimit-policy"));
                assert_eq!(
                    response.body(),
                    r#"{"title":"Internal Server Error","status":500}"#
                );
            }
        }
        let logged = log.text()[before..].to_owned();
        assert_eq!(
            logged.matches("requests without a peer address").count(),
            1,
            "{logged}"
        );
        assert!(logged.contains(word) && logged.contains("into_make_service_with_connect_info"));
        let stats = store.stats();
        assert_eq!(stats.requests_without_address(), 3);
        assert!(
            stats.to_string().contains("requests without an address 3"),
            "{stats}"
        );
    }
}

#[tokio::test]
async fn exempt_requests_are_not_counted_and_get_no_headers() {
    let store = Store::memory();
    let limiter = RateLimiter::builder("all").quota(1, DAY).build().unwrap();
    let layer = RateLimitLayer::new(store)
        .limit(limiter, everybody)
        .exempt_preflight()
        .exempt_paths(["/health", "/ready"])
        .exempt(|request| request.headers.contains_key("x-internal"));
    let inner = Inner::default();
    let reached = inner.reached.clone();
    let mut service = layer.layer(inner);
    let request = |method: &str, path: &str, fields: &[&'static str]| {
        let mut request = Request::builder().method(method).uri(path);
        for field in fields {
            request = request.header(*field, "x");
        }
        request.body(()).unwrap()
    };
    let preflight = ["origin", "access-control-request-method"];
    for exempt in [
        request("OPTIONS", "/", &preflight),
        request("GET", "/health", &[]),
        request("GET", "/ready?deep=true", &[]),
        request("GET", "/", &["x-internal"]),
    ] {
        for _ in 0..3 {
            let mut again = Request::builder().method(exempt.method()).uri(exempt.uri());
            again
                .headers_mut()
                .unwrap()
                .extend(exempt.headers().clone());
            let response = ask(&mut service, again.body(()).unwrap()).await;
            assert_eq!(response.status(), 200, "{exempt:?}");
            assert!(response.headers().is_empty(), "{response:?}");
        }
    }
    assert_eq!(reached.load(SeqCst), 12);
    assert_eq!(ask(&mut service, Request::new(())).await.status(), 200);
    for limited in [
        request("OPTIONS", "/", &preflight[..1]),
        request("OPTIONS", "/", &preflight[1..]),
        request("GET", "/", &preflight),
        request("GET", "/healthy", &[]),
        request("GET", "/health/", &[]),
    ] {
        let response = ask(&mut service, limited).await;
        assert_eq!(response.status(), 429);
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, Cached)]
#[cached(prefix = "row", ttl = "5m", jitter = "0%", stale_if_error = "1h")]
struct Row {
    #[cached(key)]
    id: u64,
    row: u32,
}

pub(crate) async fn an_entry_tells_where_it_came_from(on: On) {
    let store = on.store("http-entry").await;
    Row::del(&store, 1).await.unwrap();
    let row = |row| Row { id: 1, row };
    let load = async |loaded: Result<u32, &'static str>| {
        let load = async || loaded.map(row);
        let entry = store.of::<Row>().load(1).entry().run(load).await;
        CacheHeaders::public(&entry.unwrap()).at_most(Duration::MAX)
    };
    let loaded = load(Ok(7)).await;
    let map = loaded.to_map();
    assert_eq!(text(&map, "cache-status"), "valkey; fwd=uri-miss; stored");
    let control = text(&map, "cache-control");
    let max_age = |control: &str| -> u64 {
        let (max_age, rest) = control
            .strip_prefix("public, max-age=")
            .unwrap()
            .split_once(',')
            .unwrap();
        assert_eq!(rest, " stale-if-error=3600");
        max_age.parse().unwrap()
    };
    assert!((200..=300).contains(&max_age(control)), "{control}");
    assert!(!map.contains_key("age"));

    let hit = load(Err("it is there")).await.to_map();
    let status = text(&hit, "cache-status").strip_prefix("valkey; hit; ttl=");
    let (ttl, age): (u64, u64) = (
        status.unwrap().parse().unwrap(),
        text(&hit, "age").parse().unwrap(),
    );
    assert_eq!(max_age(text(&hit, "cache-control")), ttl + age);
    assert!(
        ttl <= 300 && (298..=310).contains(&(ttl + age)),
        "{ttl} {age}"
    );
    assert_eq!(hit["etag"], map["etag"]);

    // A client that has it, and one that has what was there before.
    let mut request = HeaderMap::new();
    request.insert("if-none-match", map["etag"].clone());
    assert!(load(Err("it is there")).await.are_known_by(&request));
    Row::update(&store, 1, async || Ok::<_, ()>(()))
        .await
        .unwrap();
    let other = load(Ok(8)).await;
    assert!(!other.are_known_by(&request));

    store.of::<Row>().mark_stale(1).await.unwrap();
    let stale = load(Err("no database")).await.to_map();
    assert_eq!(text(&stale, "cache-status"), "valkey; fwd=stale");
    assert_eq!(
        text(&stale, "cache-control"),
        "public, max-age=0, stale-if-error=3600"
    );

    // Two that ask at once.
    Row::del(&store, 1).await.unwrap();
    let (shared, gate) = (store.stats().coalesced(), Semaphore::new(0));
    let ask = async || {
        let load = async || {
            gate.acquire().await.unwrap().forget();
            Ok::<_, &str>(row(9))
        };
        let entry = store.of::<Row>().load(1).entry().run(load).await;
        CacheHeaders::private(&entry.unwrap()).to_map()
    };
    let open = async {
        settle(&store).await;
        gate.add_permits(2);
    };
    let (one, other, ()) = tokio::join!(ask(), ask(), open);
    assert_eq!(store.stats().coalesced() - shared, 1);
    let mut both = [text(&one, "cache-status"), text(&other, "cache-status")];
    both.sort_unstable();
    assert_eq!(
        both,
        [
            "valkey; fwd=uri-miss; collapsed",
            "valkey; fwd=uri-miss; stored"
        ]
    );
    assert_eq!(one["etag"], other["etag"]);

    store.set_enabled(false);
    let map = load(Ok(10)).await.to_map();
    assert_eq!(text(&map, "cache-status"), "valkey; fwd=uri-miss");
    assert_eq!(text(&map, "cache-control"), "public, no-cache");
}
