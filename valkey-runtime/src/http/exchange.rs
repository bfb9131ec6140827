//! One request and its response through the cache.
//!
//! The service runs as a loader of the stored response. A response that may be shared is the result
//! of the load, and all callers that wait for it get it. Any other response is laid aside for the
//! request that caused it, and the load has no result: each of the other callers then asks the
//! service for itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{Request, Response, StatusCode, response};
use http_body::Body;
use tower_service::Service;

use crate::base::lock::lock;
use crate::core::entry::{Entry, Source};
use crate::http::body::{CacheBody, Collected};
use crate::http::cache_rules::{Asked, CONDITIONS, Plan, Rules};
use crate::http::entity_tag;
use crate::http::fields::TokenOrQuoted;
use crate::http::response_key::{KeyParts, variant};
use crate::http::stored_response::StoredResponse;
use crate::http::storing::{
    MOST_FIELDS, ResponsePolicy, Times, Verdict, content_length, remove_unstored, varies_by,
};
use crate::key::part::KeyPart;
use crate::key::tag::Tag;
use crate::schema::loaded::Loaded;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// The most loads for one request: of the fields by which it varies, of the variant, and once more
/// if these fields have changed meanwhile.
const MOST_LOADS: usize = 3;

/// Answers a request from the cache or by the service.
pub(crate) async fn answer<S, B, R>(
    rules: Arc<Rules>,
    mut service: S,
    mut request: Request<B>,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body + Send + 'static,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Send,
{
    let asked = match rules.plan(&request) {
        Plan::Pass => {
            let response = service.call(request).await?;
            return Ok(rules.passed(response));
        }
        Plan::Write(tag) => {
            let response = service.call(request).await?;
            let status = response.status();
            if status.is_success() || status.is_redirection() {
                // RFC 9111, section 4.4. An unconfirmed deletion is delivered later.
                rules.store.invalidate_tag(tag).await.ok();
            }
            return Ok(rules.passed(response));
        }
        Plan::Cached(asked) => asked,
    };
    for name in CONDITIONS {
        request.headers_mut().remove(name);
    }
    let mut target = Target {
        key: asked.key.clone(),
        names: Vec::new(),
    };
    let mut fresh = false;
    if asked.head || asked.wants.only_if_cached || asked.wants.bounds_age() {
        let found = rules.look_up(&mut target, request.headers()).await;
        let takes = |found: &Found| {
            let (age, fresh) = (found.age_seconds(), found.fresh_seconds());
            found.is_fresh() && asked.wants.takes(age, fresh)
        };
        let found = match found {
            Some(found) if takes(&found) => return Ok(rules.given(&asked, found)),
            found => found,
        };
        if asked.wants.only_if_cached {
            return Ok(rules.not_cached());
        }
        if asked.head {
            restore(&asked, request.headers_mut());
            let response = service.call(request).await?;
            return Ok(rules.passed(response));
        }
        fresh = asked.wants.no_cache || found.is_some();
    }

    let exchange = Arc::new(Exchange {
        rules: rules.clone(),
        tag: asked.tag.clone(),
        authorized: asked.authorized,
        base: asked.key.clone(),
        request: Mutex::new(Some((service, request))),
        response: Mutex::new(None),
    });
    for _ in 0..MOST_LOADS {
        let found = exchange.clone().load(&target, fresh).await;
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) | Err(Failure::LaidAside) => break,
            Err(Failure::Service(error)) => return Err(error),
        };
        let Some(names) = found.names() else {
            return Ok(rules.given(&asked, Found(found)));
        };
        match exchange.varied(names) {
            Some(next) => target = next,
            None => break,
        }
    }

    let own = lock(&exchange.response).take();
    if let Some(response) = own {
        return Ok(rules.given_aside(&asked, response));
    }
    let own = lock(&exchange.request).take();
    let Some((mut service, mut request)) = own else {
        unreachable!("a request that the service has got has a response or an error")
    };
    restore(&asked, request.headers_mut());
    let response = service.call(request).await?;
    Ok(rules.passed(response))
}

/// Gives a request back what was taken from it.
fn restore(asked: &Asked, headers: &mut HeaderMap) {
    for (name, value) in &asked.conditions {
        headers.append(name, value.clone());
    }
}

/// The key that is looked up: that of a request, or of its variant by the values of these fields.
struct Target {
    key: KeyParts,
    names: Vec<HeaderName>,
}

impl Target {
    fn varied(base: &KeyParts, names: Vec<HeaderName>, headers: &HeaderMap) -> Option<Self> {
        let key = variant(base, &names, headers)?;
        Some(Self { key, names })
    }
}

/// A stored response with its metadata.
struct Found(Entry<StoredResponse>);

impl Found {
    fn age_millis(&self) -> u64 {
        u64::try_from(self.0.age().as_millis()).unwrap_or(u64::MAX)
    }

    /// Its age, with that which it had before it was stored.
    fn age_seconds(&self) -> u64 {
        let here = match self.0.source() {
            Source::Cached | Source::Stale => self.age_millis() / 1000,
            // It has just come from the service.
            Source::Loaded | Source::Coalesced => 0,
        };
        here.saturating_add(self.0.initial_age)
    }

    fn is_fresh(&self) -> bool {
        self.age_millis() < self.0.fresh_millis
    }

    fn fresh_seconds(&self) -> u64 {
        self.0.fresh_millis.saturating_sub(self.age_millis()) / 1000
    }

    /// The parameters of `Cache-Status`.
    fn status(&self) -> String {
        match self.0.source() {
            Source::Cached | Source::Stale if self.is_fresh() => {
                format!("hit; ttl={}", self.fresh_seconds())
            }
            Source::Cached | Source::Stale => {
                let over = (self.age_millis() - self.0.fresh_millis).div_ceil(1000);
                format!("hit; ttl=-{over}")
            }
            Source::Loaded if self.0.expires_in().is_some() => "fwd=uri-miss; stored".to_owned(),
            Source::Loaded => "fwd=uri-miss".to_owned(),
            Source::Coalesced => "fwd=uri-miss; collapsed".to_owned(),
        }
    }
}

/// The reason why a load has no result.
enum Failure<E> {
    /// The service's own error.
    Service(E),
    /// Its response is for its own request.
    LaidAside,
}

/// A request on its way to the service, and a response that is for it alone.
struct Exchange<S, B, R: Body> {
    rules: Arc<Rules>,
    tag: Tag,
    authorized: bool,
    base: KeyParts,
    request: Mutex<Option<(S, Request<B>)>>,
    response: Mutex<Option<Response<CacheBody<R>>>>,
}

impl<S, B, R> Exchange<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Send,
{
    /// The key of the variant for the waiting request.
    fn varied(&self, names: Vec<HeaderName>) -> Option<Target> {
        let waiting = lock(&self.request);
        let (_, request) = waiting.as_ref()?;
        Target::varied(&self.base, names, request.headers())
    }

    /// Reads a stored response, or has the service make it.
    async fn load(
        self: Arc<Self>,
        target: &Target,
        fresh: bool,
    ) -> Result<Option<Entry<StoredResponse>>, Failure<S::Error>> {
        let rules = self.rules.clone();
        let responses = rules.store.of::<StoredResponse>();
        let load = responses.load(target.key.key_ref()).entry().in_background();
        let names = target.names.clone();
        let loader = move || async move { self.run(&names).await };
        match fresh {
            true => load.fresh().run(loader).await,
            false => load.run(loader).await,
        }
    }

    /// Calls the service. `names` are the fields whose values are part of the key already.
    async fn run(&self, names: &[HeaderName]) -> Result<Loaded<StoredResponse>, Failure<S::Error>> {
        let taken = lock(&self.request).take();
        let Some((mut service, request)) = taken else {
            return Err(Failure::LaidAside);
        };
        let response = service.call(request).await.map_err(Failure::Service)?;
        let (mut parts, body) = response.into_parts();
        let policy = parts.extensions.remove::<ResponsePolicy>();
        let rules = &self.rules;
        let policy_of = policy.as_ref();
        let verdict = rules
            .storing
            .judge(parts.status, &parts.headers, policy_of, self.authorized);
        let Verdict::Stored(times) = verdict else {
            self.lay_aside(parts, CacheBody::passed(body));
            return match verdict {
                Verdict::Failed => Err(Failure::LaidAside),
                Verdict::Once => Ok(Loaded::absent().dont_store()),
                Verdict::Stored(_) | Verdict::Unshared => Ok(Loaded::absent()),
            };
        };
        let (most, longest) = (rules.storing.most_bytes, rules.longest_body);
        let bytes = match CacheBody::collect(body, most, longest).await {
            Collected::Whole(bytes) => bytes,
            Collected::Part(body) => {
                self.lay_aside(parts, body);
                return Ok(Loaded::absent());
            }
            Collected::Failed(body) => {
                self.lay_aside(parts, body);
                return Err(Failure::LaidAside);
            }
        };
        if content_length(&parts.headers).is_some_and(|length| length != bytes.len() as u64) {
            // RFC 9111, section 3.3: it is incomplete.
            self.lay_aside(parts, CacheBody::whole(bytes));
            return Err(Failure::LaidAside);
        }
        complete(&mut parts.headers, &bytes);
        let by = varies_by(&parts.headers).unwrap_or_default();
        let in_key = |name: &HeaderName| rules.fields.contains(name) || names.contains(name);
        if !by.iter().all(in_key) {
            return self.varies(names, by, parts, CacheBody::whole(bytes)).await;
        }
        let tags = policy.map(|policy| policy.tags).unwrap_or_default();
        Ok(Loaded::value(self.stored(&parts, bytes, times, tags)).ttl(times.life()))
    }

    /// The entry of a response.
    fn stored(
        &self,
        parts: &response::Parts,
        bytes: Bytes,
        times: Times,
        mut tags: Vec<Tag>,
    ) -> StoredResponse {
        tags.push(self.tag.clone());
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut stored = StoredResponse::new(parts, bytes);
        stored.fresh_millis = millis(times.fresh);
        stored.stale_millis = millis(times.stale);
        stored.initial_age = times.age;
        stored.tags = tags;
        stored
    }

    /// A response varies by fields that are not in its key. It is laid aside. The names of these
    /// fields are stored in place of a response, so that the next request has a key with their
    /// values.
    async fn varies(
        &self,
        names: &[HeaderName],
        by: Vec<HeaderName>,
        parts: response::Parts,
        body: CacheBody<R>,
    ) -> Result<Loaded<StoredResponse>, Failure<S::Error>> {
        self.lay_aside(parts, body);
        let rules = &self.rules;
        let mut all = names.to_vec();
        all.extend(by.into_iter().filter(|name| !rules.fields.contains(name)));
        all.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        all.dedup();
        if all.len() > MOST_FIELDS {
            return Ok(Loaded::absent());
        }
        let mut varying = StoredResponse::varying(&all);
        varying.tags.push(self.tag.clone());
        if names.is_empty() {
            return Ok(Loaded::value(varying));
        }
        // This is the load of a variant: the names are stored under the key without one. They are
        // no data, so it does not matter if they are late.
        let responses = rules.store.of::<StoredResponse>();
        responses.set_at(self.base.key_ref(), &varying).await.ok();
        Ok(Loaded::absent().dont_store())
    }

    fn lay_aside(&self, parts: response::Parts, body: CacheBody<R>) {
        *lock(&self.response) = Some(Response::from_parts(parts, body));
    }
}

/// Completes a response that is stored. It gets a weak entity tag of its content: a layer around
/// this one may still compress it. Clients revalidate it unless it says otherwise, since they get
/// no invalidations.
fn complete(headers: &mut HeaderMap, body: &[u8]) {
    remove_unstored(headers);
    if !headers.contains_key(ETAG) {
        let tag = format!("W/\"{}\"", entity_tag::of_content(body));
        // Hexadecimal digits are always a valid value.
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(ETAG, tag);
        }
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
}

impl Rules {
    /// Reads a stored response, of the variant if there are several. No answer of the store is the
    /// same as none.
    async fn look_up(&self, target: &mut Target, headers: &HeaderMap) -> Option<Found> {
        let responses = self.store.of::<StoredResponse>();
        let found = responses
            .get_entry(target.key.key_ref())
            .await
            .ok()
            .flatten()?;
        let Some(names) = found.names() else {
            return Some(Found(found));
        };
        *target = Target::varied(&target.key, names, headers)?;
        let found = responses
            .get_entry(target.key.key_ref())
            .await
            .ok()
            .flatten()?;
        found.names().is_none().then_some(Found(found))
    }

    /// The response of a stored one.
    fn given<R: Body>(&self, asked: &Asked, found: Found) -> Response<CacheBody<R>> {
        let (age, source) = (found.age_seconds(), found.0.source());
        let status = self.told_as.as_ref().map(|_| found.status());
        let (code, headers, body) = found.0.into_value().into_parts();
        let length = body.len();
        let mut response = Response::new(match asked.head {
            true => CacheBody::whole(Bytes::new()),
            false => CacheBody::whole(body),
        });
        *response.status_mut() = code;
        *response.headers_mut() = headers;
        let headers = response.headers_mut();
        if asked.head {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let cached = matches!(source, Source::Cached | Source::Stale);
        if cached || age > 0 {
            headers.insert(AGE, age.into());
        }
        if let Some(status) = status {
            self.tell(headers, &status);
        }
        unmodified(asked, response)
    }

    /// The response that was laid aside for its request.
    fn given_aside<R: Body>(
        &self,
        asked: &Asked,
        mut response: Response<CacheBody<R>>,
    ) -> Response<CacheBody<R>> {
        self.tell(response.headers_mut(), "fwd=uri-miss");
        unmodified(asked, response)
    }

    /// The response of a request that passed the cache by.
    fn passed<R: Body>(&self, response: Response<R>) -> Response<CacheBody<R>> {
        let mut response = response.map(CacheBody::passed);
        response.extensions_mut().remove::<ResponsePolicy>();
        self.tell(response.headers_mut(), "fwd=bypass");
        response
    }

    /// RFC 9111, section 5.2.1.7.
    fn not_cached<R: Body>(&self) -> Response<CacheBody<R>> {
        let mut response = Response::new(CacheBody::whole(Bytes::new()));
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        response
    }

    fn tell(&self, headers: &mut HeaderMap, status: &str) {
        if let Some(name) = &self.told_as {
            let status = format!("{}; {status}", TokenOrQuoted(name));
            if let Ok(status) = HeaderValue::try_from(status) {
                headers.append(CACHE_STATUS, status);
            }
        }
    }
}

/// Answers 304 if the client has this response (RFC 9110, sections 13.1 and 15.4.5).
fn unmodified<R: Body>(
    asked: &Asked,
    mut response: Response<CacheBody<R>>,
) -> Response<CacheBody<R>> {
    if response.status() != StatusCode::OK || asked.conditions.is_empty() {
        return response;
    }
    let headers = response.headers();
    let is_known = match asked.conditions.contains_key(IF_NONE_MATCH) {
        true => {
            let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok());
            let tag = tag.and_then(entity_tag::opaque);
            tag.is_some_and(|tag| entity_tag::is_known(tag, &asked.conditions))
        }
        // A date that is not the very same proves too little to save its reading.
        false => {
            let date = headers.get(LAST_MODIFIED);
            date.is_some() && asked.conditions.get(IF_MODIFIED_SINCE) == date
        }
    };
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = CacheBody::whole(Bytes::new());
        let headers = response.headers_mut();
        for name in [
            CONTENT_LENGTH,
            CONTENT_TYPE,
            CONTENT_ENCODING,
            CONTENT_LANGUAGE,
        ] {
            headers.remove(name);
        }
    }
    response
}
