//! The status page: charts of what the service does at the moment.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse};
use serde::Serialize;

use crate::App;
use crate::telemetry::BOUNDS;

/// What the page is made of. All of it are counts since the start: what happened in a second the page tells by the difference.
#[derive(Serialize)]
pub(crate) struct Numbers {
    location: String,
    breaker: &'static str,
    hits: u64,
    misses: u64,
    loads: u64,
    shared: u64,
    errors: u64,
    allowed: u64,
    refused: u64,
    latencies: Latencies,
}

#[derive(Serialize)]
struct Latencies {
    /// In microseconds.
    bounds: &'static [u64],
    /// One more than bounds: the last is of what took longer.
    counts: Vec<u64>,
}

/// `GET /status.json`
pub(crate) async fn numbers(
    State(App {
        store, telemetry, ..
    }): State<App>,
) -> Json<Numbers> {
    let (stats, counts) = (store.stats(), telemetry.latencies());
    let (requests, refused) = (counts.iter().sum::<u64>(), telemetry.refused());
    Json(Numbers {
        location: store.location().into(),
        breaker: store.breaker().as_str(),
        hits: stats.hits(),
        misses: stats.misses(),
        loads: stats.loads(),
        shared: stats.coalesced(),
        errors: stats.errors_total(),
        allowed: requests.saturating_sub(refused),
        refused,
        latencies: Latencies {
            bounds: &BOUNDS,
            counts: counts.into(),
        },
    })
}

/// `GET /`: nothing on it comes from elsewhere.
pub(crate) async fn page() -> impl IntoResponse {
    const OWN: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:";
    let page = Html(include_str!("status/page.html"));
    ([(CONTENT_SECURITY_POLICY, OWN)], page)
}

/// `GET /status.js`
pub(crate) async fn script() -> impl IntoResponse {
    let script = include_str!("status/page.js");
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], script)
}
