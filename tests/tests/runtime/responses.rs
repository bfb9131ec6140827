//! The cache of responses before a service, over every backend: what is stored, who gets it, and
//! that nobody gets what is for another.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower::{Layer, Service, ServiceExt};
use valkey_runtime::http::{CacheLayer, CacheService, ResponsePolicy};
use valkey_runtime::{ManualClock, Store};

use crate::database::{PATIENCE, until};
use crate::steady::writes_into;
use crate::stores::On;

suite! {
    crate::responses =>
    a_stored_response_answers_later_requests
    a_client_that_has_the_response_is_told_so
    tags_paths_and_writes_invalidate
    concurrent_requests_call_the_service_once
    a_private_response_is_for_its_own_request
    a_private_response_to_a_shared_refresh_is_for_nobody_else
    requests_with_credentials_pass_by
    responses_vary_by_the_fields_that_they_name
    a_stale_response_is_served_while_one_request_gets_another
    directives_of_requests_are_respected
    a_failed_response_is_not_shared
    large_and_endless_bodies_are_passed_through
    a_client_that_leaves_does_not_fail_the_others
    the_status_of_the_cache_is_told
}

suite! {
    @alone [crate::responses]
    two_processes_call_the_service_once
    a_private_response_in_another_process_is_not_waited_for_again
    a_store_that_is_down_leaves_the_service
    a_store_that_is_off_stores_nothing
}

type Answer = (StatusCode, HeaderMap, String);

/// A service whose calls are counted. Each ends when the test lets it go.
#[derive(Clone)]
struct Origin(Arc<State>);

/// The response to the call of this number.
type Reply = dyn Fn(usize, &Request<Body>) -> Response<Body> + Send + Sync;

struct State {
    calls: AtomicUsize,
    begun: Semaphore,
    gate: Semaphore,
    reply: Box<Reply>,
}

impl Origin {
    fn closed(
        reply: impl Fn(usize, &Request<Body>) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(State {
            calls: AtomicUsize::new(0),
            begun: Semaphore::new(0),
            gate: Semaphore::new(0),
            reply: Box::new(reply),
        }))
    }

    fn open(
        reply: impl Fn(usize, &Request<Body>) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        let origin = Self::closed(reply);
        origin.let_go();
        origin
    }

    /// Answers with the number of the call and this `Cache-Control`.
    fn with(control: &'static str) -> Self {
        Self::open(move |call, _| numbered(call, control))
    }

    fn let_go(&self) {
        self.0.gate.add_permits(1 << 20);
    }

    fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }

    async fn begun(&self, calls: u32) {
        drop(self.0.begun.acquire_many(calls).await.unwrap());
    }
}

impl Service<Request<Body>> for Origin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let state = self.0.clone();
        Box::pin(async move {
            let call = state.calls.fetch_add(1, SeqCst) + 1;
            state.begun.add_permits(1);
            state.gate.acquire().await.unwrap().forget();
            Ok((state.reply)(call, &request))
        })
    }
}

fn numbered(call: usize, control: &str) -> Response<Body> {
    let response = Response::builder().header("cache-control", control);
    response.body(Body::from(format!("call {call}"))).unwrap()
}

/// The value of a field of the request that is part of no key.
fn who(request: &Request<Body>) -> String {
    let who = request.headers().get("x-user");
    who.map(|who| who.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

type Cached = CacheService<Origin>;

fn request(uri: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn ask(service: &Cached, request: Request<Body>) -> Answer {
    let response = service.clone().oneshot(request).await.unwrap();
    assert!(response.extensions().get::<ResponsePolicy>().is_none());
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(Body::new(body), usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (parts.status, parts.headers, text)
}

async fn get(service: &Cached, uri: &str) -> String {
    ask(service, request(uri, &[])).await.2
}

async fn get_with(service: &Cached, uri: &str, fields: &[(&str, &str)]) -> String {
    ask(service, request(uri, fields)).await.2
}

fn spawned(service: &Cached, request: Request<Body>) -> JoinHandle<Answer> {
    let service = service.clone();
    tokio::spawn(async move { ask(&service, request).await })
}

/// A store whose view of the time the test moves.
async fn on_clock(on: On, namespace: &str) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    writes_into(on.nodes(), namespace);
    let store = on.builder().namespace(namespace).clock(clock.clone());
    let store = store.command_timeout(PATIENCE).connect().await.unwrap();
    (store, clock)
}

/// Waits until so many requests have missed. They follow the load then, or wait for its key.
async fn missed(store: &Store, count: u64) {
    until("the requests have looked", async || {
        store.stats().misses() >= count
    })
    .await;
    // From a miss to its flight there is no point where a task waits.
    tokio::task::yield_now().await;
}

async fn a_stored_response_answers_later_requests(on: On) {
    let store = on.store("responses-later").await;
    let origin = Origin::open(|call, _| {
        let response = Response::builder()
            .header("cache-control", "max-age=60")
            .header("content-type", "text/plain")
            .header("x-own", "a")
            .header("x-own", "b");
        response.body(Body::from(format!("call {call}"))).unwrap()
    });
    let service = CacheLayer::new(store, "later").layer(origin.clone());
    let (status, first, body) = ask(&service, request("/a?x=1&y=2", &[])).await;
    assert_eq!((status, &*body), (StatusCode::OK, "call 1"));
    assert!(!first.contains_key("age"));
    let (status, mut later, body) = ask(&service, request("/a?y=2&x=1", &[])).await;
    assert_eq!((status, &*body), (StatusCode::OK, "call 1"));
    assert!(later.remove("age").is_some());
    assert_eq!(later, first, "the same fields");
    let own: Vec<_> = later.get_all("x-own").iter().collect();
    assert_eq!(own, ["a", "b"]);

    let mut head = request("/a?x=1&y=2", &[]);
    *head.method_mut() = axum::http::Method::HEAD;
    let (status, fields, body) = ask(&service, head).await;
    assert_eq!((status, &*body), (StatusCode::OK, ""));
    assert_eq!(fields["content-length"], "6");

    for (uri, fields) in [
        ("/a", &[][..]),
        ("/a?x=1", &[]),
        ("/a?x=1&y=2", &[("host", "other")]),
        ("/b?x=1&y=2", &[]),
    ] {
        let before = origin.calls();
        get_with(&service, uri, fields).await;
        assert_eq!(origin.calls(), before + 1, "{uri} {fields:?}");
    }
}

async fn a_client_that_has_the_response_is_told_so(on: On) {
    let store = on.store("responses-known").await;
    let origin = Origin::open(|_, request| {
        let asks = request.headers().contains_key("if-none-match");
        assert!(!asks, "the response is for others too");
        let response = Response::builder().header("last-modified", "Tue, 01 Dec 2026 00:00:00 GMT");
        response.body(Body::from("same")).unwrap()
    });
    let layer = CacheLayer::new(store, "known").ttl(Duration::from_secs(60));
    let service = layer.layer(origin.clone());
    let (_, fields, _) = ask(&service, request("/a", &[])).await;
    assert_eq!(
        fields["cache-control"], "no-cache",
        "clients get no invalidations"
    );
    let tag = fields["etag"].to_str().unwrap();
    assert!(tag.starts_with("W/\""), "{tag}");
    for known in [
        ("if-none-match", tag),
        ("if-modified-since", "Tue, 01 Dec 2026 00:00:00 GMT"),
    ] {
        // On a hit, and on a miss.
        for uri in ["/a", "/b"] {
            let (status, fields, body) = ask(&service, request(uri, &[known])).await;
            assert_eq!(
                (status, &*body),
                (StatusCode::NOT_MODIFIED, ""),
                "{known:?}"
            );
            assert_eq!(fields["etag"], tag);
            assert!(!fields.contains_key("content-length"));
        }
    }
    let other = [
        ("if-none-match", "\"x\""),
        ("if-modified-since", "Tue, 01 Dec 2026 00:00:00 GMT"),
    ];
    let (status, _, body) = ask(&service, request("/a", &other)).await;
    assert_eq!((status, &*body), (StatusCode::OK, "same"));
    assert_eq!(origin.calls(), 2);
}

async fn tags_paths_and_writes_invalidate(on: On) {
    let store = on.store("responses-tags").await;
    let origin = Origin::open(|call, request| {
        let mut response = numbered(call, "max-age=3600");
        let policy = ResponsePolicy::new().tags(["members:42", "org:42"]);
        response.extensions_mut().insert(policy);
        if request.uri().path() == "/refused" {
            *response.status_mut() = StatusCode::CONFLICT;
        }
        response
    });
    let layer = CacheLayer::new(store.clone(), "tags");
    let service = layer.layer(origin.clone());
    let other = CacheLayer::new(store.clone(), "others").layer(origin.clone());
    assert_eq!(get(&service, "/a%C3%A9?page=1").await, "call 1");
    assert_eq!(get(&other, "/a%C3%A9?page=1").await, "call 2");
    assert_eq!(get(&service, "/a%C3%A9?page=1").await, "call 1");
    store.invalidate_tag("org:42").await.unwrap();
    assert_eq!(get(&service, "/a%C3%A9?page=1").await, "call 3");

    layer.invalidate_path("/a\u{e9}").await.unwrap();
    assert_eq!(get(&service, "/a%C3%A9?page=1").await, "call 4");
    layer.invalidate_path("/").await.unwrap();
    assert_eq!(get(&service, "/a%C3%A9?page=1").await, "call 4");

    // RFC 9111, section 4.4.
    let write = |uri: &str| {
        let mut write = request(uri, &[]);
        *write.method_mut() = axum::http::Method::PUT;
        write
    };
    assert_eq!(ask(&service, write("/a%C3%A9")).await.2, "call 5");
    assert_eq!(get(&service, "/a%C3%A9?page=1").await, "call 6");
    assert_eq!(ask(&service, write("/refused")).await.2, "call 7");
    assert_eq!(get(&service, "/a%C3%A9?page=1").await, "call 6");
}

async fn concurrent_requests_call_the_service_once(on: On) {
    let store = on.store("responses-once").await;
    let origin = Origin::closed(|call, _| numbered(call, "max-age=60"));
    let service = CacheLayer::new(store.clone(), "once").layer(origin.clone());
    let asking: Vec<_> = (0..20)
        .map(|_| spawned(&service, request("/a", &[])))
        .collect();
    missed(&store, 20).await;
    origin.let_go();
    for answer in join_all(asking).await {
        assert_eq!(answer.unwrap().2, "call 1");
    }
    assert_eq!(origin.calls(), 1);
}

/// Requests that wait for another's response, which turns out to be for that one alone, get their
/// own.
async fn a_private_response_is_for_its_own_request(on: On) {
    let store = on.store("responses-private").await;
    for (number, field) in [
        ("cache-control", "private, max-age=60"),
        ("cache-control", "no-store"),
        ("set-cookie", "session=secret"),
        ("vary", "*"),
    ]
    .into_iter()
    .enumerate()
    {
        let origin = Origin::closed(move |_, request| {
            let response = Response::builder().header("cache-control", "max-age=60");
            let mut response = response.body(Body::from(who(request))).unwrap();
            response
                .headers_mut()
                .insert(field.0, field.1.parse().unwrap());
            response
        });
        let layer = CacheLayer::new(store.clone(), format!("private-{number}"));
        let service = layer.layer(origin.clone());
        let before = store.stats().misses();
        let asking: Vec<_> = (0..10)
            .map(|user| {
                let user = format!("user {user}");
                spawned(&service, request("/me", &[("x-user", &user)]))
            })
            .collect();
        missed(&store, before + 10).await;
        origin.begun(1).await;
        assert_eq!(origin.calls(), 1, "the others wait for it");
        origin.let_go();
        for (user, answer) in join_all(asking).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap().2, format!("user {user}"), "{field:?}");
        }
        assert_eq!(origin.calls(), 10, "{field:?}");
        // It is known for a while that there is nothing to wait for.
        let misses = store.stats().misses();
        let user = [("x-user", "another")];
        assert_eq!(get_with(&service, "/me", &user).await, "another");
        assert_eq!(store.stats().misses(), misses);
    }
}

async fn a_private_response_to_a_shared_refresh_is_for_nobody_else(on: On) {
    let (store, clock) = on_clock(on, "responses-turned").await;
    let origin = Origin::open(|call, request| {
        let control = if call == 1 {
            "max-age=100, stale-while-revalidate=3600"
        } else {
            "private"
        };
        let response = Response::builder().header("cache-control", control);
        response
            .body(Body::from(format!("{call} {}", who(request))))
            .unwrap()
    });
    let service = CacheLayer::new(store.clone(), "turned").layer(origin.clone());
    let by = async |user: &str| get_with(&service, "/a", &[("x-user", user)]).await;
    assert_eq!(by("one").await, "1 one");
    clock.advance(Duration::from_secs(120));
    assert_eq!(by("two").await, "1 one", "it is stale, and refreshed");
    until("the refresh ends", async || origin.calls() == 2).await;
    store.settled().await;
    assert_eq!(by("three").await, "3 three");
    assert_eq!(by("four").await, "4 four");
}

async fn requests_with_credentials_pass_by(on: On) {
    let store = on.store("responses-credentials").await;
    let origin = Origin::open(|call, request| {
        let control = match request.uri().path() {
            "/public" => "public, max-age=60",
            _ => "max-age=60",
        };
        numbered(call, control)
    });
    let strict = CacheLayer::new(store.clone(), "strict").layer(origin.clone());
    for field in [
        ("cookie", "a=b"),
        ("authorization", "Basic eA=="),
        ("range", "bytes=0-1"),
    ] {
        get(&strict, "/public").await;
        let before = origin.calls();
        for _ in 0..2 {
            get_with(&strict, "/public", &[field]).await;
        }
        assert_eq!(origin.calls(), before + 2, "{field:?}");
    }
    let layer = CacheLayer::new(store, "open")
        .allow_cookies()
        .allow_authorization();
    let open = layer.layer(origin.clone());
    let credentials = [("cookie", "a=b"), ("authorization", "Basic eA==")];
    let calls = async |uri: &str| {
        let before = origin.calls();
        for _ in 0..3 {
            get_with(&open, uri, &credentials).await;
        }
        origin.calls() - before
    };
    assert_eq!(calls("/public").await, 1);
    assert_eq!(
        calls("/other").await,
        3,
        "it does not say that it may be shared"
    );
}

async fn responses_vary_by_the_fields_that_they_name(on: On) {
    let store = on.store("responses-vary").await;
    let origin = Origin::open(|call, request| {
        let language = request.headers().get("accept-language");
        let language = language.map_or("none", |it| it.to_str().unwrap());
        let kind = request
            .headers()
            .get("accept")
            .map_or("-", |it| it.to_str().unwrap());
        let vary = if kind == "odd" {
            "accept, accept-language"
        } else {
            "Accept-Language"
        };
        let response = Response::builder()
            .header("cache-control", "max-age=60")
            .header("vary", vary);
        response
            .body(Body::from(format!("{call} {language} {kind}")))
            .unwrap()
    });
    let service = CacheLayer::new(store.clone(), "vary").layer(origin.clone());
    let by =
        async |language: &str| get_with(&service, "/a", &[("accept-language", language)]).await;
    assert_eq!(
        by("de").await,
        "1 de -",
        "it says by which field responses vary"
    );
    for _ in 0..2 {
        assert_eq!(by("de").await, "2 de -");
        assert_eq!(by("fr").await, "3 fr -");
        assert_eq!(get(&service, "/a").await, "4 none -");
    }
    // More fields than were known, once the others are.
    let odd = async |language: &str| {
        let fields = [("accept-language", language), ("accept", "odd")];
        get_with(&service, "/a", &fields).await
    };
    assert_eq!(odd("it").await, "5 it odd");
    for _ in 0..2 {
        assert_eq!(odd("it").await, "6 it odd");
        assert_eq!(by("it").await, "7 it -");
    }
    let head = |language: &str| {
        let mut head = request("/a", &[("accept-language", language)]);
        *head.method_mut() = axum::http::Method::HEAD;
        head
    };
    assert_eq!(ask(&service, head("it")).await.1["content-length"], "6");
    assert_eq!(origin.calls(), 7);

    // A field in the key makes no variants.
    let layer = CacheLayer::new(store, "keyed");
    let keyed = layer.header(HeaderName::from_static("accept-language"));
    let keyed = keyed.layer(origin.clone());
    for _ in 0..2 {
        let fields = [("accept-language", "de")];
        assert_eq!(get_with(&keyed, "/a", &fields).await, "8 de -");
    }
}

async fn a_stale_response_is_served_while_one_request_gets_another(on: On) {
    let (store, clock) = on_clock(on, "responses-stale").await;
    let origin =
        Origin::closed(|call, _| numbered(call, "max-age=100, stale-while-revalidate=3600"));
    let layer = CacheLayer::new(store.clone(), "stale").cache_status("c");
    let service = layer.layer(origin.clone());
    let first = spawned(&service, request("/a", &[]));
    origin.begun(1).await;
    origin.0.gate.add_permits(1);
    assert_eq!(first.await.unwrap().2, "call 1");
    clock.advance(Duration::from_secs(80));
    assert_eq!(get(&service, "/a").await, "call 1");
    assert_eq!(store.stats().background_running(), 0, "it is fresh");
    clock.advance(Duration::from_secs(40));
    for _ in 0..5 {
        let (_, fields, body) = ask(&service, request("/a", &[])).await;
        assert_eq!(body, "call 1");
        let status = fields["cache-status"].to_str().unwrap();
        assert!(status.starts_with("c; hit; ttl=-"), "{status}");
        let age: u64 = fields["age"].to_str().unwrap().parse().unwrap();
        assert!((101..=120).contains(&age), "{age}");
    }
    until("the refresh begins", async || origin.calls() == 2).await;
    assert_eq!(get(&service, "/a").await, "call 1");
    origin.let_go();
    store.settled().await;
    assert_eq!(get(&service, "/a").await, "call 2");
    assert_eq!(origin.calls(), 2);

    // The time for stale responses is over.
    clock.advance(Duration::from_secs(3700));
    if on == On::Memory {
        assert_eq!(get(&service, "/a").await, "call 3");
    }
}

async fn directives_of_requests_are_respected(on: On) {
    let (store, clock) = on_clock(on, "responses-directives").await;
    let origin = Origin::with("max-age=60");
    let service = CacheLayer::new(store.clone(), "directives").layer(origin.clone());
    let with = async |control: &str| get_with(&service, "/a", &[("cache-control", control)]).await;
    let none = ask(
        &service,
        request("/a", &[("cache-control", "only-if-cached")]),
    )
    .await;
    assert_eq!(none.0, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(with("no-store").await, "call 1");
    assert_eq!(get(&service, "/a").await, "call 2", "it was not stored");
    assert_eq!(with("only-if-cached").await, "call 2");
    assert_eq!(with("no-cache").await, "call 3");
    assert_eq!(get(&service, "/a").await, "call 3", "it is stored");
    assert_eq!(
        get_with(&service, "/a", &[("pragma", "no-cache")]).await,
        "call 4"
    );
    clock.advance(Duration::from_secs(20));
    assert_eq!(with("max-age=21").await, "call 4");
    assert_eq!(with("min-fresh=39").await, "call 4");
    assert_eq!(with("max-age=5").await, "call 5");
    clock.advance(Duration::from_secs(20));
    assert_eq!(with("min-fresh=50").await, "call 6");

    let layer = CacheLayer::new(store, "directives").ignore_request_directives();
    let deaf = layer.layer(origin.clone());
    for control in ["no-cache", "max-age=0"] {
        let fields = [("cache-control", control)];
        assert_eq!(get_with(&deaf, "/a", &fields).await, "call 6");
    }
    let fields = [("cache-control", "no-store")];
    assert_eq!(get_with(&deaf, "/a", &fields).await, "call 7");
}

async fn a_failed_response_is_not_shared(on: On) {
    let store = on.store("responses-failed").await;
    let origin = || {
        Origin::closed(|call, request| {
            let mut response = numbered(call, "max-age=60");
            *response.status_mut() = match who(request).as_str() {
                "failing" => StatusCode::BAD_GATEWAY,
                "missing" => StatusCode::NOT_FOUND,
                _ => StatusCode::OK,
            };
            response
        })
    };
    for (number, who, status) in [(0, "failing", 502), (1, "missing", 404)] {
        let (layer, origin) = (format!("failed-{number}"), origin());
        let service = CacheLayer::new(store.clone(), layer).layer(origin.clone());
        let before = store.stats().misses();
        let failing = spawned(&service, request("/a", &[("x-user", who)]));
        origin.begun(1).await;
        let asking: Vec<_> = (0..5)
            .map(|_| spawned(&service, request("/a", &[])))
            .collect();
        missed(&store, before + 6).await;
        origin.let_go();
        assert_eq!(failing.await.unwrap().0.as_u16(), status);
        for answer in join_all(asking).await {
            assert_eq!(answer.unwrap().0, StatusCode::OK);
        }
    }
    let origin = origin();
    origin.let_go();
    let layer = CacheLayer::new(store, "missing").statuses([StatusCode::NOT_FOUND]);
    let service = layer.layer(origin);
    let fields = [("x-user", "missing")];
    let first = get_with(&service, "/a", &fields).await;
    let second = ask(&service, request("/a", &[])).await;
    assert_eq!((second.0, second.2), (StatusCode::NOT_FOUND, first));
}

async fn large_and_endless_bodies_are_passed_through(on: On) {
    let store = on.store("responses-large").await;
    let pieces = |texts: &'static [&'static str]| {
        let pieces = texts
            .iter()
            .map(|text| Ok::<_, Infallible>(Bytes::from_static(text.as_bytes())));
        stream::iter(pieces)
    };
    let origin = Origin::open(move |_, request| {
        let body = match request.uri().path() {
            "/small" => Body::from_stream(pieces(&["ab", "cd"])),
            "/known" => Body::from("abcdef"),
            "/large" => Body::from_stream(pieces(&["ab", "cde", "f"])),
            "/broken" => {
                let broken = stream::iter([Ok(Bytes::from_static(b"ab")), Err("gone")]);
                Body::from_stream(broken)
            }
            _ => {
                use futures_util::StreamExt;
                Body::from_stream(pieces(&["ab"]).chain(stream::pending()))
            }
        };
        let response = Response::builder().header("cache-control", "max-age=60");
        response.body(body).unwrap()
    });
    let layer = CacheLayer::new(store, "large").max_body(4);
    let layer = layer.body_timeout(Duration::from_millis(50));
    let patient = layer.clone().body_timeout(PATIENCE).layer(origin.clone());
    for (uri, body, calls) in [
        ("/small", "abcd", 1),
        ("/known", "abcdef", 2),
        ("/large", "abcdef", 2),
    ] {
        let before = origin.calls();
        for _ in 0..2 {
            assert_eq!(get(&patient, uri).await, body);
        }
        assert_eq!(origin.calls() - before, calls, "{uri}");
    }
    let broken = patient
        .clone()
        .oneshot(request("/broken", &[]))
        .await
        .unwrap();
    let read = to_bytes(Body::new(broken.into_body()), usize::MAX).await;
    assert!(read.is_err(), "the client learns it");

    let service = layer.layer(origin.clone());
    let endless = service
        .clone()
        .oneshot(request("/endless", &[]))
        .await
        .unwrap();
    assert_eq!(endless.status(), StatusCode::OK);
    let mut body = Body::new(endless.into_body()).into_data_stream();
    use futures_util::StreamExt;
    assert_eq!(body.next().await.unwrap().unwrap(), "ab");
}

async fn a_client_that_leaves_does_not_fail_the_others(on: On) {
    let store = on.store("responses-leaves").await;
    let origin = Origin::closed(|call, request| {
        let response = Response::builder().header("cache-control", "max-age=60");
        response
            .body(Body::from(format!("{call} {}", who(request))))
            .unwrap()
    });
    let service = CacheLayer::new(store.clone(), "leaves").layer(origin.clone());
    let first = spawned(&service, request("/a", &[("x-user", "first")]));
    origin.begun(1).await;
    let others: Vec<_> = (0..5)
        .map(|_| spawned(&service, request("/a", &[("x-user", "other")])))
        .collect();
    missed(&store, 6).await;
    first.abort();
    origin.begun(2).await;
    origin.let_go();
    for answer in join_all(others).await {
        assert_eq!(answer.unwrap().2, "2 other");
    }
    assert_eq!(origin.calls(), 2);
}

async fn the_status_of_the_cache_is_told(on: On) {
    let store = on.store("responses-status").await;
    let origin = Origin::open(|call, request| match request.uri().path() {
        "/private" => numbered(call, "private"),
        _ => numbered(call, "max-age=60"),
    });
    let layer = CacheLayer::new(store, "status").cache_status("my cache");
    let service = layer.layer(origin);
    let status = async |uri: &str, fields: &[(&str, &str)]| {
        let (_, fields, _) = ask(&service, request(uri, fields)).await;
        fields["cache-status"].to_str().unwrap().to_owned()
    };
    assert_eq!(
        status("/a", &[]).await,
        "\"my cache\"; fwd=uri-miss; stored"
    );
    let hit = status("/a", &[]).await;
    assert!(hit.starts_with("\"my cache\"; hit; ttl="), "{hit}");
    assert_eq!(status("/private", &[]).await, "\"my cache\"; fwd=uri-miss");
    let cookie = [("cookie", "a=b")];
    assert_eq!(status("/a", &cookie).await, "\"my cache\"; fwd=bypass");
}

async fn two_processes_call_the_service_once() {
    let stores = [
        On::Plain.store("responses-two").await,
        On::Plain.store("responses-two").await,
    ];
    let origin = Origin::closed(|call, _| numbered(call, "max-age=60"));
    let mut asking = Vec::new();
    for store in &stores {
        let service = CacheLayer::new(store.clone(), "two").layer(origin.clone());
        asking.extend((0..10).map(|_| spawned(&service, request("/a", &[]))));
    }
    for store in &stores {
        missed(store, 10).await;
    }
    origin.begun(1).await;
    until("the other process waits", async || {
        stores
            .iter()
            .map(|store| store.stats().waited())
            .sum::<u64>()
            == 1
    })
    .await;
    origin.let_go();
    for answer in join_all(asking).await {
        assert_eq!(answer.unwrap().2, "call 1");
    }
    assert_eq!(origin.calls(), 1);
}

/// A process that waits for the load of another learns that there is nothing to wait for.
async fn a_private_response_in_another_process_is_not_waited_for_again() {
    let namespace = "responses-two-private";
    let stores = [
        On::Plain.store(namespace).await,
        On::Plain.store(namespace).await,
    ];
    let origin = Origin::closed(|_, request| {
        let response = Response::builder().header("cache-control", "private");
        response.body(Body::from(who(request))).unwrap()
    });
    let services = stores
        .each_ref()
        .map(|store| CacheLayer::new(store.clone(), "two").layer(origin.clone()));
    let one = spawned(&services[0], request("/me", &[("x-user", "one")]));
    origin.begun(1).await;
    let two = spawned(&services[1], request("/me", &[("x-user", "two")]));
    until("it waits", async || stores[1].stats().waited() == 1).await;
    origin.let_go();
    assert_eq!(one.await.unwrap().2, "one");
    assert_eq!(two.await.unwrap().2, "two");
    assert_eq!(origin.calls(), 2);
}

async fn a_store_that_is_down_leaves_the_service() {
    let store = On::Plain.store("responses-down").await;
    let origin = Origin::with("max-age=60");
    let service = CacheLayer::new(store.clone(), "down").layer(origin.clone());
    assert_eq!(get(&service, "/a").await, "call 1");
    store.faults().take_down();
    assert_eq!(get(&service, "/a").await, "call 2");
    assert_eq!(
        get_with(&service, "/a", &[("cache-control", "no-cache")]).await,
        "call 3"
    );
    let mut write = request("/a", &[]);
    *write.method_mut() = axum::http::Method::POST;
    assert_eq!(ask(&service, write).await.2, "call 4");
    store.faults().recover();
    store.settled().await;
    assert_eq!(
        get(&service, "/a").await,
        "call 5",
        "the invalidation was delivered"
    );
    assert_eq!(get(&service, "/a").await, "call 5");
}

async fn a_store_that_is_off_stores_nothing() {
    let store = On::Memory.store("responses-off").await;
    let origin = Origin::with("max-age=60");
    let service = CacheLayer::new(store.clone(), "off").layer(origin.clone());
    assert_eq!(get(&service, "/a").await, "call 1");
    store.set_enabled(false);
    assert_eq!(get(&service, "/a").await, "call 2");
    store.set_enabled(true);
    assert_eq!(get(&service, "/a").await, "call 3");
}
