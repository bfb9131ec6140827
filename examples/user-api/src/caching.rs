//! The HTTP headers about an entry, for HTTP caches and for people at a terminal.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use valkey_runtime::http::CacheHeaders;
use valkey_runtime::{Cached, Entry};

/// The value with `ETag`, `Age`, `Cache-Control` and `Cache-Status`; or 304 if the client has it
/// already. HTTP caches must revalidate their copies each time, since no write invalidates them.
pub(crate) fn answer<T: Cached + Serialize>(entry: &Entry<T>, request: &HeaderMap) -> Response {
    let headers = CacheHeaders::private(entry)
        .cache_name("user-api")
        .at_most(Duration::ZERO);
    if headers.are_known_by(request) {
        return (StatusCode::NOT_MODIFIED, headers.to_map()).into_response();
    }
    (headers.to_map(), Json(&**entry)).into_response()
}
