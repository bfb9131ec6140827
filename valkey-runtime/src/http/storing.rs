//! Whether a response may be stored, and for how long it is fresh (RFC 9111, sections 3 and 4.2).
//!
//! Pure functions. In doubt a response is not stored.

use std::time::Duration;

use http::StatusCode;
use http::header::{
    AGE, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPIRES, HeaderMap, HeaderName,
    PRAGMA, SET_COOKIE, TRANSFER_ENCODING, UPGRADE, VARY,
};

use crate::base::ttl::Ttl;
use crate::http::directives::Directives;
use crate::key::tag::Tag;

/// The longest time for which a response is fresh: of a year's directive the rest is no promise.
const YEAR: u64 = 365 * 86_400;
/// The most fields by which responses to one request may vary.
pub(crate) const MOST_FIELDS: usize = 16;

/// A handler's settings of its response, for the [`CacheLayer`](crate::http::CacheLayer) alone: its
/// tags, and how it is stored. The handler puts it into the extensions of the response, and the
/// layer takes it out.
///
/// ```
/// use std::time::Duration;
/// use axum::Extension;
/// use axum::response::IntoResponse;
/// use valkey_runtime::http::ResponsePolicy;
///
/// async fn members() -> impl IntoResponse {
///     let policy = ResponsePolicy::new().tag("members:42").ttl(Duration::from_secs(300));
///     (Extension(policy), "Ada, Grace")
/// }
/// # let _ = members;
/// ```
///
/// It is a typed extension and not a field: no client can receive it, no tag has to be escaped, and
/// a misspelt name does not compile.
///
/// Its times hold in this cache only, and take precedence there over `max-age`, `s-maxage` and
/// `no-cache`. This cache gets the invalidations, which other caches do not. `private`, `no-store`
/// and `Set-Cookie` take precedence over it.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ResponsePolicy {
    pub(crate) tags: Vec<Tag>,
    ttl: Option<Duration>,
    stale: Option<Duration>,
    unstored: bool,
}

impl ResponsePolicy {
    /// No tags, and the times of the response or the layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag to the stored response. [`Store::invalidate_tag`](crate::Store::invalidate_tag)
    /// invalidates it.
    pub fn tag(mut self, tag: impl Into<Tag>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds tags to the stored response.
    pub fn tags<I>(mut self, tags: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Tag>,
    {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Sets the time for which the response is fresh in this cache. With zero it is not stored.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the time after it for which the stale response is served while a request in the
    /// background gets a new one (stale-while-revalidate).
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.stale = Some(time);
        self
    }

    /// Keeps the response out of the cache. Only its own client gets it.
    pub fn dont_store(mut self) -> Self {
        self.unstored = true;
        self
    }
}

/// The settings of a layer that decide about storing.
#[derive(Clone, Debug)]
pub(crate) struct Storing {
    /// The time for which a response is fresh that has none of its own.
    pub(crate) ttl: Option<Duration>,
    pub(crate) stale: Duration,
    pub(crate) most_bytes: usize,
    pub(crate) statuses: Vec<StatusCode>,
}

/// The times of a response that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) fresh: Duration,
    pub(crate) stale: Duration,
    /// Its age when the service gave it, in seconds.
    pub(crate) age: u64,
}

impl Times {
    /// The life of its entry.
    pub(crate) fn life(&self) -> Ttl {
        Ttl::After(self.fresh.saturating_add(self.stale))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be stored, and given to all requests of its key.
    Stored(Times),
    /// It is for its own request. So is the response to the next such request, as far as it is
    /// known.
    Unshared,
    /// It is for its own request. The next one may get another.
    Once,
    /// The service failed: the same, and a stale response is served as long as it may.
    Failed,
}

impl Storing {
    /// Decides about a response. `authorized` if its request has `Authorization`.
    pub(crate) fn judge(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        policy: Option<&ResponsePolicy>,
        authorized: bool,
    ) -> Verdict {
        let listed = self.statuses.contains(&status) && may_be_listed(status);
        if status.is_server_error() && !listed {
            return Verdict::Failed;
        }
        let says = Directives::of_response(headers);
        let own = policy.and_then(|policy| policy.ttl);
        let is_private = policy.is_some_and(|policy| policy.unstored)
            || says.no_store
            || says.private
            || says.no_cache && own.is_none()
            || headers.contains_key(SET_COOKIE)
            // Section 3.5.
            || authorized && !(says.public || says.must_revalidate || says.s_maxage.is_some());
        if is_private || varies_by(headers).is_none() || self.is_large(headers) || streams(headers)
        {
            return Verdict::Unshared;
        }
        if !listed || headers.contains_key(CONTENT_RANGE) {
            return Verdict::Once;
        }
        let lifetime = own.or_else(|| self.lifetime(&says, headers));
        let age = age(headers);
        // Section 4.2: the time for which it is still fresh.
        let fresh = lifetime.map(|lifetime| lifetime.saturating_sub(Duration::from_secs(age)));
        match fresh.filter(|fresh| fresh.as_millis() > 0) {
            None => Verdict::Unshared,
            Some(fresh) => Verdict::Stored(Times {
                fresh: fresh.min(Duration::from_secs(YEAR)),
                stale: self.stale(&says, policy).min(Duration::from_secs(YEAR)),
                age,
            }),
        }
    }

    /// Section 4.2.1. There is no heuristic: a date alone says little. A response with `Expires` or
    /// `Pragma` in place of a time in seconds is not stored.
    fn lifetime(&self, says: &Directives, headers: &HeaderMap) -> Option<Duration> {
        let seconds = says.s_maxage.or(says.max_age).map(Duration::from_secs);
        match seconds {
            None if headers.contains_key(EXPIRES) || headers.contains_key(PRAGMA) => None,
            None => self.ttl,
            seconds => seconds,
        }
    }

    /// Section 4.2.4: some directives forbid to serve it stale. `s-maxage` does too, unless the
    /// response itself says otherwise.
    fn stale(&self, says: &Directives, policy: Option<&ResponsePolicy>) -> Duration {
        if says.must_revalidate || says.proxy_revalidate {
            return Duration::ZERO;
        }
        let own = policy.and_then(|policy| policy.stale);
        let own = own.or(says.stale_while_revalidate.map(Duration::from_secs));
        own.unwrap_or(match says.s_maxage {
            Some(_) => Duration::ZERO,
            None => self.stale,
        })
    }

    fn is_large(&self, headers: &HeaderMap) -> bool {
        content_length(headers).is_some_and(|length| length > self.most_bytes as u64)
    }
}

/// Whether a status can be that of a whole, final response.
pub(crate) fn may_be_listed(status: StatusCode) -> bool {
    status.as_u16() >= 200
        && !matches!(
            status,
            StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
}

/// The fields of the request by which the response varies, in order and each once. `None` if it
/// varies by all, by too many, or by who the client is.
pub(crate) fn varies_by(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names: Vec<HeaderName> = Vec::new();
    for line in headers.get_all(VARY) {
        for name in line.as_bytes().split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            if name.is_empty() {
                continue;
            }
            // `*` is a name to the parser.
            let name = HeaderName::from_bytes(name).ok()?;
            if matches!(name.as_str(), "*" | "cookie" | "authorization") {
                return None;
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    (names.len() <= MOST_FIELDS).then_some(names)
}

/// The length that the response names, if it is a number.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Removes the fields that belong to one connection (section 3.1), and the age, which each response
/// from the cache gets.
pub(crate) fn remove_unstored(headers: &mut HeaderMap) {
    let lines = headers.get_all(CONNECTION).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let named: Vec<HeaderName> = names
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    const OTHERS: [&str; 6] = [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authentication-info",
        "te",
        "trailer",
    ];
    for name in OTHERS {
        headers.remove(name);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, AGE] {
        headers.remove(name);
    }
}

/// Events, which a client is to get at once.
fn streams(headers: &HeaderMap) -> bool {
    let event_stream = b"text/event-stream";
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().trim_ascii_start();
        kind.get(..event_stream.len())
            .is_some_and(|kind| kind.eq_ignore_ascii_case(event_stream))
    })
}

/// The age that another cache has given it. A field that can't be read makes it old.
fn age(headers: &HeaderMap) -> u64 {
    match headers.get(AGE) {
        None => 0,
        Some(age) => {
            let age = age.to_str().ok().and_then(|age| age.trim().parse().ok());
            age.unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const MINUTE: Duration = Duration::from_secs(60);

    fn storing() -> Storing {
        Storing {
            ttl: None,
            stale: Duration::ZERO,
            most_bytes: 1000,
            statuses: vec![StatusCode::OK],
        }
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    fn judged(storing: &Storing, fields: &[(&'static str, &str)]) -> Verdict {
        storing.judge(StatusCode::OK, &headers(fields), None, false)
    }

    fn times(fresh: u64, stale: u64) -> Verdict {
        Verdict::Stored(Times {
            fresh: Duration::from_secs(fresh),
            stale: Duration::from_secs(stale),
            age: 0,
        })
    }

    #[test]
    fn a_response_says_for_how_long_it_is_fresh() {
        let by_itself = storing();
        let by_layer = Storing {
            ttl: Some(MINUTE),
            stale: MINUTE,
            ..storing()
        };
        for (fields, alone, with_layer) in [
            (&[][..], Verdict::Unshared, times(60, 60)),
            (&[("cache-control", "max-age=5")], times(5, 0), times(5, 60)),
            (
                &[("cache-control", "max-age=5, s-maxage=9")],
                times(9, 0),
                times(9, 0),
            ),
            (
                &[("cache-control", "s-maxage=9, stale-while-revalidate=3")],
                times(9, 3),
                times(9, 3),
            ),
            (
                &[(
                    "cache-control",
                    "max-age=9, stale-while-revalidate=3, must-revalidate",
                )],
                times(9, 0),
                times(9, 0),
            ),
            (
                &[("cache-control", "max-age=9, proxy-revalidate")],
                times(9, 0),
                times(9, 0),
            ),
            (
                &[("cache-control", "max-age=0")],
                Verdict::Unshared,
                Verdict::Unshared,
            ),
            (
                &[("cache-control", "public")],
                Verdict::Unshared,
                times(60, 60),
            ),
            (&[("expires", "0")], Verdict::Unshared, Verdict::Unshared),
            (
                &[("expires", "0"), ("cache-control", "max-age=5")],
                times(5, 0),
                times(5, 60),
            ),
        ] {
            assert_eq!(judged(&by_itself, fields), alone, "{fields:?}");
            assert_eq!(judged(&by_layer, fields), with_layer, "{fields:?}");
        }
        let long = judged(&by_itself, &[("cache-control", "max-age=99999999999")]);
        assert_eq!(long, times(YEAR, 0));
    }

    #[test]
    fn a_response_for_one_client_is_not_stored() {
        let storing = Storing {
            ttl: Some(MINUTE),
            ..storing()
        };
        for fields in [
            &[("cache-control", "private, max-age=60")][..],
            &[("cache-control", "no-store")],
            &[("cache-control", "no-cache")],
            &[("cache-control", "max-age=60, x=\"")],
            &[
                ("cache-control", "public, max-age=60"),
                ("set-cookie", "a=b"),
            ],
            &[("vary", "*")],
            &[("vary", "accept, *")],
            &[("vary", "Cookie")],
            &[("vary", "authorization")],
            &[("vary", "(")],
            &[("content-length", "1001")],
            &[("content-type", "Text/Event-Stream; charset=utf-8")],
            &[("cache-control", "max-age=60"), ("age", "60")],
            &[("cache-control", "max-age=60"), ("age", "x")],
        ] {
            assert_eq!(judged(&storing, fields), Verdict::Unshared, "{fields:?}");
        }
        let aged = judged(&storing, &[("cache-control", "max-age=60"), ("age", "20")]);
        let Verdict::Stored(aged) = aged else {
            panic!("{aged:?}")
        };
        assert_eq!((aged.fresh.as_secs(), aged.age), (40, 20));
    }

    /// Section 3.5.
    #[test]
    fn a_response_to_an_authorized_request_says_that_it_may_be_shared() {
        let judged = |control: &str| {
            let headers = headers(&[("cache-control", control)]);
            storing().judge(StatusCode::OK, &headers, None, true)
        };
        assert_eq!(judged("max-age=60"), Verdict::Unshared);
        for control in ["public", "must-revalidate", "s-maxage=60"] {
            let verdict = judged(&format!("max-age=60, {control}"));
            assert_eq!(verdict, times(60, 0), "{control}");
        }
    }

    #[test]
    fn only_listed_statuses_are_stored() {
        let storing = Storing {
            ttl: Some(MINUTE),
            statuses: [200, 404, 206, 304, 503]
                .map(|status| StatusCode::from_u16(status).unwrap())
                .to_vec(),
            ..storing()
        };
        for (status, verdict) in [
            (200, times(60, 0)),
            (404, times(60, 0)),
            (503, times(60, 0)),
            (206, Verdict::Once),
            (304, Verdict::Once),
            (301, Verdict::Once),
            (410, Verdict::Once),
            (500, Verdict::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let headers = HeaderMap::new();
            assert_eq!(
                storing.judge(status, &headers, None, false),
                verdict,
                "{status}"
            );
        }
    }

    #[test]
    fn the_policy_of_a_handler_holds_for_this_cache_alone() {
        let judged = |control: &str, policy: ResponsePolicy| {
            let headers = headers(&[("cache-control", control)]);
            storing().judge(StatusCode::OK, &headers, Some(&policy), false)
        };
        let policy = || {
            ResponsePolicy::new()
                .ttl(MINUTE)
                .stale_while_revalidate(MINUTE)
        };
        assert_eq!(judged("no-cache", policy()), times(60, 60));
        assert_eq!(judged("max-age=0", policy()), times(60, 60));
        assert_eq!(judged("must-revalidate", policy()), times(60, 0));
        for control in ["private", "no-store"] {
            assert_eq!(judged(control, policy()), Verdict::Unshared, "{control}");
        }
        assert_eq!(judged("", policy().dont_store()), Verdict::Unshared);
        assert_eq!(judged("", policy().ttl(Duration::ZERO)), Verdict::Unshared);
    }

    #[test]
    fn fields_of_a_connection_are_removed() {
        let mut map = headers(&[
            ("connection", "x-own, close"),
            ("x-own", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("age", "1"),
            ("content-type", "text/plain"),
        ]);
        remove_unstored(&mut map);
        assert_eq!(map, headers(&[("content-type", "text/plain")]));
    }

    #[test]
    fn the_fields_of_vary_are_in_order_and_each_once() {
        let of = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            let names = varies_by(&headers(&lines))?;
            Some(
                names
                    .iter()
                    .map(|name| name.to_string())
                    .collect::<Vec<_>>()
                    .join(","),
            )
        };
        assert_eq!(of(&["Origin, accept", "ORIGIN"]).unwrap(), "accept,origin");
        assert_eq!(of(&[" , "]).unwrap(), "");
        let many: Vec<String> = (0..17).map(|number| format!("x-{number}")).collect();
        assert_eq!(of(&[&many.join(",")]), None);
    }
}
