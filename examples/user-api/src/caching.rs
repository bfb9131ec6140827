//! What HTTP caches and people at a terminal are told of an entry.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use valkey_runtime::http::CacheHeaders;
use valkey_runtime::{Cached, Entry};

/// The value with `ETag`, `Age`, `Cache-Control` and `Cache-Status`; or 304 for who has it already.
/// Whoever keeps a copy asks each time whether it is still right, since nobody tells it of a write.
pub(crate) fn answer<T: Cached + Serialize>(entry: &Entry<T>, request: &HeaderMap) -> Response {
    let headers = CacheHeaders::private(entry)
        .cache_name("user-api")
        .at_most(Duration::ZERO);
    if headers.are_known_by(request) {
        return (StatusCode::NOT_MODIFIED, headers.to_map()).into_response();
    }
    (headers.to_map(), Json(&**entry)).into_response()
}
