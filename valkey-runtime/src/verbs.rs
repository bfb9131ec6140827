//! The verbs on bytes: what a handle's typed methods do once key and value are bytes.
//!
//! Nothing here depends on the type but through [`Meta`], so it is compiled once. Here is also where a failure gets its
//! operation and key, and is counted.

use bytes::Bytes;

use crate::backend::Found;
use crate::entry::{Origin, Source};
use crate::envelope::placeholder::Lease;
use crate::envelope::timing::{FOR_EVER, Timing};
use crate::envelope::{self, Head, Header, Standing};
use crate::error::{self, printable};
use crate::options::Condition;
use crate::store::Inner;
use crate::transition::{Fingerprint, Hold, Put, Touch, Verb};
use crate::{Cached, Error, ErrorKind, OnCorrupt, Policy, Result, Ttl, codec};

/// What the verbs need to know of a type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) version: u16,
    ttl: Ttl,
    pub(crate) policy: Policy,
}

impl Meta {
    pub(crate) const fn of<T: Cached>() -> Self {
        Self {
            version: T::VERSION,
            ttl: T::TTL,
            policy: T::POLICY,
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
}

impl Raw {
    pub(crate) fn known(bytes: Bytes, header: Header) -> Self {
        Self { bytes, header }
    }

    /// An entry that was written or looked at before.
    pub(crate) fn new(bytes: Bytes) -> Self {
        let header = match envelope::head(&bytes) {
            Head::Known(header) => header,
            Head::Newer | Head::Corrupt(_) => Header::value(0, 0),
        };
        Self { bytes, header }
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

    /// Whether the lease is a claim on this very entry.
    pub(crate) fn is_claimed_by(&self, lease: Option<Lease>) -> bool {
        let own = self.header.stamp;
        matches!(lease, Some(Lease::Claim { stamp, .. }) if stamp == own)
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.bytes.get(self.header.len()..).unwrap_or_default()
    }
}

/// What a read makes of what it found.
pub(crate) enum Seen {
    Value(Raw),
    Nothing,
    /// Its bytes, where the server gives them, and what is wrong with them.
    Corrupt(Option<Bytes>, &'static str),
}

/// An entry that is ready to be stored, and for how many milliseconds; none for never.
pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ttl: Option<u64>,
}

impl Inner {
    /// Counts a failure, on its way to the caller.
    pub(crate) fn failed(&self, error: Error) -> Error {
        self.counters.error(error.kind());
        error
    }

    pub(crate) fn failed_at(&self, operation: &'static str, key: &[u8], error: Error) -> Error {
        self.failed(error.at(operation, key))
    }

    /// The server's time in milliseconds, as far as it is known.
    pub(crate) fn now_millis(&self) -> u64 {
        self.backend.now_micros() / 1000
    }

    /// The stamp of what is made now.
    pub(crate) fn stamp(&self) -> u64 {
        self.backend.now_micros() << 12 | self.random.next_u64() & 0xfff
    }

    /// The entry of a value, which lives as long as the call says, or the type.
    pub(crate) fn seal<T: serde::Serialize>(
        &self,
        value: &T,
        stamp: u64,
        call: Option<Ttl>,
        meta: &Meta,
    ) -> Result<Sealed> {
        let (header, ttl) = self.header(stamp, call, meta)?;
        let bytes = codec::encode(header, value, self.max_size)?;
        Ok(Sealed { bytes, ttl })
    }

    /// The header of a value that is stored now, and for how many milliseconds it is.
    pub(crate) fn header(
        &self,
        stamp: u64,
        call: Option<Ttl>,
        meta: &Meta,
    ) -> Result<(Header, Option<u64>)> {
        let (policy, ttl) = (&meta.policy, self.ttl_of(meta, call)?);
        let header = Header::value(meta.version, stamp);
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
    fn ttl_of(&self, meta: &Meta, call: Option<Ttl>) -> Result<Option<u64>> {
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

    pub(crate) async fn get(&self, key: &[u8], meta: &Meta) -> Result<Option<Raw>> {
        let fail = |error| self.failed_at("get", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            self.counters.miss();
            return Ok(None);
        }
        let found = self.backend.get(key).await.map_err(fail)?;
        self.examine("get", key, found, meta).await
    }

    /// As [`get`](Self::get), with how long it will still live.
    pub(crate) async fn get_with_ttl(&self, key: &[u8], meta: &Meta) -> Result<Option<(Raw, Ttl)>> {
        let fail = |error| self.failed_at("get_entry", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            self.counters.miss();
            return Ok(None);
        }
        let (found, left) = self.backend.get_and_ttl(key).await.map_err(fail)?;
        let raw = self.examine("get_entry", key, found, meta).await?;
        Ok(raw.map(|raw| (raw, ttl_left(left))))
    }

    pub(crate) async fn get_many(&self, keys: &[Vec<u8>], meta: &Meta) -> Result<Vec<Option<Raw>>> {
        let fail = |error: Error| self.failed(error.during("get_many"));
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            keys.iter().for_each(|_| self.counters.miss());
            return Ok(keys.iter().map(|_| None).collect());
        }
        let found = self.backend.get_many(keys).await.map_err(fail)?;
        let mut entries = Vec::with_capacity(found.len());
        for (key, found) in keys.iter().zip(found) {
            entries.push(self.examine("get_many", key, found, meta).await?);
        }
        Ok(entries)
    }

    /// What a read makes of what it found. A hit is counted by [`decoded`](Self::decoded), when it is one.
    async fn examine(
        &self,
        operation: &'static str,
        key: &[u8],
        found: Found,
        meta: &Meta,
    ) -> Result<Option<Raw>> {
        match self.seen(found, meta) {
            Seen::Value(raw) => Ok(Some(raw)),
            Seen::Nothing => {
                self.counters.miss();
                Ok(None)
            }
            Seen::Corrupt(bytes, why) => self
                .corrupt(operation, key, bytes.as_deref(), why, meta)
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
        };
        let head = envelope::head(&bytes);
        match (
            envelope::standing(head, meta.version, || self.now_millis()),
            head,
        ) {
            (Standing::Own, Head::Known(header)) if bytes.len() <= self.max_size => {
                Seen::Value(Raw { bytes, header })
            }
            (Standing::Own, _) => Seen::Corrupt(Some(bytes), "larger than the limit"),
            (Standing::Stale | Standing::Replaceable | Standing::Protected, _) => Seen::Nothing,
            (Standing::Corrupt(why), _) => Seen::Corrupt(Some(bytes), why),
        }
    }

    /// Takes note of what the codec made of an entry.
    pub(crate) async fn decoded<T>(
        &self,
        operation: &'static str,
        key: &[u8],
        entry: &Raw,
        value: Result<T, String>,
        meta: &Meta,
    ) -> Result<Option<T>> {
        match value {
            Ok(value) => {
                self.counters.hit();
                self.slide(key, &entry.header, meta);
                Ok(Some(value))
            }
            Err(why) => self
                .corrupt(operation, key, Some(&entry.bytes), &why, meta)
                .await
                .map(|()| None),
        }
    }

    /// Does with a corrupt entry what its type wants: a miss or an error, removed or left.
    async fn corrupt(
        &self,
        operation: &'static str,
        key: &[u8],
        bytes: Option<&[u8]>,
        why: &str,
        meta: &Meta,
    ) -> Result<()> {
        self.note_corrupt(operation, key, bytes, why, meta).await;
        match meta.policy.on_corrupt {
            OnCorrupt::Miss => {
                self.counters.miss();
                Ok(())
            }
            OnCorrupt::Error => {
                let error = Error::new(ErrorKind::Corrupt, why);
                Err(self.failed_at(operation, key, error))
            }
        }
    }

    /// Counts and logs a corrupt entry, and removes it unless its type keeps such. True if nothing of it is left.
    pub(crate) async fn note_corrupt(
        &self,
        operation: &'static str,
        key: &[u8],
        bytes: Option<&[u8]>,
        why: &str,
        meta: &Meta,
    ) -> bool {
        self.counters.corrupt();
        tracing::warn!(operation, key = printable(key), why, "a corrupt entry");
        let Some(bytes) = bytes.filter(|_| !meta.policy.keep_corrupt) else {
            return false;
        };
        let verb = Verb::RemoveIfSame(Fingerprint::of(bytes));
        self.backend
            .apply(key, &verb)
            .await
            .unwrap_or_else(|error| {
                self.log_failure(
                    error.at(operation, key),
                    "a corrupt entry could not be removed",
                );
                false
            })
    }

    /// Counts and logs a failure that its caller is not told.
    pub(crate) fn log_failure(&self, error: Error, what: &str) {
        error::log(&self.failed(error), what);
    }

    pub(crate) async fn exists(&self, key: &[u8], meta: &Meta) -> Result<bool> {
        let fail = |error| self.failed_at("exists", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            return Ok(false);
        }
        let found = self.backend.head(key).await.map_err(fail)?;
        Ok(self.own(&found, meta).is_some())
    }

    pub(crate) async fn ttl(&self, key: &[u8], meta: &Meta) -> Result<Option<Ttl>> {
        let fail = |error| self.failed_at("ttl", key, error);
        self.ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            return Ok(None);
        }
        let (found, left) = self.backend.head_and_ttl(key).await.map_err(fail)?;
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
    fn deletion(&self, meta: &Meta) -> Verb<'static> {
        self.deletion_with(u64::from(meta.policy.hold_millis))
    }

    /// With a guard that stays for so many milliseconds, if that is any.
    pub(crate) fn deletion_with(&self, life: u64) -> Verb<'static> {
        let token = if life > 0 { self.random.next_u64() } else { 0 };
        Verb::Delete((life > 0).then_some(Hold { token, life }))
    }

    pub(crate) async fn del(&self, key: &[u8], meta: &Meta) -> Result<bool> {
        self.apply("del", key, &self.deletion(meta)).await
    }

    /// As [`del`](Self::del), but a value is kept that is to be served where its loader fails.
    pub(crate) async fn expire(&self, key: &[u8], meta: &Meta) -> Result<bool> {
        let keep = meta.policy.stale_if_error_millis;
        let verb = match meta.policy.hold_millis {
            0 => Verb::Expire { keep },
            _ => self.deletion(meta),
        };
        self.apply("expire", key, &verb).await
    }

    pub(crate) async fn del_many(&self, keys: &[Vec<u8>], meta: &Meta) -> Result<u64> {
        let fail = |error: Error| self.failed(error.during("del_many"));
        let answers = self
            .backend
            .apply_many(keys, &self.deletion(meta))
            .await
            .map_err(fail)?;
        let removed = self.all("del_many", keys, answers)?;
        Ok(removed.into_iter().map(u64::from).sum())
    }

    pub(crate) async fn touch(&self, key: &[u8], meta: &Meta) -> Result<bool> {
        let ttl = self
            .ttl_of(meta, None)
            .map_err(|error| self.failed_at("touch", key, error))?;
        if !self.is_enabled() {
            return Ok(false);
        }
        let verb = Verb::Touch(Touch {
            version: meta.version,
            ttl,
            keep: meta.policy.stale_if_error_millis,
            max_age: meta.max_age(),
            seen: None,
        });
        self.apply("touch", key, &verb).await
    }

    /// A hit extends the life of what slides, once an eighth of it is over: reads stay reads. That is done beside the way of
    /// the reader.
    pub(crate) fn slide(&self, key: &[u8], header: &Header, meta: &Meta) {
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
            ttl: Some(ttl),
            keep: meta.policy.stale_if_error_millis,
            max_age: Some(max_age),
            seen: Some((header.stamp, timing.until)),
        });
        let (backend, counters, key) = (self.backend.clone(), self.counters.clone(), key.to_vec());
        self.background.spawn(async move {
            if let Err(error) = backend.apply(&key, &verb).await {
                counters.error(error.kind());
                error::log(
                    &error.at("touch", &key),
                    "the life of an entry is not extended",
                );
            }
        });
    }

    /// Stores what the codec made of a value. True if it was stored.
    pub(crate) async fn set(
        &self,
        key: &[u8],
        sealed: Result<Sealed>,
        condition: Condition,
        meta: &Meta,
    ) -> Result<bool> {
        let fail = |error| self.failed_at("set", key, error);
        let Sealed { bytes, ttl } = sealed.map_err(fail)?;
        let put = Put {
            version: meta.version,
            bytes: &bytes,
            ttl,
        };
        if !self.is_enabled() {
            // What is there would be old once the store is switched on again.
            self.apply("set", key, &self.deletion(meta)).await?;
            return Ok(false);
        }
        match condition {
            Condition::IfAbsent => self.apply("set", key, &Verb::SetIfAbsent(put)).await,
            Condition::IfPresent => self.apply("set", key, &Verb::SetIfPresent(put)).await,
            Condition::Always => self
                .backend
                .set(key, bytes, ttl)
                .await
                .map_err(fail)
                .map(|()| true),
        }
    }

    /// Stores what the codec made of values; nothing, where it refused one of them.
    pub(crate) async fn set_many(
        &self,
        keys: Vec<Vec<u8>>,
        sealed: Vec<Result<Sealed>>,
        meta: &Meta,
    ) -> Result<()> {
        let fail = |error: Error| self.failed(error.during("set_many"));
        let mut values = Vec::with_capacity(keys.len());
        let mut ttls = Vec::with_capacity(keys.len());
        for (key, sealed) in keys.iter().zip(sealed) {
            let sealed = sealed.map_err(|error| self.failed_at("set_many", key, error))?;
            values.push(sealed.bytes);
            ttls.push(sealed.ttl);
        }
        if !self.is_enabled() {
            let answers = self
                .backend
                .apply_many(&keys, &self.deletion(meta))
                .await
                .map_err(fail)?;
            return self.all("set_many", &keys, answers).map(drop);
        }
        let answers = self
            .backend
            .set_many(&keys, values, &ttls)
            .await
            .map_err(fail)?;
        self.all("set_many", &keys, answers).map(drop)
    }

    async fn apply(&self, operation: &'static str, key: &[u8], verb: &Verb<'_>) -> Result<bool> {
        self.backend
            .apply(key, verb)
            .await
            .map_err(|error| self.failed_at(operation, key, error))
    }

    /// All answers of a bulk verb; else the first error, which says how many there are.
    pub(crate) fn all<A>(
        &self,
        operation: &'static str,
        keys: &[Vec<u8>],
        answers: Vec<Result<A>>,
    ) -> Result<Vec<A>> {
        let (count, failed) = (
            answers.len(),
            answers.iter().filter(|answer| answer.is_err()).count(),
        );
        let answers = keys.iter().zip(answers).map(|(key, answer)| {
            answer.map_err(|error| {
                let error = if count > 1 {
                    error.context(format_args!("{failed} of {count} failed"))
                } else {
                    error
                };
                self.failed_at(operation, key, error)
            })
        });
        answers.collect()
    }
}

pub(crate) fn ttl_left(millis: Option<u64>) -> Ttl {
    millis.map_or(Ttl::Never, Ttl::from_millis)
}
