//! Encodes a value as an entry: header, TTL, bytes.

use crate::base::error::{ErrorKind, Result};
use crate::base::ttl::Ttl;
use crate::base::warnings::Detail;
use crate::core::inner::view;
use crate::core::meta::Meta;
use crate::core::types::Type;
use crate::key::tag::TagWriter;
use crate::protocol::envelope::Header;
use crate::protocol::envelope::timing::{FOR_EVER, Timing};
use crate::schema::cached_type::CachedType;
use crate::value::codec;
use crate::value::pack::Packing;
use crate::verbs::Sealed;
use crate::verbs::lifetimes::Lifetimes;

view! {
    /// Encodes values as entries.
    Sealer
}

impl<'a> Sealer<'a> {
    /// Encodes the entry of a value at a key, with the TTL of the call, or else of the type.
    pub(crate) fn seal<T: CachedType>(
        self,
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
            Packing::of(&meta.policy, self.keys.as_ref(), key),
        )
        .inspect_err(|error| {
            // The caller may drop the error. Then nothing else shows that the type can't be cached.
            let kind = error.kind();
            if kind == ErrorKind::Encode {
                of.warn("a value could not be stored", Some(kind), || Detail {
                    key: of.keys().of_failure(key),
                    ..Detail::text(error)
                });
            }
        })?;
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
        self,
        key: &[u8],
        stamp: u64,
        clock: Option<u64>,
        call: Option<Ttl>,
        meta: &Meta,
    ) -> Result<(Header, Option<u64>)> {
        let (policy, ttl) = (&meta.policy, Lifetimes(self.0).ttl_of(meta, call)?);
        let header = Header {
            clock,
            ..meta.header(key, stamp)
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
}
