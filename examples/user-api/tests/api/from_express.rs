//! The snippets of `docs/guides/from-express.md`, over a database that is a map.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use valkey_runtime::http::{CacheHeaders, PeerAddress, RateLimitLayer};
use valkey_runtime::limit::RateLimiter;
use valkey_runtime::{Cached, ErrorKind, Store};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Cached)]
#[cached(prefix = "user", ttl = "5m", version = 2, tag = "org:{org_id}")]
struct User {
    #[cached(key)]
    id: u64,
    org_id: u64,
    email: String,
    name: String,
}

fn ada() -> User {
    User {
        id: 42,
        org_id: 7,
        email: "ada@example.org".into(),
        name: "Ada".into(),
    }
}

#[derive(Clone)]
struct App {
    store: Store,
    db: Arc<Db>,
}

/// Its rows, and how often they were read.
struct Db(Mutex<(HashMap<u64, User>, usize)>);

#[derive(Debug)]
struct DbError;

impl IntoResponse for DbError {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl Db {
    async fn find_user(&self, id: u64) -> Result<Option<User>, DbError> {
        let mut rows = self.0.lock().expect("no test panics under it");
        rows.1 += 1;
        Ok(rows.0.get(&id).cloned())
    }

    async fn rename_user(&self, id: u64, name: &str) -> Result<(), DbError> {
        let mut rows = self.0.lock().expect("no test panics under it");
        rows.0.get_mut(&id).ok_or(DbError)?.name = name.into();
        Ok(())
    }

    fn queries(&self) -> usize {
        self.0.lock().expect("no test panics under it").1
    }
}

impl App {
    fn new(store: Store) -> Self {
        let rows = HashMap::from([(42, ada())]);
        let db = Arc::new(Db(Mutex::new((rows, 0))));
        Self { store, db }
    }

    async fn name_of(&self, id: u64) -> String {
        let user = User::get_or_load(&self.store, id, || self.db.find_user(id)).await;
        user.expect("the database answers")
            .expect("it is there")
            .name
    }

    async fn put_name(&self, id: u64, name: &str) {
        let renamed = rename(State(self.clone()), Path(id), name.into()).await;
        assert_eq!(
            renamed.expect("the database answers"),
            StatusCode::NO_CONTENT
        );
    }
}

async fn show(State(app): State<App>, Path(id): Path<u64>) -> Result<Response, DbError> {
    let user = User::get_or_load(&app.store, id, || app.db.find_user(id)).await?;
    Ok(match user {
        Some(user) => Json(user).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn rename(
    State(app): State<App>,
    Path(id): Path<u64>,
    name: String,
) -> Result<StatusCode, DbError> {
    User::update(&app.store, id, || app.db.rename_user(id, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_to_browsers(
    State(app): State<App>,
    Path(id): Path<u64>,
    request: HeaderMap,
) -> Result<Response, DbError> {
    let load = || app.db.find_user(id);
    let Some(user) = app.store.of::<User>().load(id).entry().run(load).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let headers = CacheHeaders::private(&user);
    if headers.are_known_by(&request) {
        return Ok((StatusCode::NOT_MODIFIED, headers.to_map()).into_response());
    }
    Ok((headers.to_map(), Json(user.into_value())).into_response())
}

/// This is compiled, and not run: its server is nobody's.
#[allow(dead_code, reason = "it is there to be compiled")]
async fn configured() -> valkey_runtime::Result<Store> {
    let store = Store::from_env().await?;
    store.close().await;
    let store = Store::builder()
        .url("valkey://127.0.0.1:6379")
        .namespace("shop")
        .command_timeout(Duration::from_millis(100))
        .connect()
        .await?;
    Ok(store)
}

async fn tolerant(store: Store) -> valkey_runtime::Result<Option<User>> {
    match User::get(&store, 42).await {
        Ok(user) => Ok(user),
        // The server is down, slow or full: not what the caller did.
        Err(error) if error.is_transient() => Ok(None),
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn the_verbs_do_what_the_wrapper_did() -> valkey_runtime::Result<()> {
    let (store, user) = (Store::memory(), ada());
    user.set(&store).await?;
    let found: Option<User> = User::get(&store, 42).await?;
    let there: bool = User::exists(&store, 42).await?;
    let gone: bool = User::del(&store, 42).await?;
    assert_eq!((found, there, gone), (Some(ada()), true, true));

    user.set(&store).await?;
    User::cache_tags().org(7).invalidate(&store).await?;
    assert_eq!(tolerant(store.clone()).await?, None);
    user.set(&store).await?;
    assert_eq!(tolerant(store.clone()).await?, Some(ada()));
    store.faults().fail_next(ErrorKind::Timeout);
    assert_eq!(tolerant(store.clone()).await?, None);

    let stats = store.stats();
    tracing::info!("the cache so far:\n{stats}");
    let ratio = stats.hits() as f64 / (stats.hits() + stats.misses()).max(1) as f64;
    assert_eq!(ratio, 2.0 / 3.0);
    Ok(())
}

#[tokio::test]
async fn a_user_is_loaded_once_and_renamed_at_once() {
    let app = App::new(Store::memory());
    assert_eq!(app.name_of(42).await, "Ada");
    assert_eq!(app.name_of(42).await, "Ada");
    assert_eq!(app.db.queries(), 1);

    app.put_name(42, "Grace").await;
    assert_eq!(app.name_of(42).await, "Grace");
}

#[tokio::test]
async fn with_the_cache_down_users_come_from_the_database() {
    let app = App::new(Store::memory());
    app.store.faults().take_down();
    assert_eq!(app.name_of(42).await, "Ada");
}

#[tokio::test]
async fn a_browser_gets_the_cache_status_and_the_etag_of_the_entry() {
    let app = App::new(Store::memory());
    let ask = async |request| {
        let response = show_to_browsers(State(app.clone()), Path(42), request).await;
        let response = response.expect("the database answers");
        (response.status(), response.headers().clone())
    };
    let (status, first) = ask(HeaderMap::new()).await;
    assert_eq!(
        (status, &first["cache-status"]),
        (
            StatusCode::OK,
            &"valkey; fwd=uri-miss; stored".parse().expect("a value")
        )
    );
    let mut known = HeaderMap::new();
    known.insert("if-none-match", first["etag"].clone());
    assert_eq!(ask(known).await.0, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn the_101st_request_of_an_address_is_refused() -> valkey_runtime::Result<()> {
    let (store, _clock) = valkey_runtime::testing::memory();
    let limiter = RateLimiter::builder("api")
        .quota(100, Duration::from_secs(15 * 60))
        .fixed_window()
        .build()?;
    let decision = limiter.check(&store, "203.0.113.7").await?;
    assert_eq!((decision.is_allowed(), decision.remaining()), (true, 99));

    let app = App::new(store);
    let peer = PeerAddress::in_extension(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    let limits = RateLimitLayer::new(app.store.clone()).limit(limiter, peer);
    let service = Router::new()
        .route("/users/{id}", get(show).put(rename))
        .with_state(app)
        .layer(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/users/42", listener.local_addr().expect("bound"));
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    let client = Client::new();
    for _ in 0..100 {
        let response = client.get(&url).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
    }
    let refused = client.get(&url).send().await.expect("an answer");
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    server.abort();
    Ok(())
}

/// Line by line, whatever they are indented by.
#[test]
fn the_page_shows_this_code() {
    let page = include_str!("../../../../docs/guides/from-express.md");
    let plain = |text: &str| {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let code = plain(include_str!("from_express.rs"));
    let blocks = page.split("```rust\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 12);
    for block in blocks {
        assert!(code.contains(&plain(block)), "not in this file:\n{block}");
    }
}
