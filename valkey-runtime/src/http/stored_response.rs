//! A response in the store, as a cached type.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::ttl::Ttl;
use crate::http::response_key::{KeyParts, path_tag};
use crate::key::part::KeyPart;
use crate::key::tag::{Tag, TagWriter};
use crate::schema::cached_type::CachedType;
use crate::schema::guarding::BestEffort;
use crate::schema::policy::Policy;

/// The time for which a request is known to get no response that may be shared. Such requests do
/// not wait for each other.
const UNSHARED_FOR: Duration = Duration::from_secs(10);

/// A response, or in its place the names of the fields by which responses vary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredResponse {
    /// 0 if this has only the names.
    status: u16,
    headers: Vec<(String, Blob)>,
    body: Blob,
    /// The names of the request's fields by which responses vary, if this is no response.
    varies: Vec<String>,
    /// For how long it is fresh, in milliseconds from its storing.
    pub(crate) fresh_millis: u64,
    /// For how long after that it may be served while a newer one is loaded.
    pub(crate) stale_millis: u64,
    /// The age that it had when the service gave it, in seconds.
    pub(crate) initial_age: u64,
    /// The tags of the entry, which has them itself.
    #[serde(skip)]
    pub(crate) tags: Vec<Tag>,
}

impl StoredResponse {
    pub(crate) fn new(parts: &response::Parts, body: Bytes) -> Self {
        let headers = parts.headers.iter();
        Self {
            status: parts.status.as_u16(),
            headers: headers
                .map(|(name, value)| {
                    let value = Bytes::copy_from_slice(value.as_bytes());
                    (name.as_str().to_owned(), Blob(value))
                })
                .collect(),
            body: Blob(body),
            varies: Vec::new(),
            fresh_millis: 0,
            stale_millis: 0,
            initial_age: 0,
            tags: Vec::new(),
        }
    }

    /// In place of a response: the fields by which responses of this key vary.
    pub(crate) fn varying(names: &[HeaderName]) -> Self {
        Self {
            status: 0,
            headers: Vec::new(),
            body: Blob(Bytes::new()),
            varies: names.iter().map(|name| name.as_str().to_owned()).collect(),
            fresh_millis: 0,
            stale_millis: 0,
            initial_age: 0,
            tags: Vec::new(),
        }
    }

    /// The names, if this is no response.
    pub(crate) fn names(&self) -> Option<Vec<HeaderName>> {
        let names = self.varies.iter();
        (self.status == 0).then(|| names.filter_map(|name| name.parse().ok()).collect())
    }

    /// The status, the fields and the body.
    pub(crate) fn into_parts(self) -> (StatusCode, HeaderMap, Bytes) {
        // It was a status, and these were fields, when they were stored.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 2);
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value.0)) {
                headers.append(name, value);
            }
        }
        (status, headers, self.body.0)
    }
}

impl CachedType for StoredResponse {
    const PREFIX: &'static str = "http-response";
    /// Every response has a time of its own. This one is that of names.
    const TTL: Ttl = Ttl::After(Duration::from_secs(3600));
    const VERSION: u16 = 1;
    // Each value has a time of its own after which it is refreshed. The handlers of a service limit
    // themselves.
    const POLICY: Policy = Policy::new()
        .refresh_ahead_percent(99)
        .ttl_absent(UNSHARED_FOR)
        .max_loads(4096);
    const TAGGED: bool = true;
    type Guarding = BestEffort;
    type Tags = ();
    type OwnedKey = KeyParts;
    type Key<'k> = <KeyParts as KeyPart>::Ref<'k>;

    fn __try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn write_tags(&self, out: &mut TagWriter<'_>) {
        out.extend(&self.tags);
    }

    fn write_key_tags((layer, _, path, ..): Self::Key<'_>, out: &mut TagWriter<'_>) {
        let tag = path_tag(layer, path);
        out.tag(|out| out.text(&tag));
    }

    fn __refresh_after_millis(&self) -> Option<u64> {
        Some(match self.stale_millis {
            0 => u64::MAX,
            _ => self.fresh_millis,
        })
    }
}

/// Bytes, as MessagePack's binary.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfBytes;

        impl Visitor<'_> for OfBytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
        }

        deserializer.deserialize_bytes(OfBytes)
    }
}
