//! Migrations: reading an entry of an older version, and writing it back.
//!
//! A read converts the older entry into one of the type's version, and goes on with that. The entry
//! in the store is replaced in the background, under the rules of a fill: only if it still has the
//! stamp and the version that were read, and no load has claimed it. That waits until the entry is
//! so old that a deployment is over (`Builder::newer_wins_for`).

use std::sync::Arc;

use bytes::Bytes;

use crate::base::counters::Count;
use crate::base::error::Error;
use crate::base::lock::lock;
use crate::base::warnings::Detail;
use crate::core::inner::view;
use crate::core::types::Type;
use crate::protocol::envelope::{self, Head, Header, Kind, seal};
use crate::protocol::found::Found;
use crate::protocol::transition::{Verb, has_lapsed};
use crate::value::migrate::Old;
use crate::verbs::only_copy::OnlyCopies;
use crate::verbs::raw::Raw;

/// The most entries of a type that are written back at a time. Others are written back by a later
/// read.
const MOST: usize = 64;

/// Why an entry is not read.
pub(crate) const TOO_LARGE: &str = "larger than the limit";

/// The result of a read of an older entry.
pub(crate) enum Migrated {
    /// A value of the type.
    Value(Raw),
    /// The bytes are damaged, for this reason.
    Corrupt(&'static str),
    /// The type can't use it, and it is the only copy.
    Unreadable(Error),
    /// The type can't use it.
    Nothing,
}

view! {
    /// Reads entries of older versions.
    Migrator
}

impl<'a> Migrator<'a> {
    /// Whether the entry is a value of an older version from which the type migrates.
    pub(crate) fn migrates(self, header: &Header, of: &Type) -> bool {
        let meta = of.meta();
        header.kind == Kind::Value
            && header.version < meta.version
            && meta.versions.migrates(header.version)
    }

    /// Converts an entry that the type [migrates](Self::migrates). Its tags allow to read it.
    pub(crate) fn migrated(
        self,
        operation: &'static str,
        key: &[u8],
        bytes: &Bytes,
        header: Header,
        of: &Type,
    ) -> Migrated {
        let Some(migrate) = of
            .meta()
            .migrate
            .filter(|_| bytes.len() <= self.limits.size)
        else {
            return match of.meta().policy.only_copy {
                true => Migrated::Corrupt(TOO_LARGE),
                false => Migrated::Nothing,
            };
        };
        if !header.is_seal_of(bytes) {
            return Migrated::Corrupt(seal::NOT_WHOLE);
        }
        if let Some(locked) = self.locked(&header, bytes, of.meta()) {
            if of.meta().policy.only_copy {
                return Migrated::Unreadable(OnlyCopies::locked(locked, of));
            }
            of.locked(operation, key, locked);
            return Migrated::Nothing;
        }
        let old = Old {
            bytes,
            header,
            key,
            namespace: &self.namespace,
            limits: self.limits_to_store(),
            keys: self.keys.as_ref(),
        };
        let migrated = migrate(&old, &of.read_back);
        let migrated = migrated.map(|bytes| (envelope::head(&bytes), bytes));
        match migrated {
            Ok((Head::Known(new), bytes)) => {
                of.counters().count(Count::Migrated);
                let raw = Raw::known(bytes.into(), new, key, self.0);
                Migrated::Value(raw.migrated_from(header.version))
            }
            Ok(_) => Migrated::Nothing,
            Err(why) => {
                of.counters().count(Count::FailedMigration);
                of.warn("an entry could not be migrated", None, || Detail {
                    operation: Some(operation),
                    key: of.keys().of_failure(key),
                    text: format!("version {}: {why}", header.version),
                });
                match of.meta().policy.only_copy {
                    true => Migrated::Unreadable(OnlyCopies::unmigrated(header.version, &why)),
                    false => Migrated::Nothing,
                }
            }
        }
    }

    /// The answer for a near copy: an older entry in the form of the type's version, so that it is
    /// converted once. It is written back like the answer of any other read.
    #[inline]
    pub(crate) fn converted(self, key: &[u8], found: Found, of: &Arc<Type>) -> Found {
        match &found {
            // The reader decides about an older entry that can't be converted.
            Found::Entry(bytes) if of.meta().migrate.is_some() && !of.meta().policy.only_copy => {
                let Head::Known(header) = envelope::head(bytes) else {
                    return found;
                };
                if !self.migrates(&header, of) {
                    return found;
                }
                match self.migrated("get", key, bytes, header, of) {
                    Migrated::Value(raw) => {
                        self.write_back(key, &raw, of);
                        Found::Entry(raw.bytes)
                    }
                    Migrated::Corrupt(_) => found,
                    Migrated::Unreadable(_) | Migrated::Nothing => Found::Outdated(header.stamp),
                }
            }
            _ => found,
        }
    }

    /// Replaces the entry in the store by what it has become, in the background, if the value was
    /// migrated.
    #[inline]
    pub(crate) fn write_back(self, key: &[u8], read: &Raw, of: &Arc<Type>) {
        if let Some(version) = read.migrated {
            self.replace(key, read, version.get(), of);
        }
    }

    /// Does nothing while the entry is young: an old instance that is still running reads it as it
    /// is, and would miss what takes its place.
    #[cold]
    fn replace(self, key: &[u8], read: &Raw, version: u16, of: &Arc<Type>) {
        if !has_lapsed(&read.bytes, self.newer_wins, self.gateway.now_micros()) {
            return;
        }
        let Some(begun) = Begun::new(key, of) else {
            return;
        };
        let (gateway, entry, stamp) = (self.gateway.clone(), read.bytes.clone(), read.header.stamp);
        self.background.spawn(async move {
            let Begun { key, of } = &begun;
            let verb = Verb::Migrate {
                stamp,
                version,
                entry: &entry,
            };
            match gateway.apply(key, &verb).await {
                Ok(true) => of.counters().add(Count::WrittenBytes, entry.len()),
                Ok(false) => {}
                Err(error) => {
                    let what = "a migrated value could not be stored";
                    of.log_failure_at("migrate", key, error, what);
                }
            }
        });
    }
}

/// A write-back of an entry, the only one of this process for its key. Ends when it is dropped.
struct Begun {
    key: Vec<u8>,
    of: Arc<Type>,
}

impl Begun {
    /// `None` if one is under way, or too many are.
    fn new(key: &[u8], of: &Arc<Type>) -> Option<Self> {
        let mut keys = lock(&of.writing_back);
        if keys.len() >= MOST || !keys.insert(key.to_vec()) {
            return None;
        }
        drop(keys);
        Some(Self {
            key: key.to_vec(),
            of: of.clone(),
        })
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        lock(&self.of.writing_back).remove(&self.key);
    }
}
