//! The settings of a cache of responses, and what they say about a request.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Extensions, Method, Request, Uri};
use http_body::Body;

use crate::core::store::Store;
use crate::http::directives::Directives;
use crate::http::response_key::{KeyParts, Parameters, key_of, path_tag};
use crate::http::storing::Storing;
use crate::key::tag::Tag;

/// The settings of a layer.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) store: Store,
    pub(crate) name: String,
    pub(crate) storing: Storing,
    /// The longest time for which a body is read before its response is given.
    pub(crate) longest_body: Duration,
    pub(crate) parameters: Parameters,
    pub(crate) fields: Vec<HeaderName>,
    pub(crate) with_host: bool,
    pub(crate) takes_cookies: bool,
    pub(crate) takes_authorization: bool,
    pub(crate) minds_requests: bool,
    pub(crate) told_as: Option<String>,
    pub(crate) uri: Option<Arc<FindUri>>,
}

pub(crate) type FindUri = dyn Fn(&Extensions) -> Option<&Uri> + Send + Sync;

/// The way of a request.
pub(crate) enum Plan {
    /// The service answers it, and nothing is stored.
    Pass,
    /// The same. If it succeeds, the stored responses of its path are invalid.
    Write(Tag),
    Cached(Box<Asked>),
}

/// A request that a stored response may answer.
pub(crate) struct Asked {
    pub(crate) key: KeyParts,
    pub(crate) tag: Tag,
    pub(crate) head: bool,
    pub(crate) authorized: bool,
    pub(crate) wants: Directives,
    /// The fields by which the client says what it has. The service does not see them: its response
    /// is for others too.
    pub(crate) conditions: HeaderMap,
}

impl Rules {
    pub(crate) fn path_tag(&self, path: &str) -> Tag {
        path_tag(&self.name, path).into()
    }

    /// Decides about a request.
    pub(crate) fn plan<B: Body>(&self, request: &Request<B>) -> Plan {
        let uri = self.uri_of(request);
        if !request.method().is_safe() {
            return Plan::Write(self.path_tag(uri.path()));
        }
        let headers = request.headers();
        let has = |name: &HeaderName| headers.contains_key(name);
        let mut wants = Directives::of_request(headers);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let for_one = has(&COOKIE) && !self.takes_cookies
            || has(&AUTHORIZATION) && !self.takes_authorization
            || wants.no_store;
        let for_a_part = [RANGE, IF_RANGE, IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE]
            .iter()
            .any(has);
        let has_body = !request.body().is_end_stream()
            || has(&TRANSFER_ENCODING)
            || headers
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length != "0");
        if !is_read || for_one || for_a_part || has_body {
            return Plan::Pass;
        }
        if !self.minds_requests {
            wants = Directives {
                only_if_cached: wants.only_if_cached,
                ..Directives::default()
            };
        }
        let with_host = self.with_host;
        let fields = &self.fields;
        let key = key_of(
            &self.name,
            with_host,
            uri,
            headers,
            &self.parameters,
            fields,
        );
        let Some(key) = key else {
            return Plan::Pass;
        };
        Plan::Cached(Box::new(Asked {
            key,
            tag: self.path_tag(uri.path()),
            head: request.method() == Method::HEAD,
            authorized: has(&AUTHORIZATION),
            wants,
            conditions: conditions(headers),
        }))
    }

    /// The URI by which a request is known.
    fn uri_of<'r, B>(&self, request: &'r Request<B>) -> &'r Uri {
        let found = self
            .uri
            .as_ref()
            .and_then(|find| find(request.extensions()));
        found.unwrap_or(request.uri())
    }
}

/// The conditions of a request that a cache answers itself.
pub(crate) const CONDITIONS: [HeaderName; 2] = [IF_NONE_MATCH, IF_MODIFIED_SINCE];

fn conditions(headers: &HeaderMap) -> HeaderMap {
    let mut found = HeaderMap::new();
    for name in CONDITIONS {
        for line in headers.get_all(&name) {
            found.append(&name, line.clone());
        }
    }
    found
}
