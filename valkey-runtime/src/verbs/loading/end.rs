//! How a load ends: what is stored of it, and what those are given who wait for it.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::error::{Error, ErrorKind};
use crate::base::ttl::Ttl;
use crate::core::meta::Meta;
use crate::core::shared::Shared;
use crate::core::store::Inner;
use crate::core::types::Type;
use crate::key::tag::TagWriter;
use crate::protocol::call::Loaded as Ended;
use crate::protocol::envelope::placeholder::Lease;
use crate::protocol::envelope::{Header, HeaderBytes};
use crate::protocol::share::Share;
use crate::protocol::transition::{Put, Verb};
use crate::schema::cached_type::CachedType;
use crate::schema::loaded::Fate;
use crate::schema::loaded::Loaded;
use crate::value::codec;
use crate::value::codec::{Limits, Refusal};
use crate::verbs::raw::Raw;
use crate::verbs::tags::fill::Bid;

/// How a load ends: what its followers are given, and what becomes of what it holds.
pub(crate) struct End {
    pub(crate) followers: Ended<Shared>,
    pub(crate) then: Then,
    /// What is to be asked before anybody is given it, where the type has tags.
    pub(crate) tags: Option<LoadedTags>,
}

/// The tags of what was loaded under a lease.
pub(crate) struct LoadedTags {
    epochs: Vec<Vec<u8>>,
    clock: Option<u64>,
    life: Option<u64>,
}

impl LoadedTags {
    pub(crate) fn bid(&self) -> Bid<'_> {
        Bid {
            epochs: &self.epochs,
            clock: self.clock,
            life: self.life,
        }
    }
}

/// What is to be done at the key, if the lease is still there.
pub(crate) enum Then {
    /// Stored, for so many milliseconds.
    Store(Bytes, Option<u64>),
    /// What is there is given this header, and lives so long.
    Confirm(HeaderBytes, Option<u64>),
    /// There is nothing to be stored.
    Discard,
    /// It gave nothing: what is there stays.
    Release,
    /// It is for nobody else: the next one loads at once.
    GiveBack,
}

impl End {
    /// A fill or a release, where there is a lease. While the store is off, what would have been
    /// stored is deleted.
    pub(crate) fn verb(
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
            Then::GiveBack => Verb::Release { lease, pause: 0 },
        })
    }

    pub(crate) const FAILED: Self = Self {
        followers: Ended::Failed,
        then: Then::Release,
        tags: None,
    };

    /// Whether followers are told only once the load is stored. An entry with tags may be
    /// invalidated without being touched, and so may its lease. What the epochs admit is good for
    /// followers only if the lease was still there after that: it may have been lost for longer
    /// than the guard of a writer lasts that has died.
    pub(crate) fn waits(&self, lease: Option<Lease>) -> bool {
        self.tags.is_some() && lease.is_some()
    }

    /// What those are told who waited, once it is known whether the lease was still there.
    pub(crate) fn told(&self, held: bool) -> Ended<Shared> {
        match held {
            true => self.followers.clone(),
            false => Ended::Overtaken,
        }
    }

    /// The load gave nothing, and what it claimed is no value that its type takes.
    const UNREADABLE: Self = Self {
        then: Then::Discard,
        ..Self::FAILED
    };

    /// The load has not ended by its deadline, or its loader panicked: its followers join another.
    pub(crate) const LATE: Self = Self {
        followers: Ended::Overtaken,
        ..Self::FAILED
    };

    /// An invalidation came between.
    pub(crate) const OVERTAKEN: Self = Self {
        followers: Ended::Overtaken,
        then: Then::GiveBack,
        tags: None,
    };

    /// The load gave nothing, and its caller is served what it kept. Its followers are too, if it
    /// has been there for as long as they follow: if the load had claimed it. Else they may have
    /// come after it was taken away.
    pub(crate) fn fallen_back(kept: &Raw, lease: Option<Lease>) -> Self {
        if !kept.is_claimed_by(lease) {
            return Self::FAILED;
        }
        Self {
            followers: Ended::Share(Share::Stale(kept.bytes().clone().into())),
            then: Then::Release,
            tags: None,
        }
    }
}

/// The clock of the tags, as it has to be known before a load begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// None: nothing will be stored.
    Known(Option<u64>),
    ToBeRead,
}

impl Clock {
    /// For a load under this lease, by who last asked with this token, and was told that clock
    /// then.
    pub(crate) fn of(lease: Option<Lease>, asked: u64, told: Option<u64>, meta: &Meta) -> Self {
        match lease {
            _ if !meta.tagged => Clock::Known(None),
            // A lease has no other of its name after it.
            Some(Lease::Placed(_)) if told.is_none() => Clock::ToBeRead,
            // A claim may come again under its name. What is loaded under one is stored only by who
            // asked for it: by then the epochs had been looked at after the clock.
            Some(claim @ Lease::Claim { .. }) if !claim.is_of(asked) => Clock::Known(None),
            _ => Clock::Known(told),
        }
    }
}

/// A load that has begun.
pub(crate) struct Begun {
    pub(crate) lease: Option<Lease>,
    /// Of what it will have loaded.
    pub(crate) stamp: u64,
    /// That of the tags, as it stands now.
    pub(crate) clock: Option<u64>,
}

impl Begun {
    /// What was loaded under a lease has the lease's stamp.
    pub(crate) fn now(lease: Option<Lease>, clock: Option<u64>, inner: &Inner) -> Self {
        let stamp = match lease {
            Some(Lease::Placed(name)) => name.stamp,
            Some(Lease::Claim { .. }) | None => inner.stamp(),
        };
        Self {
            lease,
            stamp,
            clock,
        }
    }
}

impl Inner {
    /// How a load ends that gave this. What can't be stored is logged and counted; its caller has
    /// it all the same. `epochs` are those of the tags that follow from the key; `kept` is what it
    /// claimed, if it did.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a load has come to, and nothing of it belongs together"
    )]
    pub(crate) fn end_of<T: CachedType>(
        &self,
        key: &[u8],
        epochs: &[Vec<u8>],
        begun: &Begun,
        loaded: &Loaded<T>,
        kept: Option<&Raw>,
        ttl: Option<Ttl>,
        of: &Type,
    ) -> End {
        if loaded.fate == Fate::Served
            && let Some(kept) = kept
        {
            return End::fallen_back(kept, begun.lease);
        }
        let tags = of.meta().tagged.then(|| {
            let Some(value) = &loaded.value else {
                return self.tags_of(epochs.to_vec());
            };
            let mut tags = self.tag_writer();
            value.write_tags(&mut tags);
            tags.extend(&loaded.tags);
            tags
        });
        let end = self.stored_end(key, tags.as_ref(), begun, loaded, kept, ttl, of);
        let life = match &end.then {
            Then::Store(_, life) | Then::Confirm(_, life) => *life,
            Then::Discard | Then::Release | Then::GiveBack => Some(0),
        };
        let tags = tags.map(|tags| LoadedTags {
            epochs: tags.into_epochs(),
            clock: begun.clock,
            life,
        });
        End { tags, ..end }
    }

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn stored_end<T: CachedType>(
        &self,
        key: &[u8],
        tags: Option<&TagWriter<'_>>,
        begun: &Begun,
        loaded: &Loaded<T>,
        kept: Option<&Raw>,
        ttl: Option<Ttl>,
        of: &Type,
    ) -> End {
        let meta = of.meta();
        let log = |error: Error| {
            of.log_failure_at("get_or_load", key, error, "a loaded value is not stored")
        };
        let end = |followers, then| End {
            followers,
            then,
            tags: None,
        };
        let stamp = begun.stamp;
        let ttl = loaded.ttl.or(ttl);
        let never = ttl.is_some_and(Ttl::is_zero);
        // A TTL of zero says that it is not to be stored. Without a lease nothing can be stored;
        // while the store is off it would be, and is deleted instead. Nor can it without the clock,
        // where there are tags.
        let rules = loaded.value.as_ref().map(CachedType::cache_validate);
        let invalid = rules.and_then(Result::err);
        let wanted = match loaded.fate {
            _ if invalid.is_some() || never => false,
            Fate::Stored => true,
            Fate::Unchanged => kept.is_some(),
            Fate::NotStored | Fate::NotShared | Fate::Served => false,
        };
        if let Some(rules) = invalid {
            log(Error::breaking(rules));
        }
        let stores = wanted && (begun.lease.is_some() || !self.is_enabled());
        let clock = match (tags, begun.clock) {
            (None, _) => None,
            (Some(_), clock) => Some(clock.unwrap_or(0)),
        };
        let Some(value) = &loaded.value else {
            let followers = match loaded.fate {
                Fate::NotShared => Ended::Early(Share::Nothing),
                _ => Ended::Share(Share::Nothing),
            };
            if !stores || meta.policy.ttl_absent_millis == 0 {
                return end(followers, Then::Discard);
            }
            let header = Header {
                clock,
                ..Header::absence(meta.version, stamp).of(key)
            };
            let then = match codec::encode_absence(header, tags) {
                Ok(bytes) => match self.life_of_absence(ttl, meta) {
                    Ok(life) => Then::Store(bytes.into(), life),
                    Err(error) => {
                        log(error);
                        Then::Discard
                    }
                },
                Err(error) => {
                    log(error);
                    Then::Discard
                }
            };
            return end(followers, then);
        };
        let header = stores.then(|| self.header(key, stamp, clock, ttl, meta).map_err(log));
        let stored = header.and_then(Result::ok);
        let (header, ttl) = stored.unwrap_or((Header::value(meta.version, stamp).of(key), None));
        if loaded.fate == Fate::Unchanged
            && let (Some(kept), Some(_)) = (kept, stored)
            && let Some((header, bytes)) = kept.with_header(header, tags)
        {
            let followers = Ended::Share(Share::Value(bytes.into()));
            return end(followers, Then::Confirm(header.to_bytes(), ttl));
        }
        let tags = tags.filter(|_| stored.is_some());
        match codec::encode(header, tags, value, self.limits_to_store(), &of.read_back) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                let then = match stored {
                    Some(_) => Then::Store(bytes.clone(), ttl),
                    None => Then::Discard,
                };
                end(Ended::Share(Share::Value(bytes.into())), then)
            }
            Err(error) => {
                let shared = self.unstored(header, tags, value, &error, of);
                log(error);
                let followers =
                    shared.map_or(Ended::Failed, |shared| Ended::Share(Share::Value(shared)));
                end(followers, Then::Discard)
            }
        }
    }

    /// What the followers of a load are given whose value can't be stored: the bytes that are too
    /// large, or a copy of the value. `None` where the type can't be cloned, or not as far as its
    /// derive knows: then each of them loads.
    fn unstored<T: CachedType>(
        &self,
        header: Header,
        tags: Option<&TagWriter<'_>>,
        value: &T,
        error: &Error,
        of: &Type,
    ) -> Option<Shared> {
        if let Some(value) = value.__try_clone() {
            return Some(Shared::Value(Arc::new(value), header.stamp));
        }
        if error.kind() != ErrorKind::TooLarge {
            return None;
        }
        let limits = Limits {
            size: usize::MAX,
            ..self.limits
        };
        let bytes = codec::encode(header, tags, value, limits, &of.read_back).ok()?;
        Some(Bytes::from(bytes).into())
    }

    /// How long the knowledge that there is no value is kept: for as long as the load says, or else
    /// the type.
    fn life_of_absence(&self, ttl: Option<Ttl>, meta: &Meta) -> Result<Option<u64>, Error> {
        match ttl {
            None => Ok(Some(self.jittered(meta.policy.ttl_absent_millis, meta))),
            ttl => self.ttl_of(meta, ttl),
        }
    }

    /// How a load ends that gave nothing, where what was there can't be served instead.
    pub(crate) async fn unreadable(
        &self,
        key: &[u8],
        kept: &Raw,
        why: &Refusal,
        lease: Option<Lease>,
        of: &Type,
    ) -> End {
        self.note_corrupt("get_or_load", key, Some(kept.bytes()), why, of)
            .await;
        // A claim that was renewed has changed its bytes.
        match kept.is_claimed_by(lease) && !of.meta().policy.keep_corrupt {
            true => End::UNREADABLE,
            false => End::FAILED,
        }
    }

    /// Whether a value may still be served where a better one is not to be had.
    pub(crate) fn may_serve(&self, kept: &Raw, meta: &Meta) -> bool {
        let keep = meta.policy.stale_if_error_millis;
        kept.header.timing.is_some_and(|timing| {
            // Of one that was expired by hand only its key says for how long.
            keep > 0 && (timing.until == 0 || timing.until.saturating_add(keep) > self.now_millis())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope::placeholder::Name;

    /// What was not claimed may have been gone when those who follow the load called.
    #[test]
    fn only_what_was_claimed_is_shared_after_a_failure() {
        let stamp = 7;
        let limits = codec::Limits {
            size: 1 << 10,
            expansion: codec::EXPANSION,
        };
        let kept = Raw::new(Header::value(1, stamp).to_bytes().to_vec().into(), limits);
        let placed = Lease::Placed(Name { token: 1, stamp });
        let claim = |stamp| Lease::Claim { token: 1, stamp };
        for lease in [None, Some(placed), Some(claim(8))] {
            assert_eq!(End::fallen_back(&kept, lease).followers, Ended::Failed);
        }
        let shared = End::fallen_back(&kept, Some(claim(stamp))).followers;
        assert_eq!(
            shared,
            Ended::Share(Share::Stale(kept.bytes().clone().into()))
        );
    }
}
