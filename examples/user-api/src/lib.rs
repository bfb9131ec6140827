//! A service of users and organisations, on axum, SQLite and valkey-runtime.
//!
//! [`router`] makes the service of an [`App`]: a pool of database connections and a [`Store`]. Only
//! `main` decides whether the store is in this process or on a Valkey server.

mod caching;
mod error;
mod health;
mod limits;
mod login;
mod orgs;
mod status;
mod telemetry;
mod users;
mod valid;

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use valkey_runtime::Store;

pub use error::{Error, Result};
pub use limits::{Limits, Quota};
use orgs::Orgs;
use status::history::{self, History};
use status::sample::Sample;
use telemetry::Telemetry;
pub use telemetry::record_metrics;
use users::Users;

/// The state of the handlers. Clones share it.
#[derive(Clone, FromRef)]
pub struct App {
    store: Store,
    users: Users,
    orgs: Orgs,
    limits: Arc<Limits>,
    telemetry: Arc<Telemetry>,
    history: Arc<History>,
    metrics: PrometheusHandle,
    #[from_ref(skip)]
    caches_lists: bool,
}

impl App {
    /// Makes an application from this cache and this database, from [`open_database`]. `metrics` is
    /// the result of [`record_metrics`].
    pub fn new(store: Store, db: SqlitePool, limits: Limits, metrics: PrometheusHandle) -> Self {
        Self {
            store,
            users: Users::new(db.clone()),
            orgs: Orgs::new(db),
            limits: Arc::new(limits),
            telemetry: Arc::default(),
            history: Arc::default(),
            metrics,
            caches_lists: true,
        }
    }

    /// Sets whether the responses of lists are cached as a whole. By default they are.
    #[must_use]
    pub fn cache_lists(mut self, on: bool) -> Self {
        self.caches_lists = on;
        self
    }

    /// Keeps the history that the status page shows: a sample each second. It ends when it is
    /// dropped.
    pub async fn keep_history(self) {
        history::each_step(|at| self.sample(at)).await;
    }

    /// Adds the counts of this moment to the history, as those of the time `at`.
    pub fn sample(&self, at: SystemTime) {
        let sample = Sample::take(&self.store, &self.telemetry, at);
        self.history.add(sample);
    }
}

/// Opens a database and migrates it. A new database gets its tables and rows.
///
/// # Errors
/// Those of the database.
pub async fn open_database(options: SqliteConnectOptions) -> Result<SqlitePool, MigrateError> {
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let db = SqlitePool::connect_with(options).await?;
    sqlx::migrate!().run(&db).await?;
    Ok(db)
}

/// The service.
pub fn router(app: App) -> Router {
    let members = match app.caches_lists {
        true => get(orgs::users).layer(caching::lists(&app.store)),
        false => get(orgs::users),
    };
    let api = Router::new()
        .route("/users", get(users::show_by_email).post(users::create))
        .route(
            "/users/{id}",
            get(users::show).put(users::replace).delete(users::remove),
        )
        .route("/users/{id}/transfer", post(users::transfer))
        .route("/orgs/{id}", get(orgs::show).put(orgs::rename))
        .route("/orgs/{id}/users", members)
        .route("/login", post(login::login))
        .layer(app.limits.by_address(&app.store))
        .layer(from_fn_with_state(app.clone(), telemetry::observe));
    Router::new()
        .merge(api)
        .route("/", get(status::page))
        .route("/status.js", get(status::script))
        .route("/chart.js", get(status::chart))
        .route("/status.json", get(status::numbers))
        .route("/metrics", get(telemetry::metrics))
        .route("/health", get(health::health))
        .with_state(app)
}
