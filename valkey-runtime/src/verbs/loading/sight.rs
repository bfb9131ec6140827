//! A loading verb's view of the server's answers.

use crate::base::error::Error;
use crate::base::ttl::Ttl;
use crate::core::inner::view;
use crate::core::shared::Shared;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::call::Seen;
use crate::protocol::envelope;
use crate::protocol::envelope::placeholder::{Lease, Name};
use crate::protocol::envelope::timing::Timing;
use crate::protocol::envelope::{Head, Header, Kind, Standing, seal};
use crate::protocol::found::Found;
use crate::protocol::transition::{Fingerprint, Rejected, Verb, has_lapsed, is_left_over};
use crate::value::codec::Refusal;
use crate::verbs::corrupt::CorruptEntries;
use crate::verbs::lifetimes::Lifetimes;
use crate::verbs::loading::end::LoadEnds;
use crate::verbs::migrate::{Migrated, Migrator};
use crate::verbs::near::{NearReader, is_unasked};
use crate::verbs::raw::Raw;
use crate::verbs::tags::read::TagReader;
use crate::verbs::ttl_left;
use bytes::Bytes;
use futures_util::future::join_all;
use std::sync::Arc;

/// The number of keys that are read at once, each by commands of its own.
const CHUNK: usize = 1000;

/// The result of a look, as far as loading needs it.
pub(crate) enum Sight {
    /// A value of the type's version, not yet decoded.
    Value(Raw),
    /// A value of the type's version that is stale or claimed by the caller, and its meaning for
    /// the call.
    Kept(Seen<Shared>, Raw),
    /// The store could not be asked.
    Unasked,
    Other(Seen<Shared>),
}

impl Sight {
    /// A look that failed: the key is as good as closed for a load.
    fn failed(unasked: bool) -> Self {
        match unasked {
            true => Sight::Unasked,
            false => Sight::Other(Seen::Closed),
        }
    }
}

view! {
    /// Looks at keys before and during a load.
    Looker
}

impl<'a> Looker<'a> {
    pub(crate) async fn look(self, place: &Place, of: &Arc<Type>) -> Sight {
        let meta = of.meta();
        let found = match Lifetimes(self.0).ttl_override(meta) {
            Ok(_) if !self.is_enabled() => return Sight::Other(Seen::Closed),
            Ok(_) => NearReader(self.0).read(place, of).await,
            Err(error) => Err(error),
        };
        self.sight(&place.key, found, None, of).await
    }

    /// Looks at many keys, and on request also reads the remaining TTL of each entry.
    pub(crate) async fn look_each(
        self,
        places: &[Place],
        with_ttl: bool,
        of: &Arc<Type>,
    ) -> Vec<(Sight, Option<Ttl>)> {
        if !with_ttl {
            let sights = self.look_many(places, of).await;
            return sights.into_iter().map(|sight| (sight, None)).collect();
        }
        // No single command reads values and TTLs of many keys. So each key has its own command,
        // and all are sent at once.
        let mut sights = Vec::with_capacity(places.len());
        for chunk in places.chunks(CHUNK) {
            let looking = chunk.iter().map(|place| self.look_with_ttl(place, of));
            sights.extend(join_all(looking).await);
        }
        sights
    }

    /// The same as [`look`](Self::look), for many keys.
    pub(crate) async fn look_many(self, places: &[Place], of: &Arc<Type>) -> Vec<Sight> {
        if let [place] = places {
            return vec![self.look(place, of).await];
        }
        let meta = of.meta();
        let found = match Lifetimes(self.0).ttl_override(meta) {
            Ok(_) if !self.is_enabled() => {
                return places.iter().map(|_| Sight::Other(Seen::Closed)).collect();
            }
            Ok(_) => NearReader(self.0).read_many(places, of).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                let mut sights = Vec::with_capacity(places.len());
                for (place, found) in places.iter().zip(found) {
                    sights.push(self.sight(&place.key, Ok(found), None, of).await);
                }
                sights
            }
            Err(error) => {
                let unasked = is_unasked(&error);
                of.log_failure(
                    error.during("get_or_load_many"),
                    "the cache could not be read",
                );
                places.iter().map(|_| Sight::failed(unasked)).collect()
            }
        }
    }

    /// The same as [`look`](Self::look), with the remaining TTL of the entry.
    pub(crate) async fn look_with_ttl(self, place: &Place, of: &Arc<Type>) -> (Sight, Option<Ttl>) {
        let meta = of.meta();
        let key = &*place.key;
        match Lifetimes(self.0).ttl_override(meta) {
            // Entries of such a type contain the time until which they are fresh.
            Ok(_) if meta.policy.is_timed() => (self.look(place, of).await, None),
            Ok(_) if self.is_enabled() => match Box::pin(self.gateway.get_and_ttl(key)).await {
                Ok((found, left)) => {
                    let found = TagReader(self.0).checked(found, &place.epochs, meta).await;
                    let sight = self.sight(key, found, None, of).await;
                    (sight, Some(ttl_left(left)))
                }
                Err(error) => (self.sight(key, Err(error), None, of).await, None),
            },
            _ => (self.look(place, of).await, None),
        }
    }

    /// Interprets an answer; `asked` is the caller's lease request, if it made one. A failure is
    /// logged and counted, and is no error: the loader can still run.
    pub(crate) async fn sight(
        self,
        key: &[u8],
        found: Result<Found, Error>,
        asked: Option<Asked>,
        of: &Arc<Type>,
    ) -> Sight {
        match self.judge(key, found, asked, of) {
            Ok(sight) => {
                if let Sight::Value(raw) = &sight {
                    Migrator(self.0).write_back(key, raw, of);
                }
                sight
            }
            // Boxed, as it is rare, so that the future of a hit is small.
            Err(unfit) => Box::pin(self.reject_unfit(key, unfit, of)).await,
        }
    }

    /// Interprets an answer, unless it is an entry that has to be removed or reported.
    fn judge(
        self,
        key: &[u8],
        found: Result<Found, Error>,
        asked: Option<Asked>,
        of: &Type,
    ) -> Result<Sight, Unfit> {
        let meta = of.meta();
        let mut bytes = match found {
            Ok(Found::Entry(bytes)) => bytes,
            Ok(Found::Nothing) => return Ok(Sight::Other(Seen::Nothing)),
            Ok(Found::Withheld) => return Ok(Sight::Other(Seen::Closed)),
            Ok(Found::Outdated(stamp)) => return Ok(Sight::Other(Seen::Old(stamp))),
            Ok(Found::Foreign) => return Err(Unfit::Foreign),
            Ok(Found::Misplaced(bytes)) => return Err(Unfit::Entry(bytes, seal::MISPLACED)),
            Err(error) => {
                let unasked = is_unasked(&error);
                of.log_failure_at("get_or_load", key, error, "the cache could not be read");
                return Ok(Sight::failed(unasked));
            }
        };
        let mut head = envelope::head(&bytes);
        let mut migrated = None;
        if let Head::Known(header) = head
            && Migrator(self.0).migrates(&header, of)
        {
            match Migrator(self.0).migrated("get_or_load", key, &bytes, header, of) {
                Migrated::Value(raw) => {
                    (bytes, head, migrated) = (raw.bytes, Head::Known(raw.header), raw.migrated);
                }
                Migrated::Corrupt(why) => return Err(Unfit::Entry(bytes, why)),
                Migrated::Unreadable(_) | Migrated::Nothing => {}
            }
        }
        let standing = envelope::standing(head, meta.version, meta.shape, || self.now_millis());
        let why = match (head, standing) {
            (Head::Known(header), Standing::Own | Standing::Stale | Standing::Replaceable)
                if header.version == meta.version
                    && (header.kind == Kind::Value && header.shape == meta.shape
                        || header.kind == Kind::Absence)
                    && bytes.len() <= self.limits.size
                    && !header.is_seal_of(&bytes) =>
            {
                seal::NOT_WHOLE
            }
            (
                Head::Known(Header {
                    kind: Kind::Absence,
                    version,
                    ..
                }),
                _,
            ) if version == meta.version && meta.policy.ttl_absent_millis > 0 => {
                return Ok(Sight::Other(Seen::Absent));
            }
            (Head::Known(header), Standing::Own | Standing::Stale)
                if bytes.len() <= self.limits.size =>
            {
                if let Some(locked) = self.locked(&header, &bytes, meta) {
                    // A look after a request for a lease sees the same entry again.
                    if asked.is_none() {
                        of.locked("get_or_load", key, locked);
                    }
                    return Ok(Sight::Other(match locked.is_replaceable() {
                        true => Seen::Old(header.stamp),
                        false => Seen::Closed,
                    }));
                }
                let mut raw = Raw::known(bytes, header, key, self.0);
                raw.migrated = migrated;
                let Some(timing) = header.timing else {
                    return Ok(Sight::Value(raw));
                };
                let serves = LoadEnds(self.0).may_serve(&raw, meta);
                let seen = seen(
                    header.stamp,
                    timing,
                    self.now_millis(),
                    asked,
                    serves,
                    || raw.bytes().clone().into(),
                );
                return Ok(match seen {
                    Some(seen @ (Seen::Old(_) | Seen::Closed)) => Sight::Other(seen),
                    Some(seen) => Sight::Kept(seen, raw),
                    None => Sight::Value(raw),
                });
            }
            (_, Standing::Own | Standing::Stale) => "larger than the limit",
            // For a lease request, the server itself decides whether the guard is left over.
            (_, Standing::Protected) if asked.is_none() && self.is_left_over(&bytes) => {
                return Ok(Sight::Other(Seen::Nothing));
            }
            (head, Standing::Protected) if self.has_lapsed(&bytes) => {
                return match head {
                    Head::Known(header) => Ok(Sight::Other(Seen::Old(header.stamp))),
                    // A lease can't name an entry with elements that only a later release knows.
                    Head::Newer | Head::Corrupt(_) => Err(Unfit::Lapsed(bytes)),
                };
            }
            (_, Standing::Protected) => return Ok(Sight::Other(Seen::Closed)),
            (_, Standing::Corrupt(why)) => why,
            (
                Head::Known(Header {
                    kind: Kind::Lease, ..
                }),
                _,
            ) => match Name::of_lease(&bytes) {
                Some(name) => return Ok(Sight::Other(Seen::Lease(Lease::Placed(name)))),
                None => "a damaged lease",
            },
            (Head::Known(Header { stamp, .. }), Standing::Replaceable) => {
                return Ok(Sight::Other(Seen::Old(stamp)));
            }
            (Head::Newer | Head::Corrupt(_), Standing::Replaceable) => {
                "an entry of an unknown form"
            }
        };
        Err(Unfit::Entry(bytes, why))
    }

    async fn reject_unfit(self, key: &[u8], unfit: Unfit, of: &Type) -> Sight {
        Sight::Other(match unfit {
            Unfit::Foreign => {
                let why = "the key does not hold a string".into();
                CorruptEntries(self.0)
                    .note_corrupt("get_or_load", key, None, &why, of)
                    .await;
                Seen::Closed
            }
            Unfit::Lapsed(bytes) => {
                let verb = Verb::RemoveIfSame(Fingerprint::of(&bytes));
                match self.gateway.apply(key, &verb).await {
                    Ok(true) => Seen::Nothing,
                    Ok(false) => Seen::Closed,
                    Err(error) => {
                        let what = "an entry of a later release could not be removed";
                        of.log_failure_at("get_or_load", key, error, what);
                        Seen::Closed
                    }
                }
            }
            Unfit::Entry(bytes, why) => {
                let entry = Raw::new(bytes, key, self.0);
                self.reject(key, &entry, &why.into(), of).await
            }
        })
    }

    /// Whether it is a guard without any writer's place, which should be gone by now.
    fn is_left_over(self, entry: &[u8]) -> bool {
        is_left_over(entry, self.gateway.now_micros())
    }

    /// Whether a newer entry no longer wins over a load.
    fn has_lapsed(self, newer: &[u8]) -> bool {
        has_lapsed(newer, self.newer_wins, self.gateway.now_micros())
    }

    /// Rejects an entry that is not a value of the type.
    pub(crate) async fn reject(
        self,
        key: &[u8],
        entry: &Raw,
        why: &Refusal,
        of: &Type,
    ) -> Seen<Shared> {
        // Boxed, as it is rare, so that the future of a hit is small.
        let noted =
            CorruptEntries(self.0).note_corrupt("get_or_load", key, Some(entry.bytes()), why, of);
        match Box::pin(noted).await {
            true => Seen::Nothing,
            false => Seen::Closed,
        }
    }
}

/// What is no value of the type and no placeholder.
enum Unfit {
    Foreign,
    /// An entry, and what is wrong with it.
    Entry(Bytes, &'static str),
    /// An entry of a later release that no longer wins.
    Lapsed(Bytes),
}

/// A lease request: its token, and the state that it rejected.
pub(crate) type Asked = (u64, Rejected);

/// The meaning of a timed value for a call. `None` for a fresh value, which is a hit unless the
/// caller has claimed it with this request. `now` is in milliseconds; `serves`: the value may be
/// served when no better one is available.
pub(crate) fn seen<V>(
    stamp: u64,
    timing: Timing,
    now: u64,
    asked: Option<Asked>,
    serves: bool,
    value: impl FnOnce() -> V,
) -> Option<Seen<V>> {
    let token = timing.claim.token();
    let claim = Lease::Claim { token, stamp };
    if asked.is_some_and(|(asked, _)| claim.is_of(asked)) {
        return Some(Seen::Lease(claim));
    }
    if timing.is_fresh(now) {
        return None;
    }
    // If the server refused the caller's claim, the value is claimed, whatever the local time.
    let refused = asked.is_some_and(|(_, rejected)| rejected == Rejected::Claim(stamp));
    let claimed = refused || timing.claim.is_live(now);
    Some(match token {
        0 if claimed && serves => Seen::Paused(value()),
        1.. if claimed => Seen::Lease(claim),
        _ if serves => Seen::Stale(stamp),
        _ => Seen::Old(stamp),
    })
}
