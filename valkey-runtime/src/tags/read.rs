//! What tags make of what a read finds: an entry that they have invalidated is [outdated](Found::Outdated), and one that they have
//! had fall due does not say any more that it is fresh.

use bytes::Bytes;

use super::{Place, SPACE, name_of};
use crate::Result;
use crate::backend::Found;
use crate::envelope::epoch::{Epoch, Verdict};
use crate::envelope::timing::Timing;
use crate::envelope::{self, Head, Header, Kind};
use crate::store::Inner;
use crate::verbs::Meta;

/// Epochs as they were found after the call had begun, in the order of their keys.
type Known<'k> = Vec<(&'k [u8], Found)>;

impl Inner {
    /// What lies under a key, as its tags let it be read.
    pub(crate) async fn read(&self, place: &Place, meta: &Meta) -> Result<Found> {
        if place.epochs.is_empty() {
            let found = self.backend.get(&place.key).await?;
            return self.checked(found, &place.epochs, meta).await;
        }
        let (found, epochs) = self.backend.get_with(&place.key, &place.epochs).await?;
        let mut known: Known<'_> = keys(place).zip(epochs).collect();
        known.sort_unstable_by_key(|(key, _)| *key);
        let unknown = self.unknown([&found].into_iter(), &known, meta);
        self.learn(&mut known, &unknown).await?;
        Ok(self.judge(found, &place.epochs, &known, meta))
    }

    /// As [`read`](Self::read), of many: in one round trip more for all tags that do not follow from keys.
    pub(crate) async fn read_many(&self, places: &[Place], meta: &Meta) -> Result<Vec<Found>> {
        let mut asked: Vec<&[u8]> = places.iter().map(|place| &*place.key).collect();
        let mut epochs: Vec<&[u8]> = places.iter().flat_map(keys).collect();
        epochs.sort_unstable();
        epochs.dedup();
        asked.extend(&epochs);
        let mut found = self.backend.get_many(&asked).await?;
        let mut known: Known<'_> = epochs
            .into_iter()
            .zip(found.split_off(places.len()))
            .collect();
        let unknown = self.unknown(found.iter(), &known, meta);
        self.learn(&mut known, &unknown).await?;
        let found = found.into_iter().zip(places);
        Ok(found
            .map(|(found, place)| self.judge(found, &place.epochs, &known, meta))
            .collect())
    }

    /// What was found, as its tags let it be read.
    pub(crate) async fn checked(
        &self,
        found: Found,
        required: &[Vec<u8>],
        meta: &Meta,
    ) -> Result<Found> {
        match &found {
            Found::Entry(bytes) if meta.tagged || envelope::has_clock(bytes) => {}
            _ => return Ok(found),
        }
        let (mut known, unknown) = (Vec::new(), self.unknown([&found].into_iter(), &[], meta));
        self.learn(&mut known, &unknown).await?;
        Ok(self.judge(found, required, &known, meta))
    }

    /// The same of many, each with what is required of it.
    pub(crate) async fn checked_each<'r>(
        &self,
        found: Vec<Result<Found>>,
        required: impl Iterator<Item = &'r [Vec<u8>]>,
        meta: &Meta,
    ) -> Result<Vec<Result<Found>>> {
        let (mut known, unknown) = (Vec::new(), self.unknown(found.iter().flatten(), &[], meta));
        self.learn(&mut known, &unknown).await?;
        let found = found.into_iter().zip(required);
        let judged = found.map(|(found, required)| Ok(self.judge(found?, required, &known, meta)));
        Ok(judged.collect())
    }

    /// The epochs of the entries' tags that are not known yet, each once.
    fn unknown<'f>(
        &self,
        found: impl Iterator<Item = &'f Found>,
        known: &[(&[u8], Found)],
        meta: &Meta,
    ) -> Vec<Vec<u8>> {
        let mut unknown = Vec::new();
        for found in found {
            let Some((bytes, header, _)) = tagged(found, meta) else {
                continue;
            };
            for name in names(bytes, header).flatten() {
                if self.find(known, name).is_none() {
                    let space = [self.namespace.as_bytes(), SPACE.as_bytes()];
                    unknown.push([space[0], space[1], name.as_bytes()].concat());
                }
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    async fn learn<'k>(&self, known: &mut Known<'k>, unknown: &'k [Vec<u8>]) -> Result<()> {
        if !unknown.is_empty() {
            let unknown: Vec<&[u8]> = unknown.iter().map(Vec::as_slice).collect();
            let epochs = self.backend.get_many(&unknown).await?;
            known.extend(unknown.into_iter().zip(epochs));
            known.sort_unstable_by_key(|(key, _)| *key);
        }
        Ok(())
    }

    /// What was found under the epoch of a tag. All their keys begin alike.
    fn find<'f>(&self, known: &'f [(&[u8], Found)], name: &str) -> Option<&'f Found> {
        let at = known.binary_search_by(|(key, _)| name_of(key, self.space()).cmp(name));
        known.get(at.ok()?).map(|(_, found)| found)
    }

    fn judge(
        &self,
        found: Found,
        required: &[Vec<u8>],
        known: &[(&[u8], Found)],
        meta: &Meta,
    ) -> Found {
        let (bytes, header, clock) = match (tagged(&found, meta), untagged(&found, meta)) {
            (Some(tagged), _) => tagged,
            // Written before the type had tags: nothing tells whether one was invalidated since.
            (None, Some(stamp)) => return Found::Outdated(stamp),
            (None, None) => return found,
        };
        let outdated = Found::Outdated(header.stamp);
        let find = |name: &str| self.find(known, name);
        let fresh_until = match verdict(names(bytes, header), find, clock, header.stamp) {
            Some(Verdict::Valid) => u64::MAX,
            Some(Verdict::FreshUntil(until)) => until,
            Some(Verdict::Dead) => return outdated,
            // Its payload will not be found either.
            None => return found,
        };
        // Written when the type had other tags.
        let carries = |key: &[u8]| {
            names(bytes, header)
                .flatten()
                .any(|name| name == name_of(key, self.space()))
        };
        if !required.iter().all(|key| carries(key))
            || self.backend.has_lost_tags_since(header.stamp)
        {
            return outdated;
        }
        if fresh_until > self.now_millis() {
            return found;
        }
        match header.timing {
            None => outdated,
            Some(timing) => Found::Entry(due(bytes, header, timing, fresh_until)),
        }
    }

    fn space(&self) -> usize {
        self.namespace.len() + SPACE.len()
    }
}

fn keys(place: &Place) -> impl Iterator<Item = &[u8]> {
    place.epochs.iter().map(Vec::as_slice)
}

/// An entry that its reader may take for a value or an absence.
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

/// Such an entry with tags, and its clock.
fn tagged<'f>(found: &'f Found, meta: &Meta) -> Option<(&'f [u8], Header, u64)> {
    let (bytes, header) = readable(found, meta)?;
    Some((bytes, header, header.clock?))
}

/// The stamp of an entry without tags, where the type has some.
fn untagged(found: &Found, meta: &Meta) -> Option<u64> {
    let (_, header) = readable(found, meta)?;
    (meta.tagged && header.clock.is_none()).then_some(header.stamp)
}

/// What all tags of an entry with that clock and stamp make of it; `None` where they are damaged. One whose epoch is not known
/// may have been invalidated.
pub(super) fn verdict<'f>(
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

fn names(entry: &[u8], header: Header) -> envelope::tags::Tags<'_> {
    envelope::tags::read(entry.get(header.len()..).unwrap_or_default())
}

/// The entry as if it had been fresh no longer than that.
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
