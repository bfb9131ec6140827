//! What an entry tells of itself in header fields.

use std::fmt::Write;
use std::time::Duration;

use http::HeaderValue;
use http::header::{AGE, CACHE_CONTROL, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH};

use crate::base::ttl::Ttl;
use crate::core::entry::{Entry, Source};
use crate::http::fields::TokenOrQuoted;
use crate::schema::cached_type::CachedType;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// What is told of an entry that does not expire.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The header fields that are known of an [`Entry`]: `ETag`, `Age`, `Cache-Control` and `Cache-Status`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use valkey_runtime::http::CacheHeaders;
/// # use valkey_runtime::{Cached, Store};
///
/// # #[derive(Serialize, Deserialize, Cached)]
/// # #[cached(prefix = "user", ttl = "5m", jitter = "0%")]
/// # struct User { #[cached(key)] id: u64 }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> valkey_runtime::Result<()> {
/// # let store = Store::memory();
/// # User { id: 42 }.set(&store).await?;
/// let user = store.of::<User>().get_entry(42).await?.unwrap();
/// let headers = CacheHeaders::private(&user).to_map();
/// assert!(headers["cache-status"].to_str().unwrap().starts_with("valkey; hit; ttl="));
/// assert!(headers["cache-control"].to_str().unwrap().starts_with("private, max-age="));
/// # Ok(())
/// # }
/// ```
///
/// | field | what it says |
/// |---|---|
/// | `ETag` | the entry's stamp, as a weak tag |
/// | `Age` | whole seconds since it was stored, where it came out of the store |
/// | `Cache-Control` | `private` or `public`; in `max-age` how long it was or will be fresh in all; `stale-if-error`, where the type says so; `no-cache` where it is not stored |
/// | `Cache-Status` | of RFC 9211: `hit` with what is left as `ttl`; `fwd=uri-miss` where it was loaded, with `stored` or `collapsed`; `fwd=stale` where its time is over and its load failed |
///
/// The tag is weak: a stamp says that the value is the same, and not that what was made of it is, to the byte. A value that is loaded again has
/// another tag, even if the row is the same. Whoever changes what is made of a value, by a release, a language or a format, says so
/// by [`variant`](Self::variant).
///
/// Who has a copy counts `Age` and subtracts it from `max-age`. So a copy is fresh for as long as the entry is; but nobody
/// tells it of an invalidation, and it may outlive the entry for that long. [`at_most`](Self::at_most) bounds it: `Duration::ZERO`
/// has each use of a copy ask again, which costs no body while the value is the same.
#[derive(Clone, Debug)]
pub struct CacheHeaders {
    source: Source,
    stamp: u64,
    age: Duration,
    /// How long it is fresh, where it is stored.
    left: Option<Duration>,
    stale_if_error: Duration,
    at_most: Duration,
    public: bool,
    cache: String,
    variant: String,
}

impl CacheHeaders {
    /// Of an entry that is for this client alone.
    pub fn private<T: CachedType>(entry: &Entry<T>) -> Self {
        let stale_if_error = Duration::from_millis(T::POLICY.stale_if_error_millis);
        Self::new(
            entry.source,
            entry.stamp,
            entry.age,
            entry.expires,
            stale_if_error,
        )
    }

    /// Of an entry that caches between may give to others.
    pub fn public<T: CachedType>(entry: &Entry<T>) -> Self {
        Self {
            public: true,
            ..Self::private(entry)
        }
    }

    fn new(
        source: Source,
        stamp: u64,
        age: Duration,
        expires: Option<Ttl>,
        stale_if_error: Duration,
    ) -> Self {
        Self {
            source,
            stamp,
            age,
            left: expires.map(|left| match left {
                Ttl::After(left) => left,
                Ttl::Never => YEAR,
            }),
            stale_if_error,
            at_most: Duration::MAX,
            public: false,
            cache: "valkey".to_owned(),
            variant: String::new(),
        }
    }

    /// The name of the cache in `Cache-Status`, where several tell of themselves; `valkey` unless this is called.
    #[must_use]
    pub fn cache_name(mut self, name: impl Into<String>) -> Self {
        self.cache = name.into();
        self
    }

    /// What the response depends on besides the value: format, language, release. It is part of the tag.
    #[must_use]
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = variant.into();
        self
    }

    /// Bounds how long a copy is fresh, and how long it may be served if there is an error.
    #[must_use]
    pub fn at_most(mut self, time: Duration) -> Self {
        self.at_most = time;
        self
    }

    /// Whether a client that sent this has the value: by `If-None-Match`, as RFC 9110 compares weak tags. The answer to a `GET` is
    /// then 304, with [the fields](Self::to_map) and without a body.
    pub fn are_known_by(&self, request: &HeaderMap) -> bool {
        let tag = self.opaque_tag();
        let lines = request.get_all(IF_NONE_MATCH).iter();
        let mut lines = lines.filter_map(|line| line.to_str().ok());
        lines.any(|line| line.trim() == "*" || tags(line).any(|known| known == tag))
    }

    /// The fields.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(4);
        let mut insert = |name, text: String| {
            // All of it is printable ASCII, of which a value can always be made.
            if let Ok(value) = HeaderValue::try_from(text) {
                map.insert(name, value);
            }
        };
        insert(ETAG, format!("W/\"{}\"", self.opaque_tag()));
        insert(CACHE_CONTROL, self.control());
        insert(CACHE_STATUS, self.status());
        if let Some(age) = self.told_age() {
            insert(AGE, age.to_string());
        }
        map
    }

    fn opaque_tag(&self) -> String {
        let mut tag = format!("{:x}", self.stamp);
        if !self.variant.is_empty() {
            tag.push('-');
        }
        for byte in self.variant.bytes() {
            match byte {
                b'!' | b'#'..=b'~' => tag.push(byte.into()),
                // Writing to a `String` does not fail.
                _ => drop(write!(tag, "%{byte:02X}")),
            }
        }
        tag
    }

    /// In seconds. What was loaded for this request has no age to be told: it comes from its origin.
    fn told_age(&self) -> Option<u64> {
        match self.source {
            Source::Server | Source::Stale => Some(self.age.as_secs()),
            Source::Loaded | Source::Joined => None,
        }
    }

    fn control(&self) -> String {
        let mut control = String::from(if self.public { "public" } else { "private" });
        let Some(left) = self.left else {
            return control + ", no-cache";
        };
        let max_age = match left.min(self.at_most).as_secs() {
            0 => 0,
            left => self.told_age().unwrap_or(0) + left,
        };
        control += &format!(", max-age={max_age}");
        let stale_if_error = self.stale_if_error.min(self.at_most).as_secs();
        if stale_if_error > 0 {
            control += &format!(", stale-if-error={stale_if_error}");
        }
        control
    }

    fn status(&self) -> String {
        let mut status = TokenOrQuoted(&self.cache).to_string();
        match (self.source, self.left) {
            (Source::Server, Some(left)) => status += &format!("; hit; ttl={}", left.as_secs()),
            (Source::Server, None) => status += "; hit",
            (Source::Loaded, Some(_)) => status += "; fwd=uri-miss; stored",
            (Source::Loaded, None) => status += "; fwd=uri-miss",
            (Source::Joined, _) => status += "; fwd=uri-miss; collapsed",
            (Source::Stale, _) => status += "; fwd=stale",
        }
        status
    }
}

/// The opaque parts of the tags in a list.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    // A tag may hold a comma, and no quotation mark: what is between each two of these is one.
    list.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn headers(source: Source, expires: Option<Ttl>) -> CacheHeaders {
        let age = Duration::from_millis(100_900);
        CacheHeaders::new(source, 0xabc, age, expires, Duration::ZERO)
    }

    fn seconds(seconds: u64) -> Option<Ttl> {
        Some(Ttl::After(Duration::from_millis(seconds * 1000 + 900)))
    }

    fn fields(headers: &CacheHeaders) -> [String; 3] {
        let map = headers.to_map();
        let of = |name: &HeaderName| {
            map.get(name)
                .map_or("", |value| value.to_str().unwrap())
                .to_owned()
        };
        [of(&CACHE_STATUS), of(&CACHE_CONTROL), of(&AGE)]
    }

    #[test]
    fn an_entry_tells_where_it_came_from_and_how_long_it_is_fresh() {
        for (source, expires, status, control, age) in [
            (
                Source::Server,
                seconds(376),
                "valkey; hit; ttl=376",
                "private, max-age=476",
                "100",
            ),
            (
                Source::Server,
                seconds(0),
                "valkey; hit; ttl=0",
                "private, max-age=0",
                "100",
            ),
            (
                Source::Server,
                Some(Ttl::Never),
                "valkey; hit; ttl=31536000",
                "private, max-age=31536100",
                "100",
            ),
            (
                Source::Server,
                None,
                "valkey; hit",
                "private, no-cache",
                "100",
            ),
            (
                Source::Loaded,
                seconds(300),
                "valkey; fwd=uri-miss; stored",
                "private, max-age=300",
                "",
            ),
            (
                Source::Loaded,
                None,
                "valkey; fwd=uri-miss",
                "private, no-cache",
                "",
            ),
            (
                Source::Joined,
                seconds(300),
                "valkey; fwd=uri-miss; collapsed",
                "private, max-age=300",
                "",
            ),
            (
                Source::Stale,
                Some(Ttl::After(Duration::ZERO)),
                "valkey; fwd=stale",
                "private, max-age=0",
                "100",
            ),
        ] {
            assert_eq!(
                fields(&headers(source, expires)),
                [status, control, age],
                "{source:?}"
            );
        }
    }

    /// Of RFC 9211, 3: those of a cache like this one.
    #[test]
    fn a_status_is_written_as_in_the_examples_of_its_rfc() {
        for (source, expires, status) in [
            (Source::Server, None, "ExampleCache; hit"),
            (Source::Server, seconds(376), "ExampleCache; hit; ttl=376"),
            (Source::Loaded, None, "ExampleCache; fwd=uri-miss"),
            (
                Source::Joined,
                None,
                "ExampleCache; fwd=uri-miss; collapsed",
            ),
        ] {
            let headers = headers(source, expires).cache_name("ExampleCache");
            assert_eq!(headers.to_map()[CACHE_STATUS], status);
        }
    }

    #[test]
    fn what_is_chosen_is_told() {
        let chosen = CacheHeaders {
            public: true,
            stale_if_error: 3600 * SECOND,
            ..headers(Source::Server, seconds(376))
        };
        let chosen = chosen.cache_name("user cache").variant("json \"2\"");
        let [status, control, _] = fields(&chosen);
        assert_eq!(status, "\"user cache\"; hit; ttl=376");
        assert_eq!(control, "public, max-age=476, stale-if-error=3600");
        assert_eq!(chosen.to_map()[ETAG], "W/\"abc-json%20%222%22\"");
        let [status, control, _] = fields(&chosen.clone().at_most(60 * SECOND));
        assert_eq!(status, "\"user cache\"; hit; ttl=376");
        assert_eq!(control, "public, max-age=160, stale-if-error=60");
        let [_, control, _] = fields(&chosen.at_most(Duration::ZERO));
        assert_eq!(control, "public, max-age=0");
    }

    #[test]
    fn a_client_knows_a_value_by_its_tag() {
        let headers = headers(Source::Server, None);
        let known = |lines: &[&str]| {
            let mut map = HeaderMap::new();
            for line in lines {
                map.append(IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
            }
            headers.are_known_by(&map)
        };
        for lines in [
            &["*"][..],
            &["W/\"abc\""],
            &["\"abc\""],
            &["\"x\", W/\"abc\""],
            &["\"x,y\",\"abc\""],
            &["\"x\"", "\"abc\""],
        ] {
            assert!(known(lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["abc"],
            &["\"ab\""],
            &["W/\"abcd\""],
            &["\"x\"abc\"y\""],
            &["\"*\""],
        ] {
            assert!(!known(lines), "{lines:?}");
        }
    }
}
