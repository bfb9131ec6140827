//! Applies tags to the entries that a read finds. An entry that they have invalidated becomes
//! [outdated](Found::Outdated), and one that they have made stale loses its freshness.

use bytes::Bytes;

use crate::base::error::Result;
use crate::core::inner::view;
use crate::core::meta::Meta;
use crate::key::tag::{Place, SPACE, name_of};
use crate::protocol::envelope;
use crate::protocol::envelope::epoch::{Epoch, Verdict};
use crate::protocol::envelope::timing::Timing;
use crate::protocol::envelope::{Head, Header, Kind};
use crate::protocol::found::Found;
use crate::protocol::transition::LONGEST_AHEAD;
use crate::verbs::tags::Epochs;

/// Epochs read after the call began, in the order of their keys.
type Known<'k> = Vec<(&'k [u8], Found)>;

view! {
    /// Reads entries, with the tags that they depend on.
    TagReader
}

impl<'a> TagReader<'a> {
    /// Reads an entry, and applies its tags.
    pub(crate) async fn read(self, place: &Place, meta: &Meta) -> Result<Found> {
        if place.epochs.is_empty() {
            let found = self.gateway.get(&place.key).await?;
            return self.checked(found, &place.epochs, meta).await;
        }
        // Boxed, so that the future of a type without such tags is small.
        Box::pin(self.read_with_epochs(place, meta)).await
    }

    /// Reads an entry and the epochs of the tags that follow from its key.
    async fn read_with_epochs(self, place: &Place, meta: &Meta) -> Result<Found> {
        let (found, epochs) = self.gateway.get_with(&place.key, &place.epochs).await?;
        // There are few epochs, and usually they are all.
        let of_key = |name: &str| {
            let mut known = place.epochs.iter().zip(&epochs);
            let known = known.find(|(key, _)| name_of(key, self.space()) == name);
            known.map(|(_, found)| found)
        };
        let names = tagged(&found, meta).map(|(bytes, header, _)| header.tags(bytes));
        let known = |name| of_key(name).is_some();
        if names.is_none_or(|mut names| names.all(|name| name.is_none_or(known))) {
            let judgement = self.judge(&found, &place.epochs, of_key, meta);
            return Ok(judgement.unwrap_or(found));
        }
        let mut known: Known<'_> = keys(place).zip(epochs).collect();
        known.sort_unstable_by_key(|(key, _)| *key);
        let unknown = self.unknown([&found].into_iter(), &known, meta);
        self.learn(&mut known, &unknown).await?;
        Ok(self.judged(found, &place.epochs, &known, meta))
    }

    /// As [`read`](Self::read), for many keys. All tags that do not follow from the keys cost one
    /// more round trip together.
    pub(crate) async fn read_many(self, places: &[Place], meta: &Meta) -> Result<Vec<Found>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked: Vec<&[u8]> = places.iter().map(|place| &*place.key).collect();
        let mut epochs: Vec<&[u8]> = places.iter().flat_map(keys).collect();
        epochs.sort_unstable();
        epochs.dedup();
        asked.extend(&epochs);
        let mut found = self.gateway.get_many(&asked).await?;
        let mut known: Known<'_> = epochs
            .into_iter()
            .zip(found.split_off(places.len()))
            .collect();
        let unknown = self.unknown(found.iter(), &known, meta);
        self.learn(&mut known, &unknown).await?;
        let found = found.into_iter().zip(places);
        Ok(found
            .map(|(found, place)| self.judged(found, &place.epochs, &known, meta))
            .collect())
    }

    /// Applies tags to an entry that was read.
    pub(crate) async fn checked(
        self,
        found: Found,
        required: &[Vec<u8>],
        meta: &Meta,
    ) -> Result<Found> {
        match &found {
            Found::Entry(bytes) if meta.tagged || envelope::has_clock(bytes) => {}
            _ => return Ok(found),
        }
        // Boxed, as few entries have tags, so that the future of the others is small.
        Box::pin(async {
            let (mut known, unknown) = (Vec::new(), self.unknown([&found].into_iter(), &[], meta));
            self.learn(&mut known, &unknown).await?;
            Ok(self.judged(found, required, &known, meta))
        })
        .await
    }

    /// As [`checked`](Self::checked), for many entries, each with its required tags.
    pub(crate) async fn checked_each<'r>(
        self,
        found: Vec<Result<Found>>,
        required: impl Iterator<Item = &'r [Vec<u8>]>,
        meta: &Meta,
    ) -> Result<Vec<Result<Found>>> {
        let (mut known, unknown) = (Vec::new(), self.unknown(found.iter().flatten(), &[], meta));
        self.learn(&mut known, &unknown).await?;
        let found = found.into_iter().zip(required);
        let judged = found.map(|(found, required)| Ok(self.judged(found?, required, &known, meta)));
        Ok(judged.collect())
    }

    /// The epochs of the entries' tags that are not known yet, each once.
    fn unknown<'f>(
        self,
        found: impl Iterator<Item = &'f Found>,
        known: &[(&[u8], Found)],
        meta: &Meta,
    ) -> Vec<Vec<u8>> {
        let mut unknown = Vec::new();
        for found in found {
            let Some((bytes, header, _)) = tagged(found, meta) else {
                continue;
            };
            for name in header.tags(bytes).flatten() {
                if self.find(known, name).is_none() {
                    unknown.push(Epochs(self.0).epoch_named(name));
                }
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    async fn learn<'k>(self, known: &mut Known<'k>, unknown: &'k [Vec<u8>]) -> Result<()> {
        if !unknown.is_empty() {
            let unknown: Vec<&[u8]> = unknown.iter().map(Vec::as_slice).collect();
            let epochs = self.gateway.get_many(&unknown).await?;
            known.extend(unknown.into_iter().zip(epochs));
            known.sort_unstable_by_key(|(key, _)| *key);
        }
        Ok(())
    }

    /// The answer for the epoch of a tag. All keys of epochs share a beginning, so their order is
    /// that of the tags.
    fn find<'f>(self, known: &'f [(&[u8], Found)], name: &str) -> Option<&'f Found> {
        let at = known.binary_search_by(|(key, _)| name_of(key, self.space()).cmp(name));
        known.get(at.ok()?).map(|(_, found)| found)
    }

    fn judged(
        self,
        found: Found,
        required: &[Vec<u8>],
        known: &[(&[u8], Found)],
        meta: &Meta,
    ) -> Found {
        let judgement = self.judge(&found, required, |name| self.find(known, name), meta);
        judgement.unwrap_or(found)
    }

    /// The replacement of an answer, if its tags demand one. `epoch` returns the answer for the
    /// epoch of a tag.
    fn judge<'f>(
        self,
        found: &Found,
        required: &[Vec<u8>],
        epoch: impl Fn(&str) -> Option<&'f Found>,
        meta: &Meta,
    ) -> Option<Found> {
        let (bytes, header) = readable(found, meta)?;
        let outdated = Some(Found::Outdated(header.stamp));
        let Some(clock) = header.clock else {
            // Written before the type had tags: it is unknown whether one was invalidated since.
            return outdated.filter(|_| meta.tagged);
        };
        if clock > (header.stamp >> 12).saturating_add(LONGEST_AHEAD) {
            // No load uses a clock that far ahead of time. It is damaged, and no invalidation would
            // reach the entry.
            return outdated;
        }
        let fresh_until = match verdict(header.tags(bytes), epoch, clock, header.stamp) {
            Some(Verdict::Valid) => u64::MAX,
            Some(Verdict::FreshUntil(until)) => until,
            Some(Verdict::Dead) => return outdated,
            // A value with damaged tags has no readable payload and is found corrupt later. An
            // absence has no payload to check.
            None => return outdated.filter(|_| header.kind == Kind::Absence),
        };
        let carries = |key: &Vec<u8>| {
            let name = Some(name_of(key, self.space()));
            header.tags(bytes).any(|carried| carried == name)
        };
        // Otherwise the entry was written when the type had other tags.
        if !required.iter().all(carries) || self.gateway.has_lost_tags_since(header.stamp) {
            return outdated;
        }
        match header.timing {
            _ if fresh_until == u64::MAX || fresh_until > self.now_millis() => None,
            None => outdated,
            Some(timing) => Some(Found::Entry(due(bytes, header, timing, fresh_until))),
        }
    }

    fn space(self) -> usize {
        self.namespace.len() + SPACE.len()
    }
}

fn keys(place: &Place) -> impl Iterator<Item = &[u8]> {
    place.epochs.iter().map(Vec::as_slice)
}

/// An entry that its reader may accept as a value or an absence.
fn readable<'f>(found: &'f Found, meta: &Meta) -> Option<(&'f [u8], Header)> {
    let Found::Entry(bytes) = found else {
        return None;
    };
    match envelope::head(bytes) {
        Head::Known(header)
            if matches!(header.kind, Kind::Value | Kind::Absence)
                && header.version <= meta.version =>
        {
            Some((bytes, header))
        }
        _ => None,
    }
}

/// As [`readable`], if the entry has tags; with its clock.
fn tagged<'f>(found: &'f Found, meta: &Meta) -> Option<(&'f [u8], Header, u64)> {
    let (bytes, header) = readable(found, meta)?;
    Some((bytes, header, header.clock?))
}

/// The verdict of all tags of an entry with that clock and stamp; `None` if the tags are damaged.
/// An unknown epoch counts as invalidated.
pub(crate) fn verdict<'f>(
    tags: envelope::tags::Tags<'_>,
    find: impl Fn(&str) -> Option<&'f Found>,
    clock: u64,
    stamp: u64,
) -> Option<Verdict> {
    let mut all = Verdict::Valid;
    for name in tags {
        let epoch = match find(name?) {
            Some(Found::Entry(epoch)) => Epoch::from_bytes(epoch),
            _ => None,
        };
        all = match (all, epoch.map(|epoch| epoch.judge(clock, stamp))) {
            (all, Some(Verdict::Valid)) => all,
            (Verdict::FreshUntil(one), Some(Verdict::FreshUntil(other))) => {
                Verdict::FreshUntil(one.min(other))
            }
            (_, Some(until @ Verdict::FreshUntil(_))) => until,
            (_, Some(Verdict::Dead) | None) => return Some(Verdict::Dead),
        };
    }
    Some(all)
}

/// The entry with its freshness limited to that time.
fn due(entry: &[u8], header: Header, timing: Timing, until: u64) -> Bytes {
    let until = timing.until.min(until);
    let header = Header {
        timing: Some(Timing { until, ..timing }),
        ..header
    };
    let mut bytes = entry.to_vec();
    bytes[..header.len()].copy_from_slice(&header.to_bytes());
    bytes.into()
}
