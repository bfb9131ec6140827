//! The counters and logs of requests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::App;

/// The bounds of the latency histogram, in microseconds: each is twice the one before.
pub(crate) const BOUNDS: [u64; 16] = {
    let mut bounds = [64; 16];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = 2 * bounds[at - 1];
        at += 1;
    }
    bounds
};

/// Installs a recorder for all metrics of the `metrics` facade in this process.
///
/// # Errors
/// If another recorder is installed already.
pub fn record_metrics() -> Result<PrometheusHandle, BuildError> {
    let bounds = BOUNDS.map(|micros| micros as f64 / 1e6);
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("seconds".into()), &bounds)?
        .install_recorder()
}

/// The requests on the status page.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    /// For each bound, the number of requests up to it and above the previous one; the last number
    /// is above all bounds.
    latencies: [AtomicU64; BOUNDS.len() + 1],
    refused: AtomicU64,
}

impl Telemetry {
    fn add(&self, status: StatusCode, took: Duration) {
        let at = BOUNDS.partition_point(|&bound| u128::from(bound) < took.as_micros());
        self.latencies[at].fetch_add(1, Relaxed);
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.refused.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn latencies(&self) -> [u64; BOUNDS.len() + 1] {
        self.latencies.each_ref().map(|count| count.load(Relaxed))
    }

    /// Requests that a limit refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// Counts, measures and logs a request.
pub(crate) async fn observe(
    State(App { telemetry, .. }): State<App>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // Not the path: the number of paths is unlimited. Some readers of metrics take a brace for the
    // end of the labels.
    let route = route.map_or_else(
        || "none".into(),
        |route| route.as_str().replace('{', ":").replace('}', ""),
    );
    let began = Instant::now();
    let response = next.run(request).await;
    let (status, took) = (response.status(), began.elapsed());

    telemetry.add(status, took);
    let labels = [
        ("method", method.to_string()),
        ("route", route),
        ("status", status.as_str().to_owned()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels).record(took);
    tracing::info!(%method, path, status = status.as_u16(), micros = took.as_micros() as u64, "request");
    response
}

/// `GET /metrics`: for Prometheus. The cache adds its counts since the last call.
pub(crate) async fn metrics(State(App { store, metrics, .. }): State<App>) -> impl IntoResponse {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    store.publish_metrics();
    ([(CONTENT_TYPE, TEXT)], metrics.render())
}
