//! How long an entry lives.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::inner::view;
use crate::core::locked::without_keys;
use crate::core::meta::Meta;
use crate::verbs::raw::Raw;

/// The part of a type's pause that is between two refreshes of a value at least.
const LEAST_PAUSE: u64 = 8;

view! {
    /// Computes the TTL of an entry from the call, the environment and the type.
    Lifetimes
}

impl<'a> Lifetimes<'a> {
    /// The TTL of an entry that is stored now, in milliseconds; `None` for never. Jitter applies to
    /// the type's TTL, not to that of a call.
    pub(crate) fn ttl_of(self, meta: &Meta, call: Option<Ttl>) -> Result<Option<u64>> {
        Ok(match self.life_of(meta, call)? {
            Some(millis) if call.is_none() => Some(self.jittered(millis, meta)),
            millis => millis,
        })
    }

    /// As [`ttl_of`](Self::ttl_of), without jitter.
    pub(crate) fn life_of(self, meta: &Meta, call: Option<Ttl>) -> Result<Option<u64>> {
        let overridden = self.ttl_override(meta)?;
        let ttl = call.or(overridden).unwrap_or(meta.ttl);
        ttl.to_millis()
            .map_err(|why| Error::config(format!("the TTL {ttl} is {why}")))
    }

    /// Reduces a TTL by up to the type's jitter. It is never extended, so that the TTL stays the
    /// maximum.
    pub(crate) fn jittered(self, millis: u64, meta: &Meta) -> u64 {
        let most = millis / 100 * u64::from(meta.policy.jitter_percent);
        if most == 0 {
            millis
        } else {
            millis - self.random.next_u64() % (most + 1)
        }
    }

    /// The pause after a failed load, in milliseconds. A value that is fresh, and can't be served
    /// once it is stale, is loaded again after half of the time that it has left at most. So
    /// several refreshes may fail before its callers have to wait. They are at least a
    /// part of the type's pause apart.
    pub(crate) fn pause(self, kept: Option<&Raw>, meta: &Meta) -> u64 {
        let pause = self.jittered(meta.policy.retry_after_millis, meta);
        let timing = kept.and_then(|kept| kept.header.timing);
        let left = timing.map_or(0, |timing| timing.until.saturating_sub(self.now_millis()));
        match meta.policy.stale_if_error_millis {
            0 if left > 0 => pause.min((left / 2).max(pause / LEAST_PAUSE).max(1)),
            _ => pause,
        }
    }

    /// The TTL of the type from the environment. Each verb checks it, so that a malformed variable
    /// shows at the first use. So does a missing key of a type that is encrypted. Deletions do not,
    /// as they must not fail because of a setting that they do not need.
    pub(crate) fn ttl_override(self, meta: &Meta) -> Result<Option<Ttl>> {
        if meta.policy.encrypt && self.keys.is_none() {
            return Err(without_keys((meta.name)()));
        }
        meta.policy
            .ttl_env
            .map_or(Ok(None), |variable| self.overrides.ttl(variable))
    }

    /// The life of an absence: the load's TTL, or else the type's `ttl_absent`.
    pub(crate) fn life_of_absence(
        self,
        ttl: Option<Ttl>,
        meta: &Meta,
    ) -> Result<Option<u64>, Error> {
        match ttl {
            None => Ok(Some(self.jittered(meta.policy.ttl_absent_millis, meta))),
            ttl => self.ttl_of(meta, ttl),
        }
    }
}
