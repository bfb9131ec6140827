//! The health of the service.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use valkey_runtime::{BreakerState, Store};

use crate::users::Users;

#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
    database: &'static str,
    cache: Cache,
}

#[derive(Serialize)]
struct Cache {
    location: String,
    breaker: &'static str,
    /// Invalidations that wait for the server.
    undelivered: usize,
}

/// `GET /health`: 503 only without the database. Without the cache all responses are still right,
/// if slower. To take instances out of service for that would take out all of them at once.
pub(crate) async fn health(
    State(store): State<Store>,
    State(users): State<Users>,
) -> (StatusCode, Json<Health>) {
    let database = users.ping().await;
    if let Err(error) = &database {
        tracing::error!(%error, "the database failed");
    }
    let breaker = store.breaker();
    let (code, status) = match (&database, breaker) {
        (Err(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
        (Ok(()), BreakerState::Closed) => (StatusCode::OK, "ok"),
        (Ok(()), _) => (StatusCode::OK, "degraded"),
    };
    let health = Health {
        status,
        database: if database.is_ok() { "up" } else { "down" },
        cache: Cache {
            location: store.location().into(),
            breaker: breaker.as_str(),
            undelivered: store.undelivered(),
        },
    };
    (code, Json(health))
}
