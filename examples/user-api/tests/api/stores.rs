//! The service in this process, with each kind of cache.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use sqlx::sqlite::SqlitePool;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use user_api::{App, Limits};
use valkey_runtime::Store;
use valkey_tests::{Cluster, Server};

use crate::folder::Folder;

static SERVER: LazyLock<Server> = LazyLock::new(Server::plain);
static CLUSTER: LazyLock<Cluster> = LazyLock::new(Server::cluster);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    Off,
    InProcess,
    Valkey,
    Cluster,
}

/// Makes of each function a test with each kind of cache.
macro_rules! with_each_cache {
    ($($name:ident)*) => {
        with_each_cache! { @off Off $($name)* }
        with_each_cache! { @in_process InProcess $($name)* }
        with_each_cache! { @valkey Valkey $($name)* }
        with_each_cache! { @cluster Cluster $($name)* }
    };
    (@$module:ident $cache:ident $($name:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let service = crate::stores::Service::new(crate::stores::Cache::$cache).await;
                    super::$name(&service).await;
                }
            )*
        }
    };
}
pub(crate) use with_each_cache;

/// Two instances of the service over one database: where the cache is a server's, each with a store
/// of its own.
pub(crate) struct Service {
    pub(crate) db: SqlitePool,
    pub(crate) stores: [Store; 2],
    pub(crate) apps: Vec<App>,
    cache: Cache,
    addresses: [SocketAddr; 2],
    client: Client,
    tasks: Vec<AbortHandle>,
    _folder: Folder,
}

impl Service {
    pub(crate) async fn new(cache: Cache) -> Self {
        Self::with_lists(cache, true).await
    }

    /// `cached` is whether the responses of lists are cached as a whole.
    pub(crate) async fn with_lists(cache: Cache, cached: bool) -> Self {
        let folder = Folder::new();
        let options = folder.database().parse().expect("a URL");
        let db = user_api::open_database(options).await.expect("a database");
        let stores = stores(cache).await;
        let mut service = Self {
            db: db.clone(),
            stores: stores.clone(),
            apps: Vec::new(),
            cache,
            addresses: [([127, 0, 0, 1], 0).into(); 2],
            client: Client::new(),
            tasks: Vec::new(),
            _folder: folder,
        };
        for (address, store) in service.addresses.iter_mut().zip(stores) {
            let quota = "2/1h".parse().expect("a quota");
            let limits = Limits::new(None, quota).expect("limits");
            let metrics = PrometheusBuilder::new().build_recorder().handle();
            let app = App::new(store, db.clone(), limits, metrics).cache_lists(cached);
            let router = user_api::router(app.clone());
            service.apps.push(app);
            let listener = TcpListener::bind(*address).await.expect("a port");
            *address = listener.local_addr().expect("an address");
            service.tasks.push(serve(listener, router));
        }
        service
    }

    /// The number of loads of both instances, which may share a store.
    pub(crate) fn loads(&self) -> u64 {
        let stores = match self.cache {
            Cache::Off | Cache::InProcess => &self.stores[..1],
            Cache::Valkey | Cache::Cluster => &self.stores[..],
        };
        stores.iter().map(|store| store.stats().loads()).sum()
    }

    /// An address of the first instance.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses[0])
    }

    /// Asks one of the instances.
    pub(crate) async fn response_at(
        &self,
        instance: usize,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        let url = format!("http://{}{path}", self.addresses[instance]);
        let request = self.client.request(method, url);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    /// Asks one of the instances, and gives the status and what the body says.
    pub(crate) async fn ask_at(
        &self,
        instance: usize,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let response = self.response_at(instance, method, path, body).await;
        let status = response.status();
        let body = response.text().await.expect("a body");
        let body = match body.as_str() {
            "" => Value::Null,
            // Refusals by axum itself are plain text.
            text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        (status, body)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask_at(0, Method::GET, path, None).await;
        (status.as_u16(), body)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let (status, body) = self.ask_at(1, method, path, Some(body)).await;
        (status.as_u16(), body)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn serve(listener: TcpListener, router: Router) -> AbortHandle {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = async move { axum::serve(listener, service).await };
    tokio::spawn(serving).abort_handle()
}

async fn stores(cache: Cache) -> [Store; 2] {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let namespace = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let url = match cache {
        Cache::Off | Cache::InProcess => {
            let store = Store::builder().memory().enabled(cache != Cache::Off);
            let store = store.connect().await.expect("a store");
            return [store.clone(), store];
        }
        Cache::Valkey => SERVER.url(),
        Cache::Cluster => CLUSTER.url(),
    };
    // However busy the machine is.
    let builder = Store::builder().url(&url).namespace(namespace);
    let builder = builder.command_timeout(Duration::from_secs(30));
    let first = builder.clone().connect().await.expect("a server");
    [first, builder.connect().await.expect("a server")]
}
