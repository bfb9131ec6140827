//! How a load ends: what is stored of it, and what those are given who wait for it.

use bytes::Bytes;

use super::call::{Loaded as Ended, Share};
use crate::envelope::placeholder::Lease;
use crate::envelope::{Header, HeaderBytes};
use crate::loaded::Fate;
use crate::store::Inner;
use crate::transition::{Put, Verb};
use crate::verbs::{Meta, Raw};
use crate::{Cached, Error, Loaded, Ttl, codec};

/// How a load ends: what its followers are given, and what becomes of what it holds.
pub(super) struct End {
    pub(super) followers: Ended<Bytes>,
    pub(super) then: Then,
}

/// What is to be done at the key, if the lease is still there.
pub(super) enum Then {
    /// Stored, for so many milliseconds.
    Store(Bytes, Option<u64>),
    /// What is there is given this header, and lives so long.
    Confirm(HeaderBytes, Option<u64>),
    /// There is nothing to be stored.
    Discard,
    /// It gave nothing: what is there stays.
    Release,
}

impl End {
    /// A fill or a release, where there is a lease. While the store is off, what would have been stored is deleted.
    pub(super) fn verb(
        &self,
        lease: Option<Lease>,
        inner: &Inner,
        meta: &Meta,
    ) -> Option<Verb<'_>> {
        if !inner.is_enabled() && matches!(self.then, Then::Store(..) | Then::Confirm(..)) {
            return Some(Verb::Delete(None));
        }
        let lease = lease?;
        Some(match &self.then {
            Then::Store(bytes, ttl) => {
                let put = Put {
                    version: meta.version,
                    bytes,
                    ttl: *ttl,
                };
                Verb::Fill { lease, put }
            }
            Then::Confirm(header, ttl) => Verb::Confirm {
                lease,
                header: *header,
                ttl: *ttl,
            },
            Then::Discard => Verb::Discard(lease),
            Then::Release => Verb::Release {
                lease,
                pause: inner.jittered(meta.policy.retry_after_millis, meta),
            },
        })
    }

    pub(super) const FAILED: Self = Self {
        followers: Ended::Failed,
        then: Then::Release,
    };

    /// The load gave nothing, and its caller is served what it kept. Its followers are too, if it has been there for as long as
    /// they follow: if the load had claimed it. Else they may have come after it was taken away.
    pub(super) fn fallen_back(kept: &Raw, lease: Option<Lease>) -> Self {
        if !kept.is_claimed_by(lease) {
            return Self::FAILED;
        }
        Self {
            followers: Ended::Share(Share::Stale(kept.bytes().clone())),
            then: Then::Release,
        }
    }
}

/// A load that has begun.
pub(super) struct Begun {
    pub(super) lease: Option<Lease>,
    /// Of what it will have loaded.
    pub(super) stamp: u64,
}

impl Begun {
    /// What was loaded under a lease has the lease's stamp.
    pub(super) fn now(lease: Option<Lease>, inner: &Inner) -> Self {
        let stamp = match lease {
            Some(Lease::Placed(name)) => name.stamp,
            Some(Lease::Claim { .. }) | None => inner.stamp(),
        };
        Self { lease, stamp }
    }
}

impl Inner {
    /// How a load ends that gave this. What can't be stored is logged and counted; its caller has it all the same. `kept` is
    /// what it claimed, if it did.
    pub(super) fn end_of<T: Cached>(
        &self,
        key: &[u8],
        begun: &Begun,
        loaded: &Loaded<T>,
        kept: Option<&Raw>,
        ttl: Option<Ttl>,
        meta: &Meta,
    ) -> End {
        let log = |error: Error| {
            self.log_failure(error.at("get_or_load", key), "a loaded value is not stored")
        };
        let stamp = begun.stamp;
        let ttl = loaded.ttl.or(ttl);
        // Without a lease nothing can be stored; while the store is off it would be, and is deleted instead.
        let stores = loaded.fate == Fate::Stored && (begun.lease.is_some() || !self.is_enabled());
        let discarded = |followers| End {
            followers,
            then: Then::Discard,
        };
        let value = match (&loaded.value, loaded.fate, kept) {
            (Some(_), Fate::Served, Some(kept)) => return End::fallen_back(kept, begun.lease),
            (Some(_), Fate::Unchanged, Some(kept)) => {
                return match self.header(stamp, ttl, meta) {
                    Ok((header, ttl)) => {
                        let header = header.to_bytes();
                        let bytes = [&header, kept.payload()].concat();
                        End {
                            followers: Ended::Share(Share::Value(bytes.into())),
                            then: Then::Confirm(header, ttl),
                        }
                    }
                    Err(error) => {
                        log(error);
                        discarded(Ended::Failed)
                    }
                };
            }
            (Some(value), ..) => value,
            (None, Fate::NotShared, _) => return discarded(Ended::Failed),
            (None, ..) => {
                let followers = Ended::Share(Share::Nothing);
                if !stores || meta.policy.ttl_absent_millis == 0 {
                    return discarded(followers);
                }
                let bytes = Bytes::copy_from_slice(&Header::absence(meta.version, stamp));
                let ttl = self.jittered(meta.policy.ttl_absent_millis, meta);
                let then = Then::Store(bytes, Some(ttl));
                return End { followers, then };
            }
        };
        let header = stores.then(|| self.header(stamp, ttl, meta).map_err(log));
        let stored = header.and_then(Result::ok);
        let (header, ttl) = stored.unwrap_or((Header::value(meta.version, stamp), None));
        match codec::encode(header, value, self.max_size) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                let then = match stored {
                    Some(_) => Then::Store(bytes.clone(), ttl),
                    None => Then::Discard,
                };
                let followers = Ended::Share(Share::Value(bytes));
                End { followers, then }
            }
            Err(error) => {
                log(error);
                discarded(Ended::Failed)
            }
        }
    }

    /// Whether a value may still be served where a better one is not to be had.
    pub(super) fn may_serve(&self, kept: &Raw, meta: &Meta) -> bool {
        let keep = meta.policy.stale_if_error_millis;
        kept.header.timing.is_some_and(|timing| {
            // Of one that was expired by hand only its key says for how long.
            keep > 0 && (timing.until == 0 || timing.until.saturating_add(keep) > self.now_millis())
        })
    }
}
