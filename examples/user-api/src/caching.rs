//! Responses for HTTP caches and clients: header fields about an entry, and whole responses in the
//! cache.

use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use valkey_runtime::http::{CacheHeaders, CacheLayer};
use valkey_runtime::{Cached, Entry, Store};

/// The value with `ETag`, `Age`, `Cache-Control` and `Cache-Status`; or 304 if the client has it
/// already. HTTP caches must revalidate their copies each time, since no write invalidates them. A
/// row that is loaded again and has not changed keeps its tag.
pub(crate) fn answer<T: Cached + Serialize>(entry: &Entry<T>, request: &HeaderMap) -> Response {
    let Ok(body) = serde_json::to_vec(&**entry) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = CacheHeaders::private(entry)
        .cache_name("user-api")
        .content_etag(&body);
    if headers.are_known_by(request) {
        return (StatusCode::NOT_MODIFIED, headers.to_map()).into_response();
    }
    let json = [(CONTENT_TYPE, "application/json")];
    (headers.to_map(), json, body).into_response()
}

/// The cache of the pages of an organisation, as whole responses. Their handler names their tags.
/// This service answers the same to every host and every client, and reads no other parameter.
pub(crate) fn lists(store: &Store) -> CacheLayer {
    CacheLayer::new(store.clone(), "lists-1")
        .ttl(Duration::from_secs(300))
        .query(["page"])
        .ignore_host()
        .allow_cookies()
}
