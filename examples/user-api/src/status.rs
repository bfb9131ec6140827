//! The status page: what the service does at the moment, and did in the last minutes.

mod counts;
pub(crate) mod history;
pub(crate) mod sample;

use std::time::SystemTime;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse};
use serde::{Deserialize, Serialize};

use crate::App;
use counts::{Counts, Rates};
use history::SPAN;
use sample::{Point, Sample};

/// The content of the page. Numbers without a time are counts since the start.
#[derive(Serialize)]
pub(crate) struct Numbers {
    location: String,
    breaker: &'static str,
    allowed: u64,
    refused: u64,
    #[serde(flatten)]
    store: Counts,
    hit_ratio: Option<f64>,
    types: Vec<Row>,
    /// Of the last seconds, as the `recent` of each type.
    recent: Option<Point>,
    /// In milliseconds: of a latency above it no more is known.
    slowest: f64,
    /// How far back the points go.
    span_seconds: u64,
    points: Vec<Point>,
}

/// A type.
#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    counts: Counts,
    hit_ratio: Option<f64>,
    recent: Option<Rates>,
}

#[derive(Deserialize)]
pub(crate) struct After {
    /// The time of the last point that the page has.
    after: Option<u64>,
}

/// `GET /status.json`: with the whole history, or the points after one of them.
pub(crate) async fn numbers(
    State(App {
        store,
        telemetry,
        history,
        ..
    }): State<App>,
    Query(After { after }): Query<After>,
) -> Json<Numbers> {
    let now = Sample::take(&store, &telemetry, SystemTime::now());
    let window = history.window();
    let recent = |name: &str| {
        let (first, last) = window.as_ref()?;
        // A type that was not used before has no counts there.
        let counts = |sample: &Sample| sample.types.get(name).copied().unwrap_or_default();
        Some(counts(last).rates(&counts(first), last.seconds(first)))
    };
    Json(Numbers {
        location: store.location().into(),
        breaker: store.breaker().as_str(),
        allowed: now.allowed(),
        refused: now.refused,
        store: now.store,
        hit_ratio: now.store.hit_ratio(),
        recent: window.as_ref().map(|(first, last)| last.since(first)),
        types: now
            .types
            .into_iter()
            .map(|(name, counts)| Row {
                recent: recent(&name),
                hit_ratio: counts.hit_ratio(),
                counts,
                name,
            })
            .collect(),
        slowest: sample::slowest(),
        span_seconds: SPAN.as_secs(),
        points: history.points(after),
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
    javascript(include_str!("status/page.js"))
}

/// `GET /chart.js`
pub(crate) async fn chart() -> impl IntoResponse {
    javascript(include_str!("status/chart.js"))
}

fn javascript(script: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], script)
}
