//! What HTTP caches and people at a terminal are told of an entry.

use axum::Json;
use axum::http::header::{AGE, CACHE_CONTROL, ETAG};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use valkey_runtime::{Entry, Source, Ttl};

/// The value, with `Cache-Status` (RFC 9211), `Age` and `ETag` from its entry. What others may have of it they ask for each time.
pub(crate) fn answer<T: Serialize>(entry: Entry<T>) -> Response {
    let fields = [
        (AGE, entry.age().as_secs().to_string()),
        (CACHE_CONTROL, "private, no-cache".into()),
        (ETAG, format!("\"{:x}\"", entry.stamp())),
    ];
    let status = [("cache-status", status(&entry))];
    (fields, status, Json(&*entry)).into_response()
}

fn status<T>(entry: &Entry<T>) -> String {
    let stored = if entry.expires_in().is_some() {
        "; stored"
    } else {
        ""
    };
    match (entry.source(), entry.expires_in()) {
        (Source::Server, Some(Ttl::After(time))) => {
            format!("user-api; hit; ttl={}", time.as_secs())
        }
        (Source::Server, _) => "user-api; hit".into(),
        (Source::Joined, _) => format!("user-api; fwd=uri-miss; collapsed{stored}"),
        (Source::Stale, _) => "user-api; hit; fwd=stale".into(),
        _ => format!("user-api; fwd=uri-miss{stored}"),
    }
}
