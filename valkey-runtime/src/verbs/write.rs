//! Writing entries.

use crate::backend::write::Write;
use crate::base::counters::Count;
use crate::base::error::Error;
use crate::base::error::Result;
use crate::core::entry::Stamp;
use crate::core::inner::view;
use crate::core::meta::Meta;
use crate::core::options::Condition;
use crate::core::types::Type;
use crate::key::tag::Place;
use crate::protocol::envelope;
use crate::protocol::found::Found;
use crate::protocol::transition::{Becomes, Put, Read, Swap, Verb};
use crate::verbs::delete::Remover;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::tags::fill::Bid;
use crate::verbs::tags::fill::TagAdmission;
use crate::verbs::tags::read::TagReader;
use crate::verbs::{Admission, Sealed, Setting, all, has_stored};
use crate::verbs::{apply, own_header};

view! {
    /// Stores entries.
    Writer
}

impl<'a> Writer<'a> {
    /// Stores an encoded value. Returns whether it was stored.
    pub(crate) async fn set(
        self,
        place: &Place,
        sealed: Result<Sealed>,
        condition: Condition,
        of: &Type,
    ) -> Result<bool> {
        let meta = of.meta();
        let key = &*place.key;
        let fail = |error| of.failed_at("set", key, error);
        let mut sealed = sealed.map_err(fail)?;
        OnlyCopies(self.0).is_on(meta).map_err(fail)?;
        let mut admission = Ok(Admission::UNTAGGED);
        if meta.tagged && self.is_enabled() {
            let setting = Setting {
                place,
                sealed: &mut sealed,
                condition,
                meta,
            };
            // Boxed, so that the future of a value without tags is small.
            admission = Box::pin(self.admit(&mut [setting])).await.remove(0);
        }
        let admission = admission.map_err(fail)?;
        match self.storing(&sealed, condition, &admission, meta) {
            None => Ok(false),
            Some(Write::Set { bytes, .. }) => {
                let size = bytes.len();
                let stored = self.gateway.set(key, sealed.bytes, sealed.ttl).await;
                stored.map_err(fail)?;
                of.counters().add(Count::WrittenBytes, size);
                Ok(true)
            }
            Some(write @ Write::Apply(verb)) => {
                let done = Box::pin(apply(self.0, "set", key, &verb, of)).await?;
                match has_stored(&write, done, of) {
                    false if meta.policy.only_copy => {
                        let answer = OnlyCopies(self.0).not_stored(condition, key, meta);
                        Box::pin(answer).await.map_err(fail)
                    }
                    stored => Ok(stored),
                }
            }
        }
    }

    /// The write that stores an entry, if any. While the store is off it is a deletion: the present
    /// entry would be outdated when the store is on again.
    pub(crate) fn storing<'s>(
        self,
        sealed: &'s Sealed,
        condition: Condition,
        admission: &Admission,
        meta: &Meta,
    ) -> Option<Write<'s>> {
        if !self.is_enabled() {
            return Some(Write::Apply(Remover(self.0).deletion(meta)));
        }
        let (bytes, ttl) = (&*sealed.bytes, sealed.ttl);
        let put = Put {
            versions: meta.versions,
            bytes,
            ttl,
        };
        if meta.policy.only_copy
            && let Condition::Always | Condition::IfAbsent = condition
        {
            let absent = condition == Condition::IfAbsent;
            return Some(Write::Apply(Verb::SetOnlyCopy { put, absent }));
        }
        Some(match (condition, admission) {
            // The present entry is older.
            (Condition::Always, Admission::Overtaken) => {
                Write::Apply(Remover(self.0).deletion(meta))
            }
            (_, Admission::Overtaken) => return None,
            (Condition::Always, Admission::Admitted(_)) => Write::Set { bytes, ttl },
            (Condition::IfAbsent, Admission::Admitted(seen)) => {
                // An entry outdated by its tags counts as absent.
                let outdated = match seen {
                    Some(Found::Outdated(stamp)) => Some(*stamp),
                    Some(found @ Found::Entry(bytes))
                        if own_header(self.0, found, meta).is_none() =>
                    {
                        envelope::stamp(bytes)
                    }
                    _ => None,
                };
                Write::Apply(Verb::SetIfAbsent(put, outdated, self.newer_wins))
            }
            (Condition::IfPresent, Admission::Admitted(seen)) => {
                let stamp = match seen {
                    Some(found) => Some(own_header(self.0, found, meta)?.stamp),
                    None => None,
                };
                Write::Apply(Verb::SetIfPresent(put, stamp))
            }
            (Condition::IfUnchanged(Stamp(stamp)), Admission::Admitted(seen)) => {
                // Its tags may have been invalidated since it was read.
                if let Some(found) = seen
                    && own_header(self.0, found, meta)?.stamp != stamp
                {
                    return None;
                }
                Write::Apply(Verb::Swap(Swap {
                    read: Read::Value(stamp),
                    put,
                    becomes: Becomes::Stored,
                    again: true,
                }))
            }
        })
    }

    /// Checks the tags of values before a `set`. The clock and each epoch are read once.
    pub(crate) async fn admit(self, settings: &mut [Setting<'_>]) -> Vec<Result<Admission>> {
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
        let admitted = TagAdmission(self.0)
            .admit_each(&bids.collect::<Vec<_>>())
            .await;
        let mut admissions = Vec::with_capacity(settings.len());
        for (setting, admitted) in settings.iter_mut().zip(admitted) {
            admissions.push(self.admission(setting, clock, admitted).await);
        }
        admissions
    }

    /// Stamps the clock on a value that may be stored. For a conditional `set`, also reads the
    /// present entry.
    pub(crate) async fn admission(
        self,
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
            Condition::IfAbsent | Condition::IfPresent | Condition::IfUnchanged(_) => {
                Some(TagReader(self.0).read(setting.place, setting.meta).await?)
            }
        };
        Ok(Admission::Admitted(seen))
    }

    /// The clock at the beginning of a `set`. If it can't be read, nothing is stored. The present
    /// entry may then be outdated, so a deletion goes to the outbox.
    pub(crate) async fn clock_of_set(self, keys: &[&[u8]]) -> Result<u64> {
        self.gateway.clock().await.inspect_err(|error| {
            if error.is_transient() || error.is_refused() {
                keys.iter().for_each(|key| self.gateway.keep(key, 0));
            }
        })
    }

    /// Stores encoded values, or none of them if one could not be encoded.
    pub(crate) async fn set_many(
        self,
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
        OnlyCopies(self.0).is_on(meta).map_err(fail)?;
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
        let answers = self.gateway.write_each(&keys, &writes).await;
        let stored = all("set_many", &keys, answers.map_err(fail)?, of.keys()).map_err(fail)?;
        let mut refused = None;
        for ((write, done), key) in writes.iter().zip(stored).zip(keys) {
            if !has_stored(write, done, of) {
                refused = refused.or(Some(key));
            }
        }
        match refused.filter(|_| meta.policy.only_copy) {
            Some(key) => {
                let answer = OnlyCopies(self.0).not_stored(condition, key, meta);
                let answer = Box::pin(answer).await;
                answer.map_or_else(
                    |error| Err(of.failed_at("set_many", key, error)),
                    |_| Ok(()),
                )
            }
            None => Ok(()),
        }
    }
}
