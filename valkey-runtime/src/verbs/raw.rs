//! An undecoded entry.

use crate::base::ttl::Ttl;
use crate::core::entry::{Origin, Source};
use crate::core::inner::Inner;
use crate::key::tag::TagWriter;
use crate::protocol::envelope;
use crate::protocol::envelope::flags::Flags;
use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::envelope::timing::Timing;
use crate::protocol::envelope::{Head, Header};
use crate::value::codec::{Limits, Payload};
use crate::value::keys::Lock;
use bytes::Bytes;
use std::num::NonZeroU16;
use std::sync::Arc;

/// An entry with a value of the type's version, according to its header.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) bytes: Bytes,
    pub(crate) header: Header,
    /// The version of the entry in the store, if it was converted from that.
    pub(crate) migrated: Option<NonZeroU16>,
    limits: Limits,
    /// For an encrypted one, if the store has keys.
    lock: Option<Arc<Lock>>,
}

impl Raw {
    /// The entry with this header under this key.
    pub(crate) fn known(bytes: Bytes, header: Header, key: &[u8], inner: &Inner) -> Self {
        let is_encrypted = header.flags.has(Flags::ENCRYPTED);
        let keys = inner.keys.as_ref().filter(|_| is_encrypted);
        Self {
            bytes,
            header,
            migrated: None,
            limits: inner.limits,
            lock: keys.map(|keys| Arc::new(Lock::new(keys, &header, key))),
        }
    }

    /// Converted from an entry of this version.
    pub(crate) fn migrated_from(self, version: u16) -> Self {
        Self {
            migrated: NonZeroU16::new(version),
            ..self
        }
    }

    /// An entry that was written or checked before.
    pub(crate) fn new(bytes: Bytes, key: &[u8], inner: &Inner) -> Self {
        let header = match envelope::head(&bytes) {
            Head::Known(header) => header,
            Head::Newer | Head::Corrupt(_) => Header::value(0, 0),
        };
        Self::known(bytes, header, key, inner)
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// `left` is the remaining life of the key. A freshness time in the header takes precedence.
    pub(crate) fn origin(&self, source: Source, left: Option<Ttl>, inner: &Inner) -> Origin {
        let expires = match self.header.timing {
            Some(timing) => Some(timing.left(inner.now_millis())),
            None => left,
        };
        Origin {
            source,
            stamp: self.header.stamp,
            expires,
        }
    }

    /// The origin of a value that is served in place of a load. It may be fresh, if the load was to
    /// refresh it.
    pub(crate) fn kept_origin(&self, inner: &Inner) -> Origin {
        let fresh = |timing: Timing| timing.is_fresh(inner.now_millis());
        let source = match self.header.timing.is_some_and(fresh) {
            true => Source::Cached,
            false => Source::Stale,
        };
        self.origin(source, None, inner)
    }

    /// The same value with another header of the same key and version. `None` if the header's
    /// length or the tags differ.
    pub(crate) fn with_header(
        &self,
        header: Header,
        tags: Option<&TagWriter<'_>>,
    ) -> Option<(Header, Bytes)> {
        let payload = self.header.payload_at(&self.bytes)?;
        let (sum, flags) = (self.header.sum, self.header.flags);
        let header = Header {
            sum,
            flags,
            ..header
        };
        let mut bytes = header.to_bytes().to_vec();
        if let Some(tags) = tags {
            tags.write_to(&mut bytes).ok()?;
        }
        let same = header.len() == self.header.len()
            && bytes.len() == payload
            && bytes[header.len()..] == self.bytes[header.len()..payload];
        same.then(|| {
            bytes.extend_from_slice(&self.bytes[payload..]);
            (header, bytes.into())
        })
    }

    /// Whether the lease is a claim on exactly this entry.
    pub(crate) fn is_claimed_by(&self, lease: Option<Lease>) -> bool {
        let own = self.header.stamp;
        matches!(lease, Some(Lease::Claim { stamp, .. }) if stamp == own)
    }

    pub(crate) fn payload(&self) -> Payload<'_> {
        let at = self.header.payload_at(&self.bytes);
        Payload {
            bytes: at.and_then(|at| self.bytes.get(at..)).unwrap_or_default(),
            limits: self.limits,
            flags: self.header.flags,
            lock: self.lock.as_deref(),
            compact: self.header.shape != 0,
        }
    }
}
