//! The header fields of a response, derived from its entry.

use std::fmt::Write;
use std::time::Duration;

use http::HeaderValue;
use http::header::{AGE, CACHE_CONTROL, ETAG, HeaderMap, HeaderName};

use crate::base::ttl::Ttl;
use crate::core::entry::{Entry, Source};
use crate::http::entity_tag;
use crate::http::fields::TokenOrQuoted;
use crate::schema::cached_type::CachedType;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// The freshness that is reported for an entry that does not expire.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The header fields of an [`Entry`]: `ETag`, `Age`, `Cache-Control` and `Cache-Status`.
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
/// assert_eq!(headers["cache-control"], "private, no-cache");
/// # Ok(())
/// # }
/// ```
///
/// | field | content |
/// |---|---|
/// | `ETag` | the entry's stamp, or a hash of the [content](Self::content_etag), as a weak tag |
/// | `Age` | whole seconds since the entry was stored, if it came from the store |
/// | `Cache-Control` | `private` or `public`; `no-cache`, or with [`at_most`](Self::at_most) `max-age` and, if the type has it, `stale-if-error` |
/// | `Cache-Status` | of RFC 9211: `hit` with the remaining `ttl`; `fwd=uri-miss` after a load, with `stored` or `collapsed`; `fwd=stale` for a stale value whose load failed |
///
/// The tag is weak: equal stamps mean equal values, but not responses that are equal to the byte. A
/// value that is loaded again has another stamp, even if the row is the same. With
/// [`content_etag`](Self::content_etag) it keeps its tag. If the response also depends on a
/// release, a language or a format, add that with [`variant`](Self::variant).
///
/// Browsers and other HTTP caches get no invalidations. So by default they revalidate their copy
/// before each use (`no-cache`), which costs no body while the value is the same.
/// [`at_most`](Self::at_most) lets them use it for a time without a question: after an update it is
/// shown for that long at most. An HTTP cache subtracts `Age` from `max-age`, so its copy is fresh
/// for no longer than the entry.
#[derive(Clone, Debug)]
pub struct CacheHeaders {
    source: Source,
    stamp: u64,
    age: Duration,
    /// The remaining freshness, if the entry is stored.
    left: Option<Duration>,
    stale_if_error: Duration,
    at_most: Option<Duration>,
    public: bool,
    cache: String,
    variant: String,
    /// The tag of the content, in place of the stamp.
    content: Option<String>,
}

impl CacheHeaders {
    /// The fields of an entry for this client alone.
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

    /// The fields of an entry that shared caches may give to other clients.
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
            at_most: None,
            public: false,
            cache: "valkey".to_owned(),
            variant: String::new(),
            content: None,
        }
    }

    /// Sets the name of this cache in `Cache-Status`, to tell several caches apart; `valkey` by
    /// default.
    #[must_use]
    pub fn cache_name(mut self, name: impl Into<String>) -> Self {
        self.cache = name.into();
        self
    }

    /// Names the properties of the response besides the value, such as format, language and
    /// release. They become part of the tag.
    #[must_use]
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = variant.into();
        self
    }

    /// Lets HTTP caches use their copy without a question: for as long as the entry is fresh, and
    /// at most for this time. It also bounds the time for which they may serve it after an error.
    /// An update does not reach such a copy. By default they revalidate it before each use.
    ///
    /// For values that are never updated, write `Duration::MAX`.
    #[must_use]
    pub fn at_most(mut self, time: Duration) -> Self {
        self.at_most = Some(time);
        self
    }

    /// Makes the tag from the content of the response, in place of the entry's stamp. Then a value
    /// that is loaded again keeps its tag as long as the content is the same.
    ///
    /// The tag is a hash of 128 bits (XXH3), and still weak: a layer around the service may
    /// compress the body. The hash is fast and not cryptographic. A client that chooses the content
    /// could make two of them with one tag, and other clients would then take the second for the
    /// first.
    ///
    /// The cost is the hash, and that the body has to be made before a client learns that it has
    /// it.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// use valkey_runtime::http::CacheHeaders;
    /// # use valkey_runtime::{Cached, Store};
    /// # #[derive(Serialize, Deserialize, Cached)]
    /// # #[cached(prefix = "user", ttl = "5m")]
    /// # struct User { #[cached(key)] id: u64 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Store::memory();
    /// let mut tags = Vec::new();
    /// for _ in 0..2 {
    ///     let user = store.of::<User>().load(42).fresh().entry().run(async || Ok::<_, String>(User { id: 42 })).await?;
    ///     let body = serde_json::to_vec(&*user)?;
    ///     tags.push(CacheHeaders::private(&user).content_etag(&body).to_map()["etag"].clone());
    /// }
    /// assert_eq!(tags[0], tags[1]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn content_etag(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = Some(entity_tag::of_content(content.as_ref()));
        self
    }

    /// Whether the client has this value, by the `If-None-Match` of its request and the weak
    /// comparison of RFC 9110. Answer a `GET` then with 304, [these fields](Self::to_map) and no
    /// body.
    pub fn are_known_by(&self, request: &HeaderMap) -> bool {
        entity_tag::is_known(&self.opaque_tag(), request)
    }

    /// The fields as a map.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(4);
        let mut insert = |name, text: String| {
            // The text is printable ASCII, which is always a valid value.
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
        let content = self.content.clone();
        let mut tag = content.unwrap_or_else(|| format!("{:x}", self.stamp));
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

    /// The `Age` in seconds. A value loaded for this request has none: it comes from its origin.
    fn told_age(&self) -> Option<u64> {
        match self.source {
            Source::Cached | Source::Stale => Some(self.age.as_secs()),
            Source::Loaded | Source::Coalesced => None,
        }
    }

    fn control(&self) -> String {
        let mut control = String::from(if self.public { "public" } else { "private" });
        let (Some(left), Some(at_most)) = (self.left, self.at_most) else {
            return control + ", no-cache";
        };
        let max_age = match left.min(at_most).as_secs() {
            0 => 0,
            left => self.told_age().unwrap_or(0) + left,
        };
        control += &format!(", max-age={max_age}");
        let stale_if_error = self.stale_if_error.min(at_most).as_secs();
        if stale_if_error > 0 {
            control += &format!(", stale-if-error={stale_if_error}");
        }
        control
    }

    fn status(&self) -> String {
        let mut status = TokenOrQuoted(&self.cache).to_string();
        match (self.source, self.left) {
            (Source::Cached, Some(left)) => status += &format!("; hit; ttl={}", left.as_secs()),
            (Source::Cached, None) => status += "; hit",
            (Source::Loaded, Some(_)) => status += "; fwd=uri-miss; stored",
            (Source::Loaded, None) => status += "; fwd=uri-miss",
            (Source::Coalesced, _) => status += "; fwd=uri-miss; collapsed",
            (Source::Stale, _) => status += "; fwd=stale",
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::IF_NONE_MATCH;

    const SECOND: Duration = Duration::from_secs(1);

    fn headers(source: Source, expires: Option<Ttl>) -> CacheHeaders {
        let age = Duration::from_millis(100_900);
        CacheHeaders::new(source, 0xabc, age, expires, Duration::ZERO).at_most(Duration::MAX)
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
                Source::Cached,
                seconds(376),
                "valkey; hit; ttl=376",
                "private, max-age=476",
                "100",
            ),
            (
                Source::Cached,
                seconds(0),
                "valkey; hit; ttl=0",
                "private, max-age=0",
                "100",
            ),
            (
                Source::Cached,
                Some(Ttl::Never),
                "valkey; hit; ttl=31536000",
                "private, max-age=31536100",
                "100",
            ),
            (
                Source::Cached,
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
                Source::Coalesced,
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

    /// The examples of RFC 9211, section 3, that apply to this cache.
    #[test]
    fn a_status_is_written_as_in_the_examples_of_its_rfc() {
        for (source, expires, status) in [
            (Source::Cached, None, "ExampleCache; hit"),
            (Source::Cached, seconds(376), "ExampleCache; hit; ttl=376"),
            (Source::Loaded, None, "ExampleCache; fwd=uri-miss"),
            (
                Source::Coalesced,
                None,
                "ExampleCache; fwd=uri-miss; collapsed",
            ),
        ] {
            let headers = headers(source, expires).cache_name("ExampleCache");
            assert_eq!(headers.to_map()[CACHE_STATUS], status);
        }
    }

    #[test]
    fn the_chosen_settings_are_in_the_headers() {
        let chosen = CacheHeaders {
            public: true,
            stale_if_error: 3600 * SECOND,
            ..headers(Source::Cached, seconds(376))
        };
        let chosen = chosen.cache_name("user cache").variant("json \"2\"");
        let [status, control, _] = fields(&chosen);
        assert_eq!(status, "\"user cache\"; hit; ttl=376");
        assert_eq!(control, "public, max-age=476, stale-if-error=3600");
        assert_eq!(chosen.to_map()[ETAG], "W/\"abc-json%20%222%22\"");
        let [status, control, _] = fields(&chosen.clone().at_most(60 * SECOND));
        assert_eq!(status, "\"user cache\"; hit; ttl=376");
        assert_eq!(control, "public, max-age=160, stale-if-error=60");
        let [_, control, _] = fields(&chosen.clone().at_most(Duration::ZERO));
        assert_eq!(control, "public, max-age=0");
        let by_default = CacheHeaders {
            at_most: None,
            ..chosen
        };
        let [_, control, _] = fields(&by_default);
        assert_eq!(control, "public, no-cache");
    }

    #[test]
    fn the_tag_of_equal_content_is_the_same_after_another_load() {
        let tag = |stamp, content: &str| {
            let headers = CacheHeaders {
                stamp,
                ..headers(Source::Cached, None)
            };
            let headers = headers.variant("json").content_etag(content);
            headers.to_map()[ETAG].to_str().unwrap().to_owned()
        };
        assert_eq!(tag(1, "a"), tag(2, "a"));
        assert_ne!(tag(1, "a"), tag(1, "b"));
        assert!(tag(1, "a").starts_with("W/\"") && tag(1, "a").ends_with("-json\""));
    }

    #[test]
    fn a_client_knows_a_value_by_its_tag() {
        let headers = headers(Source::Cached, None);
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
