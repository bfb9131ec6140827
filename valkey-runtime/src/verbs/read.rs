//! Reading entries, and judging them.

use crate::base::counters::Count;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::ttl::Ttl;
use crate::core::inner::view;
use crate::core::meta::Meta;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::envelope;
use crate::protocol::envelope::timing::Timing;
use crate::protocol::envelope::{Head, Header, Standing, seal};
use crate::protocol::found::Found;
use crate::value::codec::Refusal;
use crate::verbs::corrupt::CorruptEntries;
use crate::verbs::lifetimes::Lifetimes;
use crate::verbs::migrate::{Migrated, Migrator, TOO_LARGE};
use crate::verbs::near::NearReader;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::own_header;
use crate::verbs::raw::Raw;
use crate::verbs::tags::read::TagReader;
use crate::verbs::touch::Toucher;
use crate::verbs::{Seen, ttl_left};
use std::sync::Arc;

view! {
    /// Reads entries.
    Reader
}

impl<'a> Reader<'a> {
    pub(crate) async fn get(self, place: &Place, of: &Arc<Type>) -> Result<Option<Raw>> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("get", key, error);
        Lifetimes(self.0).ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            OnlyCopies(self.0).is_on(meta).map_err(fail)?;
            of.counters().count(Count::Miss);
            return Ok(None);
        }
        let found = match NearReader(self.0).read(place, of).await {
            Ok(found) => found,
            Err(error) => {
                let stale = NearReader(self.0).instead(&error, key, of);
                let stale = stale.ok_or_else(|| fail(error))?;
                of.counters().count(Count::Stale);
                return Ok(Some(stale));
            }
        };
        self.examine("get", key, found, of).await
    }

    /// As [`get`](Self::get), with the remaining life.
    pub(crate) async fn get_with_ttl(
        self,
        place: &Place,
        of: &Arc<Type>,
    ) -> Result<Option<(Raw, Ttl)>> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("get_entry", key, error);
        Lifetimes(self.0).ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            OnlyCopies(self.0).is_on(meta).map_err(fail)?;
            of.counters().count(Count::Miss);
            return Ok(None);
        }
        let (found, left) = self.gateway.get_and_ttl(key).await.map_err(fail)?;
        let checked = TagReader(self.0).checked(found, &place.epochs, meta).await;
        let found = checked.map_err(fail)?;
        let raw = self.examine("get_entry", key, found, of).await?;
        Ok(raw.map(|raw| (raw, ttl_left(left))))
    }

    pub(crate) async fn get_many(
        self,
        places: &[Place],
        of: &Arc<Type>,
    ) -> Result<Vec<Option<Raw>>> {
        let meta = of.meta();
        let fail = |error: Error| of.failed(error.during("get_many"));
        Lifetimes(self.0).ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            OnlyCopies(self.0).is_on(meta).map_err(fail)?;
            of.counters().add(Count::Miss, places.len());
            return Ok(places.iter().map(|_| None).collect());
        }
        let found = match NearReader(self.0).read_many(places, of).await {
            Ok(found) => found,
            Err(error) => {
                let stale = |place: &Place| NearReader(self.0).instead(&error, &place.key, of);
                let all = places.iter().map(|place| stale(place).map(Some));
                let all: Option<Vec<_>> = all.collect();
                let all = all.ok_or_else(|| fail(error))?;
                of.counters().add(Count::Stale, all.len());
                return Ok(all);
            }
        };
        let mut entries = Vec::with_capacity(found.len());
        for (place, found) in places.iter().zip(found) {
            let examined = self.examine("get_many", &place.key, found, of);
            entries.push(examined.await?);
        }
        Ok(entries)
    }

    /// Turns the answer of the server into an entry, a miss or an error. [`decoded`](Self::decoded)
    /// counts the hit, after decoding.
    pub(crate) async fn examine(
        self,
        operation: &'static str,
        key: &[u8],
        found: Found,
        of: &Arc<Type>,
    ) -> Result<Option<Raw>> {
        match self.seen(operation, key, found, of) {
            Seen::Value(raw) => {
                Migrator(self.0).write_back(key, &raw, of);
                Ok(Some(raw))
            }
            Seen::Nothing => {
                of.counters().count(Count::Miss);
                Ok(None)
            }
            Seen::Unreadable(error) => Err(of.failed_at(operation, key, error)),
            Seen::Corrupt(bytes, why) => {
                let bytes = bytes.as_deref();
                let treated = CorruptEntries(self.0).corrupt(operation, key, bytes, why.into(), of);
                // Boxed, as it is rare, so that the future of a hit is small.
                Box::pin(treated).await.map(|()| None)
            }
        }
    }

    /// Judges the server's answer for a read. An entry that is not read because of its encryption
    /// is counted and logged.
    pub(crate) fn seen(self, operation: &'static str, key: &[u8], found: Found, of: &Type) -> Seen {
        let meta = of.meta();
        let bytes = match found {
            Found::Entry(bytes) => bytes,
            Found::Outdated(_) if meta.policy.only_copy => {
                return Seen::Unreadable(OnlyCopies::outdated());
            }
            Found::Nothing | Found::Withheld | Found::Outdated(_) => return Seen::Nothing,
            Found::Foreign => return Seen::Corrupt(None, "the key does not hold a string"),
            Found::Misplaced(bytes) => return Seen::Corrupt(Some(bytes), seal::MISPLACED),
        };
        let head = envelope::head(&bytes);
        match (
            envelope::standing(head, meta.version, meta.shape, || self.now_millis()),
            head,
        ) {
            (Standing::Own, Head::Known(header)) if bytes.len() <= self.limits.size => {
                match (
                    header.is_seal_of(&bytes),
                    self.locked(&header, &bytes, meta),
                ) {
                    (false, _) => Seen::Corrupt(Some(bytes), seal::NOT_WHOLE),
                    (true, None) => Seen::Value(Raw::known(bytes, header, key, self.0)),
                    (true, Some(locked)) => match meta.policy.only_copy {
                        true => Seen::Unreadable(OnlyCopies::locked(locked, of)),
                        false => {
                            of.locked(operation, key, locked);
                            Seen::Nothing
                        }
                    },
                }
            }
            (Standing::Own, _) => Seen::Corrupt(Some(bytes), TOO_LARGE),
            (Standing::Replaceable, Head::Known(header))
                if Migrator(self.0).migrates(&header, of) && self.is_fresh(&header) =>
            {
                match Migrator(self.0).migrated(operation, key, &bytes, header, of) {
                    Migrated::Value(raw) => Seen::Value(raw),
                    Migrated::Corrupt(why) => Seen::Corrupt(Some(bytes), why),
                    Migrated::Unreadable(error) => Seen::Unreadable(error),
                    Migrated::Nothing => Seen::Nothing,
                }
            }
            (Standing::Stale | Standing::Replaceable | Standing::Protected, _) => {
                let unread = match meta.policy.only_copy {
                    true => OnlyCopies(self.0).unread(&Found::Entry(bytes), meta),
                    false => None,
                };
                unread.map_or(Seen::Nothing, Seen::Unreadable)
            }
            (Standing::Corrupt(why), _) => Seen::Corrupt(Some(bytes), why),
        }
    }

    /// Counts the result of decoding and validation, and treats a corrupt entry.
    pub(crate) async fn decoded<T>(
        self,
        operation: &'static str,
        key: &[u8],
        entry: &Raw,
        value: Result<T, Refusal>,
        of: &Arc<Type>,
    ) -> Result<Option<T>> {
        match value {
            Ok(value) => {
                of.counters().hit(entry.bytes.len());
                Toucher(self.0).slide(key, entry, of);
                Ok(Some(value))
            }
            Err(why) => {
                let bytes = Some(&*entry.bytes);
                let treated = CorruptEntries(self.0).corrupt(operation, key, bytes, why, of);
                Box::pin(treated).await.map(|()| None)
            }
        }
    }

    fn is_fresh(self, header: &Header) -> bool {
        let is_fresh = |timing: Timing| timing.is_fresh(self.now_millis());
        header.timing.is_none_or(is_fresh)
    }

    pub(crate) async fn exists(self, place: &Place, of: &Type) -> Result<bool> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("exists", key, error);
        Lifetimes(self.0).ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            OnlyCopies(self.0).is_on(meta).map_err(fail)?;
            return Ok(false);
        }
        let found = match meta.tagged {
            false => self.gateway.head(key).await.map_err(fail)?,
            true => TagReader(self.0).read(place, meta).await.map_err(fail)?,
        };
        let found = self.if_tagged(found, place, meta).await.map_err(fail)?;
        let is_there = own_header(self.0, &found, meta).is_some();
        if !is_there {
            OnlyCopies(self.0).is_nothing(&found, meta).map_err(fail)?;
        }
        Ok(is_there)
    }

    /// For a type without tags only the header was read. An entry with tags is then read again as a
    /// whole, and its tags are checked.
    pub(crate) async fn if_tagged(self, head: Found, place: &Place, meta: &Meta) -> Result<Found> {
        match &head {
            Found::Entry(bytes) if !meta.tagged && envelope::has_clock(bytes) => {
                TagReader(self.0).read(place, meta).await
            }
            _ => Ok(head),
        }
    }

    pub(crate) async fn ttl(self, place: &Place, of: &Type) -> Result<Option<Ttl>> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("ttl", key, error);
        Lifetimes(self.0).ttl_override(meta).map_err(fail)?;
        if !self.is_enabled() {
            OnlyCopies(self.0).is_on(meta).map_err(fail)?;
            return Ok(None);
        }
        let (found, left) = match meta.tagged {
            false => self.gateway.head_and_ttl(key).await.map_err(fail)?,
            true => {
                let (found, left) = self.gateway.get_and_ttl(key).await.map_err(fail)?;
                let checked = TagReader(self.0).checked(found, &place.epochs, meta).await;
                (checked.map_err(fail)?, left)
            }
        };
        let found = self.if_tagged(found, place, meta).await.map_err(fail)?;
        let header = own_header(self.0, &found, meta);
        if header.is_none() {
            OnlyCopies(self.0).is_nothing(&found, meta).map_err(fail)?;
        }
        Ok(header.map(|header| match header.timing {
            Some(timing) => timing.left(self.now_millis()),
            None => ttl_left(left),
        }))
    }
}
