//! Encodes a value as an entry: header, TTL, bytes.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::meta::Meta;
use crate::core::store::Inner;
use crate::core::types::Type;
use crate::key::tag::TagWriter;
use crate::protocol::envelope::Header;
use crate::protocol::envelope::timing::{FOR_EVER, Timing};
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::verbs::Sealed;

impl Inner {
    /// Encodes the entry of a value at a key, with the TTL of the call, or else of the type.
    pub(crate) fn seal<T: CachedType>(
        &self,
        key: &[u8],
        value: &T,
        stamp: u64,
        call: Option<Ttl>,
        tags: Option<TagWriter<'_>>,
        of: &Type,
    ) -> Result<Sealed> {
        let meta = of.meta();
        let clock = tags.as_ref().map(|_| 0);
        let (header, ttl) = self.header(key, stamp, clock, call, meta)?;
        let bytes = codec::encode(
            header,
            tags.as_ref(),
            value,
            self.limits_to_store(),
            &of.read_back,
        )?;
        let epochs = tags.map(TagWriter::into_epochs).unwrap_or_default();
        Ok(Sealed {
            bytes,
            ttl,
            header,
            epochs,
        })
    }

    /// The header of a value that is stored at a key now, and its TTL in milliseconds.
    pub(crate) fn header(
        &self,
        key: &[u8],
        stamp: u64,
        clock: Option<u64>,
        call: Option<Ttl>,
        meta: &Meta,
    ) -> Result<(Header, Option<u64>)> {
        let (policy, ttl) = (&meta.policy, self.ttl_of(meta, call)?);
        let header = Header {
            clock,
            ..Header::value(meta.version, stamp).of(key)
        };
        if !policy.is_timed() {
            return Ok((header, ttl));
        }
        let now = self.now_millis();
        let until = meta.ceiling(stamp, ttl.map_or(FOR_EVER, |ttl| now.saturating_add(ttl)));
        let left =
            (until < FOR_EVER).then(|| until.saturating_sub(now) + policy.stale_if_error_millis);
        let timing = Some(Timing::fresh_until(until));
        Ok((Header { timing, ..header }, left))
    }

    /// The TTL of an entry that is stored now, in milliseconds; `None` for never. Jitter applies to
    /// the type's TTL, not to that of a call.
    pub(crate) fn ttl_of(&self, meta: &Meta, call: Option<Ttl>) -> Result<Option<u64>> {
        Ok(match self.life_of(meta, call)? {
            Some(millis) if call.is_none() => Some(self.jittered(millis, meta)),
            millis => millis,
        })
    }

    /// As [`ttl_of`](Self::ttl_of), without jitter.
    pub(crate) fn life_of(&self, meta: &Meta, call: Option<Ttl>) -> Result<Option<u64>> {
        let overridden = self.ttl_override(meta)?;
        let ttl = call.or(overridden).unwrap_or(meta.ttl);
        ttl.to_millis()
            .map_err(|why| Error::config(format!("the TTL {ttl} is {why}")))
    }

    /// Reduces a TTL by up to the type's jitter. It is never extended, so that the TTL stays the
    /// maximum.
    pub(crate) fn jittered(&self, millis: u64, meta: &Meta) -> u64 {
        let most = millis / 100 * u64::from(meta.policy.jitter_percent);
        if most == 0 {
            millis
        } else {
            millis - self.random.next_u64() % (most + 1)
        }
    }

    /// The TTL of the type from the environment. Each verb checks it, so that a malformed variable
    /// shows at the first use. Deletions do not, as they must not fail because of a TTL.
    pub(crate) fn ttl_override(&self, meta: &Meta) -> Result<Option<Ttl>> {
        meta.policy
            .ttl_env
            .map_or(Ok(None), |variable| self.overrides.ttl(variable))
    }
}
