//! The end of a load: the command for its key, and the result for its followers.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::error::{Error, ErrorKind};
use crate::base::ttl::Ttl;
use crate::core::inner::{Inner, view};
use crate::core::meta::Meta;
use crate::core::shared::Shared;
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
use crate::value::pack::Packing;
use crate::verbs::corrupt::CorruptEntries;
use crate::verbs::encode::Sealer;
use crate::verbs::lifetimes::Lifetimes;
use crate::verbs::raw::Raw;
use crate::verbs::tags::Epochs;
use crate::verbs::tags::fill::Bid;

/// The outcome of a load: the result for its followers, and the end of its lease.
pub(crate) struct End {
    pub(crate) followers: Ended<Shared>,
    pub(crate) then: Then,
    /// The tags to check before anybody gets the result, if the type has tags.
    pub(crate) tags: Option<LoadedTags>,
}

/// The tags of a value that was loaded under a lease.
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

/// The action at the key, if the lease still exists.
pub(crate) enum Then {
    /// Store the entry, with its life in milliseconds.
    Store(Bytes, Option<u64>),
    /// Give the cached value this header and this life, in milliseconds.
    Confirm(HeaderBytes, Option<u64>),
    /// There is nothing to store.
    Discard,
    /// The load failed: a cached value stays.
    Release,
    /// The result is for nobody else: the next caller loads at once.
    GiveBack,
}

impl End {
    /// The command: a fill or a release, if there is a lease. While the store is off, a value that
    /// would be stored is deleted.
    pub(crate) fn verb(
        &self,
        lease: Option<Lease>,
        kept: Option<&Raw>,
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
                    versions: meta.versions,
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
                pause: Lifetimes(inner).pause(kept, meta),
            },
            Then::GiveBack => Verb::Release { lease, pause: 0 },
        })
    }

    pub(crate) const FAILED: Self = Self {
        followers: Ended::Failed,
        then: Then::Release,
        tags: None,
    };

    /// Whether followers get the result only after the load is stored. A tag can be invalidated
    /// without touching its entries or their leases. So the epochs' answer is valid for followers
    /// only if the lease still existed afterwards. The lease may have been lost for longer than the
    /// guard of a dead writer lasts.
    pub(crate) fn waits(&self, lease: Option<Lease>) -> bool {
        self.tags.is_some() && lease.is_some()
    }

    /// The result for waiting followers, once it is known whether the lease still existed.
    pub(crate) fn told(&self, held: bool) -> Ended<Shared> {
        match held {
            true => self.followers.clone(),
            false => Ended::Overtaken,
        }
    }

    /// The load failed, and the type can't decode the claimed value.
    const UNREADABLE: Self = Self {
        then: Then::Discard,
        ..Self::FAILED
    };

    /// The load exceeded its deadline, or its loader panicked: its followers join another.
    pub(crate) const LATE: Self = Self {
        followers: Ended::Overtaken,
        ..Self::FAILED
    };

    /// An invalidation happened during the load.
    pub(crate) const OVERTAKEN: Self = Self {
        followers: Ended::Overtaken,
        then: Then::GiveBack,
        tags: None,
    };

    /// The load failed, and its caller gets the stale value. Followers get it too if the load had
    /// claimed it: then it existed for as long as they follow. Otherwise they may have come after
    /// its removal.
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

/// The tag clock that must be known before a load begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The clock; with `None` nothing will be stored.
    Known(Option<u64>),
    ToBeRead,
}

impl Clock {
    /// For a load under this lease. `asked` and `told` are the token of the call's last request,
    /// and the clock that was read with it.
    pub(crate) fn of(lease: Option<Lease>, asked: u64, told: Option<u64>, meta: &Meta) -> Self {
        match lease {
            _ if !meta.tagged => Clock::Known(None),
            // The name of a lease never occurs again.
            Some(Lease::Placed(_)) if told.is_none() => Clock::ToBeRead,
            // A claim may occur again under its name. So only the call that requested it may store:
            // for that call, the epochs were read after the clock.
            Some(claim @ Lease::Claim { .. }) if !claim.is_of(asked) => Clock::Known(None),
            _ => Clock::Known(told),
        }
    }
}

/// A load that has begun.
pub(crate) struct Begun {
    pub(crate) lease: Option<Lease>,
    /// The stamp of the value to be loaded.
    pub(crate) stamp: u64,
    /// The tag clock now.
    pub(crate) clock: Option<u64>,
}

impl Begun {
    /// A value loaded under a lease has the lease's stamp.
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

view! {
    /// Decides how a load ends: what is stored, shared and given back.
    LoadEnds
}

impl<'a> LoadEnds<'a> {
    /// Returns the end of a load with this result. A value that can't be stored is logged and
    /// counted; its caller gets it anyway. `epochs` are those of the tags that follow from the key;
    /// `kept` is the claimed value, if any.
    #[expect(
        clippy::too_many_arguments,
        reason = "these are independent results of a load"
    )]
    pub(crate) fn end_of<T: CachedType>(
        self,
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
                return Epochs(self.0).tags_of(epochs.to_vec());
            };
            let mut tags = Epochs(self.0).tag_writer();
            if T::KEY_TAGS {
                tags.epochs.extend_from_slice(epochs);
            }
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
        self,
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
            of.log_failure_at(
                "get_or_load",
                key,
                error,
                "a loaded value could not be stored",
            )
        };
        let end = |followers, then| End {
            followers,
            then,
            tags: None,
        };
        let stamp = begun.stamp;
        let ttl = loaded.ttl.or(ttl);
        let never = ttl.is_some_and(Ttl::is_zero);
        // A TTL of zero means that the value is not stored. Without a lease nothing can be stored;
        // while the store is off, such a value is deleted instead. A value with tags can't be
        // stored without the clock either.
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
                Ok(bytes) => match Lifetimes(self.0).life_of_absence(ttl, meta) {
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
        let header = stores.then(|| {
            Sealer(self.0)
                .header(key, stamp, clock, ttl, meta)
                .map_err(log)
        });
        let stored = header.and_then(Result::ok);
        let (header, ttl) = stored.unwrap_or_else(|| (meta.header(key, stamp), None));
        if loaded.fate == Fate::Unchanged
            && let (Some(kept), Some(_)) = (kept, stored)
            && let Some((header, bytes)) = kept.with_header(header, tags)
        {
            let followers = Ended::Share(Share::Value(bytes.clone().into()));
            // The entry in the store has another payload than a value that was migrated.
            let then = match kept.migrated {
                None => Then::Confirm(header.to_bytes(), ttl),
                Some(_) => Then::Store(bytes, ttl),
            };
            return end(followers, then);
        }
        let tags = tags.filter(|_| stored.is_some());
        let packing = Packing::of(&meta.policy, self.keys.as_ref(), key);
        let limits = self.limits_to_store();
        match codec::encode(header, tags, value, limits, &of.read_back, packing) {
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

    /// The result for followers if the value can't be stored: its bytes if they are too large, or a
    /// clone. `None` if the type can't be cloned, or the derive doesn't know that it can: then each
    /// follower loads.
    fn unstored<T: CachedType>(
        self,
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
        let bytes =
            codec::encode(header, tags, value, limits, &of.read_back, Packing::NONE).ok()?;
        Some(Bytes::from(bytes).into())
    }

    /// Returns the end of a failed load whose stale value can't be decoded.
    pub(crate) async fn unreadable(
        self,
        key: &[u8],
        kept: &Raw,
        why: &Refusal,
        lease: Option<Lease>,
        of: &Type,
    ) -> End {
        CorruptEntries(self.0)
            .note_corrupt("get_or_load", key, Some(kept.bytes()), why, of)
            .await;
        // A renewed claim has changed the bytes of its entry.
        match kept.is_claimed_by(lease) && !of.meta().policy.keep_corrupt {
            true => End::UNREADABLE,
            false => End::FAILED,
        }
    }

    /// Whether a value may still be served when no better one is available.
    pub(crate) fn may_serve(self, kept: &Raw, meta: &Meta) -> bool {
        let keep = meta.policy.stale_if_error_millis;
        kept.header.timing.is_some_and(|timing| {
            // The header of a value after `mark_stale` has no time; the key's TTL limits it.
            keep > 0 && (timing.until == 0 || timing.until.saturating_add(keep) > self.now_millis())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope::placeholder::Name;

    /// An unclaimed value may have been removed before the followers called.
    #[test]
    fn only_what_was_claimed_is_shared_after_a_failure() {
        let stamp = 7;
        let store = crate::Store::memory();
        let header = Header::value(1, stamp).to_bytes();
        let kept = Raw::new(header.to_vec().into(), b"", store.inner());
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
