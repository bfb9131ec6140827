//! The verbs on bytes: what a handle's typed methods do once key and value are bytes.
//!
//! Nothing here depends on the type but through [`Meta`], so it is compiled once. Here is also where a failure gets its
//! operation and key, and is counted.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{Found, Write};
use crate::codec::{self, Limits, Payload, Refusal};
use crate::entry::{Origin, Source};
use crate::envelope::placeholder::Lease;
use crate::envelope::timing::{FOR_EVER, Timing};
use crate::envelope::{self, Head, Header, Standing, seal};
use crate::error;
use crate::front::Front;
use crate::options::Condition;
use crate::stats::Count;
use crate::store::Inner;
use crate::tags::{Bid, Place, TagWriter};
use crate::trace::ShownKeys;
use crate::transition::{Fingerprint, Hold, Placing, Put, Touch, Verb};
use crate::types::Type;
use crate::warnings::Detail;
use crate::{Cached, Error, OnCorrupt, Policy, Result, Ttl};

/// What the verbs need to know of a type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) version: u16,
    ttl: Ttl,
    pub(crate) policy: Policy,
    /// Whether its entries carry tags.
    pub(crate) tagged: bool,
}

impl Meta {
    pub(crate) const fn of<T: Cached>() -> Self {
        Self {
            version: T::VERSION,
            ttl: T::TTL,
            policy: T::POLICY,
            tagged: T::TAGGED,
        }
    }

    /// How long an entry may live from its stamp on, in milliseconds.
    fn max_age(&self) -> Option<u64> {
        Some(self.policy.max_age_millis).filter(|age| *age > 0)
    }

    /// Until when an entry with this stamp may be fresh, if that is what it would be otherwise.
    fn ceiling(&self, stamp: u64, until: u64) -> u64 {
        match self.max_age() {
            Some(age) => until.min((stamp >> 12) / 1000 + age),
            None => until,
        }
    }
}

/// An entry that holds a value of the type's version, as far as its header tells.
#[derive(Clone)]
pub(crate) struct Raw {
    bytes: Bytes,
    pub(crate) header: Header,
    /// How many times its size its value may take in memory.
    expansion: usize,
}

impl Raw {
    pub(crate) fn known(bytes: Bytes, header: Header, limits: Limits) -> Self {
        Self {
            bytes,
            header,
            expansion: limits.expansion,
        }
    }

    /// An entry that was written or looked at before.
    pub(crate) fn new(bytes: Bytes, limits: Limits) -> Self {
        let header = match envelope::head(&bytes) {
            Head::Known(header) => header,
            Head::Newer | Head::Corrupt(_) => Header::value(0, 0),
        };
        Self::known(bytes, header, limits)
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// `left` is how long its key will still live. Of an entry that says itself until when it is fresh, that counts.
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

    /// The same value with another header of the same key and version, if that and the tags are as long and these the same.
    pub(crate) fn with_header(
        &self,
        header: Header,
        tags: Option<&TagWriter<'_>>,
    ) -> Option<(Header, Bytes)> {
        let payload = self.header.payload_at(&self.bytes)?;
        let sum = self.header.sum;
        let header = Header { sum, ..header };
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

    /// Whether the lease is a claim on this very entry.
    pub(crate) fn is_claimed_by(&self, lease: Option<Lease>) -> bool {
        let own = self.header.stamp;
        matches!(lease, Some(Lease::Claim { stamp, .. }) if stamp == own)
    }

    pub(crate) fn payload(&self) -> Payload<'_> {
        let at = self.header.payload_at(&self.bytes);
        Payload {
            bytes: at.and_then(|at| self.bytes.get(at..)).unwrap_or_default(),
            expansion: self.expansion,
        }
    }
}

/// What a read makes of what it found.
pub(crate) enum Seen {
    Value(Raw),
    Nothing,
    /// Its bytes, where the server gives them, and what is wrong with them.
    Corrupt(Option<Bytes>, &'static str),
}

/// An entry that is ready to be stored, and for how many milliseconds; none for never. Of one with tags the clock is still to be
/// [stamped](envelope::stamp_clock) on it, and its epochs looked at.
pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ttl: Option<u64>,
    pub(crate) header: Header,
    pub(crate) epochs: Vec<Vec<u8>>,
}

impl Inner {
    /// Counts a failure of what is of no type, on its way to the caller.
    pub(crate) fn failed(&self, error: Error) -> Error {
        self.counters.error(error.kind());
        error
    }

    /// The same where it may be of a type.
    pub(crate) fn failed_of(&self, of: Option<&Type>, error: Error) -> Error {
        match of {
            Some(of) => of.failed(error),
            None => self.failed(error),
        }
    }

    pub(crate) fn failed_at(&self, operation: &'static str, key: &[u8], error: Error) -> Error {
        self.failed(self.at(operation, key, error))
    }

    /// Says in which operation and at which key it happened.
    pub(crate) fn at(&self, operation: &'static str, key: &[u8], error: Error) -> Error {
        error.at(operation, self.types.keys().told(key))
    }

    /// The server's time in milliseconds, as far as it is known.
    pub(crate) fn now_millis(&self) -> u64 {
        self.backend.now_micros() / 1000
    }

    /// The stamp of what is made now.
    pub(crate) fn stamp(&self) -> u64 {
        self.backend.now_micros() << 12 | self.random.next_u64() & 0xfff
    }

    /// The entry of a value under a key, which lives as long as the call says, or the type.
    pub(crate) fn seal<T: Cached>(
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

    /// The header of a value that is stored under a key now, and for how many milliseconds it is.
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

    /// The TTL of an entry that is stored now, in milliseconds; `None` for never. The type's is jittered, a call's is not.
    pub(crate) fn ttl_of(&self, meta: &Meta, call: Option<Ttl>) -> Result<Option<u64>> {
        Ok(match self.life_of(meta, call)? {
            Some(millis) if call.is_none() => Some(self.jittered(millis, meta)),
            millis => millis,
        })
    }

    /// The same without jitter.
    fn life_of(&self, meta: &Meta, call: Option<Ttl>) -> Result<Option<u64>> {
        let overridden = self.ttl_override(meta)?;
        let ttl = call.or(overridden).unwrap_or(meta.ttl);
        ttl.to_millis()
            .map_err(|why| Error::config(format!("the TTL {ttl} is {why}")))
    }

    /// Shorter by up to the type's jitter: never longer, so that a TTL is what it says at the most.
    pub(crate) fn jittered(&self, millis: u64, meta: &Meta) -> u64 {
        let most = millis / 100 * u64::from(meta.policy.jitter_percent);
        if most == 0 {
            millis
        } else {
            millis - self.random.next_u64() % (most + 1)
        }
    }

    /// What the environment says of the type's TTL. Each verb asks, so that a malformed variable shows at the first use;
    /// but for deletions, which must not fail on account of a TTL.
    pub(crate) fn ttl_override(&self, meta: &Meta) -> Result<Option<Ttl>> {
        meta.policy
            .ttl_env
            .map_or(Ok(None), |variable| self.overrides.ttl(variable))
    }

    pub(crate) async fn get(&self, place: &Place, of: &Type) -> Result<Option<Raw>> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("get", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            of.counters().count(Count::Miss);
            return Ok(None);
        }
        let found = self.read(place, meta).await.map_err(fail)?;
        self.examine("get", key, found, of).await
    }

    /// As [`get`](Self::get), with how long it will still live.
    pub(crate) async fn get_with_ttl(
        &self,
        place: &Place,
        of: &Type,
    ) -> Result<Option<(Raw, Ttl)>> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("get_entry", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            of.counters().count(Count::Miss);
            return Ok(None);
        }
        let (found, left) = self.backend.get_and_ttl(key).await.map_err(fail)?;
        let checked = self.checked(found, &place.epochs, meta).await;
        let found = checked.map_err(fail)?;
        let raw = self.examine("get_entry", key, found, of).await?;
        Ok(raw.map(|raw| (raw, ttl_left(left))))
    }

    pub(crate) async fn get_many(&self, places: &[Place], of: &Type) -> Result<Vec<Option<Raw>>> {
        let meta = of.meta();
        let fail = |error: Error| of.failed(error.during("get_many"));
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            of.counters().add(Count::Miss, places.len());
            return Ok(places.iter().map(|_| None).collect());
        }
        let found = self.read_many(places, meta).await.map_err(fail)?;
        let mut entries = Vec::with_capacity(found.len());
        for (place, found) in places.iter().zip(found) {
            let examined = self.examine("get_many", &place.key, found, of);
            entries.push(examined.await?);
        }
        Ok(entries)
    }

    /// What a read makes of what it found. A hit is counted by [`decoded`](Self::decoded), when it is one.
    async fn examine(
        &self,
        operation: &'static str,
        key: &[u8],
        found: Found,
        of: &Type,
    ) -> Result<Option<Raw>> {
        let meta = of.meta();
        match self.seen(found, meta) {
            Seen::Value(raw) => Ok(Some(raw)),
            Seen::Nothing => {
                of.counters().count(Count::Miss);
                Ok(None)
            }
            Seen::Corrupt(bytes, why) => self
                .corrupt(operation, key, bytes.as_deref(), why.into(), of)
                .await
                .map(|()| None),
        }
    }

    /// What there is for a read in what it found.
    pub(crate) fn seen(&self, found: Found, meta: &Meta) -> Seen {
        let bytes = match found {
            Found::Entry(bytes) => bytes,
            Found::Nothing | Found::Withheld | Found::Outdated(_) => return Seen::Nothing,
            Found::Foreign => return Seen::Corrupt(None, "another type of the server's"),
            Found::Misplaced(bytes) => return Seen::Corrupt(Some(bytes), seal::MISPLACED),
        };
        let head = envelope::head(&bytes);
        match (
            envelope::standing(head, meta.version, || self.now_millis()),
            head,
        ) {
            (Standing::Own, Head::Known(header)) if bytes.len() <= self.limits.size => {
                match header.is_seal_of(&bytes) {
                    true => Seen::Value(Raw::known(bytes, header, self.limits)),
                    false => Seen::Corrupt(Some(bytes), seal::NOT_WHOLE),
                }
            }
            (Standing::Own, _) => Seen::Corrupt(Some(bytes), "larger than the limit"),
            (Standing::Stale | Standing::Replaceable | Standing::Protected, _) => Seen::Nothing,
            (Standing::Corrupt(why), _) => Seen::Corrupt(Some(bytes), why),
        }
    }

    /// Takes note of what the codec and the type's rules made of an entry.
    pub(crate) async fn decoded<T>(
        &self,
        operation: &'static str,
        key: &[u8],
        entry: &Raw,
        value: Result<T, Refusal>,
        of: &Arc<Type>,
    ) -> Result<Option<T>> {
        match value {
            Ok(value) => {
                of.counters().hit(entry.bytes.len());
                self.slide(key, entry, of);
                Ok(Some(value))
            }
            Err(why) => self
                .corrupt(operation, key, Some(&entry.bytes), why, of)
                .await
                .map(|()| None),
        }
    }

    /// Does with a corrupt entry, or one whose value is invalid, what its type wants: a miss or an error, removed or left.
    async fn corrupt(
        &self,
        operation: &'static str,
        key: &[u8],
        bytes: Option<&[u8]>,
        why: Refusal,
        of: &Type,
    ) -> Result<()> {
        self.note_corrupt(operation, key, bytes, &why, of).await;
        match of.meta().policy.on_corrupt {
            OnCorrupt::Miss => {
                of.counters().count(Count::Miss);
                Ok(())
            }
            OnCorrupt::Error => Err(of.failed_at(operation, key, why.into_error())),
        }
    }

    /// Counts and logs a corrupt entry, and removes it unless its type keeps such. True if nothing of it is left.
    pub(crate) async fn note_corrupt(
        &self,
        operation: &'static str,
        key: &[u8],
        bytes: Option<&[u8]>,
        why: &Refusal,
        of: &Type,
    ) -> bool {
        of.counters().count(Count::Corrupt);
        of.read_back.found_corrupt();
        of.warn("a corrupt entry", Some(why.kind()), || Detail {
            operation: Some(operation),
            key: of.keys().of_failure(key),
            text: why.to_string(),
        });
        let Some(bytes) = bytes.filter(|_| !of.meta().policy.keep_corrupt) else {
            return false;
        };
        let verb = Verb::RemoveIfSame(Fingerprint::of(bytes));
        self.backend
            .apply(key, &verb)
            .await
            .unwrap_or_else(|error| {
                let what = "a corrupt entry could not be removed";
                of.log_failure_at(operation, key, error, what);
                false
            })
    }

    /// Counts and logs a failure of what is of no type, and that its caller is not told.
    pub(crate) fn log_failure(&self, error: Error, what: &'static str) {
        self.failed(error).log(&self.warnings, None, what);
    }

    pub(crate) async fn exists(&self, place: &Place, of: &Type) -> Result<bool> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("exists", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            return Ok(false);
        }
        let found = match meta.tagged {
            false => self.backend.head(key).await.map_err(fail)?,
            true => self.read(place, meta).await.map_err(fail)?,
        };
        let found = self.if_tagged(found, place, meta).await.map_err(fail)?;
        Ok(self.own(&found, meta).is_some())
    }

    /// Of a type without tags only the head was read. What has some all the same is read whole, with its tags.
    async fn if_tagged(&self, head: Found, place: &Place, meta: &Meta) -> Result<Found> {
        match &head {
            Found::Entry(bytes) if !meta.tagged && envelope::has_clock(bytes) => {
                self.read(place, meta).await
            }
            _ => Ok(head),
        }
    }

    pub(crate) async fn ttl(&self, place: &Place, of: &Type) -> Result<Option<Ttl>> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("ttl", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            return Ok(None);
        }
        let (found, left) = match meta.tagged {
            false => self.backend.head_and_ttl(key).await.map_err(fail)?,
            true => {
                let (found, left) = self.backend.get_and_ttl(key).await.map_err(fail)?;
                let checked = self.checked(found, &place.epochs, meta).await;
                (checked.map_err(fail)?, left)
            }
        };
        let found = self.if_tagged(found, place, meta).await.map_err(fail)?;
        Ok(self.own(&found, meta).map(|header| match header.timing {
            Some(timing) => timing.left(self.now_millis()),
            None => ttl_left(left),
        }))
    }

    /// The header of a value that `get` gives.
    pub(crate) fn own(&self, found: &Found, meta: &Meta) -> Option<Header> {
        let Found::Entry(head) = found else {
            return None;
        };
        let head = envelope::head(head);
        let standing = envelope::standing(head, meta.version, || self.now_millis());
        match head {
            Head::Known(header) if standing == Standing::Own => Some(header),
            _ => None,
        }
    }

    /// A deletion as the type has it: with a guard that stays a while, if its loaders may read what is old.
    pub(crate) fn deletion(&self, meta: &Meta) -> Verb<'static> {
        self.deletion_with(u64::from(meta.policy.hold_millis))
    }

    /// With a guard that stays for so many milliseconds, if that is any.
    pub(crate) fn deletion_with(&self, life: u64) -> Verb<'static> {
        let token = if life > 0 { self.random.next_u64() } else { 0 };
        let ours = false;
        Verb::Delete((life > 0).then_some(Hold { token, life, ours }))
    }

    /// A soft one.
    pub(crate) fn expiry(&self, meta: &Meta) -> Verb<'static> {
        let keep = meta.policy.stale_if_error_millis;
        match meta.policy.hold_millis {
            0 => Verb::Expire { keep },
            _ => self.deletion(meta),
        }
    }

    pub(crate) async fn del(&self, key: &[u8], of: &Type) -> Result<bool> {
        self.apply("del", key, &self.deletion(of.meta()), of).await
    }

    /// As [`del`](Self::del), but a value is kept that is to be served where its loader fails.
    pub(crate) async fn expire(&self, key: &[u8], of: &Type) -> Result<bool> {
        self.apply("expire", key, &self.expiry(of.meta()), of).await
    }

    pub(crate) async fn del_many(&self, keys: &[Vec<u8>], of: &Type) -> Result<u64> {
        let fail = |error: Error| of.failed(error.during("del_many"));
        let answers = self
            .backend
            .apply_many(keys, &self.deletion(of.meta()))
            .await
            .map_err(fail)?;
        let removed = all("del_many", keys, answers, of.keys()).map_err(fail)?;
        Ok(removed.into_iter().map(u64::from).sum())
    }

    pub(crate) async fn touch(&self, place: &Place, of: &Type) -> Result<bool> {
        let meta = of.meta();
        let key = &*place.key;
        let ttl = self
            .ttl_of(meta, None)
            .map_err(|error| of.failed_at("touch", key, error))?;
        if !self.is_enabled() {
            return Ok(false);
        }
        if meta.tagged {
            let fail = |error| of.failed_at("touch", key, error);
            let found = self.read(place, meta).await.map_err(fail)?;
            let (Found::Entry(bytes), Some(header)) = (&found, self.own(&found, meta)) else {
                return Ok(false);
            };
            let life = ttl.map(|ttl| ttl.saturating_add(meta.policy.stale_if_error_millis));
            let (epochs, extend) = self.extensions(bytes, header, life);
            extend_all(&self.backend, &epochs, extend)
                .await
                .map_err(fail)?;
        }
        let verb = Verb::Touch(Touch {
            version: meta.version,
            key: seal::of_key(key),
            ttl,
            keep: meta.policy.stale_if_error_millis,
            max_age: meta.max_age(),
            seen: None,
        });
        self.apply("touch", key, &verb, of).await
    }

    /// A hit extends the life of what slides, once an eighth of it is over: reads stay reads. That is done beside the way of
    /// the reader.
    pub(crate) fn slide(&self, key: &[u8], entry: &Raw, of: &Arc<Type>) {
        let meta = of.meta();
        let header = &entry.header;
        let (Some(timing), Some(max_age)) = (header.timing, meta.max_age()) else {
            return;
        };
        let Ok(Some(ttl)) = self.life_of(meta, None) else {
            return;
        };
        let now = self.now_millis();
        let reachable = meta.ceiling(header.stamp, now + ttl);
        let left = timing.until.saturating_sub(now);
        if left >= ttl - ttl / 8 || reachable <= timing.until {
            return;
        }
        let verb = Verb::Touch(Touch {
            version: meta.version,
            key: header.key,
            ttl: Some(ttl),
            keep: meta.policy.stale_if_error_millis,
            max_age: Some(max_age),
            seen: Some((header.stamp, timing.until)),
        });
        let life = ttl.saturating_add(meta.policy.stale_if_error_millis);
        let (epochs, extend) = self.extensions(&entry.bytes, *header, Some(life));
        let (backend, of, key) = (self.backend.clone(), of.clone(), key.to_vec());
        self.background.spawn(async move {
            let extended = match extend_all(&backend, &epochs, extend).await {
                Ok(()) => backend.apply(&key, &verb).await,
                Err(error) => Err(error),
            };
            if let Err(error) = extended {
                of.log_failure_at("touch", &key, error, "the life of an entry is not extended");
            }
        });
    }

    /// Stores what the codec made of a value. True if it was stored.
    pub(crate) async fn set(
        &self,
        place: &Place,
        sealed: Result<Sealed>,
        condition: Condition,
        of: &Type,
    ) -> Result<bool> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("set", key, error);
        let mut sealed = sealed.map_err(fail)?;
        let mut admission = Ok(Admission::UNTAGGED);
        if meta.tagged && self.is_enabled() {
            let setting = Setting {
                place,
                sealed: &mut sealed,
                condition,
                meta,
            };
            admission = self.admit(&mut [setting]).await.remove(0);
        }
        let admission = admission.map_err(fail)?;
        match self.storing(&sealed, condition, &admission, meta) {
            None => Ok(false),
            Some(Write::Set { bytes, .. }) => {
                let size = bytes.len();
                let stored = self.backend.set(key, sealed.bytes, sealed.ttl).await;
                stored.map_err(fail)?;
                of.counters().add(Count::WrittenBytes, size);
                Ok(true)
            }
            Some(write @ Write::Apply(verb)) => {
                let done = self.apply("set", key, &verb, of).await?;
                Ok(has_stored(&write, done, of))
            }
        }
    }

    /// What is done to store an entry, if anything is. While the store is off it is a deletion: what is there would be old
    /// once the store is switched on again.
    pub(crate) fn storing<'s>(
        &self,
        sealed: &'s Sealed,
        condition: Condition,
        admission: &Admission,
        meta: &Meta,
    ) -> Option<Write<'s>> {
        if !self.is_enabled() {
            return Some(Write::Apply(self.deletion(meta)));
        }
        let (bytes, ttl) = (&*sealed.bytes, sealed.ttl);
        let put = Put {
            version: meta.version,
            bytes,
            ttl,
        };
        Some(match (condition, admission) {
            // What is there is older.
            (Condition::Always, Admission::Overtaken) => Write::Apply(self.deletion(meta)),
            (_, Admission::Overtaken) => return None,
            (Condition::Always, Admission::Admitted(_)) => Write::Set { bytes, ttl },
            (Condition::IfAbsent, Admission::Admitted(seen)) => {
                // What its tags make a miss counts as none.
                let outdated = match seen {
                    Some(Found::Outdated(stamp)) => Some(*stamp),
                    Some(found @ Found::Entry(bytes)) if self.own(found, meta).is_none() => {
                        envelope::stamp(bytes)
                    }
                    _ => None,
                };
                Write::Apply(Verb::SetIfAbsent(put, outdated))
            }
            (Condition::IfPresent, Admission::Admitted(seen)) => {
                let stamp = match seen {
                    Some(found) => Some(self.own(found, meta)?.stamp),
                    None => None,
                };
                Write::Apply(Verb::SetIfPresent(put, stamp))
            }
        })
    }

    /// What their tags say of values that are to be set. The clock is read once, and so is each epoch.
    pub(crate) async fn admit(&self, settings: &mut [Setting<'_>]) -> Vec<Result<Admission>> {
        let keys: Vec<&[u8]> = settings.iter().map(|setting| &*setting.place.key).collect();
        let clock = match self.clock_of_set(&keys).await {
            Ok(clock) => clock,
            Err(error) => return vec![Err(error); keys.len()],
        };
        let bids = settings.iter().map(|setting| Bid {
            epochs: &setting.sealed.epochs,
            clock: Some(clock),
            life: setting.sealed.ttl,
        });
        let admitted = self.admit_each(&bids.collect::<Vec<_>>()).await;
        let mut admissions = Vec::with_capacity(settings.len());
        for (setting, admitted) in settings.iter_mut().zip(admitted) {
            admissions.push(self.admission(setting, clock, admitted).await);
        }
        admissions
    }

    /// Stamps the clock on what may be stored, and looks at what is there, if it is stored on a condition.
    async fn admission(
        &self,
        setting: &mut Setting<'_>,
        clock: u64,
        admitted: bool,
    ) -> Result<Admission> {
        if !admitted {
            return Ok(Admission::Overtaken);
        }
        let sealed = &mut *setting.sealed;
        envelope::stamp_clock(&mut sealed.bytes, sealed.header, clock);
        let seen = match setting.condition {
            Condition::Always => None,
            Condition::IfAbsent | Condition::IfPresent => {
                Some(self.read(setting.place, setting.meta).await?)
            }
        };
        Ok(Admission::Admitted(seen))
    }

    /// The clock when a `set` begins. Where it can't be had nothing is stored, and what is there may be old.
    async fn clock_of_set(&self, keys: &[&[u8]]) -> Result<u64> {
        self.backend.clock().await.inspect_err(|error| {
            if error.is_transient() || error.is_refused() {
                keys.iter().for_each(|key| self.backend.keep(key, 0));
            }
        })
    }

    /// Stores what the codec made of values; nothing, where it refused one of them.
    pub(crate) async fn set_many(
        &self,
        places: &[Place],
        sealed: Vec<Result<Sealed>>,
        of: &Type,
    ) -> Result<()> {
        let meta = of.meta();
        let fail = |error: Error| of.failed(error.during("set_many"));
        let sealed = places.iter().zip(sealed).map(|(place, sealed)| {
            sealed.map_err(|error| of.failed_at("set_many", &place.key, error))
        });
        let mut sealed = sealed.collect::<Result<Vec<Sealed>>>()?;
        let condition = Condition::Always;
        let mut admissions = vec![Admission::UNTAGGED; sealed.len()];
        if meta.tagged && self.is_enabled() {
            let settings = places.iter().zip(&mut sealed);
            let settings = settings.map(|(place, sealed)| Setting {
                place,
                sealed,
                condition,
                meta,
            });
            let admitted = self.admit(&mut settings.collect::<Vec<_>>()).await;
            admissions = admitted.into_iter().collect::<Result<_>>().map_err(fail)?;
        }
        let entries = places.iter().zip(&sealed).zip(&admissions);
        let writes = entries.filter_map(|((place, sealed), admission)| {
            let write = self.storing(sealed, condition, admission, meta)?;
            Some((place.key.as_slice(), write))
        });
        let (keys, writes): (Vec<_>, Vec<_>) = writes.unzip();
        let answers = self.backend.write_each(&keys, &writes).await;
        let stored = all("set_many", &keys, answers.map_err(fail)?, of.keys()).map_err(fail)?;
        for (write, done) in writes.iter().zip(stored) {
            has_stored(write, done, of);
        }
        Ok(())
    }

    async fn apply(
        &self,
        operation: &'static str,
        key: &[u8],
        verb: &Verb<'_>,
        of: &Type,
    ) -> Result<bool> {
        self.backend
            .apply(key, verb)
            .await
            .map_err(|error| of.failed_at(operation, key, error))
    }
}

/// All answers of a bulk verb, or the first error.
pub(crate) fn all<A>(
    operation: &'static str,
    keys: &[impl AsRef<[u8]>],
    answers: Vec<Result<A>>,
    shown: &ShownKeys,
) -> Result<Vec<A>> {
    let answers = keys
        .iter()
        .zip(answers)
        .map(|(key, answer)| answer.map_err(|error| error.at(operation, shown.told(key.as_ref()))));
    error::all(answers.collect())
}

/// A value that is to be set, of a type with tags.
pub(crate) struct Setting<'s> {
    pub(crate) place: &'s Place,
    pub(crate) sealed: &'s mut Sealed,
    pub(crate) condition: Condition,
    pub(crate) meta: &'s Meta,
}

/// What its tags say of a value that is to be set.
#[derive(Clone, Debug)]
pub(crate) enum Admission {
    /// It may be stored. If it is on a condition, by this.
    Admitted(Option<Found>),
    /// It may be older than an invalidation.
    Overtaken,
}

impl Admission {
    /// There are none.
    pub(crate) const UNTAGGED: Self = Admission::Admitted(None);
}

/// Whether a value is stored, once this is done. What is stored is counted.
pub(crate) fn has_stored(write: &Write<'_>, done: bool, of: &Type) -> bool {
    let stored = done && !matches!(write, Write::Apply(Verb::Delete(_)));
    if stored {
        of.counters().add(Count::WrittenBytes, write.size());
    }
    stored
}

async fn extend_all(front: &Arc<Front>, epochs: &[Vec<u8>], extend: Placing) -> Result<()> {
    if epochs.is_empty() {
        return Ok(());
    }
    let keys: Vec<&[u8]> = epochs.iter().map(Vec::as_slice).collect();
    let extended = front.place_many(&keys, &vec![extend; keys.len()]).await?;
    extended
        .into_iter()
        .try_for_each(|extended| extended.map(drop))
}

pub(crate) fn ttl_left(millis: Option<u64>) -> Ttl {
    millis.map_or(Ttl::Never, Ttl::from_millis)
}
